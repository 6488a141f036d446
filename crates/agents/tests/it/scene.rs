//! The stage: a scripted model, a transcript and a line in memory, and all that one attempt needs.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
};

use agents::{Agents, Options};
use domain::{
    Fault,
    brief::{AgentChoice, Brief},
    budget::Usage,
    ids::{AttemptKey, AttemptNo, CommentId, TaskId, TurnNo},
    ports::{
        BoxFuture,
        agent::{
            Agents as _, Entry, EntryBody, Hands, Line, Mode, Prompt, Transcript, TurnConclusion, TurnEnd, TurnRequest,
        },
        model::{Message, Model, ModelFault, ModelReply, ModelRequest, Part, Role, Stop},
        sandbox::Exit,
    },
};
use tokio::sync::watch;

use crate::yard::Yard;

/// What the model answers to a conversation with so many replies in it.
pub enum Step {
    Reply(Vec<Part>, Stop),
    /// Never answers.
    Hang,
}

/// A reply that calls tools: name and arguments.
pub fn calls(calls: &[(&str, serde_json::Value)]) -> Step {
    raw_calls(&calls.iter().map(|(name, arguments)| (*name, arguments.to_string())).collect::<Vec<_>>())
}

pub fn call(name: &str, arguments: serde_json::Value) -> Step {
    calls(&[(name, arguments)])
}

pub fn raw_calls(calls: &[(&str, String)]) -> Step {
    let part = |(at, (name, arguments)): (usize, &(&str, String))| Part::ToolCall {
        id: format!("call_{at}"),
        name: (*name).to_owned(),
        arguments: arguments.clone(),
    };
    Step::Reply(calls.iter().enumerate().map(part).collect(), Stop::ToolCalls)
}

pub fn shell(command: &str) -> Step {
    call("shell", serde_json::json!({ "command": command }))
}

pub fn finish(summary: &str) -> Step {
    call("finish", serde_json::json!({ "summary": summary }))
}

pub fn text(text: &str) -> Step {
    Step::Reply(vec![Part::Text { text: text.to_owned() }], Stop::EndTurn)
}

/// Answers by the number of replies in the request, so that a resumed turn hears the same again.
#[derive(Default)]
pub struct Script {
    steps: Vec<Step>,
    /// Where an answer's number is counted instead: so many were given.
    given: Option<AtomicUsize>,
    /// Faults that come before the answer to the conversation with so many replies.
    pub faults: Mutex<BTreeMap<usize, VecDeque<ModelFault>>>,
    /// Every request: how many replies it held, and its messages as bytes without the closing bracket.
    pub asked: Mutex<Vec<(usize, Vec<u8>)>>,
    /// The names of every request's tools.
    pub tools: Mutex<Vec<Vec<String>>>,
    count: watch::Sender<usize>,
}

impl Script {
    pub fn new(steps: Vec<Step>) -> Arc<Self> {
        Arc::new(Self { steps, ..Self::default() })
    }

    /// Answers in order, whatever the request holds.
    pub fn in_order(steps: Vec<Step>) -> Arc<Self> {
        Arc::new(Self { steps, given: Some(AtomicUsize::new(0)), ..Self::default() })
    }

    /// So many answers of a script in order were given.
    pub fn rewind(&self, given: usize) {
        self.given.as_ref().unwrap().store(given, Ordering::SeqCst);
    }

    pub fn fault(self: &Arc<Self>, at: usize, faults: impl IntoIterator<Item = ModelFault>) {
        self.faults.lock().unwrap().insert(at, faults.into_iter().collect());
    }

    /// Resolves once so many calls were made.
    pub async fn called(&self, times: usize) {
        self.count.subscribe().wait_for(|count| *count >= times).await.unwrap();
    }

    /// For every call, how many replies its request held.
    pub fn calls(&self) -> Vec<usize> {
        self.asked.lock().unwrap().iter().map(|(replies, _)| *replies).collect()
    }

    /// Asserts that every request begins with the bytes of the one before.
    pub fn assert_prefixes(&self) {
        for pair in self.asked.lock().unwrap().windows(2) {
            assert!(pair[1].1.starts_with(&pair[0].1), "a request does not extend the one before it");
        }
    }
}

impl Model for Script {
    fn reply<'a>(&'a self, request: ModelRequest<'a>) -> BoxFuture<'a, Result<ModelReply, ModelFault>> {
        Box::pin(async move {
            let replies = request.messages.iter().filter(|message| message.role == Role::Assistant).count();
            for pair in request.messages.windows(2) {
                assert_ne!(pair[0].role, pair[1].role, "roles alternate");
            }
            assert_every_call_is_answered(request.messages);
            // The last message may still grow, as text that is added to the results.
            let mut bytes = serde_json::to_vec(request.messages).unwrap();
            bytes.truncate(bytes.len() - "]}]".len());
            self.asked.lock().unwrap().push((replies, bytes));
            self.tools.lock().unwrap().push(request.tools.iter().map(|tool| tool.name.clone()).collect());
            self.count.send_modify(|count| *count += 1);
            if let Some(fault) = self.faults.lock().unwrap().get_mut(&replies).and_then(VecDeque::pop_front) {
                return Err(fault);
            }
            let at = self.given.as_ref().map_or(replies, |given| given.fetch_add(1, Ordering::SeqCst));
            match self.steps.get(at) {
                Some(Step::Reply(parts, stop)) => Ok(ModelReply {
                    message: Message { role: Role::Assistant, parts: parts.clone() },
                    stop: *stop,
                    usage: Usage { input: 10, output: 5, ..Usage::default() },
                }),
                Some(Step::Hang) => std::future::pending().await,
                None => panic!("the script has no reply {at}"),
            }
        })
    }
}

/// The script behind a ledger in the same store as the transcript: a reservation is written behind what was written before.
struct Metered {
    script: Arc<Script>,
    record: Arc<Record>,
}

impl Model for Metered {
    fn reply<'a>(&'a self, request: ModelRequest<'a>) -> BoxFuture<'a, Result<ModelReply, ModelFault>> {
        Box::pin(async move {
            self.record.reserve().await?;
            self.script.reply(request).await
        })
    }
}

fn assert_every_call_is_answered(messages: &[Message]) {
    for pair in messages.windows(2).filter(|pair| pair[0].role == Role::Assistant) {
        let called = pair[0].parts.iter().filter(|part| matches!(part, Part::ToolCall { .. })).count();
        let answered = pair[1].parts.iter().take_while(|part| matches!(part, Part::ToolResult { .. })).count();
        assert_eq!(called, answered, "every call has a result, and the results come first");
    }
}

/// What the transcript does with the entry after the last one it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// Refuses it: another daemon has the attempt.
    Fenced,
    /// The process dies once the last entry is on disk, before anybody hears of it.
    Silent,
}

/// A transcript in memory. Entries are taken when `append` is called and durable when its future ends.
#[derive(Default)]
pub struct Record {
    pub entries: Mutex<Vec<Entry>>,
    /// Entries that it takes, and what comes then.
    pub limit: Mutex<Option<(usize, Crash)>>,
    pending: AtomicUsize,
    fenced: AtomicBool,
    dead: watch::Sender<bool>,
}

impl Record {
    pub fn bodies(&self) -> Vec<EntryBody> {
        self.entries.lock().unwrap().iter().map(|entry| entry.body.clone()).collect()
    }

    /// A copy that lives on after this one's process.
    pub fn survivor(&self) -> Arc<Self> {
        Arc::new(Self { entries: Mutex::new(self.entries.lock().unwrap().clone()), ..Self::default() })
    }

    pub async fn died(&self) {
        self.dead.subscribe().wait_for(|dead| *dead).await.unwrap();
    }

    /// Resolves once all that was appended is durable.
    async fn reserve(&self) -> Result<(), Fault> {
        while self.pending.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
        if self.fenced.load(Ordering::SeqCst) { Err(Fault::fenced("a newer daemon runs")) } else { Ok(()) }
    }

    pub fn assert_durable(&self) {
        assert_eq!(self.pending.load(Ordering::SeqCst), 0, "an effect began before the transcript was durable");
    }
}

impl Transcript for Record {
    fn load(&self) -> BoxFuture<'_, Result<Vec<Entry>, Fault>> {
        Box::pin(async { Ok(self.entries.lock().unwrap().clone()) })
    }

    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<(), Fault>> {
        let mut entries = self.entries.lock().unwrap();
        let limit = *self.limit.lock().unwrap();
        let outcome = match limit {
            Some((limit, Crash::Fenced)) if entries.len() >= limit => Some(Err(Fault::fenced("a newer daemon runs"))),
            Some((limit, Crash::Silent)) if entries.len() + 1 >= limit => {
                if entries.len() < limit {
                    entries.push(entry);
                }
                None
            }
            _ => {
                entries.push(entry);
                Some(Ok(()))
            }
        };
        self.pending.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            tokio::task::yield_now().await;
            match outcome {
                Some(outcome) => {
                    self.fenced.fetch_or(outcome.is_err(), Ordering::SeqCst);
                    self.pending.fetch_sub(1, Ordering::SeqCst);
                    outcome
                }
                None => {
                    self.dead.send_replace(true);
                    std::future::pending().await
                }
            }
        })
    }
}

#[derive(Default)]
pub struct Phone {
    pub comments: Mutex<VecDeque<(CommentId, String)>>,
    pub delivered: Mutex<Vec<(u32, u32)>>,
    pub notices: Mutex<Vec<String>>,
    pub progress: Mutex<Vec<(Option<u8>, String)>>,
    noticed: tokio::sync::Notify,
    pub interrupt: watch::Sender<bool>,
}

impl Phone {
    pub fn comment(&self, id: u32, text: &str) {
        self.comments.lock().unwrap().push_back((CommentId(id), text.to_owned()));
        self.noticed.notify_waiters();
    }

    pub fn notice(&self, text: &str) {
        self.notices.lock().unwrap().push(text.to_owned());
        self.noticed.notify_waiters();
    }
}

impl Line for Phone {
    fn take_comments(&self) -> Vec<(CommentId, String)> {
        self.comments.lock().unwrap().drain(..).collect()
    }

    fn delivered(&self, comments: Vec<CommentId>, round: u32) {
        self.delivered.lock().unwrap().extend(comments.iter().map(|id| (id.0, round)));
    }

    fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap())
    }

    fn noticed(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                let noticed = self.noticed.notified();
                if !self.comments.lock().unwrap().is_empty() || !self.notices.lock().unwrap().is_empty() {
                    return;
                }
                noticed.await;
            }
        })
    }

    fn progress(&self, percent: Option<u8>, text: String) {
        self.progress.lock().unwrap().push((percent, text));
    }

    fn is_interrupted(&self) -> bool {
        *self.interrupt.borrow()
    }

    fn interrupted(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.interrupt.subscribe().wait_for(|asked| *asked).await.unwrap();
        })
    }
}

/// Everything an agent meets in one attempt.
pub struct Scene {
    pub directory: tempfile::TempDir,
    pub model: Arc<Script>,
    pub side_model: Option<Arc<Script>>,
    pub record: Arc<Record>,
    pub phone: Arc<Phone>,
    pub options: Options,
    /// PATH of what is started.
    pub search: std::ffi::OsString,
    pub agent: &'static str,
    pub without_bash: bool,
    pub ends: Option<Exit>,
    pub spawned: Arc<AtomicU32>,
    pub turn: TurnRequest,
}

impl Scene {
    pub fn new(steps: Vec<Step>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["work/.git", "home"] {
            std::fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let brief = Brief { goal: "Mend it".to_owned(), ..Brief::default() };
        Self {
            directory,
            model: Script::new(steps),
            side_model: None,
            record: Arc::default(),
            phone: Arc::default(),
            options: Options::default(),
            search: std::env::var_os("PATH").unwrap(),
            agent: "builtin",
            without_bash: false,
            ends: None,
            spawned: Arc::default(),
            turn: TurnRequest {
                key: AttemptKey { task: TaskId(12), attempt: AttemptNo(1) },
                turn: TurnNo(1),
                mode: Mode::Work,
                brief: Arc::new(brief),
                checks: Vec::new(),
                prompt: Prompt::Start { plan: None, comments: Vec::new() },
                instructions: Vec::new(),
                guidance: Arc::default(),
                surroundings: Vec::new(),
                max_rounds: 50,
                profile: None,
                void: Vec::new(),
                fresh: false,
            },
        }
    }

    /// A scene for the agent `command` with `sh -c script`.
    pub fn program(script: &str) -> Self {
        Self::argv(&["sh", "-c", script])
    }

    pub fn argv(argv: &[&str]) -> Self {
        let mut scene = Self::new(Vec::new());
        scene.agent = "command";
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        let agent = AgentChoice { name: "command".to_owned(), argv, ..AgentChoice::default() };
        scene.turn.brief = Arc::new(Brief { agent, ..(*scene.turn.brief).clone() });
        scene
    }

    pub fn hands(&self) -> Hands {
        let root = self.path("");
        Hands {
            endpoint: None,
            side_model: self.side_model.clone().map(|script| self.metered(script)),
            login: Vec::new(),
            sandbox: Arc::new(Yard {
                ends: self.ends,
                root,
                home: self.directory.path().join("home"),
                path: self.search.clone(),
                record: Arc::clone(&self.record),
                without_bash: self.without_bash,
                spawned: Arc::clone(&self.spawned),
            }),
            model: Some(self.metered(Arc::clone(&self.model))),
            transcript: Arc::clone(&self.record) as Arc<dyn Transcript>,
            line: Arc::clone(&self.phone) as Arc<dyn Line>,
        }
    }

    fn metered(&self, script: Arc<Script>) -> Arc<dyn Model> {
        Arc::new(Metered { script, record: Arc::clone(&self.record) })
    }

    /// A path of the workspace.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join("work").join(path)
    }

    pub fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        std::fs::write(self.path(path), content).unwrap();
    }

    pub fn got(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    pub async fn try_run(&self) -> Result<TurnEnd, Fault> {
        let agent = Agents::new(self.options.clone()).find(self.agent).unwrap();
        agent.run_turn(self.turn.clone(), self.hands()).await
    }

    pub async fn run(&self) -> TurnEnd {
        self.try_run().await.unwrap()
    }

    pub async fn finished(&self) -> String {
        let end = self.run().await;
        assert_eq!(end.conclusion, TurnConclusion::Finished, "{:?}", self.record.bodies());
        end.summary
    }

    /// Goes on to the next turn.
    pub fn next(&mut self, prompt: Prompt) {
        self.turn.turn = TurnNo(self.turn.turn.0 + 1);
        self.turn.prompt = prompt;
    }

    /// Texts and error marks of all tool results, in order.
    pub fn results(&self) -> Vec<(String, bool)> {
        let of = |body| match body {
            EntryBody::Result { text, is_error, .. } => Some((text, is_error)),
            _ => None,
        };
        self.record.bodies().into_iter().filter_map(of).collect()
    }

    /// Texts that the user side of the conversation holds, tool results aside.
    pub fn told(&self) -> Vec<String> {
        let texts = |body| match body {
            EntryBody::Prompt { message } | EntryBody::Results { message } | EntryBody::Comments { message, .. } => {
                message
                    .parts
                    .into_iter()
                    .filter_map(|part| match part {
                        Part::Text { text } => Some(text),
                        _ => None,
                    })
                    .collect()
            }
            _ => Vec::new(),
        };
        self.record.bodies().into_iter().flat_map(texts).collect()
    }
}

/// Runs the tools named by the calls in one turn and returns the results.
pub async fn use_tools(scene: &mut Scene, used: &[(&str, serde_json::Value)]) -> Vec<(String, bool)> {
    let mut steps: Vec<_> = used.iter().map(|(name, arguments)| call(name, arguments.clone())).collect();
    steps.push(text("done"));
    scene.model = Script::new(steps);
    scene.finished().await;
    scene.results()
}
