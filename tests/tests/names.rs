//! Names at the gateway, as containers ask for them: endpoints of their networks, and what the host's resolvers know.

mod plugged;

use std::time::Duration;

use serde_json::Value;
use tapswitch_tests::{
    Background, Container, Internet, Probe, Session, Switch, Who, as_root_and_user, eventually, run,
};

const ECHO: u16 = 7;
const FAR_NAME: &str = "far.test";

as_root_and_user! {
    fn containers_find_each_other_by_name_over_udp_and_tcp(who: Who) {
        let switch = Switch::start(who, &[]);
        let (web, db) = (Container::new(&switch, "web"), Container::new(&switch, "db"));
        for server in gateways(&switch) {
            for transport in ["+notcp", "+tcp"] {
                let dig = |name: &str, kind: &str| answer(&web, &server, &[transport, name, kind]);
                assert_eq!(dig("db", "A"), db.ipv4().to_string());
                assert_eq!(dig("DB", "AAAA"), db.ipv6().to_string());
                for address in db.addresses() {
                    let name = web.ok(&["dig", "+short", transport, &server, "-x", &address.to_string()]);
                    assert!(name.starts_with("db."), "{address} is {name}");
                }
                assert_eq!(dig("nobody", "A"), "");
            }
        }
        switch.ok(&["detach", "db"]);
        let server = &gateways(&switch)[0];
        assert_eq!(answer(&web, server, &["db", "A"]), "", "a name outlives its endpoint");
    }
}

as_root_and_user! {
    fn a_name_is_known_on_its_own_network_only(who: Who) {
        let switch = Switch::start(who, &[]);
        switch.ok(&["network", "create", "back"]);
        let (web, _db) = (Container::new(&switch, "web"), Container::with(&switch, "db", &["--network", "back"]));
        assert_eq!(answer(&web, &gateways(&switch)[0], &["db", "A"]), "");
        assert_eq!(answer(&web, &gateways(&switch)[0], &["web", "A"]), web.ipv4().to_string());
    }
}

as_root_and_user! {
    fn other_names_are_asked_of_the_hosts_resolver_and_kept(who: Who) {
        let internet = Internet::new(who);
        let names = serve_names(&internet);
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        let [v4, v6] = internet.addresses();
        let server = &gateways(&switch)[0];
        for transport in ["+notcp", "+tcp"] {
            assert_eq!(answer(&web, server, &[transport, FAR_NAME, "A"]), v4.to_string());
            assert_eq!(answer(&web, server, &[transport, FAR_NAME, "AAAA"]), v6.to_string());
        }
        let asked = || names.lines().iter().filter(|line| *line == "question far.test 1").count();
        assert_eq!(asked(), 1, "the answer was not kept: {:?}", names.lines());
        let nothing = web.ok(&["dig", server, "no-such.test", "A"]);
        assert!(nothing.contains("NXDOMAIN"), "{nothing}");
    }
}

as_root_and_user! {
    fn a_changed_resolv_conf_is_followed(who: Who) {
        let internet = Internet::new(who);
        std::fs::write(internet.session().resolv_conf(), format!("nameserver {}\n", internet.unreachable()[0])).expect("ours");
        let _names = serve_names(&internet);
        let switch = internet.switch(&[]);
        let web = Container::new(&switch, "web");
        let ask = || answer(&web, &gateways(&switch)[0], &["+tries=1", "+time=2", FAR_NAME, "A"]);
        assert_eq!(ask(), "");
        std::fs::write(internet.session().resolv_conf(), format!("nameserver {}\n", internet.addresses()[1])).expect("ours");
        let far = internet.addresses()[0].to_string();
        eventually("the new resolver's answer", Duration::from_secs(20), || ask() == far);
    }
}

as_root_and_user! {
    /// What a user does first: two containers, by name, and the world, with nothing configured.
    fn containers_of_run_reach_each_other_and_far_hosts_by_name(who: Who) {
        let internet = Internet::new(who);
        let (_names, _echo) = (serve_names(&internet), internet.serve("echo", ECHO, &[]));
        let _datagrams = internet.serve("echo-udp", ECHO, &[]);
        let switch = internet.switch(&[]);
        let probe = internet.session().program("tapswitch-probe").display().to_string();
        let mut web = start(internet.session(), &["--name", "web", "--", &probe, "echo", "[::]:80"]);
        web.wait_until_ready();
        let job = |words: &[&str]| {
            let output = switch.cli(&[&["run", "--name", "job", "--"], words].concat());
            assert_eq!(output.code, 0, "{words:?}: {}{}", output.stdout, output.stderr);
            output.stdout.trim().to_owned()
        };
        job(&[&probe, "dial", "web:80"]);
        job(&["ping", "-n", "-q", "-c", "1", "-W", "2", "web"]);
        job(&[&probe, "dial", "far.test:7"]);
        assert_eq!(job(&[&probe, "ask-udp", "far.test:7", "100"]), "answered");
        for version in ["-4", "-6"] {
            job(&["ping", version, "-n", "-q", "-c", "1", "-W", "2", FAR_NAME]);
        }
        assert!(web.is_running());
    }
}

as_root_and_user! {
    /// And from out there: a published port, whose service sees who the client is.
    fn a_published_port_of_run_is_reached_from_afar_and_shows_the_client(who: Who) {
        let internet = Internet::new(who);
        let _switch = internet.switch(&[]);
        let probe = internet.session().program("tapswitch-probe").display().to_string();
        let mut web =
            start(internet.session(), &["--name", "web", "-p", "8080:80", "--", &probe, "peer", "[::]:80"]);
        web.wait_until_ready();
        for (host, client) in internet.host_addresses().into_iter().zip(internet.addresses()) {
            let said = Probe::ask(internet.far(), "read", host, 8080, &[]);
            assert!(said.contains(&format!("you are {client}")), "{said}");
            web.wait_for_line(&format!("peer {client}"), Duration::from_secs(5));
        }
        let output = web.terminate();
        assert_eq!(output.code, 128 + 15, "{}", output.stderr);
        assert_ne!(Probe::ask(internet.far(), "connect", internet.host_addresses()[0], 8080, &[]), "connected");
    }
}

/// On a copy of the machine whose resolv.conf is written anew as its tools do: by a rename, as a file and as a link to another.
#[test]
fn a_container_of_run_keeps_its_resolv_conf_when_the_host_s_is_replaced_as_root() {
    const SCRIPT: &str = r#"
        mknod /run/tun c 10 200; chmod 666 /run/tun; mount --bind /run/tun /dev/net/tun
        mkdir -m 777 /run/user /run/resolve; chmod 755 /usr/local/bin/tapswitch
        replace() { echo "nameserver $2" >$1.new; mv $1.new $1; }
        patiently() { tries=0; until "$@"; do tries=$((tries + 1)); [ $tries -lt 200 ]; sleep 0.05; done; }
        ours() { $AS $TS exec web -- head -n 1 /etc/resolv.conf 2>/dev/null | grep -q "Written by tapswitch"; }
        for AS in env "setpriv --reuid 4711 --regid 4711 --clear-groups env XDG_STATE_HOME=/run/user/state XDG_RUNTIME_DIR=/run/user"; do
            rm -f /etc/resolv.conf; replace /etc/resolv.conf 192.0.2.1
            unset TAPSWITCH_SOCKET; $AS $TS up -d
            $AS $TS run --name web -- sleep 100 & run=$!
            patiently ours
            replace /etc/resolv.conf 192.0.2.2
            patiently ours
            replace /run/resolve/stub 192.0.2.3
            ln -s ../run/resolve/stub /etc/link; mv /etc/link /etc/resolv.conf
            patiently ours
            replace /run/resolve/stub 192.0.2.4
            patiently ours
            grep 192.0.2.4 /etc/resolv.conf
            kill $run; wait $run || :
            $AS $TS down
        done
    "#;
    let session = Session::new(Who::Root);
    let said = run(plugged::on_a_machine(&session, SCRIPT), Duration::from_secs(60));
    assert_eq!((said.code, said.stdout.as_str()), (0, "nameserver 192.0.2.4\nnameserver 192.0.2.4\n"), "{said:?}");
}

fn serve_names(internet: &Internet) -> Background {
    let [v4, v6] = internet.addresses();
    internet.serve("names", 53, &[&format!("{FAR_NAME}={v4}"), &format!("{FAR_NAME}={v6}")])
}

/// `tapswitch run WORDS` in the background.
fn start(session: &Session, words: &[&str]) -> Background {
    let mut command = session.command("tapswitch");
    command.arg("run").args(words);
    Background::start(command)
}

/// The gateway's addresses as dig(1) takes them.
fn gateways(switch: &Switch) -> Vec<String> {
    let network: Value = switch.json(&["network", "inspect", "default"]);
    ["gateway", "gateway6"].map(|field| format!("@{}", network[field].as_str().expect("it has both"))).into()
}

/// What dig(1) finds; nothing where there is nothing.
fn answer(container: &Container, server: &str, words: &[&str]) -> String {
    let output = run(container.command(&[&["dig", "+short", server], words].concat()), Duration::from_secs(20));
    output.stdout.lines().filter(|line| !line.starts_with(';')).collect::<Vec<_>>().join("\n")
}
