//! Who answers for whom: the neighbour rules.
//!
//! The switch knows who has which address, so it answers requests itself: a request need not be flooded, and nobody
//! else's answer counts. ARP requests and neighbour solicitations, to a group or to one MAC, for
//! - the gateway's addresses: always answered, with the gateway's MAC;
//! - an address leased to another port: answered with that port's MAC, where policy lets anything pass between the two in
//!   either direction; so is a probe or duplicate detection of somebody else's address. Where nothing may pass, the
//!   asker is not even told that the address is in use: the guard would not let it use it anyway;
//! - another port's link-local address, as far as the switch knows it ([`super::guard`]), when duplicate detection asks:
//!   answered likewise, and never passed on, or the owner would give the address up while it detects itself;
//! - an address leased to the asker: never answered, or duplicate detection would find the asker itself;
//! - any of a container's, when the host asks, whatever policy says;
//! - nobody's address: passed on where containers talk freely (an unguarded port may have it), else dropped.
//!
//! What is no request is no matter of this file: replies and advertisements are forwarded as any frame is, the guard
//! having seen that they speak of their sender. Router solicitations are answered by nobody: the addresses are given by
//! control. Pure; called by the worker that owns the asker's port.

use std::net::IpAddr;

use super::holders::Holder;
use super::neighbour_message::NeighbourMessage;
use super::{Decision, DropReason, Network, PortIndex, Scratch, answer};
use crate::frame::{Arp, Frame, Mac};

/// RFC 826: the operation of a request.
pub(super) const ARP_REQUEST: u16 = 1;

/// What the rules say to a request.
enum Verdict {
    /// It is there.
    At {
        /// The owner's MAC.
        owner: Mac,
        /// The owner is the gateway.
        router: bool,
    },
    /// Forward it as any frame.
    Pass,
    /// Not to be told.
    Silence,
}

impl Network {
    /// Answers `arp` of `from`, or drops it; `None` where it goes its way like any frame.
    pub(super) fn answer_arp(&self, from: PortIndex, arp: &Arp, scratch: &mut Scratch) -> Option<Decision> {
        if arp.operation != ARP_REQUEST {
            return None;
        }
        match self.verdict(from, arp.target_ip.into(), self.leases.holder4(arp.target_ip)) {
            Verdict::At { owner, .. } => {
                answer::arp_reply(arp, owner, &mut scratch.answer);
                Some(Decision::Answer)
            }
            Verdict::Pass => None,
            Verdict::Silence => Some(Decision::Drop(DropReason::Unanswered)),
        }
    }

    /// Answers the neighbour message `message` of `from`, or drops it; `None` where it goes its way like any frame.
    pub(super) fn answer_neighbour(
        &self,
        from: PortIndex,
        frame: &Frame<'_>,
        message: &NeighbourMessage,
        scratch: &mut Scratch,
    ) -> Option<Decision> {
        let NeighbourMessage::Solicitation { from: asker, target, .. } = *message else { return None };
        // Whoever hears the question for an address that he is about to take himself gives it up: RFC 4862 5.4.3.
        let another = || self.link_local_holder(target).filter(|holder| *holder != Holder::Port(from));
        let unleased = || if asker.is_unspecified() { another() } else { None };
        match self.verdict(from, target.into(), self.leases.holder6(target).or_else(unleased)) {
            Verdict::At { owner, router } => {
                let out = &mut scratch.answer;
                answer::neighbour_advertisement(frame.src, asker, target, owner, router, out);
                Some(Decision::Answer)
            }
            Verdict::Pass => None,
            Verdict::Silence => Some(Decision::Drop(DropReason::Unanswered)),
        }
    }

    fn verdict(&self, from: PortIndex, target: IpAddr, holder: Option<Holder>) -> Verdict {
        let asks_host = self.host == Some(from);
        match holder {
            Some(Holder::Gateway) if asks_host && self.is_hosts_own(target) => Verdict::Pass,
            Some(Holder::Gateway) => Verdict::At { owner: self.settings.gateway_mac, router: true },
            Some(Holder::Port(owner)) if owner == from => Verdict::Pass,
            Some(Holder::Port(owner)) => {
                let [asker, owner] = [from, owner].map(|at| self.ports.at(at));
                match asks_host || self.policy.relates(asker.id, owner.id) {
                    true => Verdict::At { owner: owner.mac, router: false },
                    false => Verdict::Silence,
                }
            }
            None if self.policy.is_open() => Verdict::Pass,
            None => Verdict::Silence,
        }
    }
}

#[cfg(test)]
mod tests;
