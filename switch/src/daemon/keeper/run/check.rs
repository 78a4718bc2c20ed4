//! What the switch may ask for, and what not, whatever it says: it may be taken over.
//!
//! All is checked before anything is forked. What is refused says why, in one line.

use std::os::fd::OwnedFd;

use tapswitch_netns::{DeviceSpec, Namespace, NamespaceId};

use super::Keeper;
use crate::daemon::keeper::follow::PREFIX as ENGINE_PREFIX;
use crate::daemon::keeper::host_routing;
use crate::daemon::keeper::job::Work;
use crate::daemon::keeper::message::EndpointKey;
use crate::daemon::keeper::start::SwitchStart;

impl<F: Fn(SwitchStart) -> i32> Keeper<'_, F> {
    /// Checks an attachment before anything is forked.
    pub(super) fn attach_work(
        &self,
        endpoint: EndpointKey,
        fd: Option<OwnedFd>,
    ) -> Result<(EndpointKey, Namespace), String> {
        let checked = || {
            let target = Namespace::from_fd(fd.ok_or("no namespace came with the request")?);
            let target = target.map_err(|error| error.to_string())?;
            self.refuse_own(target.id())?;
            self.refuse_label(&endpoint)?;
            Ok::<_, String>(target)
        };
        match checked() {
            Ok(target) => Ok((endpoint, target)),
            Err(error) => Err(format!("attach {}: {error}", endpoint.0)),
        }
    }

    /// Checks the making of a device on the host.
    pub(super) fn attach_host_work(&self, endpoint: &EndpointKey, device: DeviceSpec) -> Result<Work, String> {
        if !endpoint.is_host() || !device.ifname.starts_with(host_routing::PREFIX) {
            return Err("that is no device for the host's own namespace".into());
        }
        self.refuse_kept(endpoint)?;
        let host = Namespace::current().map_err(|error| error.to_string())?;
        Ok(Work::AttachHost { endpoint: endpoint.clone(), host, device })
    }

    /// Checks the making of a device where an engine looks for it, which may be the host's own namespace.
    pub(super) fn attach_down_work(
        &self,
        endpoint: &EndpointKey,
        pid: i32,
        device: DeviceSpec,
    ) -> Result<Work, String> {
        self.refuse_label(endpoint)?;
        if !device.ifname.starts_with(ENGINE_PREFIX) {
            return Err(format!("a device for an engine is named {ENGINE_PREFIX}..., not {}", device.ifname));
        }
        let engine = Namespace::of_pid(pid).map_err(|error| error.to_string())?;
        Ok(Work::AttachDown { endpoint: endpoint.clone(), engine, device })
    }

    /// On the host itself, a device that an engine has not taken yet is touched, and no other.
    pub(super) fn refuse_not_ours(&self, namespace: NamespaceId, ifname: &str) -> Result<(), String> {
        if ifname.starts_with(ENGINE_PREFIX) { Ok(()) } else { self.refuse_own(namespace) }
    }

    fn refuse_own(&self, namespace: NamespaceId) -> Result<(), String> {
        if namespace == self.own {
            return Err("that is the host's own network namespace; give a container's".into());
        }
        Ok(())
    }

    /// A container's device is not labelled as the host's, nor as another's.
    pub(super) fn refuse_label(&self, endpoint: &EndpointKey) -> Result<(), String> {
        if endpoint.is_host() {
            return Err("that is the host's own name".into());
        }
        self.refuse_kept(endpoint)
    }

    fn refuse_kept(&self, endpoint: &EndpointKey) -> Result<(), String> {
        match self.kept.get(endpoint) {
            Some(_) => Err("it has a device already".into()),
            None => Ok(()),
        }
    }
}
