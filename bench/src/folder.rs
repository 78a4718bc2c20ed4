//! A folder among the temporary ones, for what a backend keeps.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The folder; dropped, it is removed with all that is in it.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// One of its own, named after its purpose. It is not made yet.
    pub(crate) fn new(purpose: &str) -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Folder(std::env::temp_dir().join(format!("tapswitch-bench-{purpose}-{}-{number}", std::process::id())))
    }

    /// Where.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // One that cannot be removed, or was never made, is no reason to lose the figures.
        let _ = fs::remove_dir_all(&self.0);
    }
}
