//! `allow` and `deny`: what may pass between two endpoints while icc is false.
//!
//! A rule speaks of names and may be given before its endpoints come. It goes when one of them is detached or dies, so
//! that whoever is given the name next is not let through by what was meant for another; `down` keeps it.

use super::resolve;
use super::{Control, MAX_RULES};
use crate::daemon::api::types::RuleChange;
use crate::daemon::name::{Name, Target, printable};
use crate::daemon::network::Network;
use crate::daemon::refusal::{Outcome, Refusal};
use crate::daemon::state::{NetworkRecord, RulePortRecord, RuleRecord};
use crate::engine::Changed;

/// A change, read.
struct Change {
    from: Target,
    to: Target,
    what: Option<RulePortRecord>,
}

impl Change {
    fn read(change: &RuleChange) -> Outcome<Change> {
        let target = |text: &str| text.parse::<Target>().map_err(|e| Refusal::Malformed(e.to_string()));
        let what = change.what.as_deref().map(str::parse).transpose().map_err(Refusal::Impossible)?;
        let change = Change { from: target(&change.from)?, to: target(&change.to)?, what };
        if change.from.name == change.to.name {
            return Err(Refusal::Impossible(format!("a rule from {} to itself opens nothing", change.from)));
        }
        Ok(change)
    }

    fn rule(&self) -> RuleRecord {
        RuleRecord { from: self.from.name.clone(), to: self.to.name.clone(), what: self.what }
    }

    /// Whether `deny` removes `rule`: without a protocol, every rule between the two.
    fn denies(&self, rule: &RuleRecord) -> bool {
        rule.from == self.from.name && rule.to == self.to.name && (self.what.is_none() || rule.what == self.what)
    }
}

/// As it was asked for; what cannot be read may be long, and hold anything.
fn said(change: &RuleChange) -> String {
    let words = [Some(&change.from), Some(&change.to), change.what.as_ref()];
    words.into_iter().flatten().map(|word| printable(word)).collect::<Vec<_>>().join(" ")
}

impl Control {
    /// Opens what `change` says; on return it is open. Opening it again is well.
    ///
    /// # Errors
    /// When it cannot be read, its network cannot be told, or it cannot be kept.
    pub(crate) fn allow(&mut self, change: &RuleChange) -> Outcome<()> {
        self.add_rule(change).map_err(|refusal| refusal.during(&format!("allow {}", said(change))))
    }

    fn add_rule(&mut self, change: &RuleChange) -> Outcome<()> {
        let change = Change::read(change)?;
        let name = resolve::rule_network(&self.networks, &change.from, &change.to, |_| false)?;
        let network = self.network(&name)?;
        let (from, to) = (&change.from.name, &change.to.name);
        let related = network.relates(from, to);
        let mut record = network.record.clone();
        if !record.rules.insert(change.rule()) {
            return Ok(());
        }
        if record.rules.len() > MAX_RULES {
            return Err(Refusal::Conflict(format!("network {name} has {MAX_RULES} rules, which is the most")));
        }
        self.change_rules(&name, record)?;
        if !related {
            self.network(&name)?.introduce(from, to);
        }
        Ok(())
    }

    /// Closes what `change` says, or everything from its one end to its other where it names no protocol; on return it is
    /// closed, for live flows too.
    ///
    /// # Errors
    /// When there is no such rule, and as [`Control::allow`].
    pub(crate) fn deny(&mut self, change: &RuleChange) -> Outcome<()> {
        self.remove_rules(change).map_err(|refusal| refusal.during(&format!("deny {}", said(change))))
    }

    fn remove_rules(&mut self, change: &RuleChange) -> Outcome<()> {
        let change = Change::read(change)?;
        let ruled = |n: &Network| n.record.rules.iter().any(|rule| change.denies(rule));
        let name = resolve::rule_network(&self.networks, &change.from, &change.to, ruled)?;
        let mut record = self.network(&name)?.record.clone();
        let before = record.rules.len();
        record.rules.retain(|rule| !change.denies(rule));
        if record.rules.len() == before {
            let what = change.what.map(|what| format!(" {what}")).unwrap_or_default();
            return Err(Refusal::Unknown(format!(
                "no rule from {} to {}{what} on network {name} (`tapswitch rules` shows them)",
                change.from.name, change.to.name
            )));
        }
        self.change_rules(&name, record)
    }

    /// Keeps `record`, whose rules changed and nothing else, and goes by it: on return every worker does.
    fn change_rules(&mut self, name: &Name, record: NetworkRecord) -> Outcome<()> {
        self.store(&record)?;
        let network = self.network_mut(name)?;
        network.record = record;
        network.refresh_policy();
        // No port's place, and nothing of the uplink's, depends on rules.
        self.publish_changed(Changed::Ports([].into()));
        Ok(())
    }

    /// Keeps `record`, whose settings changed, and goes by it: on return every worker does.
    pub(super) fn change_settings(&mut self, name: &Name, record: NetworkRecord) -> Outcome<()> {
        self.store(&record)?;
        let network = self.network_mut(name)?;
        network.record = record;
        network.policy_changed();
        self.publish_networks([name]);
        Ok(())
    }
}
