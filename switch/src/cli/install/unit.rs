//! The systemd unit that starts the daemon.

use std::path::Path;

use anyhow::{Context, bail};

/// What the unit is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit<'a> {
    /// The program.
    pub program: &'a Path,
    /// Where the daemon is to listen, if not at its usual place.
    pub socket: Option<&'a Path>,
    /// Whether Docker is served.
    pub docker: bool,
    /// Whether it is of a user's service manager.
    pub user: bool,
}

/// What the host's unit may have. The keeper needs the tun node, the network and user namespaces of containers, netlink, and
/// /proc/sys/net, and it starts `nft` for the uplink `host`. systemd.exec(5):
/// - RestrictNamespaces without a list would refuse setns(2) as well;
/// - ProtectClock and others close every device but what DeviceAllow opens, PrivateDevices even /dev/net/tun;
/// - ProtectKernelTunables would make /proc/sys read-only;
/// - ProtectHome=yes would hide a program that is in somebody's home.
const HARDENED: &str = "\
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_SETPCAP CAP_SETUID \
CAP_SETGID CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER CAP_KILL
DevicePolicy=closed
DeviceAllow=/dev/net/tun rw
ProtectSystem=full
ProtectHome=read-only
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6 AF_PACKET
RestrictNamespaces=net user
SystemCallArchitectures=native
OOMScoreAdjust=-500
";

impl Unit<'_> {
    /// Its text.
    ///
    /// # Errors
    /// When a path cannot be written in a unit.
    pub(super) fn text(&self) -> anyhow::Result<String> {
        let mut command = word(self.program)? + " up";
        if self.docker {
            command += " --docker-plugin";
        }
        if let Some(socket) = self.socket {
            command += &format!(" --socket {}", word(socket)?);
        }
        let head = "# Made by `tapswitch install`; `tapswitch install --uninstall` takes it away.\n[Unit]\n\
            Description=tapswitch, the switch between containers\n";
        // What is listed and not there is no matter.
        let order = "Before=docker.service containerd.service crio.service\n";
        let network = if self.user { "" } else { "After=network.target\n" };
        // One process that ends is replaced while the other serves on; so none is ended for the other.
        let service = format!(
            "\n[Service]\nType=notify\nExecStart={command}\nRestart=on-failure\nRestartSec=200ms\nKillMode=process\n\
            LimitNOFILE=65536\n"
        );
        let hardened = if self.user { String::new() } else { HARDENED.to_owned() + &self.writable()? };
        let wanted_by = if self.user { "default.target" } else { "multi-user.target" };
        Ok(format!("{head}{order}{network}{service}{hardened}\n[Install]\nWantedBy={wanted_by}\n"))
    }

    /// A socket somewhere else may be where nothing else is written.
    fn writable(&self) -> anyhow::Result<String> {
        match self.socket.and_then(Path::parent) {
            Some(folder) => Ok(format!("ReadWritePaths=-{}\n", word(folder)?)),
            None => Ok(String::new()),
        }
    }
}

/// A path as a word of a unit: systemd.service(5), "Command lines", and systemd.unit(5), "Specifiers".
fn word(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{}: not UTF-8, and so not for a unit", path.display()))?;
    if text.contains(char::is_control) {
        bail!("{text:?}: has a control character, and so is not for a unit");
    }
    let text = text.replace('%', "%%").replace('$', "$$");
    Ok(if text.contains([' ', '"', '\'', '\\', ';']) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> Unit<'static> {
        Unit { program: Path::new("/usr/bin/tapswitch"), socket: None, docker: false, user: false }
    }

    #[test]
    fn only_docker_s_unit_serves_docker() {
        assert!(unit().text().unwrap().contains("ExecStart=/usr/bin/tapswitch up\n"));
        let text = Unit { docker: true, ..unit() }.text().unwrap();
        assert!(text.contains("ExecStart=/usr/bin/tapswitch up --docker-plugin\n"), "{text}");
    }

    #[test]
    fn a_user_s_unit_asks_for_nothing_that_a_user_s_manager_has_not() {
        let text = Unit { user: true, ..unit() }.text().unwrap();
        assert!(text.ends_with("WantedBy=default.target\n"), "{text}");
        for word in ["Capability", "Protect", "Device", "OOMScore", "multi-user"] {
            assert!(!text.contains(word), "{word}: {text}");
        }
    }

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        for (path, expected) in [
            ("/opt/x", "/opt/x"),
            ("/opt/my switch", "\"/opt/my switch\""),
            ("/opt/50%/$x", "/opt/50%%/$$x"),
            ("/opt/a\"b\\", "\"/opt/a\\\"b\\\\\""),
        ] {
            assert_eq!(word(Path::new(path)).unwrap(), expected);
        }
        assert!(word(Path::new("/opt/a\nb")).is_err());
    }

    #[test]
    fn a_socket_elsewhere_stays_writable() {
        let text = Unit { socket: Some(Path::new("/srv/ts/api.sock")), ..unit() }.text().unwrap();
        assert!(
            text.contains(" up --socket /srv/ts/api.sock\n") && text.contains("ReadWritePaths=-/srv/ts\n"),
            "{text}"
        );
    }
}
