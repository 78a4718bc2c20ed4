//! Tables as `docker ps` draws them: a head in capitals, columns three spaces apart, no lines.

use comfy_table::{CellAlignment, Row};

/// Rows under a head.
#[derive(Debug)]
pub(super) struct Table(comfy_table::Table);

impl Table {
    /// A table of these columns. A name that starts with `>` makes a column of numbers, which stand right.
    pub(super) fn new(head: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(head.iter().map(|name| name.trim_start_matches('>')));
        for (at, name) in head.iter().enumerate() {
            let column = table.column_mut(at).expect("the head made a column of each name");
            column.set_padding((0, 3));
            if name.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Table(table)
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(Row::from(cells));
    }

    /// The text, each line ended.
    pub(super) fn text(&self) -> String {
        self.0.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let mut table = Table::new(&["NAME", ">RX"]);
        table.row(["web".into(), "7".into()]);
        table.row(["a-long-name".into(), "1234".into()]);
        assert_eq!(table.text(), "NAME            RX\nweb              7\na-long-name   1234\n");
    }

    #[test]
    fn an_empty_table_is_its_head() {
        assert_eq!(Table::new(&["A", "B"]).text(), "A   B\n");
    }
}
