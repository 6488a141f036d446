//! Repositories, workspaces, snapshots, diffs and landing: the only room that runs git.
//!
//! The plain rung: a workspace is a directory with a `.git` of its own, filled by git from a store that only the host
//! writes. Two rules keep a hostile repository or agent harmless:
//!
//! - Host git runs on the private store. It never takes a git directory, an index or a configuration from a directory that
//!   an agent can write; such a directory is at most the work tree of a call that lists names.
//! - In the user's own repository only plumbing is called that runs no configured program, with hooks off. Work trees are
//!   read and written by git on the private store, where no filter or driver is configured.
#![forbid(unsafe_code)]

mod base;
mod branch;
mod checkout;
mod git;
mod hand_over;
mod home;
mod inspect;
mod land;
mod port;
mod prepare;
mod refs;
mod resolve;
mod snapshot;
mod source;
mod stage;
mod store;
mod work_tree;

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

pub use port::{Options, Workspaces};

/// A path as git prints it with `-z`.
pub(crate) fn path_of(bytes: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(bytes)).to_owned()
}
