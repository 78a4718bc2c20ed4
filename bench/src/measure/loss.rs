//! Frames lost between container and backend, one of a thousand each way, picked at random by nftables at the container's
//! device.
//!
//! What a container sends is not simply dropped on its way out: its TCP would be told, send it again at once, and nothing
//! would have been lost. It is led to `lo` instead, where nobody wants it. What comes is dropped at ingress. A frame is what
//! the device carries, with offload up to 64 KB.
//!
//! netem would be the tool, but many kernels lack it. nftables' egress hook needs Linux 5.16 and nft 1.0.1.

use anyhow::{Context, Result};

use crate::backend::DEVICE;
use crate::namespace::Namespace;

/// One of so many frames is lost.
const ONE_OF: u32 = 1000;
/// The table of our own.
const TABLE: &str = "netdev tapswitch_loss";

/// Frames are lost until it is dropped.
#[derive(Debug)]
pub(super) struct Loss<'a>(&'a Namespace);

/// Begins to lose frames of a container.
pub(super) fn begin(container: &Namespace) -> Result<Loss<'_>> {
    let loss = Loss(container);
    container.sh(&format!("nft '{}'", rules())).context("lose frames (apt-get install nftables)")?;
    Ok(loss)
}

impl Drop for Loss<'_> {
    fn drop(&mut self) {
        // Goes with its namespace at the latest. Not there if there was no nft to make it.
        let _ = self.0.sh(&format!("nft 'delete table {TABLE}'"));
    }
}

fn rules() -> String {
    let mut rules = format!("add table {TABLE};");
    for (hook, lose) in [("ingress", "drop"), ("egress", "fwd to lo")] {
        rules += &format!(
            " add chain {TABLE} {hook} {{ type filter hook {hook} device {DEVICE} priority 0; }}; \
             add rule {TABLE} {hook} numgen random mod {ONE_OF} == 0 {lose};"
        );
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_thousand_is_lost_each_way_and_the_sender_is_not_told() {
        let rules = rules();
        assert!(rules.contains("hook ingress device eth0 priority 0; }"));
        assert!(rules.contains("ingress numgen random mod 1000 == 0 drop;"));
        assert!(rules.contains("egress numgen random mod 1000 == 0 fwd to lo;"));
    }
}
