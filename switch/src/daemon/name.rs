//! Names of networks and endpoints, and `[NETWORK/]NAME`, by which commands speak of an endpoint.
//!
//! Parsed once, at the border; inside, a [`Name`] is known to be harmless in a path, a URL, a log line and on a terminal.

use std::fmt;
use std::str::FromStr;

/// Longest name, in bytes: a DNS label, so that a name can be resolved.
const MAX_LEN: usize = 63;

/// A network's or an endpoint's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name of the network that is meant where none is named.
    pub fn default_network() -> Self {
        Name("default".into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// In lower case: names of which this is one are one in the names at a gateway.
    pub fn lower(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// The nearest name to `text`: what may not be in a name becomes `-`. `None` when nothing is left.
    pub fn nearest(text: &str) -> Option<Self> {
        let kept: String = text
            .chars()
            .map(|c| if c.is_ascii() && is_inner(c as u8) { c } else { '-' })
            .skip_while(|c| !c.is_ascii_alphanumeric())
            .take(MAX_LEN - SUFFIX_ROOM)
            .collect();
        kept.parse().ok()
    }

    /// This name with `-number` behind it, shortened where it must be.
    pub fn numbered(&self, number: u32) -> Self {
        let stem: String = self.0.chars().take(MAX_LEN - SUFFIX_ROOM).collect();
        Name(format!("{stem}-{number}"))
    }
}

/// Room for `-` and a 32-bit number.
const SUFFIX_ROOM: usize = 11;

const fn is_inner(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// Not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name (1 to 63 letters, digits, `_`, `.` and `-`, the first a letter or digit)")]
pub struct BadName(String);

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bytes = text.as_bytes();
        let first = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
        if first && bytes.len() <= MAX_LEN && bytes.iter().all(|b| is_inner(*b)) {
            Ok(Name(text.to_owned()))
        } else {
            Err(BadName(printable(text)))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[NETWORK/]NAME`: what a command calls an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its network; absent means whichever has an endpoint of that name.
    pub network: Option<Name>,
    /// Its name there.
    pub name: Name,
}

impl FromStr for Target {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        match text.split_once('/') {
            Some((network, name)) => Ok(Target { network: Some(network.parse()?), name: name.parse()? }),
            None => Ok(Target { network: None, name: text.parse()? }),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.network {
            Some(network) => write!(f, "{network}/{}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// `text` as one line of at most 80 characters that moves no terminal: for messages that quote what a client sent.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_usual_form_are_names() {
        for text in ["web", "0", "a.b_c-D9", &"x".repeat(63)] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_could_leave_a_directory_or_a_line_is_no_name() {
        for text in ["", ".", "..", "-x", "_x", "a/b", "a b", "a\nb", "é", "a\0", &"x".repeat(64)] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_error_quotes_no_control_character() {
        let error = "a\n\x1b[31mb".parse::<Name>().unwrap_err().to_string();
        assert!(!error.contains(['\n', '\x1b']), "{error:?}");
    }

    #[test]
    fn a_target_names_its_network_or_not() {
        let target: Target = "blue/web".parse().unwrap();
        assert_eq!((target.network.unwrap().as_str(), target.name.as_str()), ("blue", "web"));
        assert_eq!("web".parse::<Target>().unwrap().network, None);
        for bad in ["", "/", "/web", "blue/", "a/b/c"] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_nearest_name_is_a_name_and_stays_one_when_numbered() {
        assert_eq!(Name::nearest("/run/netns/my ns").unwrap().as_str(), "run-netns-my-ns");
        assert_eq!(Name::nearest("//"), None);
        let long = Name::nearest(&"y".repeat(300)).unwrap();
        let numbered = "z".repeat(63).parse::<Name>().unwrap().numbered(u32::MAX);
        for name in [long.numbered(u32::MAX), long, numbered] {
            assert!(name.as_str().parse::<Name>().is_ok(), "{name}");
        }
    }
}
