//! `StartTurn`: runs an agent until it stops, keeps its work every minute, and leaves nothing behind when cut off.

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
        egress::MODEL_PORT,
        environments::{OpenRequest, Opened, Purpose},
        model::{Access, Credentials, Endpoint, Model},
        sandbox::{Bridge, Confinement, Limits, Sandbox},
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
    Job, Origin, Performed, clean_up::secrets_scope, environment, instructions, line::Line,
    prepare_workspace::DIE_WITHIN, take_snapshot,
};
use crate::incoming::Incoming;

/// How long an interrupted agent may take to end its turn by itself.
const END_WITHIN: Duration = Duration::from_secs(20);
/// The longest summary that an event carries; the whole text of a report is a blob.
const SUMMARY_BYTES: usize = 8 << 10;

pub(super) async fn perform(job: &Job<'_>, command: &Command) -> Result<Performed, Fault> {
    let Command::StartTurn { attempt, turn, mode, prompt, max_rounds } = command else {
        return Err(Fault::bug(format!("{} is not for this performer", command.name())));
    };
    let turn = Turn { job, attempt: *attempt, no: *turn, mode: *mode };
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
}

/// What a turn needs while it runs.
struct Running {
    agent: Arc<dyn Agent>,
    request: TurnRequest,
    hands: Hands,
    sandbox: Arc<dyn Sandbox>,
    line: Arc<Line>,
    said: mpsc::UnboundedReceiver<Event>,
}

/// How an agent calls its model: by our port, or by a client of its own.
type Way = (Option<Arc<dyn Model>>, Option<Endpoint>);

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
        let agent = ports.agents.find(&task.brief.agent.name)?;
        let (model, mut endpoint) = match self.way_to_a_model(agent.model_need()).await? {
            Ok(way) => way,
            Err(why) => return Ok(dead_end(&why)),
        };
        let (say, said) = mpsc::unbounded_channel();
        let bridges = self.bridge(&mut endpoint);
        let Opened { sandbox, notes } =
            ports.environments.open(self.open_request(prepared, bridges, say.clone())).await?;
        let interrupt = job.driver.interrupt(task.id, job.id);
        if self.is_stopping() {
            interrupt.ask();
        }
        let line = Line::new(self.key(), self.no, say, interrupt, Arc::clone(&sandbox));
        let first = self.no == TurnNo(1);
        let instructions = if first { self.instructions().await? } else { Vec::new() };
        let mut surroundings = if first { environment::told(job).await? } else { Vec::new() };
        surroundings.extend(notes);
        let request = TurnRequest {
            key: self.key(),
            turn: self.no,
            mode: self.mode,
            brief: Arc::new(task.brief.clone()),
            checks: task.checks.iter().map(|check| check.command.clone()).collect(),
            prompt: prompt.clone(),
            instructions,
            surroundings,
            max_rounds,
        };
        let hands = Hands {
            sandbox: Arc::clone(&sandbox),
            model,
            endpoint,
            transcript: ports.transcripts.open(self.key()),
            line: Arc::clone(&line) as Arc<dyn domain::ports::agent::Line>,
        };
        Ok(Begun::Running(Box::new(Running { agent, request, hands, sandbox, line, said })))
    }

    /// Follows a turn to its end. `None`: the engine stops; what was done is kept.
    async fn follow(&self, running: Box<Running>) -> Result<Option<TurnEnd>, Fault> {
        let Running { agent, request, hands, sandbox, line, mut said } = *running;
        let (driver, site) = (self.job.driver, self.job.site);
        let interrupt = driver.interrupt(self.job.task.id, self.job.id);
        let _open = site.lines.open(Arc::clone(&line));
        self.overtaken_comments(&line).await?;
        let mut running = agent.run_turn(request, hands);
        let overdue = deadline_after(&interrupt);
        tokio::pin!(overdue);
        let mut minute = tokio::time::interval(site.snapshot_every);
        minute.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        minute.tick().await;
        // Beside the turn, which goes on meanwhile: a large workspace takes its time.
        let keeping = Fuse::terminated();
        tokio::pin!(keeping);
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
                _ = minute.tick(), if keeping.is_terminated() => keeping.set(self.keep().fuse()),
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
        end.map(Some)
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
    async fn keep(&self) {
        let at = self.job.task.updated_at;
        if let Err(fault) = take_snapshot::snapshot(self.job, self.attempt, self.no, at).await {
            tracing::warn!(attempt = %self.key(), %fault, "the running turn could not be snapshotted");
        }
    }

    async fn report(&self, mut end: TurnEnd) -> Result<Performed, Fault> {
        let report = match (self.mode, &end.conclusion) {
            (Mode::Report, TurnConclusion::Finished) => {
                Some(self.job.site.ports.blobs.put(Bytes::from(end.summary.clone().into_bytes())).await?)
            }
            _ => None,
        };
        cut(&mut end.summary, SUMMARY_BYTES);
        Ok(Performed::Event(Event::TurnEnded { command: self.job.id, end, report }))
    }

    /// What the agent calls its model by. The inner error: why there is none, in a way that a person must mend.
    async fn way_to_a_model(&self, need: ModelNeed) -> Result<Result<Way, String>, Fault> {
        let (task, gateways) = (&self.job.task, &self.job.site.ports.gateways);
        let model = match (need, &task.model) {
            (ModelNeed::None, _) | (ModelNeed::Offered, None) => return Ok(Ok((None, None))),
            (ModelNeed::Required, None) => return Ok(Err("the task has no model".to_owned())),
            (ModelNeed::Offered | ModelNeed::Required, Some(model)) => model.clone(),
        };
        let credentials = self.credentials().await?;
        let access = Access { key: self.key(), model, credentials, budget: task.brief.budget };
        let way = match need {
            ModelNeed::Required => gateways.model(access).map(|model| (Some(model), None)),
            ModelNeed::Offered | ModelNeed::None => {
                gateways.endpoint(access).await.map(|endpoint| (None, Some(endpoint)))
            }
        };
        Ok(way.map_err(|fault| fault.to_string()))
    }

    /// The task's own keys, and the installation's where the task has none.
    async fn credentials(&self) -> Result<Credentials, Fault> {
        let secrets = &self.job.site.ports.secrets;
        let mut credentials = secrets.get("home".to_owned()).await?;
        credentials.0.extend(secrets.get(secrets_scope(self.job.task.id)).await?.0);
        Ok(credentials)
    }

    /// The repository's AGENTS.md, as the base has it.
    async fn instructions(&self) -> Result<Vec<(String, String)>, Fault> {
        let origin = &self.job.task.origin;
        let text =
            self.job.site.instructions.of(&self.job.site.ports.workspaces, &origin.repository, &origin.base).await?;
        Ok(text.map(|text| (instructions::FILE.to_owned(), text.as_ref().to_owned())).into_iter().collect())
    }

    /// How the agent's own client comes to its model out of a sandbox with a network of its own.
    fn bridge(&self, endpoint: &mut Option<Endpoint>) -> Vec<Bridge> {
        match (self.job.task.confinement, endpoint) {
            (Confinement::Confined, Some(endpoint)) => {
                endpoint.url = format!("http://127.0.0.1:{MODEL_PORT}");
                vec![Bridge { port: MODEL_PORT, door: Arc::clone(&endpoint.door) }]
            }
            (Confinement::Unconfined, _) | (_, None) => Vec::new(),
        }
    }

    fn open_request(&self, place: Prepared, bridges: Vec<Bridge>, say: mpsc::UnboundedSender<Event>) -> OpenRequest {
        let (task, attempt) = (&self.job.task, self.attempt);
        OpenRequest {
            repository: task.origin.repository.clone(),
            base: task.origin.base.clone(),
            place,
            purpose: Purpose::Turn,
            confinement: task.confinement,
            env: Vec::new(),
            bridges,
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

async fn deadline_after(interrupt: &crate::interrupt::Interrupt) {
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
