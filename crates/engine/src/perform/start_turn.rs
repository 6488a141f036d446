//! `StartTurn`: runs an agent until it stops, watches over it, keeps its work every minute, and leaves nothing behind when cut off.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{
    Fault,
    attempt::{AttemptStatus, Stopping},
    command::Command,
    event::Event,
    ids::{AttemptKey, AttemptNo, TurnNo},
    ports::{
        agent::{Agent, Hands, Mode, ModelNeed, Prompt, TurnConclusion, TurnEnd, TurnRequest},
        environments::{OpenRequest, Opened, Purpose},
        sandbox::{Limits, Sandbox},
        workspace::{PrepareRequest, Prepared},
    },
    task::Status,
};
use futures::{
    FutureExt,
    future::{Fuse, FusedFuture},
};
use tokio::sync::mpsc;

use super::{
    Job, Origin, Performed, critic, environment,
    line::Line,
    prepare_workspace::DIE_WITHIN,
    reach::{Caller, Way},
    take_snapshot,
    vigil::{Alarm, Vigil, Watched},
};
use crate::{incoming::Incoming, interrupt::Interrupt};

/// How long an interrupted agent may take to end its turn by itself.
const END_WITHIN: Duration = Duration::from_secs(20);
/// The longest summary that an event carries; the whole text of a report is a blob.
const SUMMARY_BYTES: usize = 8 << 10;

pub(super) async fn perform(job: &Job<'_>, command: &Command) -> Result<Performed, Fault> {
    let Command::StartTurn { attempt, turn, mode, prompt, max_rounds, choice, fresh } = command else {
        return Err(Fault::bug(format!("{} is not for this performer", command.name())));
    };
    let turn = Turn { job, attempt: *attempt, no: *turn, mode: *mode, choice: *choice, fresh: *fresh };
    let interrupt = job.driver.interrupt(job.task.id, job.id);
    let _place = tokio::select! {
        place = job.site.turn_place(turn.key()) => Some(place?),
        // What is to end at once waits for no place.
        () = interrupt.asked() => None,
        () = job.site.stopped() => return Ok(Performed::LeftForTheNextStart),
    };
    let end = match turn.begin(prompt, *max_rounds).await? {
        Begun::Running(running) => turn.follow(running).await?,
        Begun::Ended(end) => Some(end),
    };
    match end {
        Some(end) => turn.report(end).await,
        None => Ok(Performed::LeftForTheNextStart),
    }
}

struct Turn<'a> {
    job: &'a Job<'a>,
    attempt: AttemptNo,
    no: TurnNo,
    mode: Mode,
    choice: u32,
    fresh: bool,
}

/// What a turn needs while it runs.
struct Running {
    agent: Arc<dyn Agent>,
    request: TurnRequest,
    hands: Hands,
    sandbox: Arc<dyn Sandbox>,
    line: Arc<Line>,
    vigil: Arc<Vigil>,
    said: mpsc::UnboundedReceiver<Event>,
}

enum Begun {
    Running(Box<Running>),
    /// It cannot start, in a way that a person must mend.
    Ended(TurnEnd),
}

impl Turn<'_> {
    fn key(&self) -> AttemptKey {
        self.job.key(self.attempt)
    }

    async fn begin(&self, prompt: &Prompt, max_rounds: u32) -> Result<Begun, Fault> {
        let (job, ports) = (self.job, &self.job.site.ports);
        let task = &job.task;
        let prepared = self.place().await?;
        let (name, model) = task.choice(self.choice);
        let agent = ports.agents.find(name)?;
        let need = agent.needs().map_or(ModelNeed::None, |needs| needs.model);
        let has_client = matches!(need, ModelNeed::Client | ModelNeed::Offered);
        let is_program = matches!(need, ModelNeed::None | ModelNeed::Offered);
        let is_watch = task.profile.as_ref().is_some_and(|profile| profile.report_filter.is_some());
        let stalls = job.site.terms.stalls;
        let stalls = if is_watch { stalls.of_a_watch() } else { stalls };
        let max_rounds = task.rounds_of_a_turn(max_rounds);
        let vigil = Vigil::new(stalls, has_client.then_some(max_rounds), is_program);
        let caller = Caller { site: job.site, task, key: self.key(), turn: self.no };
        let way = match caller.way(&*agent, model, Arc::clone(&vigil) as _).await? {
            Ok(way) => way,
            Err(why) => return Ok(dead_end(&why)),
        };
        let (say, said) = mpsc::unbounded_channel();
        let Opened { sandbox, notes } = ports.environments.open(self.open_request(prepared, &way, say.clone())).await?;
        let interrupt = job.driver.interrupt(task.id, job.id);
        if self.is_stopping() {
            interrupt.ask();
        }
        let line = Line::new(self.key(), self.no, say, interrupt, Arc::clone(&sandbox));
        let request = self.request(prompt, max_rounds, notes).await?;
        let watched = Watched {
            transcript: ports.transcripts.open(self.key()),
            vigil: Arc::clone(&vigil),
            line: Arc::clone(&line),
            told: request.profile.as_ref().and_then(|profile| profile.report_filter.clone()),
        };
        let hands = Hands {
            sandbox: Arc::clone(&sandbox),
            model: way.model,
            endpoint: way.endpoint,
            side_model: way.side_model,
            login: way.login,
            transcript: Arc::new(watched),
            line: Arc::clone(&line) as Arc<dyn domain::ports::agent::Line>,
        };
        Ok(Begun::Running(Box::new(Running { agent, request, hands, sandbox, line, vigil, said })))
    }

    /// The attempt's workspace as its last snapshot or a crash left it.
    async fn place(&self) -> Result<Prepared, Fault> {
        let (job, ports, task) = (self.job, &self.job.site.ports, &self.job.task);
        let commit = task.attempt(self.attempt).and_then(|attempt| attempt.snapshot.as_ref());
        let commit = commit.map_or(&task.origin.base, |snapshot| &snapshot.commit).clone();
        let request = PrepareRequest {
            repository: task.origin.repository.clone(),
            key: self.key(),
            commit,
            surroundings: environment::surroundings(job).await?,
        };
        let prepared = ports.workspaces.prepare(request).await?;
        if job.origin == Origin::Recovered {
            // The kernel would let two lives write one workspace: make sure that the old one is over, then keep what it left.
            ports.sandboxes.ensure_dead(prepared.lock.clone(), DIE_WITHIN).await?;
            take_snapshot::snapshot(job, self.attempt, self.no, task.updated_at).await?;
        }
        Ok(prepared)
    }

    /// `notes`: of the sandbox that was opened for it.
    async fn request(&self, prompt: &Prompt, max_rounds: u32, notes: Vec<String>) -> Result<TurnRequest, Fault> {
        let (job, task) = (self.job, &self.job.task);
        let begins = self.no == TurnNo(1) || self.fresh;
        let said = job.site.guidance.of(&job.site.ports.workspaces, &task.origin).await?;
        let mut surroundings =
            if begins { environment::told(job.site, &task.origin, task.confinement).await? } else { Vec::new() };
        surroundings.extend(notes);
        let profile = task.profile.clone().map(Arc::new);
        Ok(TurnRequest {
            key: self.key(),
            turn: self.no,
            mode: self.mode,
            brief: Arc::new(task.brief.clone()),
            checks: task.checks.iter().map(|check| check.command.clone()).collect(),
            prompt: prompt.clone(),
            instructions: if begins { said.instructions } else { Vec::new() },
            guidance: said.guidance,
            surroundings,
            max_rounds,
            profile,
            void: task.attempt(self.attempt).map(|attempt| attempt.void.clone()).unwrap_or_default(),
            fresh: self.fresh,
        })
    }

    /// Follows a turn to its end. `None`: the engine stops; what was done is kept.
    async fn follow(&self, running: Box<Running>) -> Result<Option<TurnEnd>, Fault> {
        let Running { agent, request, hands, sandbox, line, vigil, mut said } = *running;
        let (driver, site) = (self.job.driver, self.job.site);
        let interrupt = driver.interrupt(self.job.task.id, self.job.id);
        let _open = site.lines.open(Arc::clone(&line));
        self.overtaken_comments(&line).await?;
        let mut running = agent.run_turn(request, hands);
        let overdue = deadline_after(&interrupt);
        tokio::pin!(overdue);
        let mut minute = tokio::time::interval(site.terms.snapshot_every);
        minute.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        minute.tick().await;
        // Beside the turn, which goes on meanwhile: a large workspace takes its time.
        let keeping = Fuse::terminated();
        tokio::pin!(keeping);
        // How the vigil had the turn ended.
        let mut ended = None;
        let end = loop {
            tokio::select! {
                biased;
                Some(event) = said.recv() => self.say(event).await?,
                end = &mut running => break end,
                () = site.stopped() => {
                    drop(running);
                    line.close().await;
                    sandbox.kill().await;
                    take_snapshot::snapshot(self.job, self.attempt, self.no, self.job.task.updated_at).await?;
                    return Ok(None);
                }
                () = &mut overdue => break Ok(interrupted()),
                () = &mut keeping => {}
                alarm = vigil.alarm(), if ended.is_none() => ended = self.heed(alarm, &line, &interrupt),
                _ = minute.tick(), if keeping.is_terminated() => keeping.set(self.keep(&vigil).fuse()),
            }
        };
        drop(running);
        line.close().await;
        sandbox.kill().await;
        if !keeping.is_terminated() {
            keeping.await;
        }
        while let Ok(event) = said.try_recv() {
            self.say(event).await?;
        }
        Ok(Some(concluded(end?, ended, &vigil)))
    }

    /// Does what the vigil asks for. `Some`: the turn is to end so.
    fn heed(&self, alarm: Alarm, line: &Line, interrupt: &Interrupt) -> Option<TurnConclusion> {
        match alarm {
            Alarm::Notice(words) => {
                line.tell(None, &words);
                None
            }
            Alarm::Nudge(words) => {
                line.notice(words);
                None
            }
            Alarm::End(conclusion) => {
                tracing::info!(attempt = %self.key(), ?conclusion, "the turn is ended");
                interrupt.ask();
                Some(conclusion)
            }
        }
    }

    /// A comment that was issued before this turn's line was open, and is not in its prompt.
    async fn overtaken_comments(&self, line: &Line) -> Result<(), Fault> {
        let task = self.job.driver.task(self.job.task.id).await?;
        for command in task.in_flight.values() {
            if let Command::DeliverComment { attempt, comment, text } = command
                && *attempt == self.attempt
            {
                line.push(*comment, text.clone());
            }
        }
        let heard = task.attempt(self.attempt).map_or(0, |attempt| attempt.heard);
        for comment in task.comments.iter().filter(|comment| comment.id.0 > heard) {
            line.push(comment.id, comment.text.clone());
        }
        Ok(())
    }

    async fn say(&self, event: Event) -> Result<(), Fault> {
        let dedup = match &event {
            Event::CommentsDelivered { comments, .. } => format!("d-{}-{comments:?}", self.attempt),
            Event::EgressRefused { refusal, .. } => {
                format!("e-{}-{}-{}:{}", self.attempt, self.no, refusal.host, refusal.port)
            }
            _ => format!("p-{}-{}-{}", self.job.id, self.job.site.ports.store.epoch(), self.job.site.next_number()),
        };
        self.job.driver.apply(self.job.task.id, Incoming::system(dedup, event)).await.map(drop)
    }

    /// The snapshot of a turn that goes on. Failing to take it fails no turn: the next minute and the turn's end try again.
    async fn keep(&self, vigil: &Vigil) {
        let at = self.job.task.updated_at;
        match take_snapshot::snapshot(self.job, self.attempt, self.no, at).await {
            Ok(snapshot) => vigil.snapshotted(&snapshot.commit),
            Err(fault) => {
                tracing::warn!(attempt = %self.key(), %fault, "the running turn could not be snapshotted");
            }
        }
    }

    async fn report(&self, mut end: TurnEnd) -> Result<Performed, Fault> {
        if self.mode == Mode::Plan && end.conclusion == TurnConclusion::Finished {
            end.summary = self.criticised(end.summary).await?;
        }
        let report = match (self.mode, &end.conclusion) {
            (Mode::Report, TurnConclusion::Finished) => {
                Some(self.job.site.ports.blobs.put(Bytes::from(end.summary.clone().into_bytes())).await?)
            }
            _ => None,
        };
        cut(&mut end.summary, SUMMARY_BYTES);
        Ok(Performed::Event(Event::TurnEnded { command: self.job.id, end, report }))
    }

    /// The plan with a second model's word on it, where the brief names one.
    async fn criticised(&self, plan: String) -> Result<String, Fault> {
        let task = &self.job.task;
        let Some(name) = &task.brief.critic else { return Ok(plan) };
        let caller = Caller { site: self.job.site, task, key: self.key(), turn: self.no };
        let vigil = Vigil::new(self.job.site.terms.stalls, None, false);
        let critic = self.job.site.ports.gateways.model(caller.access(name.clone(), vigil).await?)?;
        Ok(critic::criticise(&*critic, name, &task.brief.goal, &plan).await)
    }

    fn open_request(&self, place: Prepared, way: &Way, say: mpsc::UnboundedSender<Event>) -> OpenRequest {
        let (task, attempt) = (&self.job.task, self.attempt);
        OpenRequest {
            repository: task.origin.repository.clone(),
            base: task.origin.base.clone(),
            place,
            purpose: Purpose::Turn,
            confinement: task.confinement,
            programs: way.programs.clone(),
            allow: way.allow.clone(),
            env: Vec::new(),
            bridges: way.bridges.clone(),
            refused: environment::once(move |refusal| {
                // The performer has gone only when the turn is over.
                let _ = say.send(Event::EgressRefused { attempt, refusal });
            }),
            output_bytes: Limits::default().output_bytes,
        }
    }

    /// Whether this turn was asked to stop before the daemon started anew.
    fn is_stopping(&self) -> bool {
        let asked = self.job.task.attempt(self.attempt).is_some_and(|attempt| {
            matches!(&attempt.status, AttemptStatus::Turning { stopping: Stopping::Asked { .. }, .. })
        });
        asked || matches!(self.job.task.status, Status::Closing { .. })
    }
}

fn dead_end(why: &str) -> Begun {
    let conclusion = TurnConclusion::DeadEnd { why: why.to_owned() };
    Begun::Ended(TurnEnd { conclusion, summary: String::new(), rounds: 0 })
}

/// The end of a turn whose agent could not tell it.
fn interrupted() -> TurnEnd {
    TurnEnd { conclusion: TurnConclusion::Interrupted, summary: String::new(), rounds: 0 }
}

/// The turn's end, as its agent tells it and the vigil knows it.
fn concluded(mut end: TurnEnd, ended: Option<TurnConclusion>, vigil: &Vigil) -> TurnEnd {
    let by_itself = matches!(end.conclusion, TurnConclusion::Finished | TurnConclusion::Asked { .. });
    if let Some(conclusion) = ended.filter(|_| !by_itself) {
        end.conclusion = conclusion;
    } else if let (TurnConclusion::Failed { .. } | TurnConclusion::DeadEnd { .. }, Some(barrier)) =
        (&end.conclusion, vigil.barrier())
    {
        // An agent with a client of its own gave up before it was ended: why, its gateway knows better.
        end.conclusion = barrier;
    }
    if vigil.counts() {
        end.rounds = vigil.calls();
    }
    end
}

async fn deadline_after(interrupt: &Interrupt) {
    interrupt.asked().await;
    tokio::time::sleep(END_WITHIN).await;
}

fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let mut end = bytes;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("\n[…]");
    }
}
