//! What a change of some endpoints makes is what all of it anew would be.

use proptest::prelude::*;

use super::*;
use crate::daemon::state::{EndpointRecord, RulePortRecord};
use crate::forwarding::PortSpec;
use crate::frame::Mac;
use crate::gateway::{Found, Zones};
use crate::port::{self, Cable};
use tapswitch_netns::{NamespaceId, TapInfo};

/// What a view says of ports, by their ids.
fn said(view: &NetworkView) -> (Vec<PortSpec>, String) {
    let network = view.network();
    let mut ports: Vec<_> = network.ports().map(|(_, port)| port.clone()).collect();
    ports.sort_by_key(|port| port.id);
    let mut rules: Vec<_> = network.rules().collect();
    rules.sort_unstable();
    (ports, format!("{:?} {rules:?}", network.settings()))
}

impl Network {
    /// Control's tests ask this after each publication.
    ///
    /// # Panics
    /// When view or zone are not what they would be if they were made anew.
    pub(crate) fn assert_as_made_anew(&self) {
        let anew = view(&self.record, self.policy_generation, &self.endpoints, &self.tables, Arc::clone(&self.ours));
        assert_eq!(said(&self.view), said(&anew));
        let mut zone = names::zone(&self.record, anew.network().settings());
        self.endpoints.values().filter_map(names::station).for_each(|station| zone.add(station));
        let [now, anew] = [(*self.zone).clone(), zone].map(|zone| Zones::new([Arc::new(zone)]));
        let network = self.record.name.as_str();
        let asked = |zones: &Zones, name: &str| zones.address(zones.of(network).unwrap(), name);
        for endpoint in self.endpoints.values() {
            let record = &endpoint.record;
            for name in std::iter::once(&record.name).chain(&record.aliases) {
                let name = name.as_str().to_ascii_lowercase();
                assert_eq!(asked(&now, &name), asked(&anew, &name), "{name}");
            }
            let reverse = |zones: &Zones| -> Found {
                zones.reverse(zones.of(network).unwrap(), IpAddr::from(record.ipv4).into())
            };
            assert_eq!(reverse(&now), reverse(&anew), "{}", record.ipv4);
        }
    }
}

fn name(n: u8) -> Name {
    format!("e{n}").parse().unwrap()
}

fn network() -> Network {
    let record = r#"{"name": "default", "subnet": {"net": "10.1.0.0/24", "gateway": "10.1.0.1", "range": "10.1.0.0/24"},
        "subnet6": null, "gateway_mac": "02:42:0a:01:00:01", "icc": false, "mtu": 1500, "uplink": "user", "ageing": 300,
        "fdb_limit": 100, "flood_limit": 500}"#;
    Network::new(serde_json::from_str(record).unwrap())
}

/// The endpoint of that number, as it comes with that port; each second one has the alias of the others like it.
fn endpoint(n: u8, port: u32) -> Endpoint {
    let ipv4 = std::net::Ipv4Addr::new(10, 1, 0, 10 + n);
    let (_, tx) = port::open_cable(PortId(port), Cable::new().1, 0, 1);
    let (rx, _) = port::open_cable(PortId(port), Cable::new().1, 0, 1);
    let info = TapInfo { ifname: "eth0".into(), header_len: 0, offload: 0 };
    let record = EndpointRecord {
        network: "default".parse().unwrap(),
        name: name(n),
        aliases: if n.is_multiple_of(2) { vec!["even".parse().unwrap()] } else { Vec::new() },
        netns: "x".into(),
        namespace: NamespaceId { dev: 0, ino: u64::from(n) },
        ifname: "eth0".into(),
        mac: Mac::of_ipv4(ipv4),
        ipv4,
        ipv6: None,
        guard: n != 3,
        port: PortId(port),
        published: Vec::new(),
        standby: Vec::new(),
        rate_in: None,
        rate_out: None,
        docker: None,
    };
    Endpoint::new(record, Phase::Up(Port { rx: rx.counters().clone(), tx, info }))
}

proptest! {
    #[test]
    fn some_endpoints_anew_are_as_all_of_it_anew(
        steps in prop::collection::vec((prop::collection::btree_set(0_u8..8, 1..4), 0_u8..8, 0_u8..8), 1..40),
    ) {
        let mut network = network();
        let mut next = 1;
        for (changed, from, to) in steps {
            if from % 3 == 0 && from != to {
                let what = (to % 2 == 0).then(|| "tcp/80".parse::<RulePortRecord>().unwrap());
                network.record.rules.insert(RuleRecord { from: name(from), to: name(to), what });
                network.refresh_policy();
                network.assert_as_made_anew();
            }
            let names: Vec<_> = changed.iter().map(|n| name(*n)).collect();
            for n in &changed {
                if network.endpoints.get(&name(*n)).is_some_and(|e| e.port().is_some()) {
                    drop(network.retire(&name(*n)));
                } else {
                    network.endpoints.remove(&name(*n));
                    network.endpoints.insert(endpoint(*n, next));
                    next += 1;
                }
            }
            network.refresh_endpoints(names.iter());
            network.assert_as_made_anew();
        }
    }
}
