//! What an engine and a switch say of each other's things.

use serde_json::Value;

use super::Engine;

/// What containers could leave behind.
#[derive(Debug)]
pub(crate) struct Traces {
    endpoints: Value,
    devices: String,
    // How many the keeper and the switch have.
    descriptors: [u32; 2],
}

impl Traces {
    #[track_caller]
    pub(crate) fn of(engine: &Engine) -> Traces {
        let status = engine.json("tapswitch status");
        let count = |field: &str| {
            let text = engine.ok(&format!("ls /proc/{}/fd | wc -l", status[field]));
            text.parse().expect("wc prints a number")
        };
        Traces {
            endpoints: engine.json("tapswitch ls"),
            devices: engine.ok("ip -o link | cut -d: -f2"),
            descriptors: ["keeper_pid", "switch_pid"].map(count),
        }
    }

    /// Whether there is no more than `before`. An engine may have one connection to the plugin less.
    pub(crate) fn are_those(&self, before: &Traces) -> bool {
        let fewer = self.descriptors.iter().zip(before.descriptors).all(|(now, before)| *now <= before);
        fewer && self.endpoints == before.endpoints && self.devices == before.devices
    }
}

impl Engine {
    /// `docker inspect --format FORMAT NAME`.
    #[track_caller]
    pub(crate) fn inspect(&self, name: &str, format: &str) -> String {
        self.ok(&format!("docker inspect --format '{{{{{format}}}}}' {name}"))
    }

    /// The process of a container, in the room.
    #[track_caller]
    pub(crate) fn pid(&self, name: &str) -> String {
        self.inspect(name, ".State.Pid")
    }

    /// A container's address on `network`.
    #[track_caller]
    pub(crate) fn address(&self, name: &str, network: &str) -> String {
        self.inspect(name, &format!("(index .NetworkSettings.Networks \"{network}\").IPAddress"))
    }

    /// The line of `tapswitch ls` of a running container on one network.
    #[track_caller]
    pub(crate) fn endpoint(&self, container: &str) -> Value {
        let mut lines = self.endpoints(container);
        assert_eq!(lines.len(), 1, "{container}: {lines:?}");
        lines.remove(0)
    }

    /// Its lines, one of each network.
    #[track_caller]
    pub(crate) fn endpoints(&self, container: &str) -> Vec<Value> {
        let sandbox = self.inspect(container, ".NetworkSettings.SandboxKey");
        let list = self.json("tapswitch ls");
        list.as_array().expect("an array").iter().filter(|line| line["netns"] == *sandbox).cloned().collect()
    }

    /// The names of the switch's networks.
    #[track_caller]
    pub(crate) fn networks(&self) -> Vec<String> {
        let list = self.json("tapswitch network ls");
        list.as_array().expect("an array").iter().filter_map(|line| Some(line["name"].as_str()?.to_owned())).collect()
    }

    /// Docker makes a bridge of its own for a container whose network's driver names no gateway.
    #[track_caller]
    pub(crate) fn has_no_bridge(&self) {
        let all = self.ok("ip -o link; docker network ls");
        assert!(!all.contains("docker_gwbridge"), "{all}");
    }
}
