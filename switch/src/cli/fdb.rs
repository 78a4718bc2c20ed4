//! `tapswitch fdb`.

use std::process::ExitCode;

use super::args::NetworkFilter;
use super::table::Table;
use super::{Outcome, output};
use crate::daemon::api::client::Client;
use crate::daemon::api::types::{FdbEntry, FdbKind};

/// Show the MAC table
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch fdb
  tapswitch fdb --network blue --json

A static address was assigned at attach; a learned one was seen in traffic, AGE ago.")]
pub(super) struct Args {
    #[command(flatten)]
    filter: NetworkFilter,
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, client: &Client) -> Outcome {
    let entries: Vec<FdbEntry> = client.get("/v1/fdb", &args.filter.query())?;
    output::show(&entries, args.json, |entries| table(entries))?;
    Ok(ExitCode::SUCCESS)
}

/// The table that `fdb` prints: whose each MAC is. The port's number is internal, and only in the JSON.
pub(super) fn table(entries: &[FdbEntry]) -> String {
    let mut table = Table::new(&["MAC", "NETWORK", "ENDPOINT", "KIND", ">AGE"]);
    for entry in entries {
        let (kind, age) = match entry.kind {
            FdbKind::Static => ("static", "-".into()),
            FdbKind::Learned => ("learned", format!("{:.1}s", entry.age_ms as f64 / 1000.0)),
        };
        table.row([
            entry.mac.to_string(),
            entry.network.clone(),
            entry.endpoint.clone().unwrap_or_else(|| "(gateway)".into()),
            kind.into(),
            age,
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Mac;

    #[test]
    fn a_line_says_whose_the_mac_is_and_not_the_port_s_number() {
        let mac = Mac::of_ipv4([172, 17, 0, 1].into());
        let gateway =
            FdbEntry { mac, network: "default".into(), port: None, endpoint: None, kind: FdbKind::Static, age_ms: 0 };
        let learned = FdbEntry {
            port: Some(3073),
            endpoint: Some("web".into()),
            kind: FdbKind::Learned,
            age_ms: 1_250,
            ..gateway.clone()
        };
        let text = table(&[gateway, learned]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["02:42:ac:11:00:01", "default", "(gateway)", "static", "-"]);
        assert_eq!(lines[2], ["02:42:ac:11:00:01", "default", "web", "learned", "1.2s"]);
    }
}
