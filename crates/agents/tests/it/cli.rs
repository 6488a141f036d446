//! Agents that are driven by their command lines, with one of our own that does well or badly as it is told.

use std::{fs, os::unix::fs::PermissionsExt};

use agents::cli::{Events, Recipe, Success};
use domain::{
    ids::CommentId,
    ports::{
        agent::{Agents as _, EntryBody, Prompt, StepState, TurnConclusion, TurnEnd},
        model::Part,
    },
};
use serde_json::Value;

use crate::scene::{Crash, Scene};

/// A scene with this program as agent.
fn with_program(program: &str, recipe: Recipe) -> Scene {
    let mut scene = Scene::new(Vec::new());
    scene.agent = "testling";
    let bin = scene.directory.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("testling"), program).unwrap();
    fs::set_permissions(bin.join("testling"), fs::Permissions::from_mode(0o755)).unwrap();
    scene.options.directories = vec![scene.directory.path().to_owned()];
    scene.options.recipes = vec![Recipe { name: "testling".to_owned(), ..recipe }];
    scene
}

/// A scene with the agent that behaves like this.
fn scene(how: &str) -> Scene {
    let argv = |age| ["testling", how, "{session}", age, "{prompt}"].map(str::to_owned).to_vec();
    let success = Some(Success::Event { field: "type".to_owned(), is: "done".to_owned() });
    let recipe = Recipe { argv: argv("new"), resume: argv("old"), events: Events::Jsonl, success, ..Recipe::default() };
    with_program(include_str!("cli_agent.py"), recipe)
}

/// A scene with a shell script whose output is text.
fn script(text: &str, success: Option<Success>, failure: &[&str]) -> Scene {
    let argv = ["testling", "{prompt_file}", "{home}"].map(str::to_owned).to_vec();
    let failure = failure.iter().map(|&mark| mark.to_owned()).collect();
    with_program(&format!("#!/bin/sh\n{text}\n"), Recipe { argv, success, failure, ..Recipe::default() })
}

/// A scene with a program that prints these events and ends well.
fn printing(events: Events, lines: &str) -> Scene {
    let argv = vec!["testling".to_owned()];
    with_program(&format!("#!/bin/sh\ncat <<'END'\n{lines}\nEND\n"), Recipe { argv, events, ..Recipe::default() })
}

fn heard(scene: &Scene) -> Vec<Value> {
    let text = fs::read_to_string(scene.directory.path().join("home/heard")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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

fn sessions(scene: &Scene) -> Vec<String> {
    let of = |body| match body {
        EntryBody::Session { id, .. } => Some(id),
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

fn is_gone(scene: &Scene) -> bool {
    let pid = rustix::process::Pid::from_raw(scene.got("pid").trim().parse().unwrap()).unwrap();
    rustix::process::test_kill_process(pid).is_err()
}

#[tokio::test]
async fn a_turn_is_a_run_and_later_turns_go_on_in_its_session() {
    let mut scene = scene("well");
    let end = scene.run().await;
    assert_eq!((&end.conclusion, end.summary.as_str()), (&TurnConclusion::Finished, "All done."));
    assert_eq!(told(&scene), ["say Looking around."]);
    assert_eq!(scene.finished().await, "All done.", "its end is known");
    scene.next(Prompt::Comments { comments: vec![(CommentId(1), "use a map".to_owned())] });
    scene.finished().await;
    let [first, second] = &heard(&scene)[..] else { panic!("not two runs") };
    let prompt = first["prompt"].as_str().unwrap();
    assert!(prompt.starts_with("# Goal\nMend it") && prompt.contains("[QUESTION]"), "{prompt}");
    assert_eq!((&first["age"], &second["age"]), (&"new".into(), &"old".into()));
    assert_eq!(first["session"], second["session"]);
    assert_eq!(sessions(&scene), [first["session"].as_str().unwrap()]);
    assert_eq!(first["session"].as_str().unwrap().len(), 36, "a UUID");
    assert!(second["prompt"].as_str().unwrap().ends_with("A person comments: use a map"));
}

#[tokio::test]
async fn a_turn_that_was_cut_off_goes_on_in_the_session() {
    let mut scene = scene("well");
    // The prompt, the session, the first message.
    *scene.record.limit.lock().unwrap() = Some((3, Crash::Fenced));
    scene.try_run().await.unwrap_err();
    scene.record = scene.record.survivor();
    scene.finished().await;
    let heard = heard(&scene);
    assert_eq!((&heard[1]["age"], heard.len()), (&"old".into(), 2));
    assert!(heard[1]["prompt"].as_str().unwrap().contains("effects of your last tool call are unknown"));
}

#[tokio::test]
async fn comments_are_told_at_the_end_of_a_run_and_notices_cut_it_short() {
    let commented = scene("well");
    commented.phone.comment(7, "and a test");
    commented.finished().await;
    assert!(heard(&commented)[1]["prompt"].as_str().unwrap().contains("A person comments: and a test"));
    assert_eq!(heard(&commented)[1]["age"], "old");
    assert_eq!(commented.phone.delivered.lock().unwrap().len(), 1);

    let noticed = scene("works");
    let (end, ()) = tokio::join!(noticed.run(), async {
        working(&noticed).await;
        noticed.phone.notice("Little is left of the budget.");
    });
    assert_eq!(end.conclusion, TurnConclusion::Finished);
    let heard = heard(&noticed);
    assert_eq!(heard[1]["interrupted"], true, "asked before it is killed");
    assert!(heard[2]["prompt"].as_str().unwrap().starts_with("Little is left of the budget."));
    assert_eq!(heard[2]["age"], "old");
}

#[tokio::test]
async fn an_interrupt_ends_even_what_ignores_it() {
    for how in ["works", "stubborn"] {
        let scene = scene(how);
        let (end, ()) = tokio::join!(scene.run(), async {
            working(&scene).await;
            scene.phone.interrupt.send_replace(true);
        });
        assert_eq!(end.conclusion, TurnConclusion::Interrupted, "{how}");
        assert!(is_gone(&scene), "{how}");
    }
}

#[tokio::test]
async fn what_forks_away_goes_with_the_run() {
    let scene = scene("forks");
    assert_eq!(scene.finished().await, "Left a child.");
    assert!(is_gone(&scene));
}

#[tokio::test]
async fn exit_code_0_is_not_enough() {
    for (how, class, words) in [
        ("silent", "dead end", "does not say that it is done"),
        ("unfinished", "failed", "does not say that it is done"),
        ("refused", "failed", "gave up: the key is refused"),
        ("broken", "dead end", "exit code 3: no such library"),
        ("garbage", "dead end", "cannot be understood"),
    ] {
        let (found, why) = why(scene(how).run().await);
        assert!(found == class && why.contains(words) && why.starts_with("`testling` "), "{how}: {found}: {why}");
    }
    assert_eq!(scene("garbled").finished().await, "All done.", "a warning is no failure");
}

#[tokio::test]
async fn a_flood_is_bounded() {
    let scene = scene("flood");
    assert_eq!(scene.finished().await, "Flooded.");
    let size: usize = scene.record.bodies().iter().map(|body| serde_json::to_vec(body).unwrap().len()).sum();
    assert!(size < 20 << 20, "{size} bytes");
    let text = script("yes overnight | head -c 100000000; echo the end", None, &[]);
    assert!(text.finished().await.ends_with("the end"));
    let size: usize = text.record.bodies().iter().map(|body| serde_json::to_vec(body).unwrap().len()).sum();
    assert!(size < 1 << 20, "{size} bytes");
}

#[tokio::test]
async fn a_question_waits_for_a_person() {
    let TurnConclusion::Asked { question, choices, default } = scene("asks").run().await.conclusion else {
        panic!("not asked")
    };
    assert_eq!((question.as_str(), choices.len(), default.as_deref()), ("Two or three?", 2, Some("two")));
}

#[tokio::test]
async fn text_is_judged_by_lines_or_by_a_file_it_leaves() {
    let done = || Some(Success::Line("Tokens:".to_owned()));
    let mended = script("head -n1 \"$1\"; echo Tokens: 5; echo mended", done(), &["litellm."]);
    assert!(mended.finished().await.ends_with("mended"));
    let output = mended.record.bodies().into_iter().find_map(|body| match body {
        EntryBody::Output { text } => Some(text),
        _ => None,
    });
    assert!(output.unwrap().starts_with("# Goal\n"));
    let (_, silent) = why(script("echo I tried", done(), &[]).run().await);
    assert!(silent.ends_with("does not say that it is done: I tried"), "{silent}");
    let (_, failed) = why(script("echo Tokens: 5; echo litellm.Auth: no", done(), &["litellm."]).run().await);
    assert!(failed.ends_with("gave up: litellm.Auth: no"), "{failed}");

    let file = |status: &str| {
        let success = Success::File {
            path: ".overnight/end.json".to_owned(),
            field: "info.status".to_owned(),
            is: "Submitted".to_owned(),
            summary: Some("info.submission".to_owned()),
        };
        let json = format!(r#"{{"info": {{"status": "{status}", "submission": "It is done."}}}}"#);
        script(&format!("echo '{json}' >\"$2/.overnight/end.json\"; echo bye"), Some(success), &[])
    };
    assert_eq!(file("Submitted").finished().await, "It is done.");
    let (_, failed) = why(file("LimitsExceeded").run().await);
    assert!(failed.ends_with("gave up: LimitsExceeded"), "{failed}");
}

#[tokio::test]
async fn a_long_prompt_goes_by_a_file() {
    let mut scene = scene("well");
    scene.next(Prompt::Comments { comments: vec![(CommentId(1), "long ".repeat(40_000))] });
    scene.finished().await;
    let prompt = heard(&scene)[0]["prompt"].as_str().unwrap().to_owned();
    let path = prompt.split_whitespace().find(|word| word.ends_with(".md.")).unwrap().trim_end_matches('.');
    assert!(fs::read_to_string(path).unwrap().contains("long long"), "{prompt}");
}

#[tokio::test]
async fn what_is_missing_is_told_with_how_to_install_it() {
    let mut scene = scene("well");
    scene.options.recipes[0].argv[0] = "no-such-program".to_owned();
    scene.options.recipes[0].install = Some("pipx install it".to_owned());
    let agents = agents::Agents::new(scene.options.clone());
    let fault = agents.find("testling").unwrap().needs().unwrap_err().to_string();
    assert!(fault.contains("no program `no-such-program`") && fault.contains("pipx install it"), "{fault}");
    assert_eq!(why(scene.run().await), ("dead end", fault));
    let names = agents.names();
    assert!(
        ["codex-exec", "claude-p", "pi", "aider", "mini"].iter().all(|name| names.iter().any(|known| known == name))
    );
}

#[tokio::test]
async fn each_programs_events_are_written_in_one_form() {
    let codex = printing(
        Events::CodexJsonl,
        r#"{"type":"thread.started","thread_id":"t1"}
{"type":"item.started","item":{"id":"i1","type":"command_execution","command":"touch made","aggregated_output":"","exit_code":null,"status":"in_progress"}}
{"type":"item.completed","item":{"id":"i1","type":"command_execution","command":"touch made","aggregated_output":"no\n","exit_code":1,"status":"failed"}}
{"type":"item.started","item":{"id":"i2","type":"todo_list","items":[{"text":"look","completed":true},{"text":"leap","completed":false}]}}
{"type":"item.completed","item":{"id":"i3","type":"agent_message","text":"All done."}}
{"type":"turn.completed","usage":{}}"#,
    );
    assert_eq!(codex.finished().await, "All done.");
    assert_eq!(told(&codex), [r#"call shell {"command":"touch made"}"#, "! no", "say All done."]);
    let plan = codex.record.bodies().into_iter().find_map(|body| match body {
        EntryBody::Plan { steps } => Some(steps),
        _ => None,
    });
    assert_eq!(plan.unwrap().iter().map(|step| step.state).collect::<Vec<_>>(), [StepState::Done, StepState::Pending]);

    let claude = printing(
        Events::ClaudeStreamJson,
        r#"{"type":"system","subtype":"init","session_id":"s1"}
{"type":"assistant","message":{"id":"m1","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"Looking."},{"type":"tool_use","id":"u1","name":"Bash","input":{"command":"touch made"}}]},"parent_tool_use_id":null}
{"type":"assistant","message":{"content":[{"type":"text","text":"a helper's words"}]},"parent_tool_use_id":"u0"}
{"type":"user","message":{"content":[{"tool_use_id":"u1","type":"tool_result","content":[{"type":"text","text":"ok"}],"is_error":false}]},"parent_tool_use_id":null}
{"type":"result","subtype":"success","is_error":false,"result":"All done."}"#,
    );
    assert_eq!(claude.finished().await, "All done.");
    assert_eq!(told(&claude), ["say Looking.", r#"call Bash {"command":"touch made"}"#, "= ok"]);

    let pi = |stop: &str| {
        let lines = r#"{"type":"session","id":"s"}
{"type":"message_end","message":{"role":"user","content":[{"type":"text","text":"do"}]}}
{"type":"message_end","message":{"role":"assistant","content":[{"type":"toolCall","id":"c1","name":"bash","arguments":{}}],"stopReason":"toolUse"}}
{"type":"tool_execution_start","toolCallId":"c1","toolName":"bash","args":{"command":"ls"}}
{"type":"tool_execution_end","toolCallId":"c1","result":{"content":[{"type":"text","text":"a"}]},"isError":false}
{"type":"message_end","message":{"role":"assistant","content":[{"type":"text","text":"All done."}],"stopReason":"STOP","errorMessage":"401 no"}}
{"type":"agent_end","messages":[]}"#;
        printing(Events::PiJson, &lines.replace("STOP", stop))
    };
    let done = pi("stop");
    assert_eq!(done.finished().await, "All done.");
    assert_eq!(told(&done), [r#"call bash {"command":"ls"}"#, "= a", "say All done."]);
    assert_eq!(why(pi("error").run().await), ("failed", "`testling` gave up: 401 no".to_owned()));
}
