//! A person at work in an attempt's sandbox: beside the agent of a running turn, or alone on an attempt that waits for review.

use std::sync::Arc;

use bytes::Bytes;
use domain::{
    Fault,
    event::{Event, Receipt},
    ids::{Actor, AttemptKey, AttemptNo, CommitId, TaskId, TurnNo, Via},
    ports::{
        environments::Opened,
        sandbox::{Exec, Sandbox, Terminal, WindowSize},
        workspace::{ChangedPath, PrepareRequest, Snapshot, SnapshotRequest, Surroundings},
    },
    task::{Status, Task},
};

use crate::{
    embedded::Core,
    incoming::Incoming,
    perform::{HandsOn, Sweep, Taken, opening, snapshot_message},
};

/// A shell may stay open for this long.
const LONGEST: std::time::Duration = std::time::Duration::from_hours(24);
/// Names in the line that tells the agent.
const NAMED: usize = 20;

/// What a person asks for.
#[derive(Clone, Debug)]
pub struct TakeOverRequest {
    pub task: TaskId,
    /// `None`: the one under review, or the only one that works.
    pub attempt: Option<AttemptNo>,
    pub by: Actor,
    pub via: Via,
    /// Empty: a login shell.
    pub argv: Vec<String>,
    /// The value of `TERM`.
    pub term: Option<String>,
    pub size: WindowSize,
}

/// A person's terminal in an attempt's sandbox. Dropped without [`TakeOver::leave`], the files stay as they are in the
/// workspace, for whoever works on the attempt next.
pub struct TakeOver {
    core: Arc<Core>,
    by: Actor,
    via: Via,
    task: Task,
    key: AttemptKey,
    turn: TurnNo,
    /// The workspace as it was found.
    found: Snapshot,
    terminal: Box<dyn Terminal>,
    place: Place,
    pub notes: Vec<String>,
}

impl std::fmt::Debug for TakeOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TakeOver").field("key", &self.key).finish_non_exhaustive()
    }
}

enum Place {
    /// The sandbox of a running turn.
    Turn,
    /// One of the person's own; `from` is the attempt's head, or the base.
    Own {
        sandbox: Arc<dyn Sandbox>,
        from: CommitId,
        #[expect(dead_code, reason = "it is held, not read: no turn begins meanwhile")]
        hands: HandsOn,
    },
}

/// One connection to a service.
#[derive(Debug)]
pub struct Look {
    pub stream: std::net::TcpStream,
    pub open: Open,
}

/// Keeps what stands behind a connection until it is dropped; but a turn's sandbox ends with the turn.
pub struct Open(#[expect(dead_code, reason = "it is held, not read")] Option<Arc<dyn Sandbox>>);

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

/// What a person left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Since they came; beside a running turn, the agent's own changes are among them.
    pub changed: Vec<ChangedPath>,
    /// What becomes of it, in one line.
    pub said: String,
}

impl Core {
    pub(crate) async fn take_over(self: &Arc<Self>, request: TakeOverRequest) -> Result<TakeOver, Fault> {
        let task = self.task(request.task).await?;
        let no = attempt_of(&task, request.attempt)?;
        let key = AttemptKey { task: task.id, attempt: no };
        let exec = Exec {
            argv: if request.argv.is_empty() {
                vec!["sh".to_owned(), "-c".to_owned(), SHELL.to_owned()]
            } else {
                request.argv
            },
            cwd: None,
            env: request.term.map(|term| ("TERM".to_owned(), term)).into_iter().collect(),
            stdin: Bytes::new(),
            timeout: LONGEST,
        };
        if let Some(line) = self.site.lines.get(key) {
            let turn = line.turn();
            let found = self.keep(&task, key, turn).await?;
            let terminal = line.sandbox().await?.terminal(exec, request.size).await?;
            let notes = vec![format!("the agent is at work in turn {turn}: you share its files and processes")];
            let (core, by, via) = (Arc::clone(self), request.by, request.via);
            return Ok(TakeOver { core, by, via, task, key, turn, found, terminal, place: Place::Turn, notes });
        }
        self.take_settled(task, key, exec, (request.by, request.via, request.size)).await
    }

    async fn take_settled(
        self: &Arc<Self>,
        task: Task,
        key: AttemptKey,
        exec: Exec,
        (by, via, size): (Actor, Via, WindowSize),
    ) -> Result<TakeOver, Fault> {
        let hands = self.site.hands.on(key).await.map_err(|Taken| {
            Fault::conflict(format!("somebody is at work in attempt {} of {} already", key.attempt, task.id))
        })?;
        // From here on no turn begins in it; one may have begun before.
        let task = self.task(task.id).await?;
        let attempt = task.attempt(key.attempt).filter(|attempt| attempt.status.is_decidable());
        let (Some(attempt), Status::AwaitingReview(_)) = (attempt, &task.status) else {
            return Err(Fault::conflict(format!("nothing of {} can be taken over now", task.id)).hint(
                "attach while a turn runs, or once the task waits for review; `overnight show` says where it is",
            ));
        };
        let from = attempt.snapshot.as_ref().map_or(&task.origin.base, |last| &last.commit).clone();
        let turn = TurnNo(attempt.turns.max(1));
        let surroundings = self.surroundings(&task).await?;
        let request =
            PrepareRequest { repository: task.origin.repository.clone(), key, commit: from.clone(), surroundings };
        let place = self.site.ports.workspaces.prepare(request).await?;
        let found = self.keep(&task, key, turn).await?;
        let request = opening(&task.origin, place, task.confinement);
        let Opened { sandbox, notes } = self.site.ports.environments.open(request).await?;
        let terminal = sandbox.terminal(exec, size).await?;
        hands.in_sandbox(Arc::clone(&sandbox));
        let place = Place::Own { sandbox, from, hands };
        Ok(TakeOver { core: Arc::clone(self), by, via, task, key, turn, found, terminal, place, notes })
    }

    /// The layer that serves the task, if it is still there.
    pub(crate) async fn surroundings(&self, task: &Task) -> Result<Surroundings, Fault> {
        let layer = task.environment.as_ref().and_then(|used| used.layer.clone());
        let there = self.site.ports.workspaces.environments(task.origin.repository.clone()).await?;
        let environment = layer.filter(|layer| there.iter().any(|there| there.id == *layer));
        Ok(Surroundings { environment, confinement: task.confinement })
    }

    async fn keep(&self, task: &Task, key: AttemptKey, turn: TurnNo) -> Result<Snapshot, Fault> {
        let repository = task.origin.repository.clone();
        let request = SnapshotRequest {
            repository: repository.clone(),
            key,
            turn,
            base: task.origin.base.clone(),
            message: snapshot_message(task, key.attempt, turn),
            at: self.site.ports.clock.now(),
            redactor: self.site.ports.environments.redactor(repository).await?,
        };
        self.site.ports.workspaces.snapshot(request).await
    }

    /// A connection to a port of an attempt's services: of the running turn's sandbox, else of a preview of its head.
    pub(crate) async fn preview(
        &self,
        task: TaskId,
        attempt: Option<AttemptNo>,
        port: Option<u16>,
    ) -> Result<Look, Fault> {
        let task = self.task(task).await?;
        let key = AttemptKey { task: task.id, attempt: attempt_of(&task, attempt)? };
        let (repository, base) = (task.origin.repository.clone(), task.origin.base.clone());
        let definition = self.site.ports.environments.definition(repository, base).await?;
        let port = port.or_else(|| definition.services.iter().find_map(|service| service.port)).ok_or_else(|| {
            Fault::input(format!("no service of {} names a port", task.id))
                .hint("name one: `overnight preview T-12 3000`")
        })?;
        if let Some(line) = self.site.lines.get(key) {
            return Ok(Look { stream: line.sandbox().await?.connect(port).await?, open: Open(None) });
        }
        if definition.services.is_empty() {
            return Err(Fault::not_found(format!(
                "no turn of {} runs, and its base defines no service to start",
                task.id
            ))
            .hint("define one in overnight.toml: [[environment.service]]"));
        }
        let snapshot = task.attempt(key.attempt).and_then(|attempt| attempt.snapshot.as_ref());
        let head = snapshot.map_or(&task.origin.base, |snapshot| &snapshot.commit).clone();
        let surroundings = self.surroundings(&task).await?;
        let subject = crate::perform::Subject { key, origin: task.origin, head, surroundings };
        let (sandbox, notes) = self.site.previews.sandbox(&self.site, subject).await?;
        match sandbox.connect(port).await {
            Ok(stream) => Ok(Look { stream, open: Open(Some(sandbox)) }),
            Err(fault) if !notes.is_empty() => Err(fault.hint(notes.join("; "))),
            Err(fault) => Err(fault),
        }
    }
}

/// A login shell, the nicest there is.
const SHELL: &str = "command -v bash >/dev/null 2>&1 && exec bash -l; exec sh -l";

/// The attempt that is meant: the one named, the one under review, or the only one.
pub(crate) fn attempt_of(task: &Task, named: Option<AttemptNo>) -> Result<AttemptNo, Fault> {
    if let Some(no) = named {
        return match task.attempt(no) {
            Some(attempt) => Ok(attempt.no),
            None => Err(Fault::not_found(format!("{} has no attempt {no}", task.id))),
        };
    }
    match (&task.status, &task.attempts[..]) {
        (Status::AwaitingReview(review), _) => Ok(review.attempt),
        (Status::Working | Status::Landing(_) | Status::Closing { .. } | Status::Ended { .. }, [only]) => Ok(only.no),
        (Status::Working | Status::Landing(_) | Status::Closing { .. } | Status::Ended { .. }, _) => {
            Err(Fault::input(format!("{} has several attempts", task.id)).hint("name one: `--attempt 2`"))
        }
    }
}

impl TakeOver {
    pub fn terminal(&mut self) -> &mut dyn Terminal {
        &mut *self.terminal
    }

    /// Borrows nothing, as a terminal must not be shared between threads.
    fn say(&self, event: Event) -> impl Future<Output = Result<String, Fault>> + use<> {
        let (core, task) = (Arc::clone(&self.core), self.task.id);
        let dedup = format!("b-{}-{}-{}", self.key, core.site.ports.store.epoch(), core.site.next_number());
        let incoming = Incoming { dedup, actor: self.by.clone(), via: self.via, event };
        async move {
            Ok(match core.apply(task, incoming).await? {
                Receipt::Accepted { note } => note,
                Receipt::Refused { fault } => fault.to_string(),
            })
        }
    }

    /// Ends the shell, keeps what changed, and tells the agent.
    pub async fn leave(mut self) -> Result<Left, Fault> {
        self.terminal.kill().await;
        if let Place::Own { sandbox, .. } = &self.place {
            sandbox.kill().await;
        }
        let now = self.core.keep(&self.task, self.key, self.turn).await?;
        let repository = self.task.origin.repository.clone();
        let workspaces = Arc::clone(&self.core.site.ports.workspaces);
        let changed =
            workspaces.changed_paths(repository.clone(), self.found.commit.clone(), now.commit.clone()).await?;
        let note = note(&changed);
        let said = match &self.place {
            Place::Turn if changed.is_empty() => "nothing changed".to_owned(),
            Place::Turn => {
                let event = Event::CommentAdded { text: note, by_hand: true };
                self.say(event).await?
            }
            Place::Own { from, .. } => {
                // The head itself, and not what was found, is what the change is measured by: an earlier shell may have been cut off.
                let tree_changed =
                    !workspaces.changed_paths(repository.clone(), from.clone(), now.commit.clone()).await?.is_empty();
                let said = if tree_changed {
                    let (attempt, snapshot) = (self.key.attempt, now.clone());
                    let event = Event::WorkedByHand { attempt, from: from.clone(), snapshot, note };
                    self.say(event).await?
                } else {
                    workspaces.release(repository, self.key, Some(now.commit.clone())).await?;
                    "nothing changed".to_owned()
                };
                self.core.site.previews.sweep(&self.core.site, Sweep::Of(self.key)).await;
                said
            }
        };
        Ok(Left { changed, said })
    }
}

/// What the agent is told.
fn note(changed: &[ChangedPath]) -> String {
    let mut names: Vec<&str> = changed.iter().take(NAMED).map(|change| change.path.as_str()).collect();
    let more = format!("and {} more", changed.len().saturating_sub(NAMED));
    if changed.len() > NAMED {
        names.push(&more);
    }
    format!("A person changed files by hand: {}. Build on what is there.", names.join(", "))
}
