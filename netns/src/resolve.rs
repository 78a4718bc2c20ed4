//! The words a user writes for a namespace, and finding one again by its identity.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::namespace::{Namespace, NamespaceId};

/// Where `ip netns add` binds them. The second is the first on most systems, by a link.
const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// A namespace found again.
#[derive(Debug)]
pub struct Found {
    /// The namespace.
    pub namespace: Namespace,
    /// A process in it, when it was found by one.
    pub pid: Option<i32>,
}

impl Namespace {
    /// Opens what NETNS means on the command line: all digits are a pid, a word without `/` is a name under
    /// `/run/netns`, all else is a path.
    ///
    /// # Errors
    ///
    /// One line that names the word: not found, permission denied, not a network namespace.
    pub fn resolve(word: &str) -> Result<Namespace> {
        let unknown = || Error::UnknownNamespace { name: word.to_owned() };
        if word.is_empty() {
            return Err(unknown());
        }
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Namespace::of_pid(word.parse().map_err(|_| unknown())?);
        }
        if word.contains('/') {
            return Namespace::open(Path::new(word));
        }
        let named = NAMED.iter().map(|directory| Path::new(directory).join(word)).find(|path| path.exists());
        Namespace::open_named(&named.ok_or_else(unknown)?, word)
    }

    /// Finds the namespace `id` among the named ones and those of all processes; `None` when nobody shows it.
    ///
    /// The kernel gives a dead namespace's inode number out again: what is found may be another namespace of the same
    /// number, so a caller checks what it expects inside.
    pub fn find(id: NamespaceId) -> Option<Found> {
        let named = NAMED.iter().flat_map(|directory| entries(Path::new(directory))).map(|path| (path, None));
        let processes = entries(Path::new("/proc")).filter_map(|path| {
            let pid = path.file_name()?.to_str()?.parse().ok()?;
            Some((path.join("ns/net"), Some(pid)))
        });
        named.chain(processes).find_map(|(path, pid)| {
            if NamespaceId::at(&path) != Some(id) {
                return None;
            }
            // A process may have gone, or moved, since.
            let namespace = Namespace::open(&path).ok()?;
            (namespace.id() == id).then_some(Found { namespace, pid })
        })
    }
}

/// A directory's entries; one that cannot be read has none.
fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_digits_is_a_pid() {
        let pid = std::process::id();
        let namespace = Namespace::resolve(&pid.to_string()).unwrap();
        assert_eq!(namespace.id(), Namespace::current().unwrap().id());
        let error = Namespace::resolve("999999999").unwrap_err().to_string();
        assert_eq!(error, "namespace 999999999: not found (give a pid, a name under /run/netns, or a path)");
        assert!(Namespace::resolve("99999999999999999999").is_err());
    }

    #[test]
    fn an_unknown_name_is_said_to_be_unknown() {
        for word in ["", "no-such-namespace", "..", "/no/such/path"] {
            let error = Namespace::resolve(word).unwrap_err();
            let known = matches!(error, Error::UnknownNamespace { .. } | Error::NotANamespace { .. });
            assert!(known, "{word}: {error}");
        }
    }

    #[test]
    fn a_path_with_a_slash_is_a_path() {
        assert!(Namespace::resolve("/proc/self/ns/net").is_ok());
    }

    #[test]
    fn our_namespace_is_found_by_its_identity() {
        let id = Namespace::current().unwrap().id();
        assert_eq!(Namespace::find(id).unwrap().namespace.id(), id);
        assert!(Namespace::find(NamespaceId { dev: id.dev, ino: 1 }).is_none());
    }
}
