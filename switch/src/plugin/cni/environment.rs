//! What a runtime says in environment variables. CNI 1.1.0, section 2.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use super::error::{CniError, Code};
use crate::daemon::name::printable;
use crate::daemon::wanted;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    /// As CNI writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }
}

/// Which device of which container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    /// The runtime's id of the container.
    pub(super) container: String,
    /// The device's name in it.
    pub(super) ifname: String,
}

/// What CNI_ARGS says: what is wished for one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CniArgs {
    pub(super) ips: Vec<IpAddr>,
    pub(super) mac: Option<String>,
    /// The pod's, or podman's container's, name.
    pub(super) pod: Option<String>,
}

/// The variables, checked as far as all commands need them.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) command: Command,
    /// Of ADD, DEL and CHECK.
    pub(super) attachment: Option<Attachment>,
    /// As it was given; empty where the namespace is gone.
    pub(super) netns: String,
    /// Whether the namespace may be the one this runs in.
    pub(super) own_netns: bool,
    args: Option<String>,
    /// Where delegated plugins are.
    pub(super) path: Vec<PathBuf>,
}

/// Keys of CNI_ARGS that runtimes give and that say nothing to us.
const KNOWN: [&str; 4] = ["IgnoreUnknown", "K8S_POD_NAMESPACE", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"];

impl Environment {
    /// Reads the variables; `variable` is the process's environment.
    ///
    /// # Errors
    /// What is missing or cannot be, code 4.
    pub(super) fn read(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, CniError> {
        let text = |name: &str| match variable(name).map(OsString::into_string) {
            None => Ok(String::new()),
            Some(Ok(text)) => Ok(text),
            Some(Err(_)) => Err(bad(format!("{name}: not UTF-8"))),
        };
        let command = match text("CNI_COMMAND")?.as_str() {
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "GC" => Command::Gc,
            "STATUS" => Command::Status,
            "VERSION" => Command::Version,
            other => return Err(bad(format!("CNI_COMMAND: `{}` is no command of CNI", printable(other)))),
        };
        let needed: &[&str] = match command {
            Command::Add | Command::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Command::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Command::Gc | Command::Status | Command::Version => &[],
        };
        let missing: Vec<&str> =
            needed.iter().copied().filter(|name| variable(name).is_none_or(|v| v.is_empty())).collect();
        if !missing.is_empty() {
            return Err(bad(format!("required env variables [{}] missing", missing.join(","))));
        }
        let attachment = if needed.is_empty() {
            None
        } else {
            Some(Attachment::new(text("CNI_CONTAINERID")?, text("CNI_IFNAME")?).map_err(bad)?)
        };
        Ok(Environment {
            command,
            attachment,
            netns: text("CNI_NETNS")?,
            own_netns: matches!(text("CNI_NETNS_OVERRIDE")?.as_str(), "1" | "TRUE" | "true" | "True" | "T" | "t"),
            args: Some(text("CNI_ARGS")?).filter(|args| !args.is_empty()),
            path: variable("CNI_PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
        })
    }

    /// The attachment that the command speaks of.
    pub(super) fn attachment(&self) -> &Attachment {
        self.attachment.as_ref().expect("only commands whose variables were demanded ask for it")
    }

    /// What CNI_ARGS says.
    ///
    /// # Errors
    /// Code 4: what is not `K=V;K=V`, or an unknown key where `IgnoreUnknown` does not allow any.
    pub(super) fn args(&self) -> Result<CniArgs, CniError> {
        let Some(text) = &self.args else { return Ok(CniArgs::default()) };
        let mut args = CniArgs::default();
        let mut unknown = Vec::new();
        let mut lenient = false;
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| bad(format!("CNI_ARGS: `{}` is not KEY=VALUE", printable(pair))))?;
            match key {
                "IP" => {
                    for word in value.split(',') {
                        args.ips
                            .push(address(word).ok_or_else(|| bad(format!("CNI_ARGS: IP: `{}`", printable(word))))?);
                    }
                }
                "MAC" => args.mac = Some(value.to_owned()),
                "K8S_POD_NAME" => args.pod = Some(value.to_owned()),
                "IgnoreUnknown" => lenient = matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
                key if KNOWN.contains(&key) || key.starts_with("NERDCTL_") => {}
                key => unknown.push(printable(key)),
            }
        }
        if !lenient && !unknown.is_empty() {
            return Err(bad(format!("CNI_ARGS: unknown keys {} (IgnoreUnknown=1 allows them)", unknown.join(", "))));
        }
        Ok(args)
    }
}

impl Attachment {
    /// Checked.
    pub(super) fn new(container: String, ifname: String) -> Result<Self, String> {
        if !is_cni_name(&container) {
            return Err(format!(
                "CNI_CONTAINERID: `{}` has other than letters, digits, `_`, `.`, `-`",
                printable(&container)
            ));
        }
        wanted::check_ifname(&ifname).map_err(|e| format!("CNI_IFNAME: {e}"))?;
        Ok(Attachment { container, ifname })
    }
}

/// CNI's names: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub(super) fn is_cni_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// An address, which may carry a prefix length.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.parse::<ipnet::IpNet>().map(|net| net.addr()).ok().or_else(|| text.parse().ok())
}

fn bad(msg: String) -> CniError {
    CniError::new(Code::ENVIRONMENT, msg)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::plugin::cni) fn environment(variables: &[(&str, &str)]) -> Result<Environment, CniError> {
        Environment::read(&|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    const ADD: [(&str, &str); 4] =
        [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "t1"), ("CNI_NETNS", "/run/netns/x"), ("CNI_IFNAME", "eth0")];

    fn args(text: &str) -> Result<CniArgs, CniError> {
        environment(&[&ADD[..], &[("CNI_ARGS", text)]].concat()).unwrap().args()
    }

    #[test]
    fn what_is_missing_is_listed() {
        let error = environment(&[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "t1"), ("CNI_NETNS", "")]).unwrap_err();
        assert_eq!(error, CniError::new(Code::ENVIRONMENT, "required env variables [CNI_NETNS,CNI_IFNAME] missing"));
    }

    #[test]
    fn del_needs_no_namespace_and_gc_nothing() {
        let del = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "t1"), ("CNI_NETNS", ""), ("CNI_IFNAME", "eth0")];
        assert_eq!(environment(&del).unwrap().netns, "");
        assert_eq!(environment(&[("CNI_COMMAND", "GC")]).unwrap().attachment, None);
    }

    #[test]
    fn ids_and_names_that_could_lead_astray_are_refused() {
        for (at, value) in
            [(1, "../x"), (1, "-x"), (1, "a b"), (3, "a/b"), (3, "."), (3, "a-name-that-is-too-long"), (0, "FLY")]
        {
            let mut variables = ADD;
            variables[at].1 = value;
            assert_eq!(environment(&variables).unwrap_err().code, Code::ENVIRONMENT, "{value}");
        }
    }

    #[test]
    fn podman_s_arguments_are_read() {
        let read = args("IgnoreUnknown=1;K8S_POD_NAME=p1;MAC=02:12:34:56:78:9a;IP=10.94.0.77;X=y").unwrap();
        assert_eq!(
            read,
            CniArgs {
                ips: vec!["10.94.0.77".parse().unwrap()],
                mac: Some("02:12:34:56:78:9a".into()),
                pod: Some("p1".into())
            }
        );
    }

    #[test]
    fn an_unknown_argument_is_refused_unless_it_may_be() {
        assert_eq!(args("X=y;K8S_POD_UID=7").unwrap_err().code, Code::ENVIRONMENT);
        assert!(args("IgnoreUnknown=true;X=y").is_ok());
        assert!(args("nonsense").is_err());
        assert!(args("IP=10.0.0.300").is_err());
        assert_eq!(args("IP=10.0.0.3/16").unwrap().ips, ["10.0.0.3".parse::<IpAddr>().unwrap()]);
    }
}
