//! What keeper and switch say to each other: JSON in one SOCK_SEQPACKET message, with at most one descriptor, but
//! for [`ToSwitch::Moved`].

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tapswitch_netns::{DeviceSpec, NameUpstream, NamespaceId, TapInfo};

use crate::daemon::host_access::NAME as HOST;
use crate::uplink::Transport;

/// Names an endpoint for life: `NETWORK/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointKey(pub String);

impl EndpointKey {
    /// Whether it is the host's own device on a network: no endpoint has that name.
    pub fn is_host(&self) -> bool {
        self.0.rsplit_once('/').is_some_and(|(_, name)| name == HOST)
    }
}

/// Pairs a request with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// Names the socket of a published port for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SocketKey {
    /// TCP or UDP.
    pub transport: Transport,
    /// Where it is bound.
    pub address: SocketAddr,
}

/// Who has a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Whose socket it is.
    pub uid: u32,
    /// Name and number of the process, where it may be looked at.
    pub process: Option<(String, u32)>,
}

/// From the switch to the keeper.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToKeeper {
    /// Make a device in the namespace whose descriptor comes with the message. Answered by `Attached` or `Failed`.
    Attach {
        /// Pairs the answer.
        job: JobId,
        /// Label of the kept descriptor.
        endpoint: EndpointKey,
        /// The device.
        device: DeviceSpec,
    },
    /// Make the host's own device on a network, in the host's namespace. Its name begins with `ts-`, and may get a number at its
    /// end. Answered by `Attached` or `Failed`.
    AttachHost {
        /// Pairs the answer.
        job: JobId,
        /// Label of the kept descriptor: the host's name.
        endpoint: EndpointKey,
        /// The device.
        device: DeviceSpec,
    },
    /// Make a device that is down and has no addresses in the namespace of process `pid`, an engine that takes it to a
    /// container itself. Its name begins with `tsd`. Answered by `Attached`, with the engine's namespace, or `Failed`.
    AttachDown {
        /// Pairs the answer.
        job: JobId,
        /// Label of the kept descriptor.
        endpoint: EndpointKey,
        /// The engine.
        pid: i32,
        /// The device; its addresses and gateways are for the engine.
        device: DeviceSpec,
    },
    /// Tell by `Moved` where such a device is. Answered by `Done` at once, and by `Failed` where it has none. Asked again, it
    /// begins anew; detached, it ends.
    Follow {
        /// Pairs the answer.
        job: JobId,
        /// Whose device.
        endpoint: EndpointKey,
        /// The engine's namespace: a device there is with no container.
        engine: NamespaceId,
        /// Tell only once it has left there and is up. One that does not within a minute is not told of.
        wait: bool,
        /// The network's gateway, which answers names.
        gateway: IpAddr,
    },
    /// Have the host's kernel route for what is behind its own device. Answered by `Done`, or by `Failed` with what does not work
    /// of it.
    Route {
        /// Pairs the answer.
        job: JobId,
        /// The device.
        ifname: String,
        /// What is behind it.
        subnets: Vec<IpNet>,
    },
    /// Destroy the endpoint's device and forget its descriptor; with the host's own device goes what was set up for its
    /// routing, but for forwarding itself. Answered by `Done`, also when it is gone already.
    Detach {
        /// Pairs the answer.
        job: JobId,
        /// Which.
        endpoint: EndpointKey,
    },
    /// Attach again, by name, to the persistent device of an endpoint that the keeper holds no descriptor of. Answered by
    /// `Attached` or `Failed`.
    Reattach {
        /// Pairs the answer.
        job: JobId,
        /// Label of the kept descriptor.
        endpoint: EndpointKey,
        /// Where it was.
        namespace: NamespaceId,
        /// The device as it was configured.
        device: DeviceSpec,
    },
    /// Set the MTU of an endpoint's device. Answered by `Done` or `Failed`.
    SetMtu {
        /// Pairs the answer.
        job: JobId,
        /// Where it is.
        namespace: NamespaceId,
        /// The device's name there.
        ifname: String,
        /// Bytes.
        mtu: u32,
    },
    /// Bind a socket for a published port, and keep it; port 0 is one that is free. Answered by `Bound` or `NotBound`.
    Bind {
        /// Pairs the answer.
        job: JobId,
        /// Where.
        socket: SocketKey,
    },
    /// Close the socket of a published port. Answered by `Done`, also when it is closed already.
    Unbind {
        /// Pairs the answer.
        job: JobId,
        /// Which.
        socket: SocketKey,
    },
    /// The switch serves.
    Ready,
    /// The switch could not start for good; the keeper ends with this message.
    Fatal {
        /// One line.
        error: String,
    },
    /// `tapswitch down`: all was detached, end.
    Down,
}

/// From the keeper to the switch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToSwitch {
    /// A TAP; its descriptor comes with the message.
    Attached {
        /// Pairs the request.
        job: JobId,
        /// What it is.
        tap: TapInfo,
        /// Where it is.
        namespace: NamespaceId,
    },
    /// Done.
    Done {
        /// Pairs the request.
        job: JobId,
    },
    /// Not done, and undone as far as it was.
    Failed {
        /// Pairs the request.
        job: JobId,
        /// One line: what was being done, to whom, what to do about it.
        error: String,
        /// The namespace is not there any more: trying again is of no use.
        gone: bool,
    },
    /// A socket, listening where it is TCP; its descriptor comes with the message.
    Bound {
        /// Pairs the request.
        job: JobId,
        /// Where it is bound.
        socket: SocketKey,
    },
    /// Not bound.
    NotBound {
        /// Pairs the request.
        job: JobId,
        /// What the kernel said.
        errno: i32,
        /// Who has the port, where that is why and somebody is seen.
        holder: Option<Holder>,
    },
    /// Where a device is that an engine takes to its containers. That it goes back later is not told.
    Moved {
        /// Whose device.
        endpoint: EndpointKey,
        /// Where it is.
        namespace: NamespaceId,
        /// Its name there.
        ifname: String,
        /// Who the container's names are to be asked of, where its device is up and nobody answers at its resolver's address: four
        /// descriptors come with the message, for [`NameSockets::from_parts`].
        ///
        /// [`NameSockets::from_parts`]: tapswitch_netns::NameSockets::from_parts
        names: Option<NameUpstream>,
    },
    /// At the start: a socket that the keeper kept; its descriptor comes with the message.
    KeptSocket {
        /// Where it is bound.
        socket: SocketKey,
    },
    /// At the start: a TAP that the keeper kept; its descriptor comes with the message.
    Kept {
        /// Its label.
        endpoint: EndpointKey,
        /// What it is.
        tap: TapInfo,
    },
    /// At the start: that was all.
    KeptAll,
    /// SIGTERM or SIGINT reached the keeper: write state and end; TAPs stay.
    Stop,
}
