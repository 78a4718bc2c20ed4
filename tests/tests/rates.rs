//! Limits of an endpoint's rate, with real devices and iperf3. Bounds are generous: the machine does other things.

mod plugged;

use std::net::IpAddr;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tapswitch_tests::iperf::{self, Load};
use tapswitch_tests::{Container, Internet, Switch, as_root_and_user, eventually};

use plugged::Cni;

const IN: u64 = 60_000_000;
const OUT: u64 = 30_000_000;
const SECONDS: u32 = 3;
const SOON: Duration = Duration::from_secs(10);

/// Megabits a second of a transfer between `container` and `other`, which has `address`.
fn measured(other: &Container, container: &Container, address: IpAddr, inward: bool) -> u64 {
    iperf::measure(other, container, address, Load::Tcp, inward, SECONDS) * 8 / u64::from(SECONDS) / 1_000_000
}

/// `limit`, in bits per second, holds and is about reached: on a machine that gives the test no core for a second, about half.
#[track_caller]
fn assert_near(limit: u64, measured: u64, what: &str, switch: &Switch) {
    let limit = limit / 1_000_000;
    let bounds = limit * 50 / 100..=limit * 115 / 100;
    assert!(bounds.contains(&measured), "{what}: {measured} of {limit} Mbit/s: {}", switch.total());
}

as_root_and_user! {
    fn the_bandwidth_that_a_runtime_asks_for_holds_both_ways(who: Who) {
        let switch = Switch::start(who, &[]);
        let (slow, other) = (Container::unattached(switch.session()), Container::unattached(switch.session()));
        let bandwidth = json!({
            "ingressRate": IN, "ingressBurst": 1_000_000, "egressRate": OUT, "egressBurst": 1_000_000,
        });
        let conf = |bandwidth: Value| json!({
            "cniVersion": "1.0.0", "name": "labnet", "type": "tapswitch-cni", "ipam": {"subnet": "10.94.0.0/24"},
            "runtimeConfig": {"bandwidth": bandwidth},
        });
        let cni = Cni::new(&switch, "slow", &slow);
        let mut limited = conf(bandwidth.clone());
        let result = cni.call("ADD", &limited).ok();
        Cni::new(&switch, "other", &other).call("ADD", &conf(json!(null))).ok();

        let other_address = IpAddr::from([10, 94, 0, 3]);
        assert_near(IN, measured(&other, &slow, other_address, true), "in", &switch);
        assert_near(OUT, measured(&other, &slow, other_address, false), "out", &switch);

        limited["prevResult"] = result;
        cni.call("CHECK", &limited).silent();
        limited["runtimeConfig"]["bandwidth"]["egressRate"] = (2 * OUT).into();
        assert!(cni.call("CHECK", &limited).error(101).contains("bandwidth"));
        limited["runtimeConfig"]["bandwidth"]["egressBurst"] = 0.into();
        assert!(cni.call("CHECK", &limited).error(7).contains("egressBurst"));

        // It is the endpoint's own, and the next switch process knows of it.
        let limits = |switch: &Switch| {
            let endpoint = switch.endpoint("slow").unwrap();
            [endpoint["rate_in"].clone(), endpoint["rate_out"].clone()]
        };
        let wanted = [json!({"rate": IN, "burst": 1_000_000}), json!({"rate": OUT, "burst": 1_000_000})];
        assert_eq!(limits(&switch), wanted);
        let victim = switch.switch_pid();
        kill(Pid::from_raw(victim.cast_signed()), Signal::SIGKILL).expect("the switch runs");
        eventually("another switch process", SOON, || switch.cli(&["status"]).code == 0 && switch.switch_pid() != victim);
        assert_eq!(limits(&switch), wanted);
        assert_near(OUT, measured(&other, &slow, other_address, false), "out, after a restart", &switch);
    }
}

as_root_and_user! {
    fn downloads_and_uploads_go_at_the_rate_and_downloads_lose_nothing(who: Who) {
        let internet = Internet::new(who);
        let switch = internet.switch(&[]);
        let (rate_in, rate_out) = (IN.to_string(), OUT.to_string());
        let web = Container::with(&switch, "web", &["--rate-in", &rate_in, "--rate-out", &rate_out]);
        for far in internet.addresses() {
            assert_near(IN, measured(internet.far(), &web, far, true), "in", &switch);
            assert_near(OUT, measured(internet.far(), &web, far, false), "out", &switch);
        }
        assert_eq!(switch.drops("tx_rate_limit"), 0);
    }
}

as_root_and_user! {
    fn a_rate_that_cannot_be_is_refused_in_one_line(who: Who) {
        let switch = Switch::start(who, &[]);
        let container = Container::unattached(switch.session());
        for (rate, needle) in [("fast", "100mbit"), ("100mbps", "bytes"), ("1", "1000")] {
            let refused = container.try_attach(&switch, &["--rate-in", rate]);
            assert!(refused.code == 2 && refused.stderr.contains(needle), "{refused:?}");
        }
        assert!(!container.has_device("eth0"));
    }
}
