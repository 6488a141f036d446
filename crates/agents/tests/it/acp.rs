//! Agents that speak ACP, with one of our own that does well or badly as it is told.

use std::{fs, os::unix::fs::PermissionsExt};

use agents::acp::{Setting, Spec};
use domain::{
    ids::CommentId,
    ports::{
        agent::{Agents as _, EntryBody, Mode, Prompt, StepState, TurnConclusion, TurnEnd},
        model::Part,
    },
};
use serde_json::Value;

use crate::scene::Scene;

/// A scene with the agent that behaves like this.
fn scene(how: &str) -> Scene {
    let mut scene = Scene::new(Vec::new());
    scene.agent = "testling";
    let bin = scene.directory.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("testling"), include_str!("acp_agent.py")).unwrap();
    fs::set_permissions(bin.join("testling"), fs::Permissions::from_mode(0o755)).unwrap();
    scene.options.directories = vec![scene.directory.path().to_owned()];
    scene.options.acp = vec![Spec {
        name: "testling".to_owned(),
        argv: vec!["testling".to_owned(), how.to_owned()],
        work: vec![Setting { option: "mode".to_owned(), value: "yolo".to_owned() }],
        ..Spec::default()
    }];
    scene
}

/// What the agent heard, in order.
fn heard(scene: &Scene) -> Vec<Value> {
    let text = fs::read_to_string(scene.directory.path().join("home/heard")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn prompts(scene: &Scene) -> Vec<String> {
    heard(scene).iter().filter_map(|what| what["prompt"].as_str()).map(str::to_owned).collect()
}

/// The transcript in short: `say …`, `call NAME ARGUMENTS`, `= RESULT`, `! ERROR`, `note …`.
fn told(scene: &Scene) -> Vec<String> {
    let of_part = |part| match part {
        Part::Text { text } => format!("say {text}"),
        Part::ToolCall { name, arguments, .. } => format!("call {name} {arguments}"),
        other => panic!("no agent says {other:?}"),
    };
    let of = |body| match body {
        EntryBody::Reply { message, .. } => message.parts.into_iter().map(of_part).next(),
        EntryBody::Result { text, is_error: false, .. } => Some(format!("= {text}")),
        EntryBody::Result { text, .. } => Some(format!("! {text}")),
        EntryBody::Note { text } => Some(format!("note {text}")),
        _ => None,
    };
    scene.record.bodies().into_iter().filter_map(of).collect()
}

async fn working(scene: &Scene) {
    while !scene.path("working").exists() {
        tokio::task::yield_now().await;
    }
}

fn why(end: TurnEnd) -> (&'static str, String) {
    match end.conclusion {
        TurnConclusion::Failed { why } => ("failed", why),
        TurnConclusion::DeadEnd { why } => ("dead end", why),
        other => panic!("{other:?} is not bad enough"),
    }
}

#[tokio::test]
async fn what_an_agent_tells_is_written_in_one_form() {
    let scene = scene("well");
    let end = scene.run().await;
    assert_eq!((&end.conclusion, end.summary.as_str(), end.rounds), (&TurnConclusion::Finished, "All done.", 3));
    assert!(scene.path("made").exists());
    let expected = [
        "say Looking around.",
        r#"call execute {"command":"touch made"}"#,
        "= made it",
        r#"call tool {"title":"cat no"}"#,
        "! no such file",
        "say All done.",
    ];
    assert_eq!(told(&scene), expected);
    let plan = scene.record.bodies().into_iter().find_map(|body| match body {
        EntryBody::Plan { steps } => Some(steps),
        _ => None,
    });
    assert_eq!(plan.unwrap().iter().map(|step| step.state).collect::<Vec<_>>(), [StepState::Done, StepState::Doing]);
    assert_eq!(*scene.phone.progress.lock().unwrap(), [(Some(50), "leap".to_owned())]);
    let all = heard(&scene);
    assert_eq!((&all[0], &all[1]["mode"]), (&"new".into(), &"yolo".into()));
    assert!(prompts(&scene)[0].starts_with("# Goal\nMend it"));
    assert_eq!(scene.finished().await, "All done.", "its end is known");
    assert_eq!(prompts(&scene).len(), 1);
}

#[tokio::test]
async fn a_later_turn_goes_on_in_the_session() {
    let mut scene = scene("well");
    scene.finished().await;
    scene.next(Prompt::Comments { comments: vec![(CommentId(1), "use a map".to_owned())] });
    scene.finished().await;
    assert!(heard(&scene).contains(&"load".into()));
    assert!(!prompts(&scene)[1].contains("# Goal") && prompts(&scene)[1].contains("use a map"));
    assert!(!told(&scene).iter().any(|line| line.contains("long ago")), "what is told again is no news");

    scene.next(Prompt::Continue { why: "it got nowhere".to_owned(), comments: Vec::new() });
    scene.turn.fresh = true;
    scene.finished().await;
    let last = prompts(&scene).pop().unwrap();
    assert!(last.contains("# Goal") && last.contains("turn 1: All done.") && last.contains("it got nowhere"), "{last}");
}

#[tokio::test]
async fn an_agent_that_died_goes_on_and_is_told_so() {
    let mut scene = scene("dies");
    let (how, reason) = why(scene.run().await);
    assert!(how == "failed" && reason.contains("killed by signal 9"), "{reason}");
    // As if the daemon had died with it: no end was written.
    scene.record.entries.lock().unwrap().pop();
    scene.record = scene.record.survivor();
    scene.finished().await;
    let last = prompts(&scene).pop().unwrap();
    assert!(last.contains("unknown") && !last.contains("# Goal"), "{last}");
    assert_eq!(heard(&scene).iter().filter(|what| **what == "new").count(), 1);
}

#[tokio::test]
async fn without_sessions_that_go_on_the_record_is_told() {
    let mut scene = scene("forgets");
    scene.finished().await;
    scene.next(Prompt::Comments { comments: vec![(CommentId(1), "use a map".to_owned())] });
    scene.finished().await;
    let last = prompts(&scene).pop().unwrap();
    assert!(last.contains("# Goal") && last.contains("turn 1: All done.") && last.contains("use a map"), "{last}");
    assert!(told(&scene).iter().any(|line| line.starts_with("note") && line.contains("a new one begins")));
}

#[tokio::test]
async fn comments_follow_in_the_same_turn() {
    let scene = scene("slow-comment");
    let (end, ()) = tokio::join!(scene.run(), async {
        working(&scene).await;
        scene.phone.comment(7, "and a test");
        scene.put("go", "");
    });
    assert_eq!(end.conclusion, TurnConclusion::Finished);
    assert_eq!(prompts(&scene)[1], "A person comments: and a test");
    assert_eq!(*scene.phone.delivered.lock().unwrap(), [(7, 4)]);
}

#[tokio::test]
async fn a_notice_cuts_in_and_the_session_goes_on() {
    let scene = scene("waits-once");
    let (end, ()) = tokio::join!(scene.run(), async {
        working(&scene).await;
        scene.phone.notice("The budget nears its end.");
    });
    assert_eq!(end.conclusion, TurnConclusion::Finished);
    assert!(prompts(&scene)[1].starts_with("The budget nears its end."));
    let all = heard(&scene);
    assert!(all.contains(&"canceled".into()) && all.contains(&"load".into()), "{all:?}");
}

#[tokio::test]
async fn an_interrupt_ends_even_what_does_not_listen() {
    for how in ["waits", "deaf"] {
        let scene = scene(how);
        let (end, ()) = tokio::join!(scene.run(), async {
            working(&scene).await;
            scene.phone.interrupt.send_replace(true);
        });
        assert_eq!(end.conclusion, TurnConclusion::Interrupted, "{how}");
    }
}

#[tokio::test]
async fn a_question_ends_the_turn_and_its_answer_reaches_the_session() {
    let mut scene = scene("asks");
    let asked = TurnConclusion::Asked {
        question: "A or B?".to_owned(),
        choices: vec!["A".to_owned(), "B".to_owned()],
        default: None,
    };
    assert_eq!(scene.run().await.conclusion, asked);
    let answer = Prompt::Answer { question: "A or B?".to_owned(), answer: "B".to_owned(), comments: Vec::new() };
    scene.next(answer);
    scene.finished().await;
    assert!(prompts(&scene)[1].contains("A person answers: B") && heard(&scene).contains(&"load".into()));
}

#[tokio::test]
async fn leave_is_given_by_policy() {
    let scene = scene("wants-leave");
    assert_eq!(scene.finished().await, "yes no -32601");
    assert!(told(&scene).iter().any(|line| line.starts_with("note Denied") && line.contains("/etc/passwd")));
}

#[tokio::test]
async fn a_planning_turn_changes_nothing_and_ends_with_the_plan() {
    let mut scene = scene("plans");
    scene.turn.mode = Mode::Plan;
    assert_eq!(scene.finished().await, "1. look\n2. leap");
    assert!(!scene.path("made").exists());
}

#[tokio::test]
async fn rounds_are_bounded() {
    let mut scene = scene("well");
    scene.turn.max_rounds = 1;
    assert_eq!(scene.run().await.conclusion, TurnConclusion::OutOfRounds);
}

#[tokio::test]
async fn whatever_goes_wrong_is_told_with_the_reason() {
    for (agent, how, words) in [
        ("garbage", "dead end", &["not the protocol", "Loading"][..]),
        ("exits-3", "dead end", &["did not begin", "exit code 3", "no license"]),
        ("exits-0", "failed", &["exit code 0", "out of memory"]),
        ("says-nothing", "failed", &["without a word"]),
        ("gives-up", "failed", &["401 from the provider"]),
        ("refuses", "dead end", &["refused"]),
        ("version-2", "dead end", &["version 2"]),
    ] {
        let (really, reason) = why(scene(agent).run().await);
        assert_eq!(really, how, "{agent}: {reason}");
        assert!(words.iter().all(|word| reason.contains(word)), "{agent}: {reason}");
    }
}

#[tokio::test]
async fn one_that_never_answers_is_given_up() {
    let scene = scene("silent");
    let run = scene.run();
    tokio::pin!(run);
    // Until the agent is there, and then until its time is over, which nobody waits for.
    while scene.spawned.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        tokio::select! { _ = &mut run => panic!("it ended"), () = tokio::task::yield_now() => {} }
    }
    scene.phone.interrupt.send_replace(true);
    assert_eq!(run.await.conclusion, TurnConclusion::Interrupted);
}

#[tokio::test]
async fn a_flood_fills_neither_memory_nor_transcript() {
    let mut scene = scene("flood");
    scene.turn.max_rounds = 1000;
    assert_eq!(scene.finished().await, "All done.");
    let size = serde_json::to_vec(&scene.record.bodies()).unwrap().len();
    assert!(size < 20 << 20, "{size} bytes");
}

#[tokio::test]
async fn one_that_is_not_installed_says_how_to_install_it() {
    let mut scene = scene("well");
    scene.options.acp[0].argv = vec!["no-such-program".to_owned()];
    scene.options.acp[0].packages = vec!["testling@1.2.3".to_owned()];
    let agents = agents::Agents::new(scene.options.clone());
    let fault = agents.find("testling").unwrap().needs().unwrap_err();
    assert!(fault.to_string().contains("node@24 testling@1.2.3"), "{fault}");
    let info = agents.list().into_iter().find(|info| info.name == "testling").unwrap();
    assert_eq!((info.version, info.tried.as_deref()), (None, Some("1.2.3")));
    assert!(info.missing.unwrap().contains("npm install"));
    assert!(["codex", "claude", "opencode", "copilot", "gemini", "qwen"].iter().all(|name| agents.find(name).is_ok()));
    let unknown = agents.find("nobody").map(drop).unwrap_err();
    assert!(unknown.to_string().contains("codex"), "{unknown}");
}
