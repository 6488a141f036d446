//! What people say to tasks, early, late, twice and wrongly.

use api::wire::{Spoken, Task};
use domain::{
    event::{Event, Receipt},
    ports::agent::TurnConclusion,
    summary::Phase,
    task::Outcome,
};
use serde_json::json;

use crate::home::Home;

fn asked() -> TurnConclusion {
    let (question, choices) = ("Which one?".to_owned(), vec!["a".to_owned(), "b".to_owned()]);
    TurnConclusion::Asked { question, choices, default: Some("a".to_owned()) }
}

#[tokio::test]
async fn a_question_is_answered_without_naming_it_and_once() {
    let home = Home::open().await;
    let task = home.submit(json!({"goal": "Fix it", "checks": ["true"]})).await.task;
    let path = format!("/tasks/{}/answer", task.id);
    let early = home.client.post(&path, json!({"answer": "b"})).await.problem(409);
    assert!(early.detail.contains("no question open"), "{early:?}");

    home.end_turn(asked());
    home.until(task.id, |task| task.phase == Phase::NeedsYou).await;
    let key = [("idempotency-key", "k")];
    let first: Spoken = home.client.send("POST", &path, &key, Some(json!({"answer": "b"}))).await.ok();
    home.until(task.id, |task| task.phase == Phase::Working).await;
    // The question is closed; the same request still gets the same answer, another one is refused.
    let again: Spoken = home.client.send("POST", &path, &key, Some(json!({"answer": "b"}))).await.ok();
    assert_eq!(first.note, again.note);
    home.client.post(&path, json!({"answer": "a"})).await.problem(409);
    home.client.post(&path, json!({"answer": "a", "request": 1})).await.problem(409);

    let journal = home.journal(task.id).await;
    let accepted = journal.iter().filter(|recorded| {
        matches!(recorded.envelope.event, Event::QuestionAnswered { .. })
            && matches!(recorded.receipt, Receipt::Accepted { .. })
    });
    assert_eq!(accepted.count(), 1);
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_plan_is_refined_then_approved() {
    let home = Home::open().await;
    let task = home.submit(json!({"goal": "Fix it", "plan": true, "checks": ["true"]})).await.task;
    let path = format!("/tasks/{}/plan", task.id);
    home.client.post(&path, json!({"approve": true})).await.problem(409);
    home.client.post(&path, json!({})).await.problem(422);
    home.client.post(&path, json!({"approve": true, "refine": "x"})).await.problem(422);
    home.end_turn(TurnConclusion::Finished);
    home.until(task.id, |task| task.phase == Phase::NeedsYou).await;
    home.client.post(&path, json!({"refine": "smaller"})).await.ok::<Spoken>();
    home.end_turn(TurnConclusion::Finished);
    home.until(task.id, |task| task.detail == "awaiting_plan").await;
    home.client.post(&path, json!({"approve": true})).await.ok::<Spoken>();
    home.end_turn(TurnConclusion::Finished);
    let ready = home.until(task.id, |task| task.detail == "ready").await;
    let shown: Task = home.client.get(&format!("/tasks/{}", ready.id)).await.ok();
    assert_eq!(shown.attempts[0].plan.as_deref(), Some("a summary"));
    assert!(shown.comments.iter().any(|comment| comment.text == "smaller"));
    home.close().await.unwrap();
}

#[tokio::test]
async fn an_approval_names_the_head_it_is_for() {
    let home = Home::open().await;
    let ready = home.ready().await;
    let head = ready.head.unwrap().to_string();
    let path = format!("/tasks/{}/approve", ready.id);
    let approve = |head: &str, accept: &[&str]| home.client.send_owned(&path, json!({"head": head, "accept": accept}));
    assert!(approve("abc", &[]).await.problem(422).detail.contains("does not name a commit"));
    assert!(approve("deadbeef", &[]).await.problem(409).detail.contains("moved on"));
    assert!(approve(&"1".repeat(40), &[]).await.problem(409).hint.is_some());
    assert!(approve(&head, &["everything"]).await.problem(422).hint.unwrap().contains("not-green"));
    let shown: Task = home.client.get(&format!("/tasks/{}", ready.id)).await.ok();
    assert_eq!(shown.summary.phase, Phase::NeedsYou);
    assert!(shown.said.iter().any(|said| matches!(said.receipt, Receipt::Refused { .. })));
    approve(&head[..25], &[]).await.ok::<Spoken>();
    home.until(ready.id, |task| task.phase == Phase::Ended).await;
    home.close().await.unwrap();
}

#[tokio::test]
async fn rejected_restored_and_rejected_again() {
    let home = Home::open().await;
    let ready = home.ready().await;
    let say = |verb: &str, body| home.client.send_owned(&format!("/tasks/{}/{verb}", ready.id), body);
    say("restore", json!({})).await.problem(409);
    say("reject", json!({"why": "too large"})).await.ok::<Spoken>();
    let ended = home.until(ready.id, |task| task.phase == Phase::Ended).await;
    assert!(matches!(ended.outcome, Some(Outcome::Rejected { why: Some(ref why), .. }) if why == "too large"));
    say("comments", json!({"text": "too late"})).await.problem(409);
    say("restore", json!({})).await.ok::<Spoken>();
    home.until(ready.id, |task| task.phase == Phase::NeedsYou).await;
    say("reject", json!({"why": " "})).await.ok::<Spoken>();
    let ended = home.until(ready.id, |task| task.phase == Phase::Ended).await;
    assert!(matches!(ended.outcome, Some(Outcome::Rejected { why: None, .. })));
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_retry_goes_on_or_starts_over() {
    let home = Home::open().await;
    let task = home.submit(json!({"goal": "Fix it", "checks": ["true"], "labels": {"team": "core"}})).await.task;
    let path = format!("/tasks/{}/retry", task.id);
    let key = [("idempotency-key", "r")];
    home.client.post(&path, json!({})).await.problem(409);
    home.end_turn(TurnConclusion::DeadEnd { why: "the key is dead".to_owned() });
    home.until(task.id, |task| task.phase == Phase::NeedsYou).await;
    let spoken: Spoken = home.client.send("POST", &path, &key, Some(json!({}))).await.ok();
    assert_eq!(spoken.task.id, task.id);

    home.client.post(&format!("/tasks/{}/cancel", task.id), json!({})).await.ok::<Spoken>();
    home.until(task.id, |task| task.phase == Phase::Ended).await;
    let repeated: Spoken = home.client.send("POST", &path, &key, Some(json!({}))).await.ok();
    assert_eq!((repeated.task.id, &repeated.note), (task.id, &spoken.note));

    let credentials = json!({"credentials": {"OPENAI_API_KEY": "fake"}});
    let key = [("idempotency-key", "s")];
    let over: Spoken = home.client.send("POST", &path, &key, Some(credentials.clone())).await.ok();
    assert_ne!(over.task.id, task.id);
    assert!(over.note.contains("starts over"), "{}", over.note);
    let again: Spoken = home.client.send("POST", &path, &key, Some(credentials)).await.ok();
    assert_eq!(again.task.id, over.task.id);
    let shown: Task = home.client.get(&format!("/tasks/{}", over.task.id)).await.ok();
    assert_eq!(shown.brief.labels["team"], "core");
    let kept = home.handle.ports().secrets.get(format!("task/{}", task.id.0)).await.unwrap();
    assert!(kept.0.is_empty(), "an ended task got keys");
    home.close().await.unwrap();
}

#[tokio::test]
async fn texts_must_say_something_and_be_short() {
    let home = Home::open().await;
    let task = home.submit(json!({"goal": "Fix it"})).await.task;
    let path = format!("/tasks/{}/comments", task.id);
    assert!(home.client.post(&path, json!({"text": " \n"})).await.problem(422).detail.contains("empty"));
    let long = "x".repeat(13_000);
    assert!(home.client.post(&path, json!({"text": long})).await.problem(422).detail.contains("13000 bytes"));
    home.close().await.unwrap();
}
