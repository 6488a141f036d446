//! `snapshot` and `release`: what is in a workspace becomes one commit on the base; and a workspace is removed only when
//! a commit is known to hold it.

use std::fs;

use domain::{
    Fault,
    ids::{AttemptKey, CommitId},
    ports::workspace::{Repository, Snapshot, SnapshotRequest},
};

use crate::{
    git::{Identity, io_fault},
    home::Home,
    import::{Import, Imported, Planned},
    layered::Layered,
    place::{Place, Ready},
    plain::Capture,
    redaction::Redaction,
    store::{NewCommit, Store},
};

impl Home {
    pub fn snapshot(&self, request: &SnapshotRequest) -> Result<Snapshot, Fault> {
        let place = Place::new(self.workspace(request.key));
        self.alone(place.root(), || {
            let store = self.store(&request.repository.id)?;
            let base = store
                .base(&request.base)
                .ok_or_else(|| Fault::not_found(format!("{} has no base {}", request.repository.id.0, request.base)))?
                .about()?;
            let ready =
                place.ready()?.ok_or_else(|| Fault::not_found(format!("there is no workspace of {}", request.key)))?;
            let redaction = Redaction::apply(place.root(), &request.redactor)?;
            let made = take(&store, &place, &ready, &redaction, request)?;
            let empty = made.tree == base.tree;
            let stat = std::thread::scope(|scope| {
                let stat = (!empty).then(|| scope.spawn(|| store.stat(&request.base, &made.tree)));
                store.set_snapshot(request.key, request.turn, &made.commit)?;
                let stat = stat.map(|thread| thread.join().map_err(|_| Fault::bug("counting the changes panicked")));
                stat.transpose()?.transpose()
            })?;
            Ok(Snapshot { commit: made.commit, empty, stat: stat.unwrap_or_default() })
        })
    }

    pub fn release(&self, repository: &Repository, key: AttemptKey, snapshot: Option<&CommitId>) -> Result<(), Fault> {
        let place = Place::new(self.workspace(key));
        self.alone(place.root(), || {
            if let (Some(snapshot), Some(ready)) = (snapshot, place.ready()?) {
                let store = self.store(&repository.id)?;
                if tree_now(&store, &place, &ready)? != store.tree_of(snapshot)? {
                    return Err(Fault::conflict(format!(
                        "the workspace of {key} holds work that its snapshot {} does not",
                        snapshot.short()
                    ))
                    .hint("take a snapshot first"));
                }
            }
            let kept = self.kept_home(key);
            if snapshot.is_some() && place.home().is_dir() {
                self.throw_away(&kept)?;
                fs::rename(place.home(), &kept).map_err(|error| io_fault("keep", &place.home(), &error))?;
            } else if snapshot.is_none() {
                self.throw_away(&kept)?;
            }
            self.throw_away(place.root())
        })
    }
}

/// The commit of a workspace as it is now.
fn take(
    store: &Store<'_>,
    place: &Place,
    ready: &Ready,
    redaction: &Redaction<'_>,
    request: &SnapshotRequest,
) -> Result<Imported, Fault> {
    if !ready.is_layered() {
        let tree = Capture { store, place, ready, redaction }.tree()?;
        let new = NewCommit {
            tree: &tree,
            parents: &[&request.base],
            message: &request.message,
            who: Identity::overnight(),
            at: request.at,
        };
        return Ok(Imported { commit: store.commit(&new)?, tree });
    }
    if ready.base != request.base {
        return Err(Fault::bug(format!(
            "the workspace of {} lies on {}, not {}",
            request.key, ready.base, request.base
        )));
    }
    let planned = Planned { base: &ready.base, message: &request.message, at: request.at };
    let mut import = Import::start(store, &planned)?;
    Layered { store, place, ready, redaction }.write_to(&mut import)?;
    import.commit()
}

/// The tree that a snapshot would have, with what the last one redacted left out again.
fn tree_now(store: &Store<'_>, place: &Place, ready: &Ready) -> Result<CommitId, Fault> {
    let redaction = &Redaction::again(place.root());
    if !ready.is_layered() {
        return Capture { store, place, ready, redaction }.tree();
    }
    let planned = Planned { base: &ready.base, message: "", at: jiff::Timestamp::UNIX_EPOCH };
    let mut import = Import::start(store, &planned)?;
    Layered { store, place, ready, redaction }.write_to(&mut import)?;
    import.tree()
}
