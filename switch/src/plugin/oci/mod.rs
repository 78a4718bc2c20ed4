//! The OCI hook: what runc, crun and podman start when a container is made and when it is gone.
//!
//! One program for both stages: the state on stdin says which it is. At `createRuntime` (or the deprecated `prestart`) the
//! container's namespaces are there and its process is not: it is attached to the network that its annotation names. At `poststop` its
//! process is gone: what was attached for its id is detached. Containers without the annotation are left alone, so the hook may be
//! started for all. A failure is a line on stderr and status 1: before the start it ends the container, after the end
//! runtimes only warn.

mod annotations;
mod state;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tapswitch_netns::Namespace;

use self::annotations::Annotations;
use self::state::State;
use super::holder::Holder;
use super::switch::Switch;
use crate::daemon::api::types::AttachRequest;
use crate::daemon::name::Name;

/// The face's word in a holder.
const FACE: &str = "oci";

/// Does what the state says.
pub(super) fn main(socket: Option<PathBuf>) -> ExitCode {
    match run(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::note(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(socket: Option<PathBuf>) -> anyhow::Result<()> {
    let state = State::read(&super::request().context("read the container's state")?)?;
    let Some(wanted) = Annotations::read(&state.annotations)? else { return Ok(()) };
    let switch = Switch::new(&super::socket::find(socket)?);
    let holder = Holder::new(FACE, &state.id);
    if state.is_over() { detach(&switch, &holder) } else { attach(&switch, &holder, &state, wanted) }
}

fn attach(switch: &Switch, holder: &Holder, state: &State, wanted: Annotations) -> anyhow::Result<()> {
    let attaching = || format!("attach container {}", holder.short());
    let namespace = Namespace::of_pid(state.pid()?).with_context(attaching)?;
    if namespace.id() == Namespace::current()?.id() {
        bail!("{}: it has the host's network: start it with a namespace of its own, as by --network none", attaching());
    }
    let request = AttachRequest {
        network: Some(wanted.network),
        name: wanted.name.or_else(|| Name::nearest(holder.short()).map(String::from)),
        ip: wanted.ip,
        ip6: wanted.ip6,
        mac: wanted.mac,
        ifname: wanted.ifname,
        aliases: wanted.aliases,
        publish: wanted.publish,
        rate_in: wanted.rate_in,
        rate_out: wanted.rate_out,
        ..AttachRequest::default()
    };
    switch.attach(holder, request, namespace.as_fd())?;
    Ok(())
}

/// What of it is there: an id may have been attached in vain, or its namespace may be gone.
fn detach(switch: &Switch, holder: &Holder) -> anyhow::Result<()> {
    let word = holder.to_string();
    for endpoint in switch.endpoints(None)?.iter().filter(|endpoint| endpoint.netns == word) {
        switch.detach(endpoint)?;
    }
    Ok(())
}
