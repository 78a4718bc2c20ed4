//! What a frame costs in instructions, counted by callgrind: the same on every run, whatever else the machine does.
//!
//! Counted is the way of a frame in user space, over cables: their two copies of the frame stand for those that the kernel makes when
//! a TAP is read and written. The figures are printed (`cargo test -p tapswitch-tests --test instructions -- --nocapture`).
//!
//! Needs valgrind, and the example `per_frame` of the switch built in the release profile, as `tests/run` builds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const FRAMES: u64 = 96;
/// A full segment, and the longest that TCP gives to a device with offload.
const SIZES: [u64; 2] = [1514, 65_226];
/// Each does more than the one before; see `switch/examples/per_frame/main.rs`.
const CASES: [&str; 5] = ["copy", "bare", "open", "guard", "full"];

// Room is left above what was measured with Rust 1.95: what is inlined changes with the compiler and with code elsewhere.

/// Most instructions that a frame may cost with guard, icc and counters, whatever its size, beyond the copies and the calls that
/// make them. Measured 1,120.
const MOST_BEYOND_COPIES: u64 = 1230;
/// Most that icc may add with a live flow. Measured 306.
const MOST_FOR_ICC: u64 = 400;
/// Most that the worker's loop and all counters may take. Measured 165, which has the look for a receiver's answer.
const MOST_FOR_LOOP: u64 = 170;
/// icc, the worker's loop and all counters together, in a thousand of the rest of a 64 KB frame's way. Measured 34.
const MOST_PERMILLE: u64 = 38;

/// Endpoints of a small network, of a host that is full of them, and far beyond what a daemon serves.
const FEW: u64 = 100;
const SOME: u64 = 10_000;
const MANY: u64 = 100_000;
/// What a frame may cost among many, in a hundred of what it costs among few: entries collide in tables by chance. Measured 99 to 103.
const MOST_PERCENT_OF_FEW: u64 = 140;
/// Most instructions of a 1,514-byte frame among few, with guard, icc off too. Measured 1,633.
const MOST: u64 = 1900;
/// Most without guard. Measured 1,525.
const MOST_WITHOUT_GUARD: u64 = 1700;
/// Most between learned MACs. Measured 1,942.
const MOST_LEARNED: u64 = 2300;
/// Most for one endpoint that comes and goes again among few: four tables of the network, its write side, a rule, its names, twice
/// each, and the worker. Measured 69,500 to 70,400.
const MOST_TO_ATTACH: u64 = 85_000;
/// What that may cost among many, in a hundred of what it costs among few: a list of a word for each 1,024 endpoints is copied for
/// each table. Measured 107 to 109, and 124 to 132.
const MOST_PERCENT_TO_ATTACH: u64 = 160;
/// Times that it comes and goes: tables split a bucket now and then, and chance is in their hashes.
const ATTACHMENTS: u64 = 50;
/// Most for each endpoint when what workers go by is made anew, as for a change of a network's settings. Measured 5,308.
const MOST_TO_PUBLISH: u64 = 6500;

/// glibc copies long pieces by `rep movsb`, of which callgrind counts each byte as an instruction; and past the cache's size, which
/// differs from machine to machine, by another loop.
const PLAIN_COPIES: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_non_temporal_threshold=100000000";

#[test]
fn a_frame_costs_no_more_instructions_than_it_did() {
    let program = example();
    let mut cost = BTreeMap::new();
    for bytes in SIZES {
        for case in CASES {
            cost.insert((bytes, case), per_frame(&program, case, bytes, 2));
        }
        let of = |case| cost[&(bytes, case)];
        println!("{bytes}-byte frame, instructions:");
        for (case, what) in CASES.iter().zip([
            "reading and writing it, with its two copies",
            "and the worker's loop, with all counters",
            "and parsing, the offload's check, the receiver's look-up and learning, without guard",
            "and the guard, without learning",
            "and icc off, by a rule's live flow",
        ]) {
            println!("{:>8}  {case:5}  {what}", of(case));
        }
        // Without its guard a port also learns, which costs more: the guard's own few dozen instructions stand in the rest.
        let counters_and_icc = of("bare") - of("copy") + of("full") - of("guard");
        let permille = counters_and_icc * 1000 / (of("guard") - (of("bare") - of("copy")));
        println!(
            "{counters_and_icc:>8}         of them for icc, the loop and counters: {permille} in a thousand of the rest"
        );
        assert!(of("full") - of("copy") <= MOST_BEYOND_COPIES, "beyond the copies: {}", of("full") - of("copy"));
        assert!(of("full") - of("guard") <= MOST_FOR_ICC, "icc: {}", of("full") - of("guard"));
        assert!(of("bare") - of("copy") <= MOST_FOR_LOOP, "loop and counters: {}", of("bare") - of("copy"));
        assert!(of("guard") <= of("open"), "the guard costs more than learning: {cost:?}");
        assert!(bytes < 60_000 || permille <= MOST_PERMILLE, "{permille} in a thousand");
    }
}

#[test]
fn a_frame_costs_the_same_among_a_hundred_thousand_endpoints() {
    let program = example();
    for (case, most) in [("open", MOST_WITHOUT_GUARD), ("guard", MOST), ("full", MOST), ("learned", MOST_LEARNED)] {
        let [few, many] = [FEW, MANY].map(|endpoints| per_frame(&program, case, SIZES[0], endpoints));
        println!("{few:>8}  {case:7}  a frame among {FEW} endpoints; {many} among {MANY}");
        assert!(few <= most, "{case}: {few} among {FEW} endpoints");
        assert!(many * 100 <= few * MOST_PERCENT_OF_FEW, "{case}: {few} among {FEW} endpoints, {many} among {MANY}");
    }
}

#[test]
fn an_endpoint_comes_and_goes_at_the_same_cost_among_a_hundred_thousand() {
    let program = example();
    let cost = |endpoints| counted(&program, "attach", SIZES[0], ATTACHMENTS, endpoints) / ATTACHMENTS;
    let [few, some, many] = [FEW, SOME, MANY].map(cost);
    println!("{few:>8}  attach   and detach one endpoint more among {FEW}; {some} among {SOME}; {many} among {MANY}");
    assert!(few <= MOST_TO_ATTACH, "{few} among {FEW} endpoints");
    for (more, endpoints) in [(some, SOME), (many, MANY)] {
        assert!(more * 100 <= few * MOST_PERCENT_TO_ATTACH, "{few} among {FEW} endpoints, {more} among {endpoints}");
    }
}

#[test]
fn each_endpoint_adds_the_same_to_what_a_change_of_settings_makes_anew() {
    let program = example();
    let [few, some] = [FEW, SOME].map(|endpoints| counted(&program, "publish", SIZES[0], 1, endpoints));
    let each = (some - few) / (SOME - FEW);
    println!("{each:>8}  publish  all anew, for each of the endpoints from {FEW} to {SOME}");
    assert!(each <= MOST_TO_PUBLISH, "{each} for each endpoint");
}

/// Instructions per frame of a case, copies of the frame into the cable and out of it left out.
fn per_frame(program: &Path, case: &str, bytes: u64, endpoints: u64) -> u64 {
    counted(program, case, bytes, FRAMES, endpoints) / FRAMES
}

/// Instructions of `times` frames, or whatever the case does so often.
fn counted(program: &Path, case: &str, bytes: u64, times: u64, endpoints: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*forwarding_on_cables*", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([case, &bytes.to_string(), &times.to_string(), &endpoints.to_string()])
        .env("GLIBC_TUNABLES", PLAIN_COPIES)
        .output()
        .unwrap_or_else(|error| panic!("valgrind: {error} (apt-get install valgrind)"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let collected =
        text.lines().find_map(|line| line.split_once("Collected : ")).expect("callgrind says what it counted").1;
    let collected: u64 = collected.trim().parse().expect("one event: instructions");
    assert!(collected > times * 100, "nothing was counted: was the function inlined?\n{text}");
    collected
}

/// The example, in the release profile's folder beside the one that this test runs from.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("the kernel names the running program");
    let target = test.ancestors().nth(3).expect("tests run from target/PROFILE/deps");
    let path = target.join("release/examples/per_frame");
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build --release -p tapswitch --example per_frame`, or the tests by `tests/run`",
        path.display()
    );
    path
}
