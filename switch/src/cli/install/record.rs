//! The record of what `install` put where: `installed.json` in the daemon's state directory. By it a later call knows its own
//! files from others, whatever version or options they came from, and `--uninstall` takes away no more than was put.
//!
//! Paths stand in it as links and units say them, so that an image filled from outside can be changed from inside.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::places::Places;
use super::plan::{Item, What};

/// Its name.
const FILE: &str = "installed.json";

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Those it was put for.
    pub engines: BTreeSet<Engine>,
    /// The daemon's socket, if not at its usual place.
    pub socket: Option<PathBuf>,
    /// What was put.
    pub put: Vec<Put>,
    /// Folders that were made for it, outer ones first.
    pub folders: Vec<PathBuf>,
}

/// One thing that was put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Put {
    /// Where.
    pub path: PathBuf,
    /// What.
    #[serde(flatten)]
    pub mark: Mark,
}

/// By what it is known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    /// A link's target.
    Link(PathBuf),
    /// The CRC-32 of a file: it tells an edited file, and guards against nobody.
    Crc32(u32),
}

impl Mark {
    /// Of what is to be put.
    pub(super) fn of(what: &What) -> Self {
        match what {
            What::Link(target) => Mark::Link(target.clone()),
            What::File(text) => Mark::Crc32(crc32fast::hash(text.as_bytes())),
        }
    }

    /// Of what is at `path`; `None` where nothing is. What is neither a link nor a file has a mark that nothing else has.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        let metadata = match fs::symlink_metadata(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            metadata => metadata?,
        };
        Ok(Some(if metadata.is_symlink() {
            Mark::Link(fs::read_link(path)?)
        } else if metadata.is_file() && metadata.len() <= MAX_FILE {
            Mark::Crc32(crc32fast::hash(&fs::read(path)?))
        } else {
            Mark::Link(PathBuf::new())
        }))
    }
}

/// Longer files are none of ours, in bytes.
const MAX_FILE: u64 = 64 << 10;

impl Record {
    /// Where it is kept.
    pub(super) fn path(places: &Places) -> PathBuf {
        places.state().join(FILE)
    }

    /// Reads it; where there is none nothing was put.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub(super) fn read(places: &Places) -> anyhow::Result<Self> {
        let path = Record::path(places);
        places.check_below(&path)?;
        if places.root() != Path::new("/") && path.is_symlink() {
            bail!("{}: it is a link, and install makes none there", path.display());
        }
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
            text => text.with_context(|| format!("read {}", path.display()))?,
        };
        let doing = || format!("read {}, which says what was put where (remove it to start anew)", path.display());
        serde_json::from_str(&text).with_context(doing)
    }

    /// As it is written.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub(super) fn text(&self) -> anyhow::Result<String> {
        Ok(format!("{:#}\n", serde_json::to_value(self).context("write down what was put where")?))
    }

    /// What was put at a path, as it is called inside.
    pub(super) fn at(&self, path: &Path) -> Option<&Mark> {
        self.put.iter().find(|put| put.path == path).map(|put| &put.mark)
    }

    /// With what is to be put besides, where nothing was: who is interrupted meanwhile can take it away.
    pub(super) fn with(&self, places: &Places, items: &[Item], folders: &[PathBuf]) -> Self {
        let mut with = self.clone();
        for item in items {
            let path = places.inside(&item.path);
            if with.at(&path).is_none() {
                with.put.push(Put { path, mark: Mark::of(&item.what) });
            }
        }
        with.folders.extend(folders.iter().map(|folder| places.inside(folder)));
        with
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::Host(root.path().into());
        assert_eq!(Record::read(&places).unwrap(), Record::default());
        let item = |path: &str, what| Item { path: root.path().join(path), what };
        let items = [item("a", What::Link("/usr/bin/x".into())), item("b", What::File("text".into()))];
        let mut record = Record::default().with(&places, &items, &[root.path().join("etc")]);
        record.engines.insert(Engine::Podman);
        fs::create_dir_all(places.state()).unwrap();
        fs::write(Record::path(&places), record.text().unwrap()).unwrap();
        let read = Record::read(&places).unwrap();
        assert_eq!(read, record);
        assert_eq!(read.at(Path::new("/b")), Some(&Mark::of(&What::File("text".into()))));
        assert_eq!(read.folders, [Path::new("/etc")]);
    }

    #[test]
    fn what_is_no_record_is_named_and_not_gone_by() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::Host(root.path().into());
        fs::create_dir_all(places.state()).unwrap();
        fs::write(Record::path(&places), "{}").unwrap();
        let error = format!("{:#}", Record::read(&places).unwrap_err());
        assert!(error.contains("installed.json"), "{error}");
    }

    #[test]
    fn a_folder_has_no_mark_of_ours() {
        let root = tempfile::tempdir().unwrap();
        let mark = Mark::at(root.path()).unwrap().unwrap();
        assert_ne!(mark, Mark::of(&What::Link("/usr/bin/x".into())));
        assert_eq!(Mark::at(&root.path().join("none/none")).unwrap(), None);
    }
}
