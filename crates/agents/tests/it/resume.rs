//! A turn that is cut off anywhere goes on from its transcript: nothing paid or run twice, and the same conversation.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    FaultClass,
    ports::{
        agent::{Entry, EntryBody, Prompt, TurnConclusion},
        model::{ModelFault, Part, Stop},
    },
};
use serde_json::json;

use crate::scene::{Crash, Record, Scene, Step, calls, finish, raw_calls, shell, text};

/// Every way a round can go. Each command leaves its name in the file `ran`.
fn script() -> Vec<Step> {
    let ran = |name: &str| ("shell", json!({"command": format!("echo {name} >>ran; echo did {name}")}));
    vec![
        calls(&[ran("one")]),
        calls(&[ran("two"), ("read", json!({"path": "none"})), ran("three")]),
        raw_calls(&[("shell", "{\"command\":".to_owned()), ("nonsense", "{}".to_owned())]),
        Step::Reply(vec![Part::Text { text: "  ".to_owned() }], Stop::EndTurn),
        calls(&[("progress", json!({"text": "half way"}))]),
        Step::Reply(vec![Part::Text { text: "I will now".to_owned() }], Stop::Length),
        calls(&[ran("four"), ("finish", json!({"summary": "early"}))]),
        // Heard only when a crash made a result unknown, so that finishing at once was refused.
        finish("late"),
    ]
}

fn scene() -> Scene {
    let scene = Scene::new(script());
    scene.model.fault(1, [ModelFault::Garbage("half a sentence".to_owned())]);
    scene.phone.comment(1, "hurry");
    scene
}

/// The conversation with results that a crash made unknown, and what came of them, left open.
fn shape(entries: &[Entry]) -> Vec<String> {
    let messages = entries.iter().filter_map(|entry| match &entry.body {
        EntryBody::Prompt { message } | EntryBody::Results { message } => Some(message.clone()),
        EntryBody::Comments { message, .. } | EntryBody::Reply { message, .. } => Some(message.clone()),
        _ => None,
    });
    messages.map(|message| serde_json::to_string(&message).unwrap()).collect()
}

fn is_lost(shape: &str) -> bool {
    shape.contains("No result: Overnight was restarted") || shape.contains("Not run: Overnight was restarted")
}

fn ran(scene: &Scene) -> BTreeMap<String, usize> {
    let mut ran = BTreeMap::new();
    for name in std::fs::read_to_string(scene.path("ran")).unwrap_or_default().lines() {
        *ran.entry(name.to_owned()).or_default() += 1;
    }
    ran
}

#[tokio::test]
async fn whatever_the_cut_nothing_is_paid_or_run_twice_and_the_conversation_is_the_same() {
    let whole = scene();
    assert_eq!(whole.finished().await, "early");
    let expected = shape(&whole.record.entries.lock().unwrap());
    let entries = whole.record.entries.lock().unwrap().len();
    assert!(entries > 20, "{entries} places to cut at");

    for cut in 0..entries {
        for crash in [Crash::Fenced, Crash::Silent] {
            let mut scene = scene();
            *scene.record.limit.lock().unwrap() = Some((cut, crash));
            match crash {
                Crash::Fenced => assert_eq!(scene.try_run().await.unwrap_err().class, FaultClass::Fenced),
                Crash::Silent => tokio::select! {
                    _ = scene.try_run() => panic!("it went on without its transcript"),
                    () = scene.record.died() => {}
                },
            }
            let place = format!("cut at {cut} of {entries}, {crash:?}");
            scene.record = scene.record.survivor();
            let recorded = recorded_replies(&scene.record);
            let before = scene.model.calls().len();
            // What was taken from the line and not written waits there again; what was written may be offered once more.
            scene.phone.comment(1, "hurry");
            let summary = scene.finished().await;

            let again = scene.model.calls().split_off(before);
            assert!(again.iter().all(|call| *call >= recorded), "{place}: a recorded reply was paid again: {again:?}");
            assert!(ran(&scene).values().all(|times| *times == 1), "{place}: {:?}", ran(&scene));
            let got = shape(&scene.record.entries.lock().unwrap());
            let lost = got.iter().any(|message| is_lost(message));
            assert!(lost || summary == "early", "{place}");
            for (got, expected) in got.iter().zip(&expected) {
                assert!(got == expected || is_lost(got) || summary != "early", "{place}: {got} is not {expected}");
            }
            assert!(
                scene.phone.delivered.lock().unwrap().contains(&(1, 1)),
                "{place}: the comment was not acknowledged"
            );
            assert_eq!(got.iter().filter(|message| message.contains("hurry")).count(), 1, "{place}");
            scene.model.assert_prefixes();

            // Once ended, a turn is over: asked again, it says the same and does nothing.
            let calls = scene.model.calls().len();
            assert_eq!(scene.finished().await, summary, "{place}");
            assert_eq!(scene.model.calls().len(), calls, "{place}");
        }
    }
}

fn recorded_replies(record: &Record) -> usize {
    record.bodies().iter().filter(|body| matches!(body, EntryBody::Reply { .. })).count()
}

#[tokio::test]
async fn a_call_that_was_under_way_is_told_apart_from_those_not_begun() {
    let mut scene = Scene::new(vec![
        calls(&[
            ("shell", json!({"command": "echo a >>ran"})),
            ("shell", json!({"command": "echo b >>ran"})),
            ("shell", json!({"command": "echo c >>ran"})),
        ]),
        finish("done"),
    ]);
    // The mark, prompt, reply, result of the first; the second's result is lost.
    *scene.record.limit.lock().unwrap() = Some((4, Crash::Fenced));
    scene.try_run().await.unwrap_err();
    scene.record = scene.record.survivor();
    scene.finished().await;
    let results = scene.results();
    assert_eq!(results[0], ("[no output]".to_owned(), false));
    assert!(results[1].0.contains("effects are unknown"), "{results:?}");
    assert!(results[2].0.contains("before it began"), "{results:?}");
    assert_eq!(scene.got("ran"), "a\nb\n");
}

#[tokio::test]
async fn strikes_survive_a_restart() {
    let empty = || Step::Reply(Vec::new(), Stop::EndTurn);
    let mut scene = Scene::new(vec![empty(), empty(), text("fine")]);
    scene.model.fault(1, [ModelFault::Garbage("?".to_owned())]);
    // The mark, prompt, reply 1, results 1, garbage.
    *scene.record.limit.lock().unwrap() = Some((5, Crash::Fenced));
    scene.try_run().await.unwrap_err();
    scene.record = scene.record.survivor();
    let end = scene.run().await;
    assert!(matches!(end.conclusion, TurnConclusion::Failed { .. }), "{end:?}");
    assert_eq!(end.rounds, 3);
}

#[tokio::test]
async fn a_turn_left_without_an_end_is_closed_by_the_next_one() {
    let mut scene = Scene::new(vec![calls(&[("shell", json!({"command": "echo a >>ran"}))]), finish("done")]);
    // The mark, prompt and reply: the call's result is lost, and the turn is never taken up again.
    *scene.record.limit.lock().unwrap() = Some((3, Crash::Fenced));
    scene.try_run().await.unwrap_err();
    scene.record = scene.record.survivor();
    scene.next(Prompt::Continue { why: "the machine was lost".to_owned(), comments: Vec::new() });
    assert_eq!(scene.finished().await, "done");
    let asked = scene.model.asked.lock().unwrap();
    let request = String::from_utf8(asked.last().unwrap().1.clone()).unwrap();
    assert!(request.contains("effects are unknown") && request.contains("the machine was lost"), "{request}");
}

#[tokio::test]
async fn a_cut_reply_is_not_taken_for_a_finished_one_after_a_restart() {
    let mut scene =
        Scene::new(vec![Step::Reply(vec![Part::Text { text: "First I".to_owned() }], Stop::Length), finish("done")]);
    // Two marks around the prompt, and the reply.
    *scene.record.limit.lock().unwrap() = Some((4, Crash::Fenced));
    scene.try_run().await.unwrap_err();
    scene.record = scene.record.survivor();
    assert_eq!(scene.finished().await, "done");
}

#[tokio::test]
async fn a_transcript_that_cannot_be_written_fails_the_turn_but_is_no_error() {
    /// A full disk.
    struct Full(Arc<Record>);
    impl domain::ports::agent::Transcript for Full {
        fn load(&self) -> domain::ports::BoxFuture<'_, Result<Vec<Entry>, domain::Fault>> {
            self.0.load()
        }
        fn append(&self, _: Entry) -> domain::ports::BoxFuture<'_, Result<(), domain::Fault>> {
            Box::pin(async { Err(domain::Fault::environment("the disk is full").hint("make room")) })
        }
    }
    let scene = Scene::new(vec![shell("touch made")]);
    let mut hands = scene.hands();
    hands.transcript = Arc::new(Full(Arc::clone(&scene.record)));
    let agent = domain::ports::agent::Agents::find(&*agents::Agents::new(scene.options.clone()), "builtin").unwrap();
    let end = agent.run_turn(scene.turn.clone(), hands).await.unwrap();
    assert_eq!(end.conclusion, TurnConclusion::Failed { why: "the disk is full (make room)".to_owned() });
    assert!(!scene.path("made").exists());
}

#[tokio::test]
async fn reasoning_goes_back_unchanged() {
    let opaque = Part::Opaque { json: r#"{"type":"thinking","signature":"s"}"#.to_owned() };
    let Step::Reply(mut parts, stop) = shell("true") else { unreachable!() };
    parts.insert(0, opaque.clone());
    let mut scene = Scene::new(vec![Step::Reply(parts, stop), finish("done")]);
    *scene.record.limit.lock().unwrap() = Some((5, Crash::Fenced));
    scene.try_run().await.unwrap_err();
    scene.record = scene.record.survivor();
    scene.finished().await;
    let asked = scene.model.asked.lock().unwrap();
    let request = String::from_utf8(asked.last().unwrap().1.clone()).unwrap();
    assert!(request.contains(&serde_json::to_string(&opaque).unwrap()), "{request}");
}
