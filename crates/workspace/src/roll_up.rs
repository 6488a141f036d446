//! Packs of a private store. Each snapshot adds one; once they are many, the small ones are rolled up into fewer.
//!
//! Who reads or writes meanwhile is not disturbed: git looks again where a pack that it knew has gone, and nobody but this removes
//! one. What bases share by hard links stays as it is: to write it anew would double it.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use domain::Fault;

use crate::{git::io_fault, home::read_dir, store::Store};

/// As many packs as git looks through without much ado; it does the same itself.
const MANY_PACKS: usize = 50;

impl Store<'_> {
    /// Leaves as many packs that are the store's alone as the logarithm of what they hold, where they were many.
    pub fn roll_up(&self) -> Result<(), Fault> {
        let (mut own, mut shared) = (0, Vec::new());
        for file in self.pack_files()?.into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "pack")) {
            if fs::metadata(&file).is_ok_and(|pack| pack.nlink() > 1) {
                let mut keep = OsString::from("--keep-pack=");
                keep.push(file.file_name().unwrap_or_default());
                shared.push(keep);
            } else {
                own += 1;
            }
        }
        if own <= MANY_PACKS {
            return Ok(());
        }
        let call = self.git().config("pack.threads", "1".as_ref());
        call.args(["repack", "--geometric=2", "-d", "-n", "-q"]).args(shared).run()?;
        tracing::debug!(store = %self.git_dir().display(), packs = own, "rolled up");
        Ok(())
    }

    /// Removes what a git that was killed left among the packs.
    pub fn sweep_packs(&self) -> Result<(), Fault> {
        let left = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default().as_encoded_bytes();
            name.starts_with(b".tmp-") || name.starts_with(b"tmp_")
        };
        self.pack_files()?.iter().filter(|file| left(file)).try_for_each(|file| remove(file))
    }

    /// None where there is no private store yet.
    fn pack_files(&self) -> Result<Vec<PathBuf>, Fault> {
        let packs = self.objects().join("pack");
        if packs.is_dir() { read_dir(&packs) } else { Ok(Vec::new()) }
    }
}

fn remove(file: &Path) -> Result<(), Fault> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_fault("remove", file, &error)),
        _ => Ok(()),
    }
}
