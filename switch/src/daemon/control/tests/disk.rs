//! A disk that takes its time, or fails.

use super::*;
use crate::daemon::control::testing::SlowDisk;

/// A daemon, and its disk, which is slow from now on.
fn slow(dir: &tempfile::TempDir) -> (Daemon, SlowDisk) {
    let (slow, disk) = SlowDisk::new();
    let daemon = Daemon::on_disk(dir.path(), disk);
    slow.slow();
    (daemon, slow)
}

#[test]
fn while_the_disk_keeps_one_waiting_all_others_are_served() {
    let dir = dir();
    let (daemon, disk) = slow(&dir);
    std::thread::scope(|scope| {
        let allowed = scope.spawn(|| daemon.call(|control| control.allow(&rule("web", "db", None))));
        disk.await_sync();
        daemon.attach("web", "eth0").unwrap();
        assert_eq!(rules(&daemon), ["web db "], "it is in force, and may be seen");
        daemon.publish("web", &["8080:80"]).unwrap();
        daemon.unpublish("web", &["8080:80"]).unwrap();
        daemon.call(|control| Ok(control.status())).unwrap();
        assert!(!allowed.is_finished(), "it is not kept yet");
        disk.hurry();
        assert_eq!(allowed.join().unwrap(), Ok(()));
    });
    daemon.stop();
}

#[test]
fn who_waits_for_the_keeper_and_the_disk_is_answered_when_both_are_done() {
    let dir = dir();
    let (daemon, disk) = slow(&dir);
    daemon.attach("web", "eth0").unwrap();
    std::thread::scope(|scope| {
        let (name, set) = ("default".parse().unwrap(), NetworkSet { mtu: Some(9000), ..NetworkSet::default() });
        let ask = || wait(daemon.handle.ask(move |control, reply| control.set_network(&name, &set, reply)));
        let resized = scope.spawn(ask);
        disk.await_sync();
        until("the keeper sets it", || daemon.keeper.heard.lock().iter().any(|said| said == "mtu eth0 9000"));
        // The keeper's answers are heard in their order.
        daemon.attach("db", "eth1").unwrap();
        assert!(!resized.is_finished(), "it is not kept yet");
        disk.hurry();
        assert_eq!(resized.join().unwrap().unwrap().mtu, 9000);
    });
    daemon.stop();
}

#[test]
fn a_network_that_goes_after_its_device_on_the_host_is_answered_for_when_its_file_is_gone() {
    let dir = dir();
    let (disk, fast) = SlowDisk::new();
    let daemon = Daemon::on_disk(dir.path(), fast);
    let wanted = NetworkCreate { uplink: Some(UplinkKind::Host), ..network("lab", "10.2.0.0/24") };
    wait(daemon.handle.ask(move |control, reply| control.make_network(&wanted, reply))).unwrap();
    disk.slow();
    std::thread::scope(|scope| {
        let name = "lab".parse().unwrap();
        let ask = || wait(daemon.handle.ask(move |control, reply| control.remove_network(&name, reply)));
        let removed = scope.spawn(ask);
        disk.await_sync();
        assert!(daemon.call(|control| Ok(control.network_infos().len())).unwrap() == 1, "nobody sees it any more");
        assert!(!removed.is_finished(), "its file may come back");
        disk.hurry();
        assert_eq!(removed.join().unwrap(), Ok(()));
    });
    daemon.stop();
}

#[test]
fn what_was_ordered_is_kept_when_the_process_ends() {
    let dir = dir();
    let (daemon, disk) = slow(&dir);
    std::thread::scope(|scope| {
        let handle = daemon.handle.clone();
        let allowed = scope.spawn(move || wait(handle.call(|control| control.allow(&rule("web", "db", None)))));
        disk.await_sync();
        let stopped = scope.spawn(|| daemon.stop());
        disk.hurry();
        assert_eq!(allowed.join().unwrap(), Ok(()));
        stopped.join().unwrap();
    });
    let daemon = Daemon::start(settings(dir.path()), 1, Keeper::default(), Box::new(|_| Act::Do)).unwrap();
    assert_eq!(rules(&daemon), ["web db "]);
    daemon.stop();
}

#[test]
fn what_the_disk_does_not_take_is_said_to_who_asked_and_in_a_warning() {
    let dir = dir();
    let (daemon, disk) = slow(&dir);
    disk.end(Err(std::io::Error::other("bad sector")));
    let refusal = daemon.call(|control| control.allow(&rule("web", "db", None))).unwrap_err().to_string();
    for needle in ["networks/default.json", "bad sector", "until the switch ends"] {
        assert!(refusal.contains(needle) && !refusal.contains('\n'), "{refusal}");
    }
    until("a warning", || daemon.call(|control| Ok(control.status())).unwrap().warnings.contains(&refusal));
    assert_eq!(rules(&daemon), ["web db "], "as it says");
    disk.hurry();
    daemon.call(|control| control.allow(&rule("db", "web", None))).unwrap();
    let keeper = daemon.stop();
    let daemon = Daemon::start(settings(dir.path()), 1, keeper, Box::new(|_| Act::Do)).unwrap();
    assert_eq!(rules(&daemon), ["db web ", "web db "], "it is kept with the next change");
    daemon.stop();
}
