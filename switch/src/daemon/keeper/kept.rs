//! The TAPs the keeper holds, by endpoint, and the sockets of published ports.
//!
//! A duplicate here keeps the carrier up, and connections waiting, while no switch lives.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tapswitch_netns::{NamespaceId, Tap, TapInfo};

use super::host_routing::PREFIX;
use super::message::{EndpointKey, SocketKey};

/// What a kept descriptor is known by.
#[derive(Clone, Debug)]
pub(super) enum Label {
    Tap(EndpointKey),
    Socket(SocketKey),
}

/// A held TAP.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) tap: Tap,
    /// Where it is; unknown for one taken over from a switch whose keeper died.
    pub(super) namespace: Option<NamespaceId>,
}

/// All that is held.
#[derive(Debug, Default)]
pub(super) struct KeptDescriptors {
    taps: BTreeMap<EndpointKey, Kept>,
    sockets: BTreeMap<SocketKey, OwnedFd>,
}

impl KeptDescriptors {
    /// The descriptor of that label.
    pub(super) fn fd(&self, label: &Label) -> Option<BorrowedFd<'_>> {
        match label {
            Label::Tap(endpoint) => self.taps.get(endpoint).map(|kept| kept.tap.as_fd()),
            Label::Socket(socket) => self.sockets.get(socket).map(AsFd::as_fd),
        }
    }

    pub(super) fn insert_socket(&mut self, key: SocketKey, fd: OwnedFd) {
        self.sockets.insert(key, fd);
    }

    /// Closes a socket; one that is not held is closed already.
    pub(super) fn close_socket(&mut self, key: SocketKey) {
        self.sockets.remove(&key);
    }

    /// Where sockets are bound, in order.
    pub(super) fn sockets(&self) -> impl ExactSizeIterator<Item = SocketKey> {
        self.sockets.keys().copied()
    }

    pub(super) fn insert(&mut self, endpoint: EndpointKey, kept: Kept) {
        self.taps.insert(endpoint, kept);
    }

    pub(super) fn get(&self, endpoint: &EndpointKey) -> Option<&Kept> {
        self.taps.get(endpoint)
    }

    /// Notes where a device is by now; of one that is not held nothing is to be noted.
    pub(super) fn moved(&mut self, endpoint: &EndpointKey, namespace: NamespaceId, ifname: &str) {
        if let Some(kept) = self.taps.get_mut(endpoint) {
            kept.namespace = Some(namespace);
            kept.tap.info.ifname = ifname.into();
        }
    }

    /// Whether a device is one of these.
    pub(super) fn holds(&self, namespace: NamespaceId, ifname: &str) -> bool {
        let is_it =
            |kept: &Kept| kept.tap.info.ifname == ifname && kept.namespace.is_none_or(|kept_in| kept_in == namespace);
        self.taps.values().any(is_it)
    }

    /// Whether a device is the host's own on one of our networks.
    pub(super) fn is_hosts(&self, ifname: &str) -> bool {
        self.taps.iter().any(|(endpoint, kept)| is_hosts(endpoint, kept) && kept.tap.info.ifname == ifname)
    }

    /// Takes out the host's own devices.
    pub(super) fn take_hosts(&mut self) -> Vec<Tap> {
        self.taps.extract_if(.., |endpoint, kept| is_hosts(endpoint, kept)).map(|(_, kept)| kept.tap).collect()
    }

    /// Labels and descriptions, in order.
    pub(super) fn list(&self) -> impl Iterator<Item = (EndpointKey, TapInfo)> {
        self.taps.iter().map(|(endpoint, kept)| (endpoint.clone(), kept.tap.info.clone()))
    }

    /// Destroys the device of an endpoint; one that is not held is destroyed already.
    pub(super) fn destroy(&mut self, endpoint: &EndpointKey) -> tapswitch_netns::Result<()> {
        self.taps.remove(endpoint).map_or(Ok(()), |kept| kept.tap.destroy())
    }
}

/// A switch that was taken over may have labelled anything: nothing of the host's but what is named as ours is ever touched.
fn is_hosts(endpoint: &EndpointKey, kept: &Kept) -> bool {
    endpoint.is_host() && kept.tap.info.ifname.starts_with(PREFIX)
}
