//! `tapswitch allow`, `deny` and `rules`.

use std::process::ExitCode;

use super::args::{NetworkFilter, checked};
use super::table::Table;
use super::{Outcome, output};
use crate::daemon::api::client::Client;
use crate::daemon::api::types::{RuleChange, RuleInfo};
use crate::daemon::name::Target;
use crate::daemon::wanted;

/// Open traffic from one container to another while icc is false
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch allow web db tcp/5432      web may open connections to db's port 5432
  tapswitch allow web db               any IP traffic from web to db
  tapswitch allow web db icmp          ping

Replies pass. The rule holds when the command returns, for endpoints that do not exist yet too.")]
pub(super) struct AllowArgs {
    #[command(flatten)]
    rule: RuleArgs,
}

/// Take back what `allow` opened
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch deny web db tcp/5432
  tapswitch deny web db

Live flows that no other rule allows end when the command returns.")]
pub(super) struct DenyArgs {
    #[command(flatten)]
    rule: RuleArgs,
}

#[derive(Debug, clap::Args)]
struct RuleArgs {
    /// The endpoint that may open
    from: Target,
    /// The endpoint towards which
    to: Target,
    /// As tcp/5432, udp/53 or icmp [default: any IP traffic]
    #[arg(value_name = "PROTO/PORT", value_parser = checked(wanted::check_rule))]
    what: Option<String>,
}

/// List the rules
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch rules
  tapswitch rules --network blue --json")]
pub(super) struct ListArgs {
    #[command(flatten)]
    filter: NetworkFilter,
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

impl From<RuleArgs> for RuleChange {
    fn from(rule: RuleArgs) -> RuleChange {
        RuleChange { from: rule.from.to_string(), to: rule.to.to_string(), what: rule.what }
    }
}

pub(super) fn allow(args: AllowArgs, client: &Client) -> Outcome {
    let _: serde_json::Value = client.post("/v1/rules", &RuleChange::from(args.rule))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn deny(args: DenyArgs, client: &Client) -> Outcome {
    client.delete_with("/v1/rules", &RuleChange::from(args.rule))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn list(args: &ListArgs, client: &Client) -> Outcome {
    let rules: Vec<RuleInfo> = client.get("/v1/rules", &args.filter.query())?;
    output::show(&rules, args.json, |rules| table(rules))?;
    Ok(ExitCode::SUCCESS)
}

fn table(rules: &[RuleInfo]) -> String {
    let mut table = Table::new(&["NETWORK", "FROM", "TO", "WHAT"]);
    for rule in rules {
        let what = rule.what.clone().unwrap_or_else(|| "any".into());
        table.row([rule.network.clone(), rule.from.clone(), rule.to.clone(), what]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_without_a_protocol_shows_as_any() {
        let rule = RuleInfo { network: "default".into(), from: "web".into(), to: "db".into(), what: None };
        assert_eq!(table(&[rule]), "NETWORK   FROM   TO   WHAT\ndefault   web    db   any\n");
    }
}
