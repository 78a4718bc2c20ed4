//! The versions of CNI that are spoken, and what each has.

use serde_json::{Value, json};

/// A version. They are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// What is said where nothing else is known.
    pub(super) const NEWEST: Version = Version::V1_1_0;
    const ALL: [Version; 5] = [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];

    /// The version that `text` names, if it is spoken.
    pub(super) fn read(text: &str) -> Option<Self> {
        Version::ALL.into_iter().find(|version| version.as_str() == text)
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// Whether an address says of which family it is.
    pub(super) fn tells_families(self) -> bool {
        self < Version::V1_0_0
    }

    /// Whether CHECK is there.
    pub(super) fn has_check(self) -> bool {
        self >= Version::V0_4_0
    }

    /// Whether GC and STATUS are there, and an interface says its MTU.
    pub(super) fn has_status(self) -> bool {
        self >= Version::V1_1_0
    }

    /// All of them, separated by commas.
    pub(super) fn list() -> String {
        Version::ALL.map(Version::as_str).join(", ")
    }
}

/// The answer to VERSION. The daemon is not needed, and whatever comes on stdin is answered.
pub(super) fn answer(stdin: &[u8]) -> Value {
    let asked: Value = serde_json::from_slice(stdin).unwrap_or_default();
    let echo = asked["cniVersion"].as_str().unwrap_or(Version::NEWEST.as_str());
    json!({"cniVersion": echo, "supportedVersions": Version::ALL.map(Version::as_str)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_answered_with_its_echo_whatever_comes() {
        let all = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
        for (stdin, echo) in [(r#"{"cniVersion":"1.0.0"}"#, "1.0.0"), ("", "1.1.0"), ("[", "1.1.0"), ("[]", "1.1.0")] {
            assert_eq!(answer(stdin.as_bytes()), json!({"cniVersion": echo, "supportedVersions": all}), "{stdin}");
        }
    }

    #[test]
    fn only_what_is_spoken_is_read() {
        assert_eq!(Version::read("0.4.0"), Some(Version::V0_4_0));
        for text in ["", "0.2.0", "1.2.0", "1.1"] {
            assert_eq!(Version::read(text), None, "{text}");
        }
    }
}
