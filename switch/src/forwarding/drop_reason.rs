//! Why a frame, or a copy of one, went nowhere. The names are what `tapswitch stats` shows: they are an
//! interface, and never change their meaning.

macro_rules! reasons {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every reason, in the order of its counters.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in `stats`.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }

            /// The place of its counter.
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// Why a frame that was read went nowhere.
    DropReason {
        /// Headers that do not fit the frame, or each other.
        Malformed = "malformed",
        /// The read filled the whole buffer: the kernel cut the frame.
        Truncated = "truncated",
        /// An offload header that does not fit the frame.
        BadOffload = "bad_offload",
        /// Longer than the network's MTU.
        TooBig = "too_big",
        /// Source MAC other than the assigned one.
        SpoofedMac = "spoofed_mac",
        /// A group address as source.
        GroupSource = "group_source",
        /// ARP whose sender is not the sender.
        SpoofedArp = "spoofed_arp",
        /// IPv4 source not leased to the sender.
        SpoofedIpv4 = "spoofed_ipv4",
        /// IPv6 source not leased to the sender.
        SpoofedIpv6 = "spoofed_ipv6",
        /// A claim on the gateway's MAC or address.
        GatewayClaim = "gateway_claim",
        /// A router advertisement.
        RogueRa = "rogue_ra",
        /// An ICMPv6 redirect.
        RogueRedirect = "rogue_redirect",
        /// A neighbour advertisement for somebody else's address.
        SpoofedNa = "spoofed_na",
        /// A DHCP server's reply.
        RogueDhcp = "rogue_dhcp",
        /// 01:80:c2:00:00:0x, which no bridge forwards.
        ReservedMac = "reserved_mac",
        /// A VLAN tag on an access port.
        Vlan = "vlan",
        /// The sender's flood budget is used up.
        FloodLimit = "flood_limit",
        /// Frames have waited for the limit of the sender's rate for long, and this one is lost so that it hears of that.
        RateLimit = "rate_limit",
        /// Container-to-container traffic that no rule allows.
        Icc = "icc",
        /// A later fragment whose first one was not seen or not allowed.
        Fragment = "fragment",
        /// It had no hop left to go beyond the gateway.
        HopLimit = "hop_limit",
        /// The host does not let the switch send echo requests.
        PingForbidden = "ping_forbidden",
        /// The socket that it was to leave by had no room.
        UplinkFull = "uplink_full",
        /// Addressed to the port that it came from.
        SamePort = "same_port",
        /// A MAC that nobody has, on a network where every MAC is assigned.
        UnknownUnicast = "unknown_unicast",
        /// A group frame on a network with nobody else to hear it.
        NoListener = "no_listener",
        /// A neighbour request that is not to be answered or passed on.
        Unanswered = "unanswered",
        /// For the gateway itself, which does not offer that.
        NoService = "no_service",
        /// A question to the names at the gateway, while too many of the asker's or of all wait for their answers.
        NamesBusy = "names_busy",
        /// Its sender has as many flows as one may have.
        FlowLimit = "flow_limit",
        /// For somewhere beyond the network, and no uplink takes it.
        NoUplink = "no_uplink",
        /// For the host itself, or a neighbour of its links alone, which the network may not reach.
        HostAccess = "host_access",
        /// Read from a port that control has already withdrawn.
        Detached = "detached",
        /// A TCP segment of no flow.
        NoFlow = "no_flow",
        /// A wrong checksum, on what was to leave the switch's world.
        BadChecksum = "bad_checksum",
    }
}

reasons! {
    /// Why a copy that was decided was not sent.
    EgressDrop {
        /// The container's device is down.
        Down = "down",
        /// The kernel had no memory for it, or the receiver's queue is full.
        NoMemory = "no_memory",
        /// The port went away.
        Gone = "gone",
        /// The kernel refused this frame.
        Refused = "refused",
        /// It does not fit this port and cannot be cut.
        TooBig = "tx_too_big",
        /// As much waits for the port already as the limit of its rate lets wait.
        RateLimit = "tx_rate_limit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_indices_dense() {
        let names: BTreeSet<_> =
            DropReason::ALL.iter().map(|r| r.name()).chain(EgressDrop::ALL.iter().map(|r| r.name())).collect();
        assert_eq!(names.len(), DropReason::COUNT + EgressDrop::COUNT);
        for (at, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at);
        }
    }
}
