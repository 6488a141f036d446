//! An engine over scripted rooms, and ways to wait for facts about its tasks.

use std::{path::PathBuf, sync::Arc, time::Duration};

use domain::{
    brief::Brief,
    event::{Event, Receipt},
    ids::{Actor, TaskId, Via},
    ports::{
        model::Credentials,
        sandbox::Confinement,
        store::Store as _,
        workspace::{ResolveRequest, Wip},
    },
    task::{Outcome, Status, Task},
};
use engine::{
    Handle, Ports, Said, Stalls, Submit, Terms,
    embedded::{Engine, Options},
};
use testkit::{
    ManualClock, MemoryStore, PlainEnvironments, PlainSandboxes, ScriptedAgents, ScriptedChecks, ScriptedWorkspaces,
    ShutEgress, TurnScript, Unmetered,
};

/// Long enough for any machine: a fact that takes longer is not coming.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Rig {
    pub clock: Arc<ManualClock>,
    pub store: MemoryStore,
    pub workspaces: ScriptedWorkspaces,
    pub agents: ScriptedAgents,
    pub checks: ScriptedChecks,
    pub environments: Arc<PlainEnvironments>,
    pub options: Options,
}

pub struct Running {
    pub handle: Handle,
    pub engine: Engine,
    said: std::sync::atomic::AtomicU32,
}

impl Rig {
    pub fn new(turns: Vec<TurnScript>) -> Self {
        Self {
            clock: Arc::default(),
            store: MemoryStore::default(),
            workspaces: ScriptedWorkspaces::default(),
            agents: ScriptedAgents::play(turns),
            checks: ScriptedChecks::default(),
            environments: Arc::new(PlainEnvironments::new(Arc::new(PlainSandboxes))),
            options: Options { terms: patient(), ..Options::default() },
        }
    }

    pub async fn start(&self) -> Running {
        let store = Arc::new(self.store.clone());
        let ports = Ports {
            clock: self.clock.clone(),
            store: store.clone(),
            blobs: store.clone(),
            secrets: store.clone(),
            transcripts: store.clone(),
            ledger: store.clone(),
            records: store,
            workspaces: Arc::new(self.workspaces.clone()),
            sandboxes: Arc::new(PlainSandboxes),
            agents: Arc::new(self.agents.clone()),
            gateways: Arc::new(Unmetered),
            checks: Arc::new(self.checks.clone()),
            environments: self.environments.clone(),
            egress: Arc::new(ShutEgress),
        };
        let (handle, engine) = Engine::start(self.options.clone(), ports).await.unwrap();
        Running { handle, engine, said: std::sync::atomic::AtomicU32::new(0) }
    }
}

impl Running {
    pub async fn submit(&self, brief: Brief) -> TaskId {
        self.submit_as("first", brief).await
    }

    pub async fn submit_as(&self, dedup: &str, brief: Brief) -> TaskId {
        self.handle.submit(submit(dedup, brief)).await.unwrap()
    }

    pub async fn say(&self, task: TaskId, event: Event) -> Receipt {
        let number = self.said.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let said = Said {
            dedup: format!("{}-{number}", event.name()),
            actor: person(),
            via: Via::CommandLine,
            event,
            credentials: Credentials::default(),
        };
        self.handle.say(task, said).await.unwrap()
    }

    pub async fn task(&self, id: TaskId) -> Task {
        self.handle.ports().store.task(id).await.unwrap().unwrap()
    }

    /// Waits until the task is as wanted. Looks at every event; never sleeps.
    pub async fn until(&self, id: TaskId, wanted: impl Fn(&Task) -> bool) -> Task {
        let mut news = self.handle.news();
        let wait = async {
            loop {
                let task = self.task(id).await;
                if wanted(&task) {
                    return task;
                }
                let _ = news.recv().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(task) => task,
            Err(_) => panic!("it did not come to that: {:#?}", self.task(id).await),
        }
    }

    pub async fn until_review(&self, id: TaskId) -> domain::task::Review {
        let task = self.until(id, |task| matches!(task.status, Status::AwaitingReview(_))).await;
        let Status::AwaitingReview(review) = task.status else { unreachable!() };
        review
    }

    pub async fn until_ended(&self, id: TaskId) -> Outcome {
        let task = self.until(id, Task::is_ended).await;
        let Status::Ended { outcome, .. } = task.status else { unreachable!() };
        outcome
    }

    pub async fn approve(&self, id: TaskId) -> Receipt {
        let review = self.until_review(id).await;
        self.say(id, Event::Approved { head: review.head.unwrap(), accept: Vec::new() }).await
    }
}

pub fn submit(dedup: &str, brief: Brief) -> Submit {
    let repository = ResolveRequest { directory: PathBuf::from("/r"), base: None, into: None, wip: Wip::Leave };
    Submit {
        dedup: dedup.to_owned(),
        actor: person(),
        via: Via::CommandLine,
        brief,
        repository: Some(repository),
        credentials: Credentials::default(),
        confinement: Confinement::Confined,
    }
}

/// Terms under which no turn of a test's virtual hours counts as stalled.
fn patient() -> Terms {
    Terms { stalls: Stalls { quiet: Duration::from_hours(10_000), ..Stalls::default() }, ..Terms::default() }
}

pub fn person() -> Actor {
    Actor::Person("ada".to_owned())
}

pub fn brief() -> Brief {
    Brief { goal: "mend it".to_owned(), ..Brief::default() }
}

/// Replaying a task's journal gives the stored state.
pub async fn assert_replays(rig: &Rig, id: TaskId) {
    let rows = rig.store.journal(id, 0, 10_000).await.unwrap();
    let mut rows = rows.into_iter().map(|row| row.envelope);
    let first = rows.next().unwrap();
    let Event::Submitted(submission) = &first.event else { panic!("{first:?}") };
    let (mut task, _) = domain::step::open(id, &first, submission);
    for envelope in rows {
        domain::step::step(&mut task, &envelope);
    }
    assert_eq!(Some(task), rig.store.task(id).await.unwrap());
}
