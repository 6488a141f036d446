//! The agents that nobody here wrote, with the scripted provider behind the real gateway. They are where `OVERNIGHT_AGENTS` says;
//! without it, nothing of this is tried. What they did is read off the workspace and the provider's log, never off their words.

use std::{path::PathBuf, sync::Arc};

use domain::{
    budget::Budget,
    ids::CommentId,
    ports::{
        Clock,
        agent::{Agents as _, EntryBody, Hands, Prompt, TurnConclusion, TurnEnd},
        model::{Access, CallNews, CallWatch, Credentials, Gateways as _},
    },
};
use gateway::{
    Gateway,
    scripted::{Log, Record, Script, serve},
};
use serde_json::{Value, json};
use testkit::MemoryStore;
use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

use crate::scene::Scene;

/// Name and model.
const AGENTS: [(&str, &str); 9] = [
    // By a name that it does not know: for its own models it has the model write programs that call its tools.
    ("codex", "openai/scripted"),
    ("claude", "claude-sonnet-5-5"),
    ("opencode", "claude-sonnet-5-5"),
    ("copilot", "claude-sonnet-5-5"),
    ("gemini", "gemini-3.8-flash"),
    ("qwen", "openai/scripted"),
    ("codex-exec", "gpt-5"),
    ("claude-p", "claude-sonnet-5-5"),
    ("pi", "claude-sonnet-5-5"),
];

struct Now;

impl Clock for Now {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

/// Ends the turn where no call can succeed, as the engine does.
struct Supervisor(watch::Sender<bool>);

impl CallWatch for Supervisor {
    fn tell(&self, news: CallNews) {
        if matches!(news, CallNews::Refused(_)) {
            self.0.send_replace(true);
        }
    }
}

/// A scene whose agent is a real one.
struct Trial {
    scene: Scene,
    agent: &'static str,
    model: &'static str,
    gateway: Arc<Gateway>,
    log: Log,
    address: std::net::SocketAddr,
    provider: AbortHandle,
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.provider.abort();
    }
}

impl Trial {
    /// `None`: there are no agents here.
    async fn of((agent, model): (&'static str, &'static str), replies: Value) -> Option<Self> {
        let place = PathBuf::from(std::env::var_os("OVERNIGHT_AGENTS")?);
        let mut scene = Scene::new(Vec::new());
        // One of them refuses to keep its things below /tmp.
        scene.directory = tempfile::tempdir_in("/var/tmp").unwrap();
        for name in ["work", "home"] {
            std::fs::create_dir_all(scene.directory.path().join(name)).unwrap();
        }
        scene.options.directories = vec![place.clone()];
        let mut path = vec![place.join("bin"), place.join("node_modules/.bin")];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        scene.search = std::env::join_paths(path).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Script::parse(&json!({"conversations": [{"replies": replies}]}).to_string()).unwrap();
        let log = Log::in_memory();
        let provider = tokio::spawn(serve(listener, script, log.clone())).abort_handle();
        let gateway = Gateway::new(gateway::Options::new(Arc::new(MemoryStore::default()), Arc::new(Now))).unwrap();
        Some(Self { scene, agent, model, gateway, log, address, provider })
    }

    async fn hands(&self) -> Hands {
        let key = self.scene.turn.key;
        let bases =
            [("ANTHROPIC", ""), ("GEMINI", "/v1beta"), ("OPENAI", "/v1")].into_iter().flat_map(|(name, path)| {
                let url = format!("http://{}{path}", self.address);
                [(format!("{name}_BASE_URL"), url), (format!("{name}_API_KEY"), "real-key".to_owned())]
            });
        let access = Access {
            key,
            turn: self.scene.turn.turn,
            model: self.model.to_owned(),
            credentials: Credentials(bases.collect()),
            budget: Budget::default(),
            purses: Vec::new(),
            redactor: Arc::default(),
            watch: Arc::new(Supervisor(self.scene.phone.interrupt.clone())),
        };
        Hands { model: None, endpoint: Some(self.gateway.endpoint(access).await.unwrap()), ..self.scene.hands() }
    }

    async fn run(&self) -> TurnEnd {
        let agents = agents::Agents::new(self.scene.options.clone());
        let agent = agents.find(self.agent).unwrap();
        agent.needs().unwrap();
        agent.run_turn(self.scene.turn.clone(), self.hands().await).await.unwrap()
    }

    async fn finishes(&self) {
        let end = self.run().await;
        assert_eq!(end.conclusion, TurnConclusion::Finished, "{}: {:#?}", self.agent, self.scene.record.bodies());
    }

    /// The replies of the script that were given, in order; what agents ask aside is none.
    fn replies(&self) -> Vec<usize> {
        let given = |record: &Record| (record.status == 200).then_some(record.index);
        let mut replies: Vec<_> = self.log.records().iter().filter_map(given).collect();
        replies.dedup();
        replies
    }
}

fn follow_up() -> Prompt {
    Prompt::Comments { comments: vec![(CommentId(1), "now the other".to_owned())] }
}

#[tokio::test]
async fn each_works_and_goes_on_in_its_session() {
    for agent in chosen() {
        let replies = json!([
            {"shell": "echo one >>made"}, {"text": "Made one."}, {"shell": "echo two >>made"}, {"text": "Made two."},
        ]);
        let Some(mut trial) = Trial::of(agent, replies).await else { return };
        let began = std::time::Instant::now();
        trial.finishes().await;
        assert!(trial.scene.path("made").exists(), "{}: {:#?}", trial.agent, trial.scene.record.bodies());
        assert_eq!(trial.scene.got("made"), "one\n", "{}", trial.agent);
        let first = began.elapsed();
        trial.scene.next(follow_up());
        trial.finishes().await;
        assert_eq!(trial.scene.got("made"), "one\ntwo\n", "{}: {:#?}", trial.agent, trial.scene.record.bodies());
        let calls = trial.scene.record.bodies().into_iter().filter(|body| matches!(body, EntryBody::Result { .. }));
        assert_eq!(calls.count(), 2, "{}: {:#?}", trial.agent, trial.scene.record.bodies());
        assert!(trial.log.records().iter().all(|record| record.key.as_deref() == Some("real-key")));
        eprintln!("{}: {first:?}, then {:?}; replies {:?}", trial.agent, began.elapsed() - first, trial.replies());
    }
}

#[tokio::test]
async fn each_ends_when_it_is_told_to() {
    for agent in chosen() {
        let replies = json!([{"shell": "echo $$ >pid; touch began; exec sleep 1000"}, {"text": "Slept."}]);
        let Some(trial) = Trial::of(agent, replies).await else { return };
        let began = trial.scene.path("began");
        let (end, ()) = tokio::join!(trial.run(), async {
            while !began.exists() {
                tokio::task::yield_now().await;
            }
            trial.scene.phone.interrupt.send_replace(true);
        });
        assert_eq!(end.conclusion, TurnConclusion::Interrupted, "{}", trial.agent);
        // Some leave it behind; here is no sandbox that would end it.
        let pid = rustix::process::Pid::from_raw(trial.scene.got("pid").trim().parse().unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

#[tokio::test]
async fn each_ends_when_its_key_is_refused_and_lives_through_passing_faults() {
    for agent in chosen() {
        let Some(trial) = Trial::of(agent, json!([{"fault": "401", "shell": "true"}])).await else { return };
        let end = trial.run().await;
        assert_eq!(end.conclusion, TurnConclusion::Interrupted, "{}: by the supervisor", trial.agent);
        for fault in [json!({"fault": "429", "retry_after": 0.1}), json!({"fault": "cut"})] {
            let mut first = json!({"shell": "echo one >>made", "fault_times": 1});
            first.as_object_mut().unwrap().extend(fault.as_object().unwrap().clone());
            let Some(trial) = Trial::of(agent, json!([first, {"text": "Made one."}])).await else { return };
            if trial.agent == "gemini" && fault["fault"] == "cut" {
                // It does not try again.
                assert!(matches!(trial.run().await.conclusion, TurnConclusion::Failed { .. }));
                continue;
            }
            trial.finishes().await;
            assert_eq!(trial.scene.got("made"), "one\n", "{}: {fault}", trial.agent);
        }
    }
}

/// All, or those that `OVERNIGHT_TRY` names.
fn chosen() -> impl Iterator<Item = (&'static str, &'static str)> {
    let named = std::env::var("OVERNIGHT_TRY").unwrap_or_default();
    AGENTS.into_iter().filter(move |(name, _)| named.is_empty() || named.split(',').any(|one| one == *name))
}

/// Neither is told of a shell as the others are: one ends by a command of its own, and one only edits.
#[tokio::test]
async fn those_that_answer_once_work_too() {
    for agent in [("mini", "openai/scripted"), ("mini", "claude-sonnet-5-5")] {
        let end = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && echo Made it.";
        let replies = json!([{"shell": "echo one >>made"}, {"shell": end}]);
        let Some(trial) = Trial::of(agent, replies).await else { return };
        let end = trial.run().await;
        assert_eq!(end.conclusion, TurnConclusion::Finished, "{agent:?}: {:#?}", trial.scene.record.bodies());
        assert_eq!((trial.scene.got("made").as_str(), end.summary.as_str()), ("one\n", "Made it."), "{agent:?}");
    }
    for agent in [("aider", "openai/scripted"), ("aider", "claude-sonnet-5-5")] {
        // Its requests begin with examples, so that the script takes them for later ones.
        let edit = json!({"text": "I make it.\n\nmade\n```\none\n```\n"});
        let Some(mut trial) = Trial::of(agent, vec![edit; 12].into()).await else { return };
        trial.finishes().await;
        assert_eq!(trial.scene.got("made"), "one\n", "{agent:?}");
        trial.scene.next(follow_up());
        trial.finishes().await;
    }
}
