//! `tapswitch demo`: two containers on a fresh switch, traffic between them, and a report.
//!
//! Everything it makes is its own and ends with it: a daemon in a temporary directory, two processes in namespaces of their
//! own. Signals that would end it are read between steps, so that Ctrl-C cleans up as the end does.

mod forge;
mod inside;
mod ping;
mod stage;
mod transfer;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use self::forge::{Forger, Station, arp_claim, echo_request};
use self::ping::ping;
use self::stage::{Actor, Switch};
use self::transfer::{Receiver, connection, transfer};
use super::signals::{ENDING, Signals};
use super::{Outcome, doctor, fdb, ls, output, stats, userns};
use crate::daemon::api::client::Client;
use crate::daemon::api::types::{EndpointInfo, FdbEntry, NetworkInfo, NetworkSet, RuleChange, Stats, Status};
use crate::frame::Mac;

/// How long the transfer takes.
const TRANSFER: Duration = Duration::from_millis(2500);
/// How long the one after `allow` takes.
const SHORT_TRANSFER: Duration = Duration::from_millis(500);
/// Requests of each ping.
const PINGS: u16 = 5;
/// Forged frames of each kind.
const FORGED: u64 = 5;
/// How long counters may lag behind what they count.
const COUNTED: Duration = Duration::from_secs(2);

/// See it work: two containers on a fresh switch, traffic, a report
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch demo
  tapswitch demo | tee report.txt

Needs no installation, no root and no running daemon; takes some 10 s; leaves nothing behind.")]
pub(super) struct Args {}

/// Plays all scenes; what they made is gone when it returns.
pub(super) fn run(_: &Args) -> Outcome {
    if let Some(obstacle) = doctor::obstacle() {
        bail!("demo: {obstacle}");
    }
    let signals = Signals::block(&ENDING).context("demo: block signals")?;
    output::line("tapswitch demo: two containers on a fresh switch; nothing of it stays on this host\n")?;
    let demo = Demo::start(&signals).context("demo")?;
    demo.play().context("demo")?;
    drop(demo);
    scene("clean up", "the containers, the switch and its directory are gone")?;
    Ok(ExitCode::SUCCESS)
}

/// The stage with everybody on it. Fields are dropped in this order: containers first.
struct Demo<'a> {
    web: Actor,
    db: Actor,
    network: NetworkInfo,
    switch: Switch,
    signals: &'a Signals,
}

impl<'a> Demo<'a> {
    fn start(signals: &'a Signals) -> anyhow::Result<Self> {
        let start = Instant::now();
        let switch = Switch::start(|| check(signals))?;
        let started = start.elapsed();
        let status: Status = switch.client().get("/v1/status", &[])?;
        let network: NetworkInfo = switch.client().get("/v1/networks/default", &[])?;
        scene(
            "switch",
            &format!(
                "serves after {} ms: network {}, {} workers, {}",
                started.as_millis(),
                network.subnet,
                status.workers,
                status.io
            ),
        )?;
        let (web, db) = (switch.actor("web")?, switch.actor("db")?);
        let whose = if userns::is_privileged() { "" } else { ", made by an ordinary user" };
        let detail =
            format!("web {}, db {}; a network namespace each, eth0 is a TAP{whose}", web.station.ip, db.station.ip);
        scene("containers", &detail)?;
        Ok(Demo { web, db, network, switch, signals })
    }

    fn play(&self) -> anyhow::Result<()> {
        let acts: [fn(&Self) -> anyhow::Result<()>; 6] =
            [Self::pings, Self::transfers, Self::icc_off, Self::icc_on, Self::spoofs, Self::report];
        for act in acts {
            self.check()?;
            act(self)?;
        }
        Ok(())
    }

    fn pings(&self) -> anyhow::Result<()> {
        let gateway = answered(&self.web, self.network.gateway)?;
        scene(
            "ping",
            &format!("web to the gateway {}: {gateway}, answered by the switch itself", self.network.gateway),
        )?;
        self.check()?;
        scene("ping", &format!("web to db: {}", answered(&self.web, self.db.station.ip)?))?;
        self.check()?;
        scene("ping", &format!("db to web: {}", answered(&self.db, self.web.station.ip)?))
    }

    fn transfers(&self) -> anyhow::Result<()> {
        let receiver = Receiver::listen(&self.db.inside, self.db.station.ip)?;
        self.transfer_for(&receiver, "tcp", "web to db", TRANSFER)
    }

    fn icc_off(&self) -> anyhow::Result<()> {
        let receiver = Receiver::listen(&self.db.inside, self.db.station.ip)?;
        self.set_icc(false)?;
        let before = self.drops(&self.web)?;
        if self.connects()? {
            bail!("icc is off, and web connected to db all the same");
        }
        let dropped = new_drops(&before, &self.drops(&self.web)?);
        scene("icc off", &format!("web to db: no connection within 1 s; dropped as {}", listed(&dropped)))?;
        self.check()?;
        let rule = RuleChange { from: "web".into(), to: "db".into(), what: Some(format!("tcp/{}", transfer::PORT)) };
        let _: serde_json::Value = self.client().post("/v1/rules", &rule)?;
        self.transfer_for(
            &receiver,
            "allow",
            &format!("rule web db tcp/{}; web to db", transfer::PORT),
            SHORT_TRANSFER,
        )?;
        self.client().delete_with("/v1/rules", &rule)?;
        Ok(())
    }

    fn icc_on(&self) -> anyhow::Result<()> {
        self.set_icc(true)?;
        scene("icc on", &format!("web to db: ping {}", answered(&self.web, self.db.station.ip)?))
    }

    fn spoofs(&self) -> anyhow::Result<()> {
        let before = (self.drops(&self.web)?, self.endpoint(&self.db)?.tx_frames);
        let forger = Forger::inside(&self.web.inside)?;
        let (web, db) = (self.web.station, self.db.station);
        let other = Station { mac: Mac::new([0x02, 0x42, 0xde, 0xad, 0xbe, 0xef]), ..web };
        forger.send(&echo_request(other, db), FORGED)?;
        forger.send(&echo_request(Station { ip: other_host(web.ip, db.ip), ..web }, db), FORGED)?;
        forger.send(&arp_claim(web, self.network.gateway, db), FORGED)?;
        let dropped = self.await_drops(&before.0, 3 * FORGED)?;
        let detail = format!(
            "web sends {} frames with a forged MAC, a forged IP, as the gateway: dropped as {}",
            3 * FORGED,
            listed(&dropped)
        );
        scene("spoof", &detail)?;
        let spoofed: u64 = dropped.iter().filter(|(reason, _)| *reason != "icc").map(|(_, count)| count).sum();
        if spoofed < 3 * FORGED { bail!("only {spoofed} of {} forged frames were dropped", 3 * FORGED) } else { Ok(()) }
    }

    fn report(&self) -> anyhow::Result<()> {
        let endpoints: Vec<EndpointInfo> = self.client().get("/v1/endpoints", &[])?;
        let entries: Vec<FdbEntry> = self.client().get("/v1/fdb", &[])?;
        let counters: Stats = self.client().get("/v1/stats", &[])?;
        let sections =
            [("ls", ls::table(&endpoints)), ("fdb", fdb::table(&entries)), ("stats", stats::text(&counters))];
        for (command, text) in sections {
            output::print(&format!("\n$ tapswitch {command}\n{text}"))?;
        }
        output::line("")
    }

    fn transfer_for(&self, receiver: &Receiver, name: &str, what: &str, time: Duration) -> anyhow::Result<()> {
        let stream = connection(&self.web.inside, self.db.station.ip)?.context("web cannot connect to db")?;
        let done = transfer(stream, receiver, time, || self.check())?;
        let (bytes, seconds) = (output::bytes(done.bytes), done.time.as_secs_f64());
        scene(name, &format!("{what}: {bytes} in {seconds:.1} s, {:.1} Gbit/s", done.gigabits()))
    }

    fn connects(&self) -> anyhow::Result<bool> {
        Ok(connection(&self.web.inside, self.db.station.ip)?.is_some())
    }

    fn set_icc(&self, icc: bool) -> anyhow::Result<()> {
        let change = NetworkSet { icc: Some(icc), ..NetworkSet::default() };
        let _: NetworkInfo = self.client().patch("/v1/networks/default", &change)?;
        Ok(())
    }

    /// Counters may lag a moment behind.
    fn await_drops(&self, before: &BTreeMap<String, u64>, count: u64) -> anyhow::Result<BTreeMap<String, u64>> {
        let deadline = Instant::now() + COUNTED;
        loop {
            let dropped = new_drops(before, &self.drops(&self.web)?);
            if dropped.values().sum::<u64>() >= count || Instant::now() > deadline {
                return Ok(dropped);
            }
            self.check()?;
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn drops(&self, actor: &Actor) -> anyhow::Result<BTreeMap<String, u64>> {
        Ok(self.endpoint(actor)?.drops)
    }

    fn endpoint(&self, actor: &Actor) -> anyhow::Result<EndpointInfo> {
        let query = [("network", Some("default")), ("name", Some(actor.endpoint.name.as_str()))];
        let found: Vec<EndpointInfo> = self.client().get("/v1/endpoints", &query)?;
        found.into_iter().next().with_context(|| format!("endpoint {} is gone", actor.endpoint.name))
    }

    fn client(&self) -> &Client {
        self.switch.client()
    }

    fn check(&self) -> anyhow::Result<()> {
        check(self.signals)
    }
}

/// Fails once a signal that ends us has arrived.
fn check(signals: &Signals) -> anyhow::Result<()> {
    match signals.next()? {
        Some(arrived) => bail!("ended by {}; all is cleaned up", arrived.signal),
        None => Ok(()),
    }
}

/// One line of the play.
fn scene(name: &str, what: &str) -> anyhow::Result<()> {
    output::line(&format!("{name:<11} {what}"))
}

/// The best round trip, in words.
fn answered(from: &Actor, target: Ipv4Addr) -> anyhow::Result<String> {
    match ping(&from.inside, target, PINGS)? {
        Some(time) => Ok(format!("{:.3} ms", time.as_secs_f64() * 1000.0)),
        None => bail!("{} gets no answer from {target}", from.endpoint.name),
    }
}

/// What was dropped since.
fn new_drops(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let since = |reason: &String, count: u64| count.saturating_sub(before.get(reason).copied().unwrap_or(0));
    after.iter().map(|(r, c)| (r.clone(), since(r, *c))).filter(|(_, count)| *count > 0).collect()
}

fn listed(drops: &BTreeMap<String, u64>) -> String {
    let words: Vec<String> = drops.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    if words.is_empty() { "nothing".into() } else { words.join(", ") }
}

/// An address of the same subnet that neither of the two has.
fn other_host(a: Ipv4Addr, b: Ipv4Addr) -> Ipv4Addr {
    let mut candidate = u32::from(a.max(b));
    candidate += 1;
    Ipv4Addr::from(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_drops_are_the_difference_without_zeros() {
        let before = BTreeMap::from([("icc".to_owned(), 4), ("unanswered".to_owned(), 1)]);
        let after =
            BTreeMap::from([("icc".to_owned(), 4), ("spoofed_mac".to_owned(), 5), ("unanswered".to_owned(), 2)]);
        assert_eq!(listed(&new_drops(&before, &after)), "spoofed_mac 5, unanswered 1");
        assert_eq!(listed(&BTreeMap::new()), "nothing");
    }

    #[test]
    fn the_forged_address_is_nobody_s() {
        let (web, db) = (Ipv4Addr::new(172, 17, 0, 2), Ipv4Addr::new(172, 17, 0, 3));
        assert_eq!(other_host(web, db), Ipv4Addr::new(172, 17, 0, 4));
    }
}
