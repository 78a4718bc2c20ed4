//! A directory of JSON files, each written whole or not at all.
//!
//! A file is one header line, `tapswitch 1 crc32 XXXXXXXX bytes N`, and N bytes of JSON. It is written to a temporary file
//! beside it and renamed, so that a reader sees the old or the new one; with [`Survives::PowerLoss`] file and directory
//! are synced too. A file whose header, length or checksum is wrong, or whose JSON says what it cannot, is renamed to
//! `*.bad`, named in a warning, and costs nothing else. Control's one thread calls all of it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest file, in bytes: a network with the most rules takes a third of it.
const MAX_FILE: u64 = 4 << 20;
/// Most files read of one directory.
const MAX_FILES: usize = 65_536;
const MAGIC: &str = "tapswitch 1 crc32";

/// What a directory's files must outlive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survives {
    /// A killed process: what a file says is void after a restart of the machine, so nothing waits for the disk.
    Process,
    /// The machine losing power.
    PowerLoss,
}

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    survives: Survives,
}

/// What [`StateDir::read_all`] found.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    /// Key and content of every good file, by key.
    pub entries: Vec<(String, T)>,
    /// Key of every file that was moved aside, and one line about it.
    pub bad: Vec<(String, String)>,
}

impl StateDir {
    /// Makes the directory where it is missing, for its owner alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn open(path: impl Into<PathBuf>, survives: Survives) -> io::Result<Self> {
        let path = path.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|e| about("make directory", &path, e))?;
        Ok(StateDir { path, survives })
    }

    /// Writes `value` as the file of `key`, which holds no `/` and starts with a letter or digit.
    ///
    /// # Errors
    /// When the disk does not take it; the old file is unchanged then.
    pub(crate) fn write<T: Serialize>(&self, key: &str, value: &T) -> io::Result<()> {
        let target = self.file(key);
        let temporary = self.path.join(format!(".{key}.tmp"));
        self.replace(&temporary, &target, &sealed(value)).map_err(|e| {
            // The next write of this key would overwrite it anyway.
            let _ = fs::remove_file(&temporary);
            about("write", &target, e)
        })
    }

    /// Removes the file of `key`; a missing one is well.
    ///
    /// # Errors
    /// When it is there and stays.
    pub(crate) fn remove(&self, key: &str) -> io::Result<()> {
        let target = self.file(key);
        match fs::remove_file(&target) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(about("remove", &target, e)),
            _ => self.sync_dir(),
        }
    }

    /// Reads every file, and moves the bad ones aside.
    ///
    /// # Errors
    /// When the directory itself cannot be read.
    pub(crate) fn read_all<T: DeserializeOwned>(&self) -> io::Result<Loaded<T>> {
        let mut loaded = Loaded { entries: Vec::new(), bad: Vec::new() };
        for key in self.keys()? {
            match self.read(&key) {
                Ok(value) => loaded.entries.push((key, value)),
                Err(why) => {
                    let warning = self.move_aside(&key, &why);
                    loaded.bad.push((key, warning));
                }
            }
        }
        Ok(loaded)
    }

    /// Moves the file of `key` aside because of `why`, and says so in one line.
    pub(crate) fn move_aside(&self, key: &str, why: &str) -> String {
        let file = self.file(key);
        let bad = self.path.join(format!("{key}.json.bad"));
        match fs::rename(&file, &bad) {
            Ok(()) => format!("state file {}: {why}; moved to {}", file.display(), bad.display()),
            Err(e) => format!("state file {}: {why}; cannot be moved aside: {e}", file.display()),
        }
    }

    /// Reads the file of `key`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read<T: DeserializeOwned>(&self, key: &str) -> Result<T, String> {
        // Not through a link, and without waiting for somebody to write a pipe.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.file(key)).map_err(|e| e.to_string())?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        serde_json::from_slice(unsealed(&bytes)?).map_err(|e| e.to_string())
    }

    fn file(&self, key: &str) -> PathBuf {
        self.path.join(format!("{key}.json"))
    }

    fn keys(&self) -> io::Result<Vec<String>> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|e| about("read directory", &self.path, e))?.take(MAX_FILES) {
            let name = entry?.file_name();
            let key = name.to_str().and_then(|n| n.strip_suffix(".json")).filter(|k| !k.starts_with('.'));
            keys.extend(key.map(str::to_owned));
        }
        keys.sort();
        Ok(keys)
    }

    fn replace(&self, temporary: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
        let flags = libc::O_NOFOLLOW;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(temporary)?;
        file.write_all(bytes)?;
        if self.survives == Survives::PowerLoss {
            file.sync_all()?;
        }
        fs::rename(temporary, target)?;
        self.sync_dir()
    }

    fn sync_dir(&self) -> io::Result<()> {
        match self.survives {
            Survives::PowerLoss => File::open(&self.path)?.sync_all(),
            Survives::Process => Ok(()),
        }
    }
}

fn about(verb: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{verb} {}: {error}", path.display()))
}

fn sealed<T: Serialize>(value: &T) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(value).expect("records have string keys and derive their Serialize");
    json.push(b'\n');
    let mut out = format!("{MAGIC} {:08x} bytes {}\n", crc32fast::hash(&json), json.len()).into_bytes();
    out.append(&mut json);
    out
}

fn unsealed(bytes: &[u8]) -> Result<&[u8], String> {
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("longer than {MAX_FILE} bytes"));
    }
    let end = bytes.iter().position(|b| *b == b'\n').ok_or("no header line")?;
    let (header, json) = (&bytes[..end], &bytes[end + 1..]);
    let expected = format!("{MAGIC} {:08x} bytes {}", crc32fast::hash(json), json.len());
    if header == expected.as_bytes() {
        return Ok(json);
    }
    if header.starts_with(MAGIC.as_bytes()) {
        Err("wrong checksum or length".into())
    } else {
        Err("no header line".into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Value = BTreeMap<String, u32>;

    fn value(n: u32) -> Value {
        BTreeMap::from([("n".to_owned(), n)])
    }

    fn fresh() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("networks"), Survives::PowerLoss).unwrap();
        (dir, state)
    }

    #[test]
    fn what_is_written_is_read_and_what_is_removed_is_not() {
        let (_dir, state) = fresh();
        for n in 0..3 {
            state.write(&format!("k{n}"), &value(n)).unwrap();
        }
        state.write("k1", &value(7)).unwrap();
        state.remove("k0").unwrap();
        state.remove("k0").unwrap();
        let loaded = state.read_all::<Value>().unwrap();
        assert_eq!(loaded.entries, [("k1".to_owned(), value(7)), ("k2".to_owned(), value(2))]);
        assert!(loaded.bad.is_empty());
    }

    #[test]
    fn a_bad_file_is_moved_aside_and_costs_itself_alone() {
        let (_dir, state) = fresh();
        state.write("good", &value(1)).unwrap();
        for (key, content) in [("empty", ""), ("text", "hello"), ("json", "{\"n\":1}"), ("head", "tapswitch 1 crc32")] {
            fs::write(state.file(key), content).unwrap();
        }
        fs::write(state.file("type"), sealed(&"not a map")).unwrap();
        std::os::unix::fs::symlink(state.file("good"), state.file("link")).unwrap();
        let loaded = state.read_all::<Value>().unwrap();
        assert_eq!(loaded.entries, [("good".to_owned(), value(1))]);
        assert_eq!(loaded.bad.len(), 6, "{:?}", loaded.bad);
        assert!(loaded.bad.iter().all(|(_, w)| w.contains(".json.bad") && !w.contains('\n')));
        assert!(state.read_all::<Value>().unwrap().bad.is_empty());
    }

    #[test]
    fn a_write_cut_by_a_crash_leaves_the_old_file() {
        let (_dir, state) = fresh();
        state.write("k", &value(1)).unwrap();
        fs::write(state.path.join(".k.tmp"), &sealed(&value(2))[..20]).unwrap();
        assert_eq!(state.read_all::<Value>().unwrap().entries, [("k".to_owned(), value(1))]);
        state.write("k", &value(3)).unwrap();
        assert_eq!(state.read_all::<Value>().unwrap().entries, [("k".to_owned(), value(3))]);
    }

    proptest! {
        #[test]
        fn no_cut_and_no_flipped_bit_goes_unseen(n: u32, at: prop::sample::Index, bit in 0u8..8, cut: bool) {
            let mut bytes = sealed(&value(n));
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            prop_assert!(unsealed(&bytes).is_err());
        }

        #[test]
        fn no_file_content_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(unsealed(&bytes).is_err());
        }
    }
}
