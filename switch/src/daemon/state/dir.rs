//! A directory of JSON files, each written whole or not at all.
//!
//! A file is one header line, `tapswitch 1 crc32 XXXXXXXX bytes N`, and N bytes of JSON. It is written to a temporary file
//! beside it and renamed, so that a reader sees the old or the new one. That outlives a killed process; what must outlive the
//! machine's losing power too is written by way of [`Orders`](super::Orders), which sync file and directory. A file whose header,
//! length or checksum is wrong, or whose JSON says what it cannot, is renamed to `*.bad`, named in a warning, and costs
//! nothing else. Control's one thread calls all of it, but for what it has the thread of the [`Disk`](super::Disk) do.

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
/// How files end that are not in their place yet; they begin with a dot.
const TEMPORARY: &str = ".tmp";

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
}

/// A file that is written, and not yet in its place.
#[derive(Debug)]
pub(super) struct Beside {
    dir: StateDir,
    temporary: PathBuf,
    target: PathBuf,
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
    pub(crate) fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|e| about("make directory", &path, e))?;
        Ok(StateDir { path })
    }

    /// Writes `value` as the file of `key`, which holds no `/` and starts with a letter or digit.
    ///
    /// # Errors
    /// When the disk does not take it; the old file is unchanged then.
    pub(crate) fn write<T: Serialize>(&self, key: &str, value: &T) -> io::Result<()> {
        let beside = self.write_beside(key, "0", value)?;
        beside.rename()
    }

    /// Writes `value` beside the file of `key`, in a place named after `number`.
    ///
    /// # Errors
    /// When it cannot be written; nothing of it is left then.
    pub(super) fn write_beside<T: Serialize>(&self, key: &str, number: &str, value: &T) -> io::Result<Beside> {
        let beside = Beside {
            dir: self.clone(),
            temporary: self.path.join(format!(".{key}.{number}{TEMPORARY}")),
            target: self.file(key),
        };
        match beside.write(&sealed(value)) {
            Ok(()) => Ok(beside),
            Err(e) => Err(beside.failed(e)),
        }
    }

    /// Removes the file of `key`; a missing one is well.
    ///
    /// # Errors
    /// When it is there and stays.
    pub(crate) fn remove(&self, key: &str) -> io::Result<()> {
        let target = self.file(key);
        match fs::remove_file(&target) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(about("remove", &target, e)),
            _ => Ok(()),
        }
    }

    /// Reads every file, and moves the bad ones aside.
    ///
    /// # Errors
    /// When the directory itself cannot be read.
    pub(crate) fn read_all<T: DeserializeOwned>(&self) -> io::Result<Loaded<T>> {
        self.sweep()?;
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

    /// Removes what a process that was killed had not put in its place.
    fn sweep(&self) -> io::Result<()> {
        for name in self.names()?.iter().filter(|n| n.starts_with('.') && n.ends_with(TEMPORARY)) {
            // One that stays costs nothing but its room.
            let _ = fs::remove_file(self.path.join(name));
        }
        Ok(())
    }

    fn keys(&self) -> io::Result<Vec<String>> {
        let names = self.names()?;
        let keys = names.iter().filter_map(|n| n.strip_suffix(".json")).filter(|k| !k.starts_with('.'));
        let mut keys: Vec<String> = keys.map(str::to_owned).collect();
        keys.sort();
        Ok(keys)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.path).map_err(|e| about("read directory", &self.path, e))?;
        // One that is no text is nothing of ours.
        entries
            .take(MAX_FILES)
            .filter_map(|entry| entry.map(|e| e.file_name().into_string().ok()).transpose())
            .collect()
    }

    /// Syncs the directory itself: which files are in it.
    pub(super) fn sync(&self, sync: &mut impl FnMut(&File) -> io::Result<()>) -> io::Result<()> {
        File::open(&self.path).and_then(|dir| sync(&dir)).map_err(|e| about("sync directory", &self.path, e))
    }
}

impl Beside {
    /// Puts it in its place, on the disk.
    pub(super) fn replace(self, sync: &mut impl FnMut(&File) -> io::Result<()>) -> io::Result<()> {
        // Opened again, since many may wait, and there is a limit of open files.
        if let Err(e) = File::open(&self.temporary).and_then(|file| sync(&file)) {
            return Err(self.failed(e));
        }
        let dir = self.dir.clone();
        self.rename()?;
        dir.sync(sync)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        options.open(&self.temporary)?.write_all(bytes)
    }

    fn rename(self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target).map_err(|e| self.failed(e))
    }

    fn failed(&self, error: io::Error) -> io::Error {
        // The next start would remove it anyway.
        let _ = fs::remove_file(&self.temporary);
        about("write", &self.target, error)
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
        let state = StateDir::open(dir.path().join("networks")).unwrap();
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
        let torn = [".k.tmp", ".k.0.tmp", ".k.7.tmp"].map(|name| state.path.join(name));
        torn.iter().for_each(|torn| fs::write(torn, &sealed(&value(2))[..20]).unwrap());
        assert_eq!(state.read_all::<Value>().unwrap().entries, [("k".to_owned(), value(1))]);
        assert!(torn.iter().all(|torn| !torn.exists()), "nobody would ever remove them");
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
