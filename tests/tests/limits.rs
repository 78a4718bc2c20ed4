//! What an idle daemon costs, and where its limits are.

use std::time::{Duration, Instant};

use tapswitch_tests::{Container, Switch, as_root_and_user, eventually};

/// Ports of the idle daemon.
const PORTS: usize = 100;
/// How long its CPU time is watched.
const WATCH: Duration = Duration::from_secs(5);
/// Share of a core.
const MOST_CPU: f64 = 0.005;
/// Both processes together.
const MOST_MEMORY_KB: u64 = 32 * 1024;
/// Four times the budget of a second, which is 500 full-sized copies: one program sends them in far less, on a loaded
/// machine too.
const BROADCASTS: &str = "2000";
/// The queue of the device may overflow before the switch has read as many.
const MOST_STORMS: usize = 20;

as_root_and_user! {
    fn an_idle_daemon_with_a_hundred_ports_costs_next_to_nothing(who: Who) {
        let switch = Switch::start(who, &[]);
        let containers: Vec<_> = (0..PORTS).map(|at| Container::with(&switch, &format!("c{at}"), &[])).collect();
        assert_eq!(switch.json(&["status"])["endpoints"], PORTS);
        assert!(containers[0].reaches(containers[PORTS - 1].ipv4()));
        let processes = [switch.keeper_pid(), switch.switch_pid()];
        // The stacks of the containers still speak for a while: MLD reports, router solicitations.
        eventually("quiet containers", Duration::from_secs(60), || {
            let before = switch.total()["rx_frames"].clone();
            std::thread::sleep(Duration::from_secs(1));
            switch.total()["rx_frames"] == before
        });

        let (start, before) = (Instant::now(), processes.map(cpu_seconds));
        std::thread::sleep(WATCH);
        let used: f64 = processes.map(cpu_seconds).iter().sum::<f64>() - before.iter().sum::<f64>();
        let share = used / start.elapsed().as_secs_f64();
        let memory: u64 = processes.map(memory_kb).iter().sum();
        println!("{PORTS} idle ports: {:.2} % of a core, {memory} kB in both processes", share * 100.0);
        assert!(share < MOST_CPU, "{:.2} % of a core", share * 100.0);
        assert!(memory <= MOST_MEMORY_KB, "{memory} kB");
    }
}

as_root_and_user! {
    fn a_flood_of_broadcasts_costs_the_sender_its_budget_and_nobody_else(who: Who) {
        use tapswitch_tests::frames::{self, BROADCAST, EXPERIMENTAL, hex};
        let switch = Switch::start(who, &[]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        let frame = hex(&frames::ethernet(BROADCAST, &a.mac(), EXPERIMENTAL, &[7; 1400]));
        for _ in 0..MOST_STORMS {
            a.ok(&["tapswitch-probe", "repeat", "eth0", BROADCASTS, &frame]);
            if switch.drops("flood_limit") > 0 {
                break;
            }
        }
        assert!(switch.drops("flood_limit") > 0, "{}", switch.total());
        assert!(a.reaches(b.ipv4()) && b.reaches(a.ipv4()));
    }
}

/// User and system time of a process.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // Counted from the field after the parenthesised name: utime is the 12th, stime the 13th (proc(5): 14 and 15).
    let fields: Vec<_> = stat.rsplit(')').next().expect("a name in parentheses").split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("a number")).sum();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().expect("Linux has ticks");
    ticks / per_second as f64
}

/// What a process has in memory, its share of what others have too: the program itself, which is large in this profile, is
/// there once for both.
fn memory_kb(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process runs");
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).expect("a process has memory");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
}
