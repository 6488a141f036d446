//! An attempt run again from its record: the same prompts, the recorded replies, the agent and its tools for real, and no network.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use domain::{
    Fault,
    ids::{AttemptKey, AttemptNo, CommentId, TaskId, TurnNo},
    ports::{
        BoxFuture,
        agent::{Entry, Hands, Line, Transcript, TurnConclusion, TurnRequest},
        egress::MODEL_PORT,
        environments::{OpenRequest, Opened, Purpose},
        model::{Compared, Endpoint, Model, ReplayRequest},
        sandbox::{Bridge, Limits},
        workspace::{PrepareRequest, SnapshotRequest},
    },
    task::Task,
};
use serde::{Deserialize, Serialize};

use crate::{
    Handle,
    by_hand::attempt_of,
    history::{self, PastTurn},
    perform::{reach, snapshot_message, told},
};

/// Replays work in workspaces of their own, which are named as attempts that no task has.
const FIRST_REPLAY: u32 = 1 << 20;

/// How a replay compares with the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    pub attempt: u32,
    pub turns: Vec<ReplayedTurn>,
    /// Model calls: all, and of them those whose request was the recorded one.
    pub calls: u32,
    pub identical: u32,
    pub same_but_for_ids: u32,
    /// The first request that differs.
    pub first_difference: Option<Difference>,
    /// Wall time of the turns, then and now, in milliseconds.
    pub recorded_ms: u64,
    pub replayed_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayedTurn {
    pub turn: u32,
    pub calls: u32,
    pub conclusion: TurnConclusion,
    /// Paths in which its work differs from what the turn left then. `None`: it left nothing then.
    pub differing_paths: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub turn: u32,
    /// From 1, over the attempt.
    pub call: u32,
    pub what: Compared,
}

impl Handle {
    /// Runs an attempt again. `NotFound` when its record has expired or it made no call; `Conflict` while it runs, or while another replay
    /// of it does.
    pub async fn replay(&self, task: TaskId, attempt: Option<AttemptNo>) -> Result<Replay, Fault> {
        let task = self.core.task(task).await?;
        let key = AttemptKey { task: task.id, attempt: attempt_of(&task, attempt)? };
        if task.attempt(key.attempt).is_some_and(|attempt| attempt.status.command().is_some()) {
            return Err(Fault::conflict(format!("attempt {} of {} is being worked on", key.attempt, task.id))
                .hint("replay it once it waits for you or has ended"));
        }
        let place = AttemptKey { task: task.id, attempt: AttemptNo(FIRST_REPLAY + key.attempt.0) };
        let _hands = self.core.site.hands.on(place).await.map_err(|_| {
            Fault::conflict(format!("attempt {} of {} is being replayed already", key.attempt, task.id))
        })?;
        let workspaces = &self.ports().workspaces;
        let repository = task.origin.repository.clone();
        // What a replay that was cut off has left.
        workspaces.release(repository.clone(), place, None).await?;
        let replayed = self.replay_in(&task, key, place).await;
        workspaces.release(repository, place, None).await?;
        replayed
    }

    async fn replay_in(&self, task: &Task, key: AttemptKey, place: AttemptKey) -> Result<Replay, Fault> {
        let ports = self.ports();
        // What a person took back is no part of what led here.
        let is_void = |turn| task.attempt(key.attempt).is_some_and(|attempt| attempt.is_void(turn));
        let mut record = ports.records.exchanges(key).await?;
        record.retain(|exchange| !is_void(exchange.turn));
        let mut turns = history::turns(&*ports.store, task.id, key.attempt).await?;
        turns.retain(|past| !is_void(past.turn));
        let scores = Arc::new(Scores::default());
        let told = {
            let scores = Arc::clone(&scores);
            Arc::new(move |call, compared| scores.note(call, compared))
        };
        let credentials = reach::credentials(&self.core.site, task).await?;
        let redactor = ports.environments.redactor(task.origin.repository.clone()).await?;
        let model = ports.gateways.replay(ReplayRequest { key, record, credentials, redactor, told }).await?;
        let transcript = Arc::new(Memory::default());
        let mut stage = Stage { handle: self, task, place, model: model.model, endpoint: model.endpoint, transcript };
        let mut replay = Replay { attempt: key.attempt.0, ..Replay::default() };
        stage.take_up_fork().await?;
        for past in &turns {
            scores.turn.store(past.turn.0, Ordering::Relaxed);
            let (before, began) = (scores.calls(), Instant::now());
            let (conclusion, differing_paths) = stage.turn(past, &scores).await?;
            replay.replayed_ms += u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            replay.recorded_ms += u64::try_from(past.took.as_millis()).unwrap_or(0);
            let calls = scores.calls() - before;
            replay.turns.push(ReplayedTurn { turn: past.turn.0, calls, conclusion, differing_paths });
        }
        let seen = scores.seen.lock().unwrap_or_else(PoisonError::into_inner);
        replay.calls = seen.calls;
        replay.identical = seen.identical;
        replay.same_but_for_ids = seen.same_but_for_ids;
        replay.first_difference.clone_from(&seen.first_difference);
        Ok(replay)
    }
}

/// What a replay is played on.
struct Stage<'a> {
    handle: &'a Handle,
    task: &'a Task,
    place: AttemptKey,
    model: Arc<dyn Model>,
    endpoint: Endpoint,
    transcript: Arc<Memory>,
}

impl Stage<'_> {
    /// What the attempt had from the task it was forked from is no part of its own record.
    async fn take_up_fork(&self) -> Result<(), Fault> {
        let Some(fork) = &self.task.fork else { return Ok(()) };
        let own = AttemptKey { task: self.task.id, attempt: AttemptNo(self.place.attempt.0 - FIRST_REPLAY) };
        let entries = self.handle.ports().transcripts.open(own).load().await?;
        self.transcript.entries().extend(entries.into_iter().filter(|entry| entry.turn <= fork.turn));
        Ok(())
    }

    async fn turn(
        &mut self,
        past: &PastTurn,
        scores: &Arc<Scores>,
    ) -> Result<(TurnConclusion, Option<Vec<String>>), Fault> {
        let (ports, task) = (self.handle.ports(), self.task);
        let (origin, repository) = (&task.origin, task.origin.repository.clone());
        let attempt = AttemptNo(self.place.attempt.0 - FIRST_REPLAY);
        let began_at = task.fork.as_ref().map_or(&origin.base, |fork| &fork.snapshot.commit).clone();
        let request = PrepareRequest {
            repository: repository.clone(),
            key: self.place,
            commit: began_at,
            surroundings: self.handle.core.surroundings(task).await?,
        };
        let prepared = ports.workspaces.prepare(request).await?;
        let agent = ports.agents.find(task.choice(past.choice).0)?;
        let programs = agent.needs()?.programs;
        let open = OpenRequest {
            repository: repository.clone(),
            base: origin.base.clone(),
            place: prepared,
            purpose: Purpose::Replay,
            confinement: task.confinement,
            programs,
            allow: Vec::new(),
            env: Vec::new(),
            bridges: vec![Bridge { port: MODEL_PORT, door: Arc::clone(&self.endpoint.door) }],
            refused: Arc::new(drop),
            output_bytes: Limits::default().output_bytes,
        };
        let Opened { sandbox, notes } = ports.environments.open(open).await?;
        let line = Arc::new(Played::new(past, Arc::clone(scores)));
        let hands = Hands {
            sandbox: Arc::clone(&sandbox),
            model: Some(Arc::clone(&self.model)),
            side_model: Some(Arc::clone(&self.model)),
            endpoint: Some(self.endpoint_of(task)),
            login: Vec::new(),
            transcript: Arc::clone(&self.transcript) as Arc<dyn Transcript>,
            line,
        };
        let request = self.request(past, attempt, notes).await?;
        let end = agent.run_turn(request, hands).await;
        sandbox.kill().await;
        let end = end?;
        let snapshot = SnapshotRequest {
            repository: repository.clone(),
            key: self.place,
            turn: past.turn,
            base: origin.base.clone(),
            message: snapshot_message(task, self.place.attempt, past.turn),
            at: past.began,
            redactor: ports.environments.redactor(repository.clone()).await?,
        };
        let now = ports.workspaces.snapshot(snapshot).await?;
        let differing = match &past.snapshot {
            Some(then) => {
                let changed = ports.workspaces.changed_paths(repository, then.commit.clone(), now.commit).await?;
                Some(changed.into_iter().map(|change| change.path).collect())
            }
            None => None,
        };
        Ok((end.conclusion, differing))
    }

    async fn request(&self, past: &PastTurn, attempt: AttemptNo, notes: Vec<String>) -> Result<TurnRequest, Fault> {
        let (task, site) = (self.task, &self.handle.core.site);
        let begins = past.turn == TurnNo(1) || past.fresh;
        let said = site.guidance.of(&site.ports.workspaces, &task.origin).await?;
        let mut surroundings = if begins { told(site, &task.origin, task.confinement).await? } else { Vec::new() };
        surroundings.extend(notes);
        Ok(TurnRequest {
            key: AttemptKey { task: task.id, attempt },
            turn: past.turn,
            mode: past.mode,
            brief: Arc::new(task.brief.clone()),
            checks: task.checks.iter().map(|check| check.command.clone()).collect(),
            prompt: past.prompt.clone(),
            instructions: if begins { said.instructions } else { Vec::new() },
            guidance: said.guidance,
            surroundings,
            max_rounds: task.rounds_of_a_turn(past.max_rounds),
            profile: task.profile.clone().map(Arc::new),
            void: Vec::new(),
            fresh: past.fresh,
        })
    }

    fn endpoint_of(&self, task: &Task) -> Endpoint {
        let url = match task.confinement {
            domain::ports::sandbox::Confinement::Confined => format!("http://127.0.0.1:{MODEL_PORT}"),
            domain::ports::sandbox::Confinement::Unconfined => self.endpoint.url.clone(),
        };
        Endpoint {
            url,
            door: Arc::clone(&self.endpoint.door),
            token: self.endpoint.token.clone(),
            model: self.endpoint.model.clone(),
            protocols: self.endpoint.protocols.clone(),
            guard: Box::new(()),
        }
    }
}

/// What was heard of the calls so far.
#[derive(Debug, Default)]
struct Scores {
    turn: AtomicU32,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    calls: u32,
    identical: u32,
    same_but_for_ids: u32,
    first_difference: Option<Difference>,
}

impl Scores {
    fn calls(&self) -> u32 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).calls
    }

    fn note(&self, call: u32, compared: Compared) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.calls += 1;
        match compared {
            Compared::Identical => seen.identical += 1,
            Compared::SameButForIds => seen.same_but_for_ids += 1,
            what @ (Compared::Different { .. } | Compared::BeyondTheRecord) => {
                let turn = self.turn.load(Ordering::Relaxed);
                seen.first_difference.get_or_insert(Difference { turn, call, what });
            }
        }
    }
}

/// A line on which the comments come where they came then.
struct Played {
    comments: Mutex<VecDeque<(u32, CommentId, String)>>,
    /// Calls before this turn.
    before: u32,
    scores: Arc<Scores>,
}

impl Played {
    fn new(past: &PastTurn, scores: Arc<Scores>) -> Self {
        Self { comments: Mutex::new(past.heard.clone().into()), before: scores.calls(), scores }
    }

    /// Whether the next comment's round has come.
    fn is_next_due(&self, comments: &VecDeque<(u32, CommentId, String)>) -> bool {
        let round = self.scores.calls() - self.before + 1;
        comments.front().is_some_and(|(due, ..)| *due <= round)
    }
}

impl Line for Played {
    fn take_comments(&self) -> Vec<(CommentId, String)> {
        let mut comments = self.comments.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        while self.is_next_due(&comments) {
            taken.extend(comments.pop_front().map(|(_, id, text)| (id, text)));
        }
        taken
    }

    fn delivered(&self, _: Vec<CommentId>, _: u32) {}

    fn take_notices(&self) -> Vec<String> {
        Vec::new()
    }

    /// Nothing comes but at a safe point.
    fn noticed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn progress(&self, _: Option<u8>, _: String) {}

    fn is_interrupted(&self) -> bool {
        false
    }

    fn interrupted(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// A transcript that nobody keeps.
#[derive(Debug, Default)]
struct Memory(Mutex<Vec<Entry>>);

impl Memory {
    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transcript for Memory {
    fn load(&self) -> BoxFuture<'_, Result<Vec<Entry>, Fault>> {
        let entries = self.entries().clone();
        Box::pin(std::future::ready(Ok(entries)))
    }

    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<(), Fault>> {
        self.entries().push(entry);
        Box::pin(std::future::ready(Ok(())))
    }
}
