//! What the host's kernel is told so that it routes for a network behind one of our devices: forwarding, and an nftables table.
//!
//! The table is the device's own and is put in place by one `nft -f -`, which nftables takes whole or not at all; one that
//! a killed daemon left is replaced by it. Where there is no `nft` there is plain routing, and the caller is told. Forwarding
//! is switched on as Docker does, and never off again: others may have come to need it.
//!
//! Runs in a forked child of the keeper, in the host's network namespace.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use ipnet::IpNet;

/// Every device of ours on the host is named so.
pub(crate) const PREFIX: &str = "ts-";

/// Has the kernel route between `subnets`, which are behind `ifname`, and everywhere else but our other networks.
///
/// # Errors
/// What does not work of it, in one line; the rest does.
pub(super) fn route(ifname: &str, subnets: &[IpNet]) -> Result<(), String> {
    let mut problems = Vec::new();
    let has = |v6: bool| subnets.iter().any(|net| matches!(net, IpNet::V6(_)) == v6);
    if has(false) {
        problems.extend(forward("ipv4/ip_forward").err());
    }
    if has(true) {
        keep_router_advertisements(Path::new("/proc/sys/net/ipv6/conf"));
        problems.extend(forward("ipv6/conf/all/forwarding").err());
    }
    problems.extend(match nft() {
        Some(nft) => run(&nft, &ruleset(ifname, subnets)).err(),
        None => Some(
            "there is no `nft` in PATH, so nothing is masqueraded: the next router needs a route back to the subnet \
             (docs/uplinks.md)"
                .into(),
        ),
    });
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

/// Takes the table of `ifname` away. Without `nft` there is none.
///
/// # Errors
/// In one line.
pub(super) fn unroute(ifname: &str) -> Result<(), String> {
    nft().map_or(Ok(()), |nft| run(&nft, &removal(ifname)))
}

/// Switches forwarding on, unless it is.
fn forward(key: &str) -> Result<(), String> {
    let path = Path::new("/proc/sys/net").join(key);
    let failed = |error: io::Error| {
        format!("{} cannot be set to 1, so packets are not forwarded ({error})", key.replace('/', "."))
    };
    if fs::read_to_string(&path).map_err(failed)?.trim() == "0" {
        fs::write(&path, "1").map_err(failed)?;
    }
    Ok(())
}

/// A device with accept_ra 1 stops to take router advertisements, and loses its routes, when forwarding is switched on
/// (Documentation/networking/ip-sysctl.rst); with 2 it does not. One that forwards already takes none, and shall not begin to. `all`
/// has no say in it.
fn keep_router_advertisements(settings: &Path) {
    let Ok(devices) = fs::read_dir(settings) else { return };
    let is = |path: &Path, value| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    for device in devices.flatten().filter(|device| device.file_name() != "all").map(|device| device.path()) {
        let accept = device.join("accept_ra");
        if is(&accept, "1") && is(&device.join("forwarding"), "0") {
            // Its routes are lost then, as with Docker; there is nobody to tell who could do more.
            let _ = fs::write(&accept, "2");
        }
    }
}

/// `nft` of the PATH.
fn nft() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("nft")).find(|file| file.is_file())
}

fn run(nft: &Path, script: &str) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("nft: {error}");
    let mut child = Command::new(nft)
        .args([OsStr::new("-f"), OsStr::new("-")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(&e))?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    let written = stdin.write_all(script.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(|e| failed(&e))?;
    if output.status.success() {
        return written.map_err(|e| failed(&e));
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(failed(&text.lines().next().unwrap_or("it failed and does not say why")))
}

fn table(ifname: &str) -> String {
    format!("inet tapswitch-{ifname}")
}

/// Also where there is none: it is made first.
fn removal(ifname: &str) -> String {
    let table = table(ifname);
    format!("add table {table}\ndelete table {table}\n")
}

/// Priorities as numbers, which every version takes: filter, and source NAT.
fn ruleset(ifname: &str, subnets: &[IpNet]) -> String {
    let mut masquerade = String::new();
    for subnet in subnets {
        let family = if subnet.addr().is_ipv4() { "ip" } else { "ip6" };
        // Writing to a String does not fail.
        let _ = writeln!(masquerade, "    {family} saddr {subnet} oifname != \"{ifname}\" masquerade");
    }
    format!(
        "{}table {} {{
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname \"{ifname}\" oifname \"{PREFIX}*\" drop
    oifname \"{ifname}\" ct state != {{ established, related }} drop
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
{masquerade}  }}
}}
",
        removal(ifname),
        table(ifname)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_replaces_the_one_before_and_masquerades_both_families() {
        let rules = ruleset("ts-lab", &["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()]);
        let wanted = "add table inet tapswitch-ts-lab
delete table inet tapswitch-ts-lab
table inet tapswitch-ts-lab {
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname \"ts-lab\" oifname \"ts-*\" drop
    oifname \"ts-lab\" ct state != { established, related } drop
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr 10.0.0.0/24 oifname != \"ts-lab\" masquerade
    ip6 saddr fd00::/64 oifname != \"ts-lab\" masquerade
  }
}
";
        assert_eq!(rules, wanted);
    }

    #[test]
    fn router_advertisements_are_kept_where_they_are_taken_and_nowhere_else() {
        let settings = tempfile::tempdir().unwrap();
        let devices = [("wan", "1", "0", "2"), ("lan", "1", "1", "1"), ("off", "0", "0", "0"), ("all", "1", "0", "1")];
        for (device, accept, forwarding, _) in devices {
            let device = settings.path().join(device);
            fs::create_dir(&device).unwrap();
            fs::write(device.join("accept_ra"), accept).unwrap();
            fs::write(device.join("forwarding"), forwarding).unwrap();
        }
        keep_router_advertisements(settings.path());
        for (device, _, _, after) in devices {
            let accept = settings.path().join(device).join("accept_ra");
            assert_eq!(fs::read_to_string(accept).unwrap(), after, "{device}");
        }
    }

    #[test]
    fn what_nft_says_is_one_line() {
        let error = run(Path::new("/bin/false"), "").unwrap_err();
        assert_eq!(error, "nft: it failed and does not say why");
        assert!(run(Path::new("/nonexistent/nft"), "").unwrap_err().starts_with("nft: "));
    }
}
