//! The benchmark's own ways: that they measure, and leave nothing behind. What they measure, a busy machine cannot say.
//!
//! Needs root and what `tapswitch-bench` needs: iperf3, iproute2, iputils-ping, util-linux.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tapswitch_tests::{program, run};

/// Setting up, ten seconds of idleness, and a round.
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn scale_measures_draws_and_leaves_nothing_as_root() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plots = folder.path().join("plots");
    let mut command = Command::new(program("tapswitch-bench"));
    command.args(["scale", "--ports", "1,4", "--rounds", "1", "--seconds", "1", "--json", "--svg"]).arg(&plots);
    // What it leaves behind would be here. And it shall take the switch that was built, not build it.
    command.env("TMPDIR", folder.path()).env_remove("CARGO");
    let report: Value = serde_json::from_str(&run(command, DEADLINE).ok()).expect("JSON");

    let sites = report["sites"].as_array().expect("a list");
    assert_eq!(sites.iter().map(|site| &site["ports"]).collect::<Vec<_>>(), [1, 4]);
    let [one, four] = [0, 1].map(|at| &sites[at]["figures"]);
    assert_eq!(four["attach_ms"]["samples"].as_array().map(Vec::len), Some(4));
    for figure in ["attach_of_veth", "pair_gbit", "pairs_gbit", "resident_mb"] {
        assert!(four[figure]["median"].as_f64().is_some_and(|value| value > 0.0), "{figure}: {report:#}");
    }
    assert!(one["pair_gbit"].is_null(), "one port is no pair");

    let svg = fs::read_to_string(plots.join("scale-attach.svg")).expect("a plot");
    assert!(svg.starts_with("<svg ") && svg.contains("ports of the switch"));
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["plots"]);
}
