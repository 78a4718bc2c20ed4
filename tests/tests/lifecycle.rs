//! Endpoints, namespaces and processes come and go; what is beside them does not notice.

use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tapswitch_tests::iperf::{self, Load};
use tapswitch_tests::{Container, Probe, Switch, as_root_and_user, eventually};

const SOON: Duration = Duration::from_secs(10);

as_root_and_user! {
    fn three_hundred_attachments_come_and_go_beside_a_flow(who: Who) {
        let switch = Switch::start(who, &[]);
        let (server, client) = (Container::new(&switch, "server"), Container::new(&switch, "client"));
        let guest = Container::unattached(switch.session());
        let mut run = iperf::start(&server, &client, server.ipv4().into(), Load::Tcp, false, 120);
        for round in 0..300 {
            guest.try_attach(&switch, &["--name", "guest"]).ok();
            if round % 50 == 0 {
                assert!(guest.reaches(server.ipv4()), "in round {round}");
            }
            switch.ok(&["detach", "guest"]);
            assert!(run.is_running(), "the flow ended in round {round}");
        }
        assert!(run.still_moves(&switch, "server"), "the flow stands still");
        assert_eq!(switch.json(&["status"])["endpoints"], 2);
        assert_eq!(switch.json(&["status"])["restarts"], 0);
    }
}

as_root_and_user! {
    fn a_namespace_deleted_under_load_frees_its_lease_and_disturbs_nobody(who: Who) {
        let switch = Switch::start(who, &[]);
        let (server, client) = (Container::new(&switch, "server"), Container::new(&switch, "client"));
        let (doomed, sender) = (Container::new(&switch, "doomed"), Container::new(&switch, "sender"));
        let address = doomed.ipv4();
        let beside = iperf::start(&server, &client, server.ipv4().into(), Load::Tcp, false, 3);
        let _stamps = Probe::stamps(&sender, address.into(), 4000);
        let mut load = iperf::start(&doomed, &sender, address.into(), Load::Tcp, false, 3);
        std::thread::sleep(Duration::from_millis(300));

        // The namespace lives while a process is in it.
        load.kill_server();
        drop(doomed);
        eventually("the endpoint to go with its namespace", SOON, || switch.endpoint("doomed").is_none());
        let next = Container::with(&switch, "next", &["--ip", &address.to_string()]);
        assert_eq!(next.ipv4(), address);
        assert!(sender.reaches(address));
        beside.finish();
    }
}

as_root_and_user! {
    fn killing_the_switch_process_cuts_no_flow_and_no_carrier(who: Who) {
        let switch = Switch::start(who, &["--icc", "false"]);
        let (server, client) = (Container::new(&switch, "server"), Container::new(&switch, "client"));
        switch.ok(&["allow", "client", "server", "tcp/5201"]);
        let carriers = [&server, &client].map(Container::carrier_changes);
        let watch = client.spawn(&["ip", "-oneline", "monitor", "link"]);
        switch.ok(&["allow", "client", "server", "udp/4000"]);
        let sink = Probe::sink(&server, server.ipv4().into(), 4000);
        let _stamps = Probe::stamps(&client, server.ipv4().into(), 4000);
        let run = iperf::start(&server, &client, server.ipv4().into(), Load::Tcp, false, 4);
        let mut killed = Vec::new();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(500));
            let victim = switch.switch_pid();
            kill(Pid::from_raw(victim.cast_signed()), Signal::SIGKILL).expect("the switch runs");
            switch.ok(&["status", "--wait", "10"]);
            eventually("another switch process", SOON, || switch.switch_pid() != victim);
            killed.push(victim);
        }
        run.finish();
        assert_eq!([&server, &client].map(Container::carrier_changes), carriers);
        assert!(!watch.lines().iter().any(|line| line.contains("NO-CARRIER")), "{:?}", watch.lines());
        assert_eq!(switch.json(&["status"])["restarts"], killed.len());
        assert!(!client.reaches(server.ipv4()), "the rules must hold after a restart");
        let arrived = sink.arrived();
        let longest = arrived.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().expect("stamps arrived");
        println!("{who:?}: {} kills, longest pause {} ms", killed.len(), longest / 1_000_000);
    }
}

as_root_and_user! {
    fn sigterm_keeps_the_devices_and_the_next_up_takes_them_back(who: Who) {
        let switch = Switch::start(who, &["--icc", "false", "--name", "default"]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        switch.ok(&["allow", "a", "b"]);
        let session = switch.terminate();
        for container in [&a, &b] {
            assert!(container.has_device("eth0"), "a device went with the daemon");
        }
        let switch = Switch::start_in(session, &[]);
        for name in ["a", "b"] {
            eventually("the endpoint to be up again", SOON, || switch.endpoint(name).is_some_and(|line| line["state"] == "up"));
        }
        eventually("traffic", SOON, || a.reaches(b.ipv4()) && a.reaches(b.ipv6()));
        assert_eq!(switch.json(&["network", "inspect", "default"])["icc"], false);
        assert_eq!(switch.endpoint("a").expect("a is attached")["ipv4"], a.ipv4().to_string());
    }
}

as_root_and_user! {
    fn both_processes_killed_leave_devices_that_the_next_up_takes_back(who: Who) {
        let switch = Switch::start(who, &[]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        let session = switch.kill();
        assert!(a.has_device("eth0") && b.has_device("eth0"));
        let _switch = Switch::start_in(session, &[]);
        eventually("traffic", SOON, || a.reaches(b.ipv4()));
    }
}

as_root_and_user! {
    fn a_killed_keeper_stops_no_traffic_and_the_next_up_takes_over(who: Who) {
        let switch = Switch::start(who, &[]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        let keeper = switch.kill_keeper();
        eventually("the switch to notice", SOON, || switch.json(&["status"])["keeper_pid"].is_null());
        assert!(a.reaches(b.ipv4()) && b.reaches(a.ipv6()));
        let next = Switch::start_in(Rc::clone(switch.session()), &[]);
        eventually("traffic", SOON, || a.reaches(b.ipv4()));
        assert_ne!(next.keeper_pid(), keeper);
        let c = Container::new(&next, "c");
        assert!(c.reaches(a.ipv4()));
    }
}

as_root_and_user! {
    fn down_leaves_no_device_though_the_keeper_is_dead(who: Who) {
        let switch = Switch::start(who, &[]);
        let web = Container::new(&switch, "web");
        switch.kill_keeper();
        eventually("the switch to notice", SOON, || switch.json(&["status"])["keeper_pid"].is_null());
        switch.ok(&["down"]);
        eventually("the device to go", SOON, || !web.has_device("eth0"));
    }
}

as_root_and_user! {
    fn down_detaches_all_and_keeps_networks_and_rules(who: Who) {
        let switch = Switch::start(who, &[]);
        switch.ok(&["network", "create", "back", "--subnet", "192.168.227.0/24", "--icc", "false"]);
        let web = Container::with(&switch, "web", &["--network", "back"]);
        switch.ok(&["allow", "back/web", "back/db", "tcp/5432"]);
        switch.ok(&["down"]);
        assert!(!web.has_device("eth0"), "a device stayed");
        let session = switch.kill();
        let switch = Switch::start_in(session, &[]);
        let back = switch.json(&["network", "inspect", "back"]);
        assert_eq!((&back["subnet"], &back["icc"]), (&"192.168.227.0/24".into(), &false.into()));
        assert_eq!(back["endpoints"], serde_json::json!([]));
        assert_eq!(switch.json(&["rules"]).as_array().map(Vec::len), Some(1));
    }
}

as_root_and_user! {
    fn a_changed_mtu_reaches_live_devices(who: Who) {
        let switch = Switch::start(who, &[]);
        let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
        switch.ok(&["network", "set", "default", "--mtu", "9000"]);
        for container in [&a, &b] {
            assert_eq!(container.ip(&["link", "show", "dev", "eth0"])[0]["mtu"], 9000);
        }
        let whole = a.run(&["ping", "-n", "-q", "-c", "1", "-W", "2", "-M", "do", "-s", "8972", &b.ipv4().to_string()]);
        assert_eq!(whole.code, 0, "{}", whole.stdout);
    }
}
