//! Tries what `attach` does: a TAP born in a scratch namespace and moved into another, with all the kernel grants.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use tapswitch_netns::{DeviceSpec, OffloadMode, Scratch, TapInfo, birth, in_child};

use super::Check;
use crate::cli::container::Container;

/// For each step; all take some 40 ms.
const LIMIT: Duration = Duration::from_secs(10);

// include/uapi/linux/if_tun.h: TUN_F_*
const OFFLOADS: [(u32, &str); 6] =
    [(0x01, "checksum"), (0x02, "TSO4"), (0x04, "TSO6"), (0x08, "ECN"), (0x20, "USO4"), (0x40, "USO6")];

pub(super) fn offload() -> Check {
    const CHECK: &str = "offload";
    match probe() {
        Err(error) => Check::fail(CHECK, format!("{error:#}"), "see docs/rootless.md"),
        Ok(tap) if tap.header_len == 0 => {
            Check::warn(CHECK, "the kernel has no IFF_VNET_HDR", "frames of one MTU only: about a tenth of the speed")
        }
        Ok(tap) => granted(tap.offload).map_or_else(
            |missing| Check::warn(CHECK, format!("IFF_VNET_HDR, but no {missing}"), "a newer kernel has all"),
            |all| Check::ok(CHECK, format!("IFF_VNET_HDR, {all}")),
        ),
    }
}

/// Names of all offloads where all were granted, else of those that were not. USO came with Linux 6.2 and is not missed.
fn granted(bits: u32) -> Result<String, String> {
    let names = |wanted: bool| {
        let chosen = OFFLOADS.iter().filter(|(bit, _)| (bits & bit != 0) == wanted);
        chosen.map(|(_, name)| *name).collect::<Vec<_>>()
    };
    let missing: Vec<&str> = names(false).into_iter().filter(|name| !name.starts_with("USO")).collect();
    if missing.is_empty() { Ok(names(true).join(" ")) } else { Err(missing.join(", ")) }
}

fn probe() -> anyhow::Result<TapInfo> {
    let container = Container::start(|| 0)?;
    let target = container.namespace()?;
    let scratch = Scratch::beside(&target, LIMIT)?;
    let device = DeviceSpec {
        ifname: "eth0".into(),
        mac: [0x02, 0x42, 0, 0, 0, 1],
        mtu: 1500,
        addresses: Vec::new(),
        gateways: Vec::new(),
        offload: OffloadMode::Auto,
        owner: nix::unistd::geteuid().as_raw(),
    };
    let (info, _) = in_child("make a TAP", &[target.as_fd(), scratch.as_fd()], LIMIT, || {
        Ok((birth(&target, &scratch, &device)?.info, None))
    })
    .context("try a TAP")?;
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_offloads_are_named_but_not_uso() {
        assert_eq!(granted(0x6f).unwrap(), "checksum TSO4 TSO6 ECN USO4 USO6");
        assert_eq!(granted(0x0f).unwrap(), "checksum TSO4 TSO6 ECN");
        assert_eq!(granted(0x01).unwrap_err(), "TSO4, TSO6, ECN");
    }
}
