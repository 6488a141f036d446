//! A daemon's inside in a temporary home: store, engine and API on a socket.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

use api::wire::{Submitted, Summary};
use domain::{
    Fault,
    budget::{Budget, BudgetRule, MicroUsd, Period, Whose},
    ids::TaskId,
    ports::agent::{TurnConclusion, TurnEnd},
    summary::Phase,
};
use engine::{
    Handle, Ports, Terms,
    embedded::{Engine, Options},
};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
};

use crate::{
    boxes::Boxes,
    client::Client,
    furnishing::{Furnishing, Presets},
    stands_in::{Directories, Green, NoModels, Scripted, SystemClock, ended},
};

/// One purse that all share, and one of each person and month.
fn options() -> Options {
    let rule = |name: &str, per, of| BudgetRule {
        name: name.to_owned(),
        limit: Budget { cost: Some(MicroUsd(20_000_000)), ..Budget::default() },
        per,
        of,
    };
    let budgets = vec![rule("all", Period::Ever, Whose::Everybody), rule("own", Period::Month, Whose::Person)];
    Options { terms: Terms { budgets, ..Terms::default() }, ..Options::default() }
}

pub struct Home {
    pub client: Client,
    pub handle: Handle,
    pub stop: api::Stop,
    pub socket: PathBuf,
    pub furnishing: Arc<Furnishing>,
    turns: mpsc::UnboundedSender<TurnEnd>,
    server: JoinHandle<std::io::Result<()>>,
    engine: Engine,
    directory: tempfile::TempDir,
}

impl Home {
    pub async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock: Arc<dyn domain::ports::Clock> = Arc::new(SystemClock);
        let store =
            store::Store::open(store::Options { home: directory.path().join("home"), clock: Arc::clone(&clock) });
        let store = store.unwrap();
        let (turns, script) = mpsc::unbounded_channel();
        let edits = Arc::new(AtomicU64::new(0));
        let furnishing = Arc::new(Furnishing::new(Boxes { edits: edits.clone() }));
        let ports = Ports {
            clock,
            store: store.clone(),
            blobs: store.clone(),
            secrets: store.clone(),
            transcripts: store.clone(),
            ledger: store.clone(),
            records: store,
            workspaces: Arc::new(Directories { root: directory.path().join("home/workspaces"), edits: edits.clone() }),
            sandboxes: Arc::new(Boxes { edits: edits.clone() }),
            agents: Arc::new(Scripted(Arc::new(Mutex::new(script)))),
            gateways: Arc::new(NoModels),
            checks: Arc::new(Green),
            environments: furnishing.clone(),
            egress: Arc::new(Presets),
        };
        let (handle, engine) = Engine::start(options(), ports).await.unwrap();
        let socket = directory.path().join("daemon.sock");
        let stop = api::Stop::default();
        let listener = api::bind(&socket).unwrap();
        let (name, api_key) = ("corp".to_owned(), "CORP_KEY".to_owned());
        let provider = api::Provider { name, api_key, base_url: None };
        let options = api::Options {
            handle: handle.clone(),
            version: "1.2.3",
            home: directory.path().join("home"),
            rung: "copy",
            providers: vec![provider],
            stop: stop.clone(),
        };
        let server = tokio::spawn(api::serve(listener, options));
        Self { client: Client::new(&socket), handle, stop, socket, furnishing, turns, server, engine, directory }
    }

    /// A directory that passes for a repository.
    pub fn repository(&self) -> String {
        self.directory.path().to_string_lossy().into_owned()
    }

    pub async fn submit(&self, brief: Value) -> Submitted {
        let reply = self.client.post("/tasks", json!({"brief": brief, "directory": self.repository()})).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()
    }

    pub fn end_turn(&self, conclusion: TurnConclusion) {
        self.turns.send(ended(conclusion)).unwrap();
    }

    /// Submits a task and works on it until it waits for review.
    pub async fn ready(&self) -> Summary {
        let task = self.submit(json!({"goal": "Fix it", "checks": ["cargo test"]})).await.task;
        self.end_turn(TurnConclusion::Finished);
        self.until(task.id, |task| task.phase == Phase::NeedsYou).await;
        self.quiet(task.id).await
    }

    /// Waits until nothing is carried out for the task any more.
    pub async fn quiet(&self, id: TaskId) -> Summary {
        let mut news = self.handle.news();
        loop {
            let task = self.handle.ports().store.task(id).await.unwrap().unwrap();
            if task.in_flight.is_empty() {
                return task.summary().into();
            }
            news.recv().await.unwrap();
        }
    }

    /// Waits until the task is as it should be.
    pub async fn until(&self, id: TaskId, holds: impl Fn(&Summary) -> bool) -> Summary {
        let mut news = self.handle.news();
        loop {
            let task: Summary = self.handle.ports().store.summary(id).await.unwrap().unwrap().into();
            if holds(&task) {
                return task;
            }
            news.recv().await.unwrap();
        }
    }

    pub async fn journal(&self, id: TaskId) -> Vec<domain::ports::store::Recorded> {
        self.handle.ports().store.journal(id, 0, 1000).await.unwrap()
    }

    /// Stops everything; the server must end by itself.
    pub async fn close(self) -> Result<(), Fault> {
        self.stop.ask();
        self.server.await.unwrap().unwrap();
        self.engine.stop().await;
        Ok(())
    }
}
