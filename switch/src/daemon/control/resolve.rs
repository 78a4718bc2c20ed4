//! Which endpoint, or which network, a command means: decided here and nowhere else.

use std::collections::BTreeMap;
use std::fmt;

use super::unknown_network;
use crate::daemon::keeper::message::EndpointKey;
use crate::daemon::name::{Name, Target};
use crate::daemon::network::Network;
use crate::daemon::refusal::{Outcome, Refusal};

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Its network.
    pub network: Name,
    /// Its name there.
    pub name: Name,
}

impl Place {
    /// What the keeper calls so.
    pub(super) fn of_key(key: &EndpointKey) -> Option<Place> {
        let (network, name) = key.0.split_once('/')?;
        Some(Place { network: network.parse().ok()?, name: name.parse().ok()? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.name)
    }
}

/// The networks, by name.
type Networks = BTreeMap<Name, Network>;

/// The one endpoint that `target` means.
///
/// # Errors
/// `Unknown` when there is none, `Conflict` with the candidates when it could be several.
pub(super) fn endpoint(networks: &Networks, target: &Target) -> Outcome<Place> {
    if let Some(name) = &target.network {
        let network = networks.get(name).ok_or_else(|| unknown_network(name))?;
        let at = Place { network: name.clone(), name: target.name.clone() };
        return if has(network, &target.name) { Ok(at) } else { Err(unknown_endpoint(&at)) };
    }
    let mut found = networks.iter().filter(|(_, n)| has(n, &target.name)).map(|(name, _)| name);
    match (found.next(), found.next()) {
        (None, _) => Err(Refusal::Unknown(format!("no endpoint {} (`tapswitch ls` shows them)", target.name))),
        (Some(network), None) => Ok(Place { network: network.clone(), name: target.name.clone() }),
        (Some(_), Some(_)) => Err(ambiguous(&target.name, networks.iter().filter(|(_, n)| has(n, &target.name)))),
    }
}

/// The network of a rule between `from` and `to`, which need not exist: a named one; else the one that has a rule by `wanted`
/// or, failing that, both endpoints, or one of them; else the only one, or `default`.
///
/// # Errors
/// `Impossible` when the two are on different networks, `Unknown` and `Conflict` as for [`endpoint`].
pub(super) fn rule_network(
    networks: &Networks,
    from: &Target,
    to: &Target,
    wanted: impl Fn(&Network) -> bool,
) -> Outcome<Name> {
    match (&from.network, &to.network) {
        (Some(a), Some(b)) if a != b => {
            let text = format!("{from} and {to} are on different networks, and nothing passes between networks");
            return Err(Refusal::Impossible(text));
        }
        (Some(name), _) | (_, Some(name)) => {
            return networks.contains_key(name).then(|| name.clone()).ok_or_else(|| unknown_network(name));
        }
        (None, None) => {}
    }
    let both = |n: &Network| has(n, &from.name) && has(n, &to.name);
    let either = |n: &Network| has(n, &from.name) || has(n, &to.name);
    for fits in [&wanted as &dyn Fn(&Network) -> bool, &both, &either] {
        let found: Vec<_> = networks.iter().filter(|(_, n)| fits(n)).collect();
        match found.as_slice() {
            [] => {}
            [(name, _)] => return Ok((*name).clone()),
            _ => return Err(ambiguous(&from.name, found.into_iter())),
        }
    }
    let default = Name::default_network();
    match networks.keys().next() {
        Some(only) if networks.len() == 1 => Ok(only.clone()),
        _ if networks.contains_key(&default) => Ok(default),
        _ => Err(Refusal::Conflict(format!("on which network? Say NETWORK/{}", from.name))),
    }
}

/// What to say of an endpoint that is not there.
pub(super) fn unknown_endpoint(at: &Place) -> Refusal {
    Refusal::Unknown(format!("no endpoint {at} (`tapswitch ls` shows them)"))
}

fn has(network: &Network, name: &Name) -> bool {
    network.endpoints.get(name).is_some_and(|endpoint| endpoint.visible())
}

fn ambiguous<'a>(name: &Name, found: impl Iterator<Item = (&'a Name, &'a Network)>) -> Refusal {
    let candidates: Vec<String> = found.map(|(network, _)| format!("{network}/{name}")).collect();
    Refusal::Conflict(format!("{name} is ambiguous: say one of {}", candidates.join(", ")))
}
