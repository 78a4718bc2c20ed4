//! DEL and GC: what is not there is gone already.

use std::collections::BTreeSet;
use std::path::Path;

use super::config::ValidAttachment;
use super::error::{CniError, Code};
use super::{FACE, Job, holder};
use crate::daemon::api::client::ClientError;
use crate::daemon::api::types::EndpointInfo;
use crate::plugin::holder::Holder;
use crate::plugin::note;

impl Job<'_> {
    /// Takes the container's device away, then gives its addresses back.
    pub(super) fn del(&self) -> Result<(), CniError> {
        match self.detach_own() {
            // The device went with its namespace, and the daemon forgets it when it starts.
            Err(error) if error.code == Code::TRY_AGAIN && self.is_gone() => note(&error.to_string()),
            outcome => outcome?,
        }
        self.delegate()?.map_or(Ok(()), |delegate| delegate.ask("DEL"))
    }

    fn collect_delegate(&self) -> Result<(), CniError> {
        self.delegate()?.map_or(Ok(()), |delegate| delegate.ask_if_known("GC"))
    }

    fn detach_own(&self) -> Result<(), CniError> {
        for endpoint in self.own()? {
            self.switch.detach(&endpoint)?;
        }
        Ok(())
    }

    /// The endpoints of this attachment: one, unless a runtime did something odd.
    pub(super) fn own(&self) -> Result<Vec<EndpointInfo>, ClientError> {
        let attachment = self.environment.attachment();
        let holder = holder(attachment).to_string();
        let mut endpoints = self.switch.endpoints(Some(self.config.network.as_str()))?;
        endpoints.retain(|endpoint| endpoint.netns == holder && endpoint.ifname == attachment.ifname);
        Ok(endpoints)
    }

    /// Whether the namespace is no more.
    fn is_gone(&self) -> bool {
        self.environment.netns.is_empty() || !Path::new(&self.environment.netns).exists()
    }

    /// Detaches what runtimes attached to this network and know no more. One that fails does not stop the others.
    pub(super) fn gc(&self) -> Result<(), CniError> {
        let valid = self.config.valid_attachments().into_iter().collect();
        let endpoints = self.switch.endpoints(Some(self.config.network.as_str()))?;
        let failures: Vec<String> = endpoints
            .iter()
            .filter(|endpoint| is_stale(endpoint, &valid))
            .filter_map(|endpoint| {
                self.switch.detach(endpoint).err().map(|error| format!("{}: {error}", endpoint.name))
            })
            .chain(self.collect_delegate().err().map(|error| error.to_string()))
            .collect();
        if failures.is_empty() {
            return Ok(());
        }
        let msg = format!("{} of what nobody knows any more stayed", failures.len());
        Err(CniError::new(Code::IO, msg).with_details(failures.join("; ")))
    }
}

/// Whether a runtime attached it and no runtime's list has it.
fn is_stale(endpoint: &EndpointInfo, valid: &BTreeSet<ValidAttachment>) -> bool {
    Holder::read(FACE, &endpoint.netns).is_some_and(|holder| {
        let this = ValidAttachment { container: holder.container().to_owned(), ifname: endpoint.ifname.clone() };
        !valid.contains(&this)
    })
}
