//! Whole turns: work, comments, questions, several turns, limits on rounds and on the conversation's length.

use domain::{
    ids::CommentId,
    ports::agent::{EntryBody, Mode, Prompt, TurnConclusion},
};
use serde_json::json;

use crate::scene::{Scene, Script, call, calls, finish, shell, text};

#[tokio::test]
async fn a_turn_reads_edits_runs_and_finishes() {
    let scene = Scene::new(vec![
        call("read", json!({"path": "add.sh"})),
        calls(&[
            ("edit", json!({"path": "add.sh", "old": "$1 - $2", "new": "$1 + $2"})),
            ("shell", json!({"command": "sh add.sh 2 3"})),
            ("progress", json!({"text": "mended", "percent": 90})),
        ]),
        finish("It adds now."),
    ]);
    scene.put("add.sh", "echo $(($1 - $2))\n");
    let end = scene.run().await;
    assert_eq!(end.conclusion, TurnConclusion::Finished);
    assert_eq!((end.summary.as_str(), end.rounds), ("It adds now.", 3));
    assert_eq!(scene.got("add.sh"), "echo $(($1 + $2))\n");
    let results = scene.results();
    assert_eq!(results[0], ("echo $(($1 - $2))\n".to_owned(), false));
    assert_eq!(results[2], ("5".to_owned(), false));
    assert_eq!(*scene.phone.progress.lock().unwrap(), [(Some(90), "mended".to_owned())]);
    scene.model.assert_prefixes();
    assert!(matches!(scene.record.bodies().last(), Some(EntryBody::End { .. })));
}

#[tokio::test]
async fn a_reply_without_calls_ends_the_turn_with_its_text() {
    let scene = Scene::new(vec![text("There is nothing to do.")]);
    assert_eq!(scene.finished().await, "There is nothing to do.");
}

#[tokio::test]
async fn finishing_together_with_a_call_that_failed_is_refused() {
    let scene = Scene::new(vec![
        calls(&[("shell", json!({"command": "exit 3"})), ("finish", json!({"summary": "all well"}))]),
        finish("it fails"),
    ]);
    assert_eq!(scene.finished().await, "it fails");
    assert!(scene.results()[0].0.contains("exit code 3") && scene.results()[1].1);
}

#[tokio::test]
async fn comments_enter_before_the_next_model_call_and_are_acknowledged_once_durable() {
    let scene = Scene::new(vec![shell("true"), finish("done")]);
    scene.phone.comment(4, "use a map");
    scene.phone.comment(5, "and a test");
    scene.finished().await;
    assert_eq!(*scene.phone.delivered.lock().unwrap(), [(4, 1), (5, 1)]);
    let told = scene.told();
    assert_eq!(told[1], "A person comments: use a map\n\nA person comments: and a test");
    scene.model.assert_prefixes();
}

#[tokio::test]
async fn a_comment_that_the_prompt_holds_is_not_said_twice() {
    let mut scene = Scene::new(vec![finish("done")]);
    let comments = vec![(CommentId(4), "use a map".to_owned())];
    scene.turn.prompt = Prompt::Start { plan: None, comments };
    scene.phone.comment(4, "use a map");
    scene.finished().await;
    assert_eq!(scene.told().join("\n").matches("use a map").count(), 1);
}

#[tokio::test]
async fn a_question_ends_the_turn_and_its_answer_opens_the_next() {
    let mut scene = Scene::new(vec![
        calls(&[
            ("ask", json!({"question": "Which colour?", "choices": ["red", "blue"], "default": "red"})),
            ("shell", json!({"command": "touch never"})),
        ]),
        finish("It is blue."),
    ]);
    let end = scene.run().await;
    let choices = vec!["red".to_owned(), "blue".to_owned()];
    assert_eq!(
        end.conclusion,
        TurnConclusion::Asked { question: "Which colour?".to_owned(), choices, default: Some("red".to_owned()) }
    );
    assert!(!scene.path("never").exists());
    scene.next(Prompt::Answer {
        question: "Which colour?".to_owned(),
        answer: "blue".to_owned(),
        comments: Vec::new(),
    });
    let end = scene.run().await;
    assert_eq!((end.conclusion, end.rounds), (TurnConclusion::Finished, 1));
    assert!(scene.told().iter().any(|text| text.contains("A person answers: blue")));
    scene.model.assert_prefixes();
}

#[tokio::test]
async fn a_planning_turn_can_only_look() {
    let mut scene = Scene::new(vec![
        calls(&[
            ("shell", json!({"command": "touch made"})),
            ("write", json!({"path": "made", "content": ""})),
            ("edit", json!({"path": "a", "old": "a", "new": "b"})),
            ("read", json!({"path": "a"})),
            ("search", json!({"pattern": "a"})),
        ]),
        finish("1. Make it."),
        shell("touch made"),
        finish("Made."),
    ]);
    scene.put("a", "a\n");
    scene.turn.mode = Mode::Plan;
    assert_eq!(scene.finished().await, "1. Make it.");
    assert!(!scene.path("made").exists());
    let errors: Vec<_> = scene.results().iter().map(|(_, is_error)| *is_error).collect();
    assert_eq!(errors, [true, true, true, false, false, false]);

    scene.turn.mode = Mode::Work;
    scene.next(Prompt::Start { plan: Some("1. Make it.".to_owned()), comments: Vec::new() });
    scene.finished().await;
    assert!(scene.path("made").exists());
    scene.model.assert_prefixes();
}

#[tokio::test]
async fn a_report_is_whole_and_another_summary_is_cut() {
    let long = "x".repeat(20_000);
    let mut scene = Scene::new(vec![finish(&long)]);
    scene.turn.mode = Mode::Report;
    assert_eq!(scene.finished().await, long);
    let scene = Scene::new(vec![finish(&long)]);
    let cut = scene.finished().await;
    assert!(cut.len() <= 8 * 1024 && cut.ends_with("cut]"));
}

#[tokio::test]
async fn the_last_rounds_are_announced_once_and_then_the_turn_is_out_of_rounds() {
    let mut scene = Scene::new(vec![shell("true"), shell("true"), shell("true"), shell("true"), shell("true")]);
    scene.turn.max_rounds = 5;
    let end = scene.run().await;
    assert_eq!((end.conclusion, end.rounds), (TurnConclusion::OutOfRounds, 5));
    assert_eq!(scene.model.calls().len(), 5);
    assert_eq!(scene.told().iter().filter(|text| text.contains("Only 3 more replies")).count(), 1);
    assert_eq!(scene.told().iter().filter(|text| text.starts_with("Only ")).count(), 1);
}

#[tokio::test]
async fn a_long_conversation_loses_its_oldest_results_the_same_way_after_a_restart() {
    let mut steps: Vec<_> = (0..8).map(|n| shell(&format!("head -c 4000 /dev/zero | tr '\\0' {n}"))).collect();
    steps.push(finish("done"));
    let mut scene = Scene::new(steps);
    scene.options.max_conversation = 12_000;
    let no_summary = || Script::new(vec![text("  ")]);
    scene.side_model = Some(no_summary());
    scene.finished().await;
    let asked = scene.model.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|(_, bytes)| bytes.len() < 16_000), "every request is bounded");
    let kept = asked.windows(2).filter(|pair| pair[1].1.starts_with(&pair[0].1)).count();
    assert!((5..8).contains(&kept), "the prefix breaks seldom: {kept} of 8 are kept");

    // From a transcript without its end and last reply the last request comes out in the same bytes.
    let last_reply = scene.record.bodies().iter().rposition(|body| matches!(body, EntryBody::Reply { .. })).unwrap();
    scene.record.entries.lock().unwrap().truncate(last_reply);
    scene.side_model = Some(no_summary());
    scene.finished().await;
    assert_eq!(scene.model.asked.lock().unwrap().last(), asked.last());
}

#[tokio::test]
async fn requests_of_two_attempts_begin_alike() {
    let asked = async |steps| {
        let scene = Scene::new(steps);
        scene.finished().await;
        let asked = scene.model.asked.lock().unwrap();
        asked[0].1.clone()
    };
    assert_eq!(asked(vec![finish("a")]).await, asked(vec![text("b")]).await);
}

#[tokio::test]
async fn without_a_model_the_built_in_agent_says_so() {
    let scene = Scene::new(Vec::new());
    let agent = domain::ports::agent::Agents::find(&*agents::Agents::new(scene.options.clone()), "builtin").unwrap();
    let mut hands = scene.hands();
    hands.model = None;
    let end = agent.run_turn(scene.turn.clone(), hands).await.unwrap();
    assert!(matches!(end.conclusion, TurnConclusion::DeadEnd { .. }));
}

#[test]
fn an_unknown_agent_is_refused_with_the_names_there_are() {
    let agents = agents::Agents::new(agents::Options::default());
    let Err(fault) = domain::ports::agent::Agents::find(&*agents, "nobody") else { panic!("found") };
    assert_eq!(fault.class, domain::FaultClass::NotFound);
    assert!(fault.to_string().contains("builtin"), "{fault}");
}
