//! Whose an endpoint is: the engine's face and the engine's id of the container, kept as the endpoint's word for its namespace.
//!
//! An engine detaches by id, often when the namespace and even its path are gone. The word lives with the endpoint, so
//! there is no second table that could disagree, and `tapswitch ls` shows it: `cni:232544a6bb60..`.

use std::fmt;

/// The container of an engine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holder {
    face: &'static str,
    container: String,
}

impl Holder {
    /// `container` as `face` knows it.
    pub(super) fn new(face: &'static str, container: &str) -> Self {
        Holder { face, container: container.to_owned() }
    }

    /// The holder of `face` that an endpoint's `netns` names; `None` where another face or a person attached it.
    pub(super) fn read(face: &'static str, netns: &str) -> Option<Self> {
        let container = netns.strip_prefix(face)?.strip_prefix(':')?;
        Some(Holder::new(face, container))
    }

    /// The engine's id of the container.
    pub(super) fn container(&self) -> &str {
        &self.container
    }

    /// The id as engines show it to people: its first twelve characters.
    pub(super) fn short(&self) -> &str {
        self.container.char_indices().nth(12).map_or(&self.container, |(end, _)| &self.container[..end])
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.face, self.container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_read_back_by_its_own_face_only() {
        let holder = Holder::new("cni", "default-t1");
        assert_eq!(Holder::read("cni", &holder.to_string()), Some(holder));
        for netns in ["oci:default-t1", "4711", "/run/netns/cni:x", "cnix", ""] {
            assert_eq!(Holder::read("cni", netns), None, "{netns}");
        }
    }

    #[test]
    fn the_short_form_is_twelve_characters_at_most() {
        assert_eq!(Holder::new("cni", "232544a6bb605e86").short(), "232544a6bb60");
        assert_eq!(Holder::new("cni", "t1").short(), "t1");
    }
}
