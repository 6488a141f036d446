//! How turns end that do not end well: bad replies, model faults, interrupts.

use std::sync::atomic::Ordering;

use domain::ports::{
    agent::TurnConclusion,
    model::{ModelFault, Part, Stop},
};
use serde_json::json;

use crate::scene::{Scene, Script, Step, calls, finish, raw_calls, shell, text};

fn failed(conclusion: &TurnConclusion) -> &str {
    match conclusion {
        TurnConclusion::Failed { why } => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bad_calls_go_back_to_the_model_which_mends_them() {
    let scene = Scene::new(vec![
        raw_calls(&[("bash", "{}".to_owned())]),
        raw_calls(&[("shell", r#"{"command": "echo"#.to_owned())]),
        raw_calls(&[("read", r#"{"path": 3}"#.to_owned()), ("shell", r#"{"command":"echo hi"}"#.to_owned())]),
        raw_calls(&[("read", "[]".to_owned())]),
        finish("done"),
    ]);
    assert_eq!(scene.finished().await, "done");
    let results = scene.results();
    assert!(results[0].0.contains("no tool `bash`") && results[0].1);
    assert!(results[1].0.contains("EOF") && results[1].0.contains("\"command\""), "{}", results[1].0);
    assert!(results[2].0.contains("expected a string"));
    assert_eq!(results[3], ("hi".to_owned(), false));
}

#[tokio::test]
async fn three_bad_replies_in_a_row_fail_the_turn() {
    let bad = || raw_calls(&[("shell", "not json".to_owned())]);
    let empty = || Step::Reply(vec![Part::Text { text: "\n".to_owned() }], Stop::EndTurn);
    let cut = || Step::Reply(vec![Part::Text { text: "Let me".to_owned() }], Stop::Length);
    for bad in [[bad(), bad(), bad()], [empty(), empty(), empty()], [cut(), empty(), bad()]] {
        let mut scene = Scene::new(bad.into_iter().collect());
        let end = scene.run().await;
        assert!(failed(&end.conclusion).contains("3 times in a row"), "{end:?}");
        assert_eq!(end.rounds, 3);

        // The conversation is still one that a model can be asked to go on with.
        scene.model = crate::scene::Script::new(vec![shell("true"), shell("true"), shell("true"), finish("done")]);
        scene.next(domain::ports::agent::Prompt::Continue { why: "it failed".to_owned(), comments: Vec::new() });
        assert_eq!(scene.finished().await, "done");
    }
}

#[tokio::test]
async fn a_good_reply_between_bad_ones_starts_the_count_anew() {
    let bad = || raw_calls(&[("shell", "not json".to_owned())]);
    let scene = Scene::new(vec![bad(), bad(), shell("true"), bad(), bad(), finish("done")]);
    assert_eq!(scene.finished().await, "done");
}

#[tokio::test]
async fn garbage_is_asked_again_and_three_in_a_row_fail() {
    let garbage = || ModelFault::Garbage("<html>".to_owned());
    let scene = Scene::new(vec![finish("done")]);
    scene.model.fault(0, [garbage(), garbage()]);
    let end = scene.run().await;
    assert_eq!((end.conclusion, end.rounds), (TurnConclusion::Finished, 3));

    let scene = Scene::new(vec![finish("done")]);
    scene.model.fault(0, [garbage(), garbage(), garbage()]);
    assert!(failed(&scene.run().await.conclusion).contains("<html>"));
}

#[tokio::test]
async fn each_model_fault_has_its_conclusion() {
    let why = || "because".to_owned();
    let until = "2026-11-21T12:00:00Z".parse().unwrap();
    let cases = [
        (ModelFault::Held { why: why(), until }, TurnConclusion::Held { why: why(), until }),
        (ModelFault::OverBudget(why()), TurnConclusion::OutOfBudget { why: why() }),
        (ModelFault::DeadKey(why()), TurnConclusion::DeadEnd { why: why() }),
        (ModelFault::Rejected(why()), TurnConclusion::DeadEnd { why: why() }),
        (ModelFault::Unavailable(why()), TurnConclusion::Failed { why: why() }),
        (ModelFault::Port(domain::Fault::environment(why())), TurnConclusion::Failed { why: why() }),
    ];
    for (fault, conclusion) in cases {
        let scene = Scene::new(vec![text("done")]);
        scene.model.fault(0, [fault]);
        assert_eq!(scene.run().await.conclusion, conclusion);
    }
    let scene = Scene::new(vec![text("done")]);
    scene.model.fault(0, [ModelFault::Port(domain::Fault::fenced("old epoch"))]);
    assert_eq!(scene.try_run().await.unwrap_err().class, domain::FaultClass::Fenced);
}

#[tokio::test]
async fn a_refusal_is_a_dead_end_in_the_models_words() {
    let words = vec![Part::Text { text: "I cannot help with that.".to_owned() }];
    let scene = Scene::new(vec![Step::Reply(words, Stop::Refused)]);
    let TurnConclusion::DeadEnd { why } = scene.run().await.conclusion else { panic!("not a dead end") };
    assert!(why.contains("I cannot help with that."), "{why}");
}

#[tokio::test]
async fn whatever_the_model_says_an_end_is_small() {
    let long = "x".repeat(100_000);
    let scene = Scene::new(vec![calls(&[("ask", json!({"question": long, "choices": vec![long.clone(); 30]}))])]);
    let end = scene.run().await;
    assert!(serde_json::to_string(&end).unwrap().len() < 12 * 1024);
    let refusal = Step::Reply(vec![Part::Text { text: long }], Stop::Refused);
    let end = Scene::new(vec![refusal]).run().await;
    assert!(serde_json::to_string(&end).unwrap().len() < 14 * 1024);
}

#[tokio::test]
async fn a_conversation_that_is_too_long_for_the_model_is_shortened() {
    let too_long = || ModelFault::Rejected("prompt is too long: 210000 tokens > 200000 maximum".to_owned());
    let mut scene = Scene::new(vec![shell("seq 2000"), shell("seq 2000"), finish("done")]);
    scene.side_model = Some(Script::new(Vec::new()));
    scene.side_model.as_ref().unwrap().fault(0, [ModelFault::Unavailable("down".to_owned())]);
    scene.model.fault(2, [too_long()]);
    assert_eq!(scene.finished().await, "done");
    let asked = scene.model.asked.lock().unwrap().clone();
    assert!(asked[3].1.len() < asked[2].1.len());
    assert!(String::from_utf8_lossy(&asked[3].1).contains("left out to make room"));

    let scene = Scene::new(vec![finish("done")]);
    scene.model.fault(0, [too_long()]);
    assert!(matches!(scene.run().await.conclusion, TurnConclusion::DeadEnd { .. }), "there is nothing to leave out");
}

#[tokio::test]
async fn an_interrupt_ends_a_waiting_model_call() {
    let scene = Scene::new(vec![shell("true"), Step::Hang]);
    let (end, ()) = tokio::join!(scene.run(), async {
        scene.model.called(2).await;
        scene.phone.interrupt.send_replace(true);
    });
    assert_eq!((end.conclusion, end.rounds), (TurnConclusion::Interrupted, 1));
}

#[tokio::test]
async fn an_interrupt_kills_the_running_command_and_runs_no_other() {
    let scene = Scene::new(vec![calls(&[
        ("shell", json!({"command": "mkfifo ready; echo $$ >pid; echo begun; echo go >ready; sleep 1000"})),
        ("shell", json!({"command": "touch never"})),
    ])]);
    let ready = scene.path("ready");
    let (end, ()) = tokio::join!(scene.run(), async {
        // Opening a fifo waits for its writer: the command has begun then.
        let opened = async {
            loop {
                match tokio::fs::read_to_string(&ready).await {
                    Ok(_) => break,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        opened.await;
        scene.phone.interrupt.send_replace(true);
    });
    assert_eq!(end.conclusion, TurnConclusion::Interrupted);
    let results = scene.results();
    assert!(results[0].0.starts_with("begun") && results[0].0.contains("interrupted") && results[0].1, "{results:?}");
    assert!(results[1].0.contains("Not run"), "{results:?}");
    assert!(!scene.path("never").exists());
    assert_gone(&scene);
}

#[tokio::test]
async fn a_turn_that_is_interrupted_before_it_starts_calls_nothing() {
    let scene = Scene::new(vec![text("done")]);
    scene.phone.interrupt.send_replace(true);
    assert_eq!(scene.run().await.conclusion, TurnConclusion::Interrupted);
    assert!(scene.model.calls().is_empty());
    assert_eq!(scene.spawned.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_command_that_never_ends_is_gone_when_its_turn_is() {
    let scene = Scene::new(vec![
        calls(&[
            ("shell", json!({"command": "echo $$ >pid; mkfifo ready; echo go >ready; exec sleep 1000", "wait_s": 0})),
            ("shell", json!({"command": "until [ -p ready ]; do :; done; cat ready"})),
        ]),
        finish("done"),
    ]);
    scene.finished().await;
    assert!(scene.results()[0].0.contains("still running"));
    assert_gone(&scene);
}

/// Asserts that the process whose id is in the file `pid` does not live.
fn assert_gone(scene: &Scene) {
    let pid = rustix::process::Pid::from_raw(scene.got("pid").trim().parse().unwrap()).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_err(), "the command still runs");
}
