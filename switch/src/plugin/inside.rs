//! What is in a container's namespace, seen and changed by a forked child that enters it.
//!
//! The daemon makes the device with its addresses and its default route. Further routes are the engine's wish, set here with
//! the engine's rights over the namespace; and what is reported is what was seen.

use std::os::fd::AsFd;
use std::time::Duration;

use tapswitch_netns::{DeviceState, Namespace, Result, Route, add_routes, in_child};

/// Some milliseconds are usual.
const LIMIT: Duration = Duration::from_secs(10);

/// Adds what is missing of `routes` by the device `ifname`, and says what it has.
///
/// # Errors
/// When it is not there, or a route cannot be.
pub(super) fn add(namespace: &Namespace, ifname: &str, routes: &[Route]) -> Result<DeviceState> {
    let work = || Ok((add_routes(namespace, ifname, routes)?, None));
    in_child("look into the namespace", &[namespace.as_fd()], LIMIT, work).map(|(state, _)| state)
}

/// What the device `ifname` has.
///
/// # Errors
/// When it is not there.
pub(super) fn examine(namespace: &Namespace, ifname: &str) -> Result<DeviceState> {
    add(namespace, ifname, &[])
}
