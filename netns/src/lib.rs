//! Network namespaces, and TAP devices born, moved and configured in them.
//!
//! # How a device is born
//!
//! One way for root and for an ordinary user. A [`Scratch`] is an empty network namespace owned by the same user
//! namespace as the target. A forked [child](in_child) enters that user namespace and the scratch, opens `/dev/net/tun`
//! there, makes the device, gives it MAC and MTU, moves it into the target under its name, and configures it
//! ([`birth`]). It sends the descriptor back; only then does the parent set the owner and make the device persistent
//! ([`Tap::persist`]), so that whatever fails before leaves nothing behind: the last descriptor is closed and the kernel
//! removes the device.
//!
//! An engine that takes devices to its containers itself finds them in its own namespace: there [`birth_down`] makes them, and
//! [`follow`] tells where one went.
//!
//! Nothing else appears in the host namespace, where udev or NetworkManager would rewrite its MAC (but for the host's own end of a
//! network, [`birth_on_host`]). And the descriptor pins the
//! namespace `/dev/net/tun` was opened in, which is the scratch and not the container: when the container's namespace
//! dies, the descriptor shows it at once: POLLERR, for who waits for POLLIN (the driver wakes nobody else).
//!
//! # Where functions may be called
//!
//! [`birth`], [`birth_down`], [`birth_on_host`], [`follow`], [`reattach`], [`set_mtu`] and [`remove`] leave the caller in another
//! namespace. They are for a forked child that ends afterwards: [`Child::spawn`] or [`in_child`]. All else changes nothing of the caller.
//!
//! This crate knows no frames and no leases.

mod birth;
mod child;
mod descriptors;
mod device;
mod error;
mod follow;
mod host;
mod kernel;
pub mod message;
mod names;
mod namespace;
mod netlink;
mod resolve;
mod routes;
mod scratch;
mod sysctl;
mod tap;
mod tun;

pub use birth::{birth, birth_down, reattach, remove, set_mtu};
pub use child::{Child, in_child};
pub use descriptors::close_all_but;
pub use device::{DeviceSpec, MTU_MAX, MTU_MIN, OffloadMode};
pub use error::{Error, Os, Result};
pub use follow::{Followed, follow};
pub use host::birth_on_host;
pub use kernel::kernel_version;
pub use names::{NameSockets, NameUpstream};
pub use namespace::{Namespace, NamespaceId, UserNamespace};
pub use resolve::Found;
pub use routes::{DeviceState, Route, add_routes};
pub use scratch::Scratch;
pub use tap::{Tap, TapInfo, let_go};
