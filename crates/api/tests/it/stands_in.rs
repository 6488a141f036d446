//! Boring second implementations of the rooms below the engine: the test says when a turn ends and how.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use domain::{
    Fault,
    budget::{Purse, Usage},
    check::{CheckEnd, CheckRun, CheckSpec, Judgement, Verdict},
    environment::EnvironmentId,
    ids::{AttemptKey, CommitId, RepositoryId, TaskId, TurnNo},
    ports::{
        BoxFuture, Clock,
        agent::{
            Agent, AgentInfo, Agents, Entry, EntryBody, Hands, ModelNeed, Needs, OwnLogin, TurnConclusion, TurnEnd,
            TurnRequest,
        },
        checks::{Checks, JudgeRequest},
        model::{
            Access, Credentials, Endpoint, Gateways, Message, Model, ModelAsk, ModelInfo, Part, Protocol,
            ReplayRequest, Replayed, ResolvedModel, Role, TriedModel,
        },
        sandbox::Tree,
        workspace::{
            BlamedLine, ChangeKind, ChangedPath, CheckoutRequest, DiffStat, DiskUse, EnvironmentLayer, LandRequest,
            Landing, Origin, PrepareRequest, Prepared, RaiseRequest, Repository, ResolveRequest, Snapshot,
            SnapshotRequest, Workspaces,
        },
    },
    profile::Profile,
};
use tokio::sync::{Mutex, mpsc};

pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

pub fn done<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(async { value })
}

pub fn unasked<'a, T: Send + 'a>(what: &str) -> BoxFuture<'a, Result<T, Fault>> {
    let fault = Fault::bug(format!("{what} was not to be asked for"));
    Box::pin(async { Err(fault) })
}

/// Turns end when the test says so, or when they are interrupted. Each says one thing first and hears comments last.
pub struct Scripted(pub Arc<Mutex<mpsc::UnboundedReceiver<TurnEnd>>>);

impl Agents for Scripted {
    fn find(&self, name: &str) -> Result<Arc<dyn Agent>, Fault> {
        match name {
            "builtin" => Ok(Arc::new(Self(Arc::clone(&self.0)))),
            _ => Err(Fault::not_found(format!("there is no agent `{name}`")).hint("the agents are builtin")),
        }
    }

    fn names(&self) -> Vec<String> {
        vec!["builtin".to_owned()]
    }

    fn list(&self) -> Vec<AgentInfo> {
        let builtin = AgentInfo {
            name: "builtin".to_owned(),
            driven: "built in".to_owned(),
            version: None,
            tried: None,
            program: None,
            model: ModelNeed::None,
            protocols: Vec::new(),
            missing: None,
            remarks: Vec::new(),
        };
        let absent = AgentInfo {
            name: "absent".to_owned(),
            driven: "acp".to_owned(),
            missing: Some("install it".to_owned()),
            ..builtin.clone()
        };
        vec![builtin, absent]
    }

    fn profiles(&self, _: &[(String, Bytes)]) -> Result<Vec<Profile>, Fault> {
        let name = "reviewer".to_owned();
        Ok(vec![Profile { name, source: "ready-made".to_owned(), read_only: true, ..Profile::default() }])
    }
}

impl Agent for Scripted {
    fn needs(&self) -> Result<Needs, Fault> {
        let login = OwnLogin { files: vec![".scripted/auth.json".to_owned()], hosts: vec!["models.test".to_owned()] };
        Ok(Needs { model: ModelNeed::None, protocols: Vec::new(), programs: Vec::new(), login: Some(login) })
    }

    fn run_turn(&self, turn: TurnRequest, hands: Hands) -> BoxFuture<'_, Result<TurnEnd, Fault>> {
        Box::pin(async move {
            let says = Part::Text { text: format!("working on turn {}", turn.turn) };
            let message = Message { role: Role::Assistant, parts: vec![says] };
            let body = EntryBody::Reply { message, usage: Usage::default() };
            hands.transcript.append(Entry { turn: turn.turn, round: 1, body }).await?;
            let end = tokio::select! {
                end = async { self.0.lock().await.recv().await } => end.unwrap(),
                () = hands.line.interrupted() => ended(TurnConclusion::Interrupted),
            };
            let heard: Vec<_> = hands.line.take_comments().into_iter().map(|(id, _)| id).collect();
            if !heard.is_empty() {
                hands.line.delivered(heard, 1);
            }
            Ok(end)
        })
    }
}

pub fn ended(conclusion: TurnConclusion) -> TurnEnd {
    TurnEnd { conclusion, summary: "a summary".to_owned(), rounds: 1 }
}

/// Workspaces that are changed by being counted as changed.
pub struct Directories {
    pub root: PathBuf,
    /// How often a person has changed something by hand.
    pub edits: Arc<AtomicU64>,
}

/// A commit id that tells task and turn.
pub fn commit(task: TaskId, turn: TurnNo) -> CommitId {
    CommitId::parse(&format!("{:020x}{:020x}", task.0, turn.0)).unwrap()
}

pub fn base() -> CommitId {
    CommitId::parse(&"ba5e".repeat(10)).unwrap()
}

fn origin(path: PathBuf, target: Option<&str>, notes: &[&str]) -> Origin {
    Origin {
        repository: Repository { id: RepositoryId("r".to_owned()), path },
        base: base(),
        target: target.map(str::to_owned),
        notes: notes.iter().map(|note| (*note).to_owned()).collect(),
    }
}

impl Workspaces for Directories {
    fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Origin, Fault>> {
        if !request.directory.is_dir() {
            let what = format!("{} is not in a git repository", request.directory.display());
            return done(Err(Fault::input(what).hint("stand in a repository")));
        }
        done(Ok(origin(request.directory, Some("main"), &["the clone is shallow"])))
    }

    fn scratch(&self, task: TaskId) -> BoxFuture<'_, Result<Origin, Fault>> {
        done(Ok(origin(self.root.join(format!("scratch-{task}")), None, &[])))
    }

    fn prepare(&self, request: PrepareRequest) -> BoxFuture<'_, Result<Prepared, Fault>> {
        let place = |name: &str| self.root.join(format!("{}-{name}", request.key));
        done(Ok(Prepared {
            root: Tree::Directory(place("root")),
            home: Tree::Directory(place("home")),
            scratch: place("scratch"),
            readable: Vec::new(),
            spill: place("spill"),
            lock: place("lock"),
        }))
    }

    fn snapshot(&self, request: SnapshotRequest) -> BoxFuture<'_, Result<Snapshot, Fault>> {
        let edited = u32::try_from(self.edits.load(Ordering::SeqCst)).unwrap() << 16;
        let commit = commit(request.key.task, TurnNo(request.turn.0 + edited));
        done(Ok(Snapshot { commit, empty: false, stat: DiffStat { files: 1, added: 2, deleted: 3 } }))
    }

    fn release(&self, _: Repository, _: AttemptKey, _: Option<CommitId>) -> BoxFuture<'_, Result<(), Fault>> {
        done(Ok(()))
    }

    fn checkout(&self, request: CheckoutRequest) -> BoxFuture<'_, Result<Prepared, Fault>> {
        let place = |name: &str| self.root.join(format!("{}-{name}", request.name));
        done(Ok(Prepared {
            root: Tree::Directory(place("root")),
            home: Tree::Directory(place("home")),
            scratch: place("scratch"),
            readable: Vec::new(),
            spill: place("spill"),
            lock: place("lock"),
        }))
    }

    fn discard_checkout(&self, _: String) -> BoxFuture<'_, ()> {
        done(())
    }

    fn raise(&self, _: RaiseRequest) -> BoxFuture<'_, Result<Prepared, Fault>> {
        unasked("an environment")
    }

    fn freeze(&self, _: Repository, _: EnvironmentId, _: String) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        unasked("an environment")
    }

    fn remove_environment(&self, _: Repository, _: EnvironmentId) -> BoxFuture<'_, Result<(), Fault>> {
        unasked("an environment")
    }

    fn environments(&self, _: Repository) -> BoxFuture<'_, Result<Vec<EnvironmentLayer>, Fault>> {
        done(Ok(Vec::new()))
    }

    fn serves(&self, _: Repository, _: EnvironmentId, _: CommitId) -> BoxFuture<'_, Result<bool, Fault>> {
        done(Ok(false))
    }

    fn disk_use(&self) -> BoxFuture<'_, Result<DiskUse, Fault>> {
        done(Ok(DiskUse { layers: 2, layer_bytes: 3_000, budget_bytes: 10_000, workspaces: 1 }))
    }

    fn diff(&self, _: Repository, from: CommitId, to: CommitId) -> BoxFuture<'_, Result<Bytes, Fault>> {
        done(Ok(Bytes::from([format!("diff {from} {to}\n").as_bytes(), b"+\xff\n"].concat())))
    }

    fn changed_paths(
        &self,
        _: Repository,
        from: CommitId,
        to: CommitId,
    ) -> BoxFuture<'_, Result<Vec<ChangedPath>, Fault>> {
        let path = "by-hand.txt".to_owned();
        let change = ChangedPath { path, kind: ChangeKind::Modified, added: 1, deleted: 0, binary: false };
        done(Ok(if from == to { Vec::new() } else { vec![change] }))
    }

    fn read(&self, _: Repository, _: CommitId, _: String, _: usize) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        done(Ok(None))
    }

    fn list(&self, _: Repository, _: CommitId, _: String) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        done(Ok(Vec::new()))
    }

    fn blame(&self, _: Repository, commit: CommitId, path: String) -> BoxFuture<'_, Result<Vec<BlamedLine>, Fault>> {
        let lines = [(base(), 1, "one"), (commit, 2, "two")];
        done(match path.as_str() {
            "src/a b.txt" => {
                Ok(lines.map(|(commit, line, text)| BlamedLine { commit, line, text: text.to_owned() }).into())
            }
            _ => Err(Fault::not_found(format!("there is no regular file `{path}`"))),
        })
    }

    fn land(&self, request: LandRequest) -> BoxFuture<'_, Result<Landing, Fault>> {
        done(Ok(Landing::Landed { target: request.target.unwrap_or_default(), commit: request.head }))
    }

    fn pull(
        &self,
        directory: PathBuf,
        _: Repository,
        task: TaskId,
        head: CommitId,
    ) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        done(Ok(vec![format!("{} holds overnight/{task} at {head}", directory.display())]))
    }

    fn discard(&self, repository: Repository, _: TaskId) -> BoxFuture<'_, Result<(), Fault>> {
        done(if repository.path.join("keep-the-branch").exists() {
            Err(Fault::conflict("the branch was kept"))
        } else {
            Ok(())
        })
    }

    fn purge(&self, _: Repository, _: TaskId) -> BoxFuture<'_, Result<(), Fault>> {
        done(Ok(()))
    }
}

/// Everything is green.
pub struct Green;

impl Checks for Green {
    fn detect(&self, _: Repository, _: CommitId) -> BoxFuture<'_, Result<Vec<CheckSpec>, Fault>> {
        done(Ok(vec![CheckSpec::from_command("cargo test")]))
    }

    fn judge(&self, request: JudgeRequest) -> BoxFuture<'_, Result<Judgement, Fault>> {
        let run = |check: CheckSpec| CheckRun {
            check,
            verdict: Verdict::Green,
            end: CheckEnd::Exited(0),
            base_end: CheckEnd::Exited(1),
            duration_ms: 5,
            passed: 1,
            failed: 0,
            skipped: 0,
            fixed: vec!["overflow".to_owned()],
            new_failures: Vec::new(),
            known_failures: Vec::new(),
            missing: Vec::new(),
            reason: "it exits with 0".to_owned(),
            blocked: Vec::new(),
            log: None,
        };
        done(Ok(Judgement {
            verdict: Verdict::Green,
            runs: request.checks.into_iter().map(run).collect(),
            outside_allowed: Vec::new(),
            protected_touched: Vec::new(),
            digest: String::new(),
            fingerprint: String::new(),
        }))
    }
}

pub struct NoModels;

impl Gateways for NoModels {
    fn resolve(&self, _: ModelAsk<'_>) -> Result<ResolvedModel, Fault> {
        Err(Fault::bug("no agent here needs a model"))
    }

    fn model(&self, _: Access) -> Result<Arc<dyn Model>, Fault> {
        Err(Fault::bug("no agent here needs a model"))
    }

    fn endpoint(&self, _: Access) -> BoxFuture<'_, Result<Endpoint, Fault>> {
        unasked("an endpoint")
    }

    /// One for each key.
    fn models(&self, credentials: Credentials) -> BoxFuture<'_, Vec<ModelInfo>> {
        let model = |key: String| ModelInfo {
            name: format!("{key}/m"),
            provider: key,
            host: "models.test".to_owned(),
            accounts: vec!["work".to_owned()],
            protocols: vec![Protocol::Messages],
            price: None,
            priced_since: None,
            reachable: Err(Fault::transient("nobody answers")),
            held_until: None,
        };
        done(credentials.0.into_keys().map(model).collect())
    }

    fn try_out(&self, name: String, _: Credentials, purses: Vec<Purse>) -> BoxFuture<'_, Result<TriedModel, Fault>> {
        let (host, account) = ("models.test".to_owned(), "work".to_owned());
        let text = purses.into_iter().map(|purse| purse.key).collect::<Vec<_>>().join(", ");
        done(Ok(TriedModel { name, host, account, text, usage: Usage::default(), cost: None, milliseconds: 7 }))
    }

    fn replay(&self, _: ReplayRequest) -> BoxFuture<'_, Result<Replayed, Fault>> {
        unasked("a replay")
    }
}
