//! Docker's names for networks and endpoints.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::daemon::name::{Name, printable};

/// A SHA-256 in hexadecimal digits.
const MAX_LEN: usize = 64;
/// What Docker shows of one.
const SHORT: usize = 12;

/// An id that Docker gave: hexadecimal digits, 64 as a rule, and 12 at least, by which its users know it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct DockerId(String);

impl DockerId {
    /// Its beginning, as Docker's lists show it.
    pub(crate) fn short(&self) -> &str {
        &self.0[..SHORT]
    }

    /// The beginning, as a name behind `prefix`.
    pub(crate) fn as_name(&self, prefix: &str) -> Name {
        format!("{prefix}{}", self.short()).parse().expect("letters, digits and a hyphen")
    }
}

impl FromStr for DockerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (SHORT..=MAX_LEN).contains(&text.len());
        if fits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(DockerId(text.to_owned()));
        }
        Err(format!("`{}` is no id of Docker's ({SHORT} to {MAX_LEN} hexadecimal digits)", printable(text)))
    }
}

impl TryFrom<String> for DockerId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DockerId> for String {
    fn from(id: DockerId) -> String {
        id.0
    }
}

impl fmt::Display for DockerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DockerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_hexadecimal_and_long_enough_to_be_shown() {
        let id: DockerId = "e9b9385a34864d7f".parse().unwrap();
        assert_eq!((id.short(), id.as_name("docker-").as_str()), ("e9b9385a3486", "docker-e9b9385a3486"));
        for bad in ["", "e9b9385a348", "E9B9385A3486", "../../etc/passwd", &"a".repeat(65), "e9b9385a348é"] {
            assert!(bad.parse::<DockerId>().is_err(), "{bad}");
        }
    }
}
