//! What `tapswitch-probe` does inside a container, as verbs.

use std::net::{IpAddr, SocketAddr};

use crate::container::Container;
use crate::frames::hex;
use crate::process::Background;

/// A running probe.
#[derive(Debug)]
pub struct Probe(Background);

impl Probe {
    /// Watches all that arrives at `eth0` of `container`.
    #[track_caller]
    pub fn watch(container: &Container) -> Probe {
        Probe::ready(container, &["tapswitch-probe", "watch", "eth0"])
    }

    /// Receives the stamps that [`Probe::stamps`] sends.
    #[track_caller]
    pub fn sink(container: &Container, address: IpAddr, port: u16) -> Probe {
        Probe::ready(container, &["tapswitch-probe", "sink", &SocketAddr::new(address, port).to_string()])
    }

    /// Sends the time to `address` by UDP, a thousand times a second.
    #[track_caller]
    pub fn stamps(container: &Container, address: IpAddr, port: u16) -> Probe {
        Probe::ready(container, &["tapswitch-probe", "stamps", &SocketAddr::new(address, port).to_string()])
    }

    /// Accepts TCP connections and echoes.
    #[track_caller]
    pub fn echo(container: &Container, address: IpAddr, port: u16) -> Probe {
        Probe::ready(container, &["tapswitch-probe", "echo", &SocketAddr::new(address, port).to_string()])
    }

    /// Sends one frame through `eth0` of `container`.
    ///
    /// # Panics
    /// When the kernel refuses it.
    #[track_caller]
    pub fn send(container: &Container, frame: &[u8]) {
        container.ok(&["tapswitch-probe", "send", "eth0", &hex(frame)]);
    }

    /// Whether a TCP connection to `address` opens and echoes within a second.
    pub fn dials(container: &Container, address: IpAddr, port: u16) -> bool {
        container.run(&["tapswitch-probe", "dial", &SocketAddr::new(address, port).to_string()]).code == 0
    }

    /// What `tapswitch-probe VERB ADDRESS:PORT WORDS` prints inside.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ask(container: &Container, verb: &str, address: IpAddr, port: u16, words: &[&str]) -> String {
        let to = SocketAddr::new(address, port).to_string();
        container.ok(&[&["tapswitch-probe", verb, &to], words].concat()).trim().to_owned()
    }

    /// Whether a frame with `mark` in it was seen.
    pub fn saw(&self, mark: &[u8]) -> bool {
        let mark = hex(mark);
        self.0.lines().iter().any(|line| line.contains(&mark))
    }

    /// The stamps that arrived so far, in nanoseconds of the monotonic clock.
    pub fn arrived(&self) -> Vec<u64> {
        self.0.lines().iter().filter_map(|line| line.parse().ok()).collect()
    }

    /// Nanoseconds of the clock that the stamps show.
    pub fn now() -> u64 {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
        u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0)
    }

    #[track_caller]
    fn ready(container: &Container, words: &[&str]) -> Probe {
        let mut probe = container.spawn(words);
        probe.wait_until_ready();
        Probe(probe)
    }
}
