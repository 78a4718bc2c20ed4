//! What keeper and switch say to each other: JSON in one SOCK_SEQPACKET message, with at most one descriptor.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tapswitch_netns::{DeviceSpec, NamespaceId, TapInfo};

use crate::uplink::Transport;

/// Names an endpoint for life: `NETWORK/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointKey(pub String);

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
    /// Destroy the endpoint's device and forget its descriptor. Answered by `Done`, also when it is gone already.
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
