//! `tapswitch stats`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use super::table::Table;
use super::{Outcome, args, output};
use crate::daemon::api::client::Client;
use crate::daemon::api::types::{PortStats, Stats};
use crate::daemon::name::{Name, Target};

/// Show counters, and drops by their reason
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch stats
  tapswitch stats web
  tapswitch stats --json | jq .total.rx_drops

RX is what the switch received from the container: each frame was sent to one port (unicast), flooded, answered by the \
switch, taken by the switch itself (local: for the names, or to leave by a socket), or dropped for a reason. TX is what was decided for it: each copy was sent or dropped for a reason.")]
pub(super) struct Args {
    /// This endpoint only
    #[arg(value_name = "X")]
    endpoint: Option<Target>,
    /// Print an object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, client: &Client) -> Outcome {
    let stats = fetch(args, client)?;
    output::show(&stats, args.json, text)?;
    Ok(ExitCode::SUCCESS)
}

fn fetch(args: &Args, client: &Client) -> anyhow::Result<Stats> {
    let Some(target) = &args.endpoint else {
        return Ok(client.get("/v1/stats", &[])?);
    };
    args::endpoint(client, target)?;
    let network = target.network.as_ref().map(Name::as_str);
    Ok(client.get("/v1/stats", &[("network", network), ("name", Some(target.name.as_str()))])?)
}

/// The text that `stats` prints: a table of counters, and below it one of the drops.
pub(super) fn text(stats: &Stats) -> String {
    let rows = rows(stats);
    let mut counters = Table::new(&[
        "ENDPOINT",
        ">RX FRAMES",
        ">RX BYTES",
        ">UNICAST",
        ">FLOODED",
        ">ANSWERED",
        ">LOCAL",
        ">RX DROPS",
        ">TX FRAMES",
        ">TX BYTES",
        ">TX DROPS",
    ]);
    let mut drops = Table::new(&["ENDPOINT", "SIDE", "REASON", ">DROPS"]);
    let mut any = false;
    for (name, port) in &rows {
        counters.row([
            name.clone(),
            port.rx_frames.to_string(),
            output::bytes(port.rx_bytes),
            port.unicast.to_string(),
            port.flooded.to_string(),
            port.answered.to_string(),
            port.local.to_string(),
            sum(&port.rx_drops).to_string(),
            port.tx_frames.to_string(),
            output::bytes(port.tx_bytes),
            sum(&port.tx_drops).to_string(),
        ]);
        for (side, reasons) in [("rx", &port.rx_drops), ("tx", &port.tx_drops)] {
            for (reason, count) in reasons {
                any = true;
                drops.row([name.clone(), side.into(), reason.clone(), count.to_string()]);
            }
        }
    }
    if any { format!("{}\n{}", counters.text(), drops.text()) } else { counters.text() }
}

/// Each endpoint by its full name, and the sum where it says more than the only one: it counts those that are gone too.
fn rows(stats: &Stats) -> Vec<(String, &PortStats)> {
    let mut rows: Vec<_> = stats.endpoints.iter().map(|e| (format!("{}/{}", e.network, e.name), &e.port)).collect();
    if !matches!(&rows[..], [(_, only)] if **only == stats.total) {
        rows.push(("total".into(), &stats.total));
    }
    rows
}

fn sum(drops: &BTreeMap<String, u64>) -> u64 {
    drops.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::api::types::EndpointStats;

    fn web() -> EndpointStats {
        let port = PortStats {
            rx_frames: 9,
            unicast: 4,
            answered: 2,
            rx_drops: BTreeMap::from([("spoofed_mac".into(), 3)]),
            ..PortStats::default()
        };
        EndpointStats { network: "default".into(), name: "web".into(), port }
    }

    #[test]
    fn drops_are_shown_by_reason_below_the_counters() {
        let text = text(&Stats { endpoints: vec![web()], total: web().port });
        assert!(text.contains("default/web   rx     spoofed_mac       3"), "{text}");
        assert!(!text.contains("total"), "{text}");
    }

    #[test]
    fn one_endpoint_that_is_left_of_several_has_a_total() {
        let total = PortStats { rx_frames: 10, unicast: 5, ..web().port };
        let text = text(&Stats { endpoints: vec![web()], total });
        assert!(text.contains("total"), "{text}");
    }

    #[test]
    fn without_drops_there_is_one_table_and_several_endpoints_have_a_total() {
        let mut quiet = web();
        quiet.port.rx_drops.clear();
        let text = text(&Stats { endpoints: vec![quiet.clone(), quiet], total: PortStats::default() });
        assert!(text.contains("total") && !text.contains("REASON"), "{text}");
    }
}
