//! What outlives a process: one file per network in the state directory, one per endpoint in the run directory.

mod dir;
mod disk;
mod records;

pub(crate) use dir::{Loaded, StateDir};
pub(crate) use disk::{Disk, Kept, Orders};
pub(crate) use records::{
    DockerEndpointRecord, DockerNetworkRecord, EndpointRecord, HostRecord, NetworkRecord, PoolRecord, PortIds,
    PublicationRecord, RulePortRecord, RuleRecord, SiteRecord,
};
