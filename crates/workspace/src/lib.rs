//! Repositories, workspaces, snapshots, diffs and landing: the only room that runs git.
//!
//! A workspace lies over immutable layers, made once of what a store holds that only the host writes; or it is a plain directory
//! with copies, where overlays cannot be mounted. This room mounts nothing: it says what lies over what, and the sandbox shows
//! it. Two rules keep a hostile repository or agent harmless:
//!
//! - Host git runs on the private store. It never takes a git directory, an index or a configuration from a directory that
//!   an agent can write; such a directory is at most the work tree of a call that lists names or notes which files are unchanged.
//! - In the user's own repository only plumbing is called that runs no configured program, with hooks off. Work trees are
//!   read and written by git on the private store, where no filter or driver is configured.
#![forbid(unsafe_code)]

mod base;
mod branch;
mod checkout;
mod collect;
mod environment;
mod git;
mod gitignore;
mod given;
mod hand_over;
mod home;
mod import;
mod inspect;
mod land;
mod lay;
mod layer;
mod layered;
mod names;
mod place;
mod plain;
mod port;
mod prepare;
mod reading;
mod redaction;
mod refs;
mod resolve;
mod roll_up;
mod rung;
mod snapshot;
mod source;
mod stage;
mod store;
mod upper;
mod work_tree;

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

pub use port::{Options, Workspaces};
pub use rung::{Rung, home_notes};

/// A path as git prints it with `-z`.
pub(crate) fn path_of(bytes: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(bytes)).to_owned()
}
