//! Which face an engine means, by how it started the program: the name of a link, a subcommand, or the engine's own way.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// A face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// A CNI plugin.
    Cni,
    /// A netavark driver plugin.
    Netavark,
    /// An OCI hook.
    Oci,
}

impl Face {
    const ALL: [Face; 3] = [Face::Cni, Face::Netavark, Face::Oci];

    /// The face that the arguments `words` mean, the program's name first, and how many of them that took; `None` is the
    /// command line. `cni` is whether the environment has CNI_COMMAND.
    ///
    /// The links come first, then the subcommands, then what no command line looks like: no argument with CNI_COMMAND, or a
    /// program in a folder of netavark's plugins, where its name is the driver's.
    pub fn of(words: &[OsString], cni: bool) -> Option<(Face, usize)> {
        let name = Path::new(words.first()?);
        if let Some(face) = Face::ALL.into_iter().find(|face| name.file_name() == Some(OsStr::new(face.link()))) {
            return Some((face, 1));
        }
        if name.parent().and_then(Path::file_name) == Some(OsStr::new("netavark")) {
            return Some((Face::Netavark, 1));
        }
        match words.get(1) {
            Some(word) => Face::ALL.into_iter().find(|face| word == face.word()).map(|face| (face, 2)),
            None => cni.then_some((Face::Cni, 1)),
        }
    }

    /// The link that selects it.
    pub(super) const fn link(self) -> &'static str {
        match self {
            Face::Cni => "tapswitch-cni",
            Face::Netavark => "tapswitch-netavark",
            Face::Oci => "tapswitch-oci",
        }
    }

    /// The subcommand.
    const fn word(self) -> &'static str {
        match self {
            Face::Cni => "cni",
            Face::Netavark => "netavark",
            Face::Oci => "oci",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str], cni: bool) -> Option<(Face, usize)> {
        Face::of(&words.iter().map(OsString::from).collect::<Vec<_>>(), cni)
    }

    #[test]
    fn a_link_or_a_subcommand_selects_a_face() {
        assert_eq!(of(&["/opt/cni/bin/tapswitch-cni"], false), Some((Face::Cni, 1)));
        assert_eq!(of(&["tapswitch", "cni", "--help"], false), Some((Face::Cni, 2)));
    }

    #[test]
    fn a_copy_without_an_argument_is_a_cni_plugin_where_a_runtime_says_so() {
        assert_eq!(of(&["/opt/cni/bin/tapswitch"], true), Some((Face::Cni, 1)));
        assert_eq!(of(&["tapswitch"], false), None);
        assert_eq!(of(&["tapswitch", "ls"], true), None);
    }

    #[test]
    fn a_program_in_a_folder_of_drivers_is_a_driver_whatever_its_name() {
        assert_eq!(of(&["/usr/local/libexec/netavark/tapswitch", "setup", "/x"], false), Some((Face::Netavark, 1)));
        assert_eq!(of(&["tapswitch-netavark", "info"], false), Some((Face::Netavark, 1)));
    }

    #[test]
    fn all_else_is_the_command_line() {
        for words in [&["tapswitch", "up"][..], &["/usr/bin/tapswitch", "run", "cni"], &["tapswitch-cni.old"], &[]] {
            assert_eq!(of(words, false), None, "{words:?}");
        }
    }
}
