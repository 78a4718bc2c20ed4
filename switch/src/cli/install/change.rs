//! Brings a host from what was put to what is to be there: looked at as a whole first, then done step by step, and undone
//! from the last step on when one fails.
//!
//! A file is written under another name and renamed, so that an engine never reads half of one; a link is born whole. What
//! neither the record knows nor is what would be put is somebody else's: an error, before anything was changed. What the record
//! knows and somebody has edited since stays as it is. Limits: two calls at once are not kept apart, though neither
//! overwrites what the other has put, and links that lead out of a prefix are looked for once, before; what engines read between two steps is some of it.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;

use super::places::Places;
use super::plan::{Item, What};
use super::record::{Mark, Put, Record};

/// What happened to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Did {
    /// It is new.
    Made,
    /// It was there already, as it is to be.
    There,
    /// It was ours and another.
    Changed,
    /// It is gone.
    Removed,
    /// It is not as it was put, and was not touched.
    Left,
    /// To be done by others.
    Next,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Done {
    /// What happened.
    pub did: Did,
    /// To what.
    pub path: Option<PathBuf>,
    /// Where the link leads that it is.
    pub target: Option<PathBuf>,
    /// What else is to be said.
    pub note: Option<String>,
}

impl Done {
    fn of(did: Did, item: &Item) -> Self {
        let target = if let What::Link(target) = &item.what { Some(target.clone()) } else { None };
        let note = (did == Did::Left).then(|| EDITED.to_owned());
        Done { did, path: Some(item.path.clone()), target: target.filter(|_| did != Did::Left), note }
    }

    fn at(did: Did, path: &Path, note: Option<&str>) -> Self {
        Done { did, path: Some(path.to_owned()), target: None, note: note.map(str::to_owned) }
    }
}

/// Why something is left.
const EDITED: &str = "it was changed since it was put there";

/// Brings what is there, by the record `old`, to `items`, and keeps `new` with what was put.
///
/// # Errors
/// When something is in the way, or cannot be done: then all is as it was, or the message says what is not.
pub(super) fn bring(places: &Places, old: &Record, new: Record, items: &[Item]) -> anyhow::Result<Vec<Done>> {
    let recorded = old.put.iter().map(|put| &put.path).chain(&old.folders).map(|path| outside(places, path));
    for path in items.iter().map(|item| item.path.clone()).chain(recorded) {
        places.check_below(&path).context("nothing was changed")?;
    }
    let judged = judge(places, old, items)?;
    let gone: Vec<&Put> =
        old.put.iter().filter(|put| items.iter().all(|i| places.inside(&i.path) != put.path)).collect();
    let mut steps = Steps { places, journal: Vec::new(), done: Vec::new() };
    match steps.all(old, new, items, &judged, &gone) {
        Ok(()) => Ok(steps.done),
        Err(error) => Err(steps.undo(error)),
    }
}

/// What is to happen to each item.
///
/// # Errors
/// When something is in the way, all of which is named.
fn judge(places: &Places, old: &Record, items: &[Item]) -> anyhow::Result<Vec<Did>> {
    let (mut judged, mut foreign) = (Vec::new(), Vec::new());
    for item in items {
        let found = Mark::at(&item.path).with_context(|| format!("look at {}", item.path.display()))?;
        let recorded = old.at(&places.inside(&item.path));
        judged.push(match found {
            None => Did::Made,
            Some(mark) if mark == Mark::of(&item.what) => Did::There,
            Some(mark) if recorded == Some(&mark) => Did::Changed,
            Some(_) if recorded.is_some() => Did::Left,
            Some(_) => {
                foreign.push(item.path.display().to_string());
                continue;
            }
        });
    }
    if !foreign.is_empty() {
        let are = if foreign.len() == 1 { "is there and is" } else { "are there and are" };
        bail!(
            "{} {are} not of tapswitch install: move away first what shall not be kept; nothing was changed",
            foreign.join(", ")
        );
    }
    Ok(judged)
}

/// How to undo a step.
#[derive(Debug)]
enum Undo {
    /// Take away what was made.
    Unmake(PathBuf),
    /// Take away a folder that was made.
    Rmdir(PathBuf),
    /// Make a folder that was taken away.
    Mkdir(PathBuf, u32),
    /// Put back what was there.
    PutBack(PathBuf, Before),
}

/// What was at a path.
#[derive(Debug)]
enum Before {
    Link(PathBuf),
    File(Vec<u8>, Permissions),
}

struct Steps<'a> {
    places: &'a Places,
    journal: Vec<Undo>,
    done: Vec<Done>,
}

impl Steps<'_> {
    fn all(
        &mut self,
        old: &Record,
        mut new: Record,
        items: &[Item],
        judged: &[Did],
        gone: &[&Put],
    ) -> anyhow::Result<()> {
        let folders = self.missing_folders(items, judged);
        let interim = old.with(self.places, items, &folders);
        if interim != *old {
            self.record(old, &interim)?;
        }
        for (item, did) in items.iter().zip(judged) {
            match did {
                Did::Made => self.make(item)?,
                Did::Changed => self.replace(item)?,
                _ => {}
            }
            self.done.push(Done::of(*did, item));
        }
        for put in gone {
            self.take_away(put)?;
        }
        new.folders = interim.folders.clone();
        new.put = items.iter().zip(judged).map(|(item, did)| self.put(old, item, *did)).collect();
        if items.is_empty() {
            return self.forget(&interim);
        }
        if new != interim { self.record(&interim, &new) } else { Ok(()) }
    }

    /// What the record is to say of an item.
    fn put(&self, old: &Record, item: &Item, did: Did) -> Put {
        let path = self.places.inside(&item.path);
        let as_put = old.at(&path).filter(|_| did == Did::Left).cloned();
        Put { mark: as_put.unwrap_or_else(|| Mark::of(&item.what)), path }
    }

    /// The folders that are to be made, outer ones first: those of new items, and the record's.
    fn missing_folders(&self, items: &[Item], judged: &[Did]) -> Vec<PathBuf> {
        let new = items.iter().zip(judged).filter(|(_, did)| **did == Did::Made).map(|(item, _)| item.path.clone());
        let record = (!items.is_empty()).then(|| Record::path(self.places));
        let mut missing: Vec<PathBuf> = Vec::new();
        for path in new.chain(record) {
            let above: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
            for folder in above.into_iter().rev() {
                if missing.iter().all(|known| known != folder) {
                    missing.push(folder.to_owned());
                }
            }
        }
        missing
    }

    fn make(&mut self, item: &Item) -> anyhow::Result<()> {
        self.make_folder_of(&item.path)?;
        match &item.what {
            What::Link(target) => symlink(target, &item.path),
            What::File(text) => write(&item.path, text, false),
        }
        .with_context(|| format!("make {}", item.path.display()))?;
        self.journal.push(Undo::Unmake(item.path.clone()));
        Ok(())
    }

    fn replace(&mut self, item: &Item) -> anyhow::Result<()> {
        let doing = || format!("change {}", item.path.display());
        let before = before(&item.path).with_context(doing)?;
        match &item.what {
            What::Link(target) => relink(&item.path, target),
            What::File(text) => write(&item.path, text, true),
        }
        .with_context(doing)?;
        self.journal.push(Undo::PutBack(item.path.clone(), before));
        Ok(())
    }

    /// Takes away what was put, unless it is gone or another.
    fn take_away(&mut self, put: &Put) -> anyhow::Result<()> {
        let path = outside(self.places, &put.path);
        let doing = || format!("remove {}", path.display());
        let found = Mark::at(&path).with_context(doing)?;
        if found.as_ref() == Some(&put.mark) {
            let before = before(&path).with_context(doing)?;
            fs::remove_file(&path).with_context(doing)?;
            self.journal.push(Undo::PutBack(path.clone(), before));
            self.done.push(Done::at(Did::Removed, &path, None));
        } else if found.is_some() {
            self.done.push(Done::at(Did::Left, &path, Some(EDITED)));
        }
        Ok(())
    }

    /// Writes `new` over `old`.
    fn record(&mut self, old: &Record, new: &Record) -> anyhow::Result<()> {
        let path = Record::path(self.places);
        let (what, text) = (|text| Item { path: path.clone(), what: What::File(text) }, new.text()?);
        if *old == Record::default() && !path.exists() { self.make(&what(text)) } else { self.replace(&what(text)) }
    }

    /// Removes the record, where there is one, and of the folders that were made those in which nothing is by now.
    fn forget(&mut self, last: &Record) -> anyhow::Result<()> {
        let path = Record::path(self.places);
        if path.exists() {
            let doing = || format!("remove {}", path.display());
            let before = before(&path).with_context(doing)?;
            fs::remove_file(&path).with_context(doing)?;
            self.journal.push(Undo::PutBack(path, before));
        }
        // Inner ones stand behind those they are in.
        for folder in last.folders.iter().rev().map(|folder| outside(self.places, folder)) {
            let Ok(mode) = fs::metadata(&folder).map(|metadata| metadata.permissions().mode()) else { continue };
            // Refused where something else is in it, which is as it should be.
            if fs::remove_dir(&folder).is_ok() {
                self.journal.push(Undo::Mkdir(folder, mode));
            }
        }
        Ok(())
    }

    fn make_folder_of(&mut self, path: &Path) -> anyhow::Result<()> {
        let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            let doing = || format!("make the folder {}", folder.display());
            DirBuilder::new().create(folder).with_context(doing)?;
            self.journal.push(Undo::Rmdir(folder.to_owned()));
            // The daemon's own is nobody else's business; engines of every user read the others.
            let mode = if folder == self.places.state() { 0o700 } else { 0o755 };
            fs::set_permissions(folder, Permissions::from_mode(mode)).with_context(doing)?;
        }
        Ok(())
    }

    /// Undoes all, the last step first; what cannot be undone is added to the error.
    fn undo(self, error: anyhow::Error) -> anyhow::Error {
        let mut failed = Vec::new();
        for undo in self.journal.into_iter().rev() {
            let (path, undone) = match undo {
                Undo::Unmake(path) => (path.clone(), fs::remove_file(&path)),
                Undo::Rmdir(path) => (path.clone(), fs::remove_dir(&path)),
                Undo::Mkdir(path, mode) => {
                    let made = fs::create_dir(&path);
                    (path.clone(), made.and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode))))
                }
                Undo::PutBack(path, before) => (path.clone(), put_back(&path, &before)),
            };
            if let Err(error) = undone {
                failed.push(format!("{}: {error}", path.display()));
            }
        }
        match failed.is_empty() {
            true => error.context("nothing was changed"),
            false => error.context(format!("not all could be undone ({})", failed.join(", "))),
        }
    }
}

/// A path of the record, as it is called from here.
fn outside(places: &Places, path: &Path) -> PathBuf {
    places.root().join(path.strip_prefix("/").unwrap_or(path))
}

fn before(path: &Path) -> io::Result<Before> {
    let metadata = fs::symlink_metadata(path)?;
    Ok(if metadata.is_symlink() {
        Before::Link(fs::read_link(path)?)
    } else {
        Before::File(fs::read(path)?, metadata.permissions())
    })
}

fn put_back(path: &Path, before: &Before) -> io::Result<()> {
    match before {
        Before::Link(target) => relink(path, target),
        Before::File(bytes, permissions) => {
            let mut file = beside(path)?;
            file.write_all(bytes)?;
            file.as_file().set_permissions(permissions.clone())?;
            file.persist(path)?;
            Ok(())
        }
    }
}

/// Makes `path` a file of `text`, whole or not at all.
fn write(path: &Path, text: &str, replace: bool) -> io::Result<()> {
    let mut file = beside(path)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    if replace {
        file.persist(path)?
    } else {
        file.persist_noclobber(path)?
    };
    Ok(())
}

/// Makes `path` a link to `target`, whatever it is now.
fn relink(path: &Path, target: &Path) -> io::Result<()> {
    let link = temporary().make_in(folder_of(path), |temporary| symlink(target, temporary))?;
    link.persist(path)?;
    Ok(())
}

/// A file in the folder of `path`, so that it can be renamed to it.
fn beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    temporary().tempfile_in(folder_of(path))
}

/// Names that no engine takes for a plugin's or a list's.
fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tapswitch-").suffix(".tmp");
    builder
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
