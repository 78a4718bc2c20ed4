//! A failure as CNI says it: a JSON object on stdout and a status that is not 0.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::version::Version;
use crate::daemon::api::client::ClientError;
use crate::plugin::switch::{NoNetwork, SETTABLE};

/// CNI's number for a kind of failure. CNI 1.1.0, section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Code(u32);

impl Code {
    /// The configuration's version is not one of ours.
    pub(super) const VERSION: Code = Code(1);
    /// It asks for something that is not had here.
    pub(super) const UNSUPPORTED: Code = Code(2);
    /// CNI_COMMAND and its companions.
    pub(super) const ENVIRONMENT: Code = Code(4);
    /// Something could not be read, written or run.
    pub(super) const IO: Code = Code(5);
    /// What came on stdin is not what it should be.
    pub(super) const DECODE: Code = Code(6);
    /// A value in the configuration cannot be.
    pub(super) const CONFIG: Code = Code(7);
    /// CNI_NETNS is no namespace, or this one.
    pub(super) const NAMESPACE: Code = Code(8);
    /// Nobody serves just now.
    pub(super) const TRY_AGAIN: Code = Code(11);
    /// STATUS: ADD would fail.
    pub(super) const UNAVAILABLE: Code = Code(50);
    /// STATUS: ADD would fail, and containers may be cut off.
    pub(super) const IMPAIRED: Code = Code(51);
    /// The switch would not do it. Plugins' own codes start at 100.
    pub(super) const REFUSED: Code = Code(100);
    /// CHECK: something is not as it was made.
    pub(super) const DIFFERS: Code = Code(101);
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct CniError {
    pub(super) code: Code,
    pub(super) msg: String,
    #[serde(default)]
    pub(super) details: String,
}

impl CniError {
    pub(super) fn new(code: Code, msg: impl Into<String>) -> Self {
        CniError { code, msg: msg.into(), details: String::new() }
    }

    /// With more to say than the one line.
    pub(super) fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// As it is printed.
    pub(super) fn object(&self, version: Option<Version>) -> Value {
        let mut object = json!({
            "cniVersion": version.unwrap_or(Version::NEWEST).as_str(),
            "code": self.code,
            "msg": self.msg,
        });
        if !self.details.is_empty() {
            object["details"] = self.details.clone().into();
        }
        object
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)
    }
}

impl From<ClientError> for CniError {
    fn from(error: ClientError) -> Self {
        let code = match error {
            ClientError::NoDaemon(_) => Code::TRY_AGAIN,
            ClientError::Refused { .. } => Code::REFUSED,
            ClientError::NotAdmitted(_)
            | ClientError::Silent { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Broken { .. } => Code::IO,
        };
        CniError::new(code, error.to_string())
    }
}

impl From<NoNetwork> for CniError {
    fn from(error: NoNetwork) -> Self {
        match error {
            NoNetwork::Daemon(error) => error.into(),
            NoNetwork::Differs { ref network, what, .. } => {
                let anew =
                    format!("make it anew after `tapswitch network rm {network}`, or have the list agree with it");
                let details = match SETTABLE.contains(&what) {
                    true => format!("change it with `tapswitch network set {network}`, {anew}"),
                    false => anew,
                };
                CniError::new(Code::CONFIG, error.to_string()).with_details(details)
            }
        }
    }
}

impl From<tapswitch_netns::Error> for CniError {
    fn from(error: tapswitch_netns::Error) -> Self {
        use tapswitch_netns::Error;
        let code = match error {
            Error::UnknownNamespace { .. } | Error::NamespaceDenied { .. } | Error::NotANamespace { .. } => {
                Code::NAMESPACE
            }
            _ => Code::IO,
        };
        CniError::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::api::types::{NetworkCreate, Subnet4, UplinkKind};
    use crate::plugin::switch::{agreeing, tests::web};

    #[test]
    fn an_error_has_the_specification_s_shape() {
        let error = CniError::new(Code::CONFIG, "mtu: 5 is no MTU");
        assert_eq!(
            error.object(Some(Version::V0_4_0)),
            json!({"cniVersion": "0.4.0", "code": 7, "msg": "mtu: 5 is no MTU"})
        );
        let error = error.with_details("68 at least").object(None);
        assert_eq!((&error["cniVersion"], &error["details"]), (&json!("1.1.0"), &json!("68 at least")));
    }

    #[test]
    fn what_to_do_about_another_network_is_what_can_be_done() {
        let details = |wanted: NetworkCreate| CniError::from(agreeing(&wanted, web()).unwrap_err()).details;
        let anew = "make it anew after `tapswitch network rm web`, or have the list agree with it";
        let subnet = Subnet4::Given("10.95.0.0/24".parse().unwrap());
        assert_eq!(details(NetworkCreate { subnet: Some(subnet), ..NetworkCreate::default() }), anew);
        let set = format!("change it with `tapswitch network set web`, {anew}");
        assert_eq!(details(NetworkCreate { icc: Some(false), ..NetworkCreate::default() }), set);
        assert_eq!(details(NetworkCreate { mtu: Some(1400), ..NetworkCreate::default() }), set);
        assert_eq!(details(NetworkCreate { host_access: Some(true), ..NetworkCreate::default() }), set);
        assert_eq!(details(NetworkCreate { uplink: Some(UplinkKind::None), ..NetworkCreate::default() }), anew);
    }

    #[test]
    fn a_daemon_that_is_not_there_is_worth_another_try() {
        let error = CniError::from(ClientError::NoDaemon("/run/x".into()));
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert!(error.msg.contains("tapswitch up"), "{error}");
    }
}
