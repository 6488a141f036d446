//! What is tried of each agent. Every scene ends in facts: a diff, a status, a count of calls.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    harness::{Place, Ran},
    provider::Provider,
};

/// Of a key that opens nothing, and is to be found nowhere.
const KEY: &str = "sk-of-no-worth-5d1f";
/// A fact that takes longer is not coming.
const PATIENCE: Duration = Duration::from_secs(120);

/// One agent on its stage.
pub struct Scene {
    place: Place,
    agent: &'static str,
    model: &'static str,
    provider: Option<Provider>,
}

/// Plays a scene; says so where the agents are not installed. What came of it goes into the table, where one is made.
pub fn play(agent: &'static str, model: &'static str, name: &str, scene: fn(&mut Scene)) {
    let Some(agents) = std::env::var_os("OVERNIGHT_AGENTS").map(PathBuf::from) else {
        eprintln!("not tried: OVERNIGHT_AGENTS is not set (`cargo xtask test` installs the agents and sets it)");
        return;
    };
    let place = Place::new();
    fs::DirBuilder::new().mode(0o700).create(&place.home).unwrap();
    let configuration = format!("[agents]\ndirectories = [{:?}]\n", agents.display().to_string());
    fs::write(place.home.join("config.toml"), configuration).unwrap();
    let list = place.on(&["agents", "--json"]).json();
    let found = list["agents"].as_array().unwrap().iter().find(|found| found["name"] == agent).unwrap().clone();
    if let Some(missing) = found["missing"].as_str() {
        eprintln!("not tried: {agent} is not there: {missing}");
        return;
    }
    scene(&mut Scene { place, agent, model, provider: None });
    if let Some(table) = std::env::var_os("OVERNIGHT_AGENTS_TABLE") {
        let row = json!({ "agent": agent, "scene": name, "version": found["version"], "driven": found["driven"],
            "remarks": found["remarks"] });
        fs::write(PathBuf::from(table).join(format!("{agent}.{name}.json")), row.to_string()).unwrap();
    }
}

/// Whether a person is to decide about what was done.
fn is_settled(task: &Value) -> bool {
    task["phase"] == "needs_you"
        && ["ready", "handed_back"].iter().any(|status| task["attempts"][0]["status"] == *status)
}

/// A reply that has the agent's own shell tool do this.
fn shell(line: &str) -> Value {
    json!({ "shell": line })
}

fn says(text: &str) -> Value {
    json!({ "text": text })
}

/// The replies of a turn that does one thing and ends.
fn turn(line: &str) -> Vec<Value> {
    vec![shell(line), says("Done.")]
}

impl Scene {
    fn script(&mut self, replies: &[Value]) {
        self.provider = Some(Provider::play(&self.place, replies));
    }

    fn provider(&self) -> &Provider {
        self.provider.as_ref().unwrap()
    }

    fn with_keys<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for provider in ["ANTHROPIC", "OPENAI", "GEMINI"] {
            command.env(format!("{provider}_API_KEY"), KEY);
        }
        let url = &self.provider().url;
        command.env("ANTHROPIC_BASE_URL", url).env("GEMINI_BASE_URL", url);
        command.env("OPENAI_BASE_URL", format!("{url}/v1"))
    }

    /// Hands the task over; its id is `T-1`.
    fn run(&self, more: &[&str]) -> Ran {
        let arguments = ["run", "Change file.txt as it should be", "--agent", self.agent, "--model", self.model];
        let mut command = self.place.command(&[&arguments[..], &["--check", "true"], more].concat());
        let output = self.with_keys(&mut command).output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Waits until the task is so, looking whenever something was logged.
    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let mut logs = self.place.command(&["logs", "1", "-f"]).spawn().unwrap();
            let mut lines = BufReader::new(logs.stdout.take().unwrap()).lines();
            let found = loop {
                let task = self.place.show("1");
                if is_so(&task) {
                    break Some(task);
                }
                assert!(begun.elapsed() < PATIENCE, "{what} never came: {task:#}\n{:#?}", self.provider().requests());
                // The end of the log: the daemon went, or the task ended.
                if lines.next().is_none() {
                    break None;
                }
            };
            let _ = logs.kill();
            let _ = logs.wait();
            match found {
                Some(task) => return task,
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn settled(&self) -> Value {
        self.until("a decision", is_settled)
    }

    #[track_caller]
    fn assert_changed_to(&self, content: &str) {
        let diff = self.place.on(&["diff", "1"]).ok();
        assert!(diff.contains(&format!("+{content}")), "{diff}\n{:#}", self.place.show("1"));
    }

    /// What the provider says it was paid for is what the task is charged for, to the token.
    #[track_caller]
    fn assert_metered(&self) {
        let sum = |name: &str| -> u64 {
            self.provider().requests().iter().map(|request| request["usage"][name].as_u64().unwrap_or(0)).sum()
        };
        let usage = &self.place.show("1")["spend"]["usage"];
        for name in ["input", "cache_read", "cache_write", "output"] {
            assert_eq!(usage[name].as_u64(), Some(sum(name)), "{name}: {usage} {:#?}", self.provider().requests());
        }
    }
}

/// It does the work with its own tools; what it was paid is known; no key is in anything it can read.
pub fn smoke(scene: &mut Scene) {
    let hunt = "k=sk-of; k=$k-no-worth-5d1f; env >seen.txt; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' \
                >>seen.txt; grep -rsF \"$k\" \"$HOME\" /tmp >>seen.txt; printf 'two\\n' >file.txt";
    let mut replies = turn(hunt);
    if scene.agent == "mini" {
        // Only this ends its work.
        replies.insert(1, shell("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"));
    }
    scene.script(&replies);
    scene.run(&["--wait"]).ok();
    scene.assert_changed_to("two");
    scene.assert_metered();
    let diff = scene.place.on(&["diff", "1"]).ok();
    assert!(diff.contains("PATH=") && !diff.contains(KEY), "a key is in the sandbox");
    let keys: Vec<Value> = scene.provider().requests().iter().map(|request| request["key"].clone()).collect();
    assert!(keys.iter().all(|key| *key == json!(KEY)), "the gateway put the key on: {keys:?}");
    for said in [scene.place.on(&["logs", "1"]).ok(), scene.place.on(&["export", "1"]).ok()] {
        assert!(!said.contains(KEY), "a key is in the record");
    }
}

/// One without tools: it writes what its model says in its own form, and leaves nothing else behind.
pub fn edits(scene: &mut Scene) {
    // It puts examples of replies into its conversation, which count as some that were given.
    scene.script(&vec![says("file.txt\n```\ntwo\n```\n"); 8]);
    scene.run(&["--wait"]).ok();
    scene.assert_changed_to("two");
    assert_eq!(scene.place.show("1")["attempts"][0]["snapshot"]["stat"]["files"], 1, "{:#}", scene.place.show("1"));
    scene.assert_metered();
}

/// A comment is heard in the session that did the work.
pub fn follow_up(scene: &mut Scene) {
    scene.script(&[turn("printf 'two\\n' >file.txt"), turn("printf 'three\\n' >>file.txt")].concat());
    scene.run(&["--wait"]).ok();
    scene.place.on(&["comment", "1", "add a line that says three"]).ok();
    scene.until("the second turn's end", |task| is_settled(task) && task["attempts"][0]["turns"] == 2);
    scene.assert_changed_to("two");
    scene.assert_changed_to("three");
    scene.assert_metered();
}

/// The daemon is killed while a command of the agent runs; the next one goes on.
pub fn reload(scene: &mut Scene) {
    scene.script(&[
        shell("printf 'two\\n' >file.txt; sleep 3"),
        json!({ "text": "And now the rest.", "shell": "printf 'three\\n' >>file.txt" }),
        says("Done."),
    ]);
    scene.run(&[]).ok();
    let requests = || scene.provider().requests().iter().filter(|request| request["status"] == 200).count();
    let begun = Instant::now();
    while requests() == 0 {
        assert!(begun.elapsed() < PATIENCE, "no reply was ever given");
        std::thread::yield_now();
    }
    let daemon = scene.place.daemon().unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &daemon]).status().unwrap().success());
    let task = scene.settled();
    assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task:#}");
    scene.assert_changed_to("three");
}

/// Nothing of it is left, whatever it had started.
pub fn cancel(scene: &mut Scene) {
    let marker = format!("{}", 100_000 + std::process::id());
    scene.script(&turn(&format!("(setsid sleep {marker} &); trap '' INT TERM; sleep {marker}; sleep {marker}")));
    scene.run(&[]).ok();
    let running = || Command::new("pgrep").args(["-fx", &format!("sleep {marker}")]).output().unwrap().status.success();
    let begun = Instant::now();
    while !running() {
        assert!(begun.elapsed() < PATIENCE, "the command never ran: {:#}", scene.place.show("1"));
        std::thread::yield_now();
    }
    scene.place.on(&["cancel", "1"]).ok();
    scene.until("the end", |task| task["phase"] == "ended");
    assert!(!running(), "a process is left");
}

/// A dead key is told at once, and not tried for minutes.
pub fn dead_key(scene: &mut Scene) {
    scene.script(&[json!({ "fault": "401" })]);
    let ran = scene.run(&["--wait"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    let task = scene.place.show("1");
    let told = task.to_string();
    assert!(told.contains("key"), "{task:#}");
    let asked = scene.provider().requests().len();
    assert!(asked <= 12, "asked {asked} times");
}

/// A provider that is busy for a moment delays, and nothing else.
pub fn busy(scene: &mut Scene) {
    let mut replies = turn("printf 'two\\n' >file.txt");
    replies[0]["fault"] = json!("429");
    replies[0]["fault_times"] = json!(2);
    replies[0]["retry_after"] = json!(0.2);
    scene.script(&replies);
    scene.run(&["--wait"]).ok();
    scene.assert_changed_to("two");
    scene.assert_metered();
}

/// A stream that is cut in the middle is paid for, and the work is done all the same.
pub fn cut(scene: &mut Scene) {
    let mut replies = turn("printf 'two\\n' >file.txt");
    replies[0]["fault"] = json!("cut");
    replies[0]["fault_times"] = json!(1);
    // Who begins a new session after it is not cut off again.
    replies[0]["fault_is_shared"] = json!(true);
    scene.script(&replies);
    scene.run(&[]).ok();
    scene.settled();
    scene.assert_changed_to("two");
    assert!(scene.place.show("1")["spend"]["estimated_calls"].as_u64() >= Some(1));
}

/// At the end of its budget it is ended, with what it did.
pub fn budget_end(scene: &mut Scene) {
    scene.script(&[
        shell("printf 'two\\n' >file.txt"),
        shell("printf 'three\\n' >>file.txt"),
        shell("printf 'four\\n' >>file.txt"),
        shell("printf 'five\\n' >>file.txt"),
        says("Done."),
    ]);
    // What was cut off may be complete all the same: its checks decide whether a person is told of a problem.
    scene.run(&["--wait", "--budget", "3rounds"]);
    let task = scene.settled();
    assert!(task["spend"]["calls"].as_u64() <= Some(3), "{task:#}");
    scene.assert_changed_to("two");
    assert!(!scene.place.on(&["diff", "1"]).ok().contains("five"), "it went on after its budget: {task:#}");
    scene.assert_metered();
}

/// A question stops it, and the answer reaches the session that asked.
pub fn question(scene: &mut Scene) {
    let asks = if scene.agent == "builtin" {
        let arguments = json!({ "question": "Two or three?", "choices": ["two", "three"] });
        json!({ "tools": [{ "name": "ask", "arguments": arguments }] })
    } else {
        says("I cannot tell which.\n[QUESTION] Two or three?\n[CHOICE] two\n[CHOICE] three")
    };
    scene.script(&[vec![asks], turn("printf 'three\\n' >file.txt")].concat());
    scene.run(&[]).ok();
    let task = scene.until("the question", |task| task["needs"].to_string().contains("Two or three?"));
    assert_eq!(task["attempts"][0]["turns"], 1, "{task:#}");
    scene.place.on(&["answer", "1", "three"]).ok();
    scene.settled();
    scene.assert_changed_to("three");
    scene.assert_metered();
}
