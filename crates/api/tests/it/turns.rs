//! Going back to a turn, by a new task or in the same one.

use api::wire::{Problem, Spoken, Submitted, Task};
use domain::{
    ids::{AttemptNo, TurnNo},
    ports::agent::TurnConclusion,
    summary::{Phase, Wanted},
};
use serde_json::json;

use crate::home::Home;

#[tokio::test]
async fn a_fork_goes_on_from_a_turn_of_another_task() {
    let home = Home::open().await;
    let task = home.ready().await;
    let path = format!("/tasks/{}/fork", task.id);
    let asked = json!({"turn": 1, "text": "Otherwise", "agent": "builtin"});
    let reply = home.client.send("POST", &path, &[("idempotency-key", "f")], Some(asked.clone())).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let forked: Submitted = reply.json();
    assert_eq!(reply.header("location"), format!("/api/v1/tasks/{}", forked.task.id));
    let again = home.client.send("POST", &path, &[("idempotency-key", "f")], Some(asked)).await;
    assert_eq!(again.json::<Submitted>().task.id, forked.task.id, "the same request is the same task");

    let shown: Task = home.client.get(&format!("/tasks/{}", forked.task.id)).await.ok();
    let from = shown.forked_from.unwrap();
    assert_eq!((from.task, from.attempt, from.turn), (task.id, AttemptNo(1), TurnNo(1)));
    assert_eq!(shown.comments[0].text, "Otherwise");

    home.client.post(&path, json!({"turn": 9})).await.problem(404);
    home.client.post(&path, json!({})).await.problem(422);
    home.client.post(&path, json!({"turn": 1, "agent": "nobody"})).await.problem(404);
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_rewind_takes_turns_back() {
    let home = Home::open().await;
    let task = home.ready().await;
    home.client.post(&format!("/tasks/{}/comments", task.id), json!({"text": "more"})).await.ok::<Spoken>();
    home.end_turn(TurnConclusion::Finished);
    home.until(task.id, |task| task.phase == Phase::NeedsYou).await;
    home.quiet(task.id).await;
    let path = format!("/tasks/{}/rewind", task.id);
    home.client.post(&path, json!({"turn": 2})).await.problem(409);
    home.client.post(&path, json!({"turn": 1, "text": "Otherwise"})).await.ok::<Spoken>();
    let shown: Task = home.client.get(&format!("/tasks/{}", task.id)).await.ok();
    assert_eq!(shown.attempts[0].void, [(TurnNo(2), TurnNo(2))]);
    home.close().await.unwrap();
}

#[tokio::test]
async fn an_attempt_without_a_record_is_not_replayed() {
    let home = Home::open().await;
    let task = home.ready().await;
    let mut events = home.client.work(&format!("/tasks/{}/replay", task.id), json!({})).await;
    let event = events.next().await.unwrap();
    assert_eq!(event.name, "problem");
    assert_eq!(event.json::<Problem>().status, 404);
    home.close().await.unwrap();
}

#[tokio::test]
async fn an_attempt_says_who_works_on_it_and_a_question_what_silence_means() {
    let home = Home::open().await;
    let brief = json!({"goal": "Fix it", "checks": ["true"], "fallbacks": ["builtin"]});
    let task = home.submit(brief.clone()).await.task;
    let default = Some("a".to_owned());
    home.end_turn(TurnConclusion::Asked { question: "Which?".to_owned(), choices: Vec::new(), default });
    let asked = home.until(task.id, |task| task.phase == Phase::NeedsYou).await;
    let Wanted::Answer { default: Some(default), .. } = &asked.needs[0].wanted else { panic!("{asked:?}") };
    assert_eq!(default.answer, "a");
    assert!(default.at > asked.needs[0].since);
    let shown: Task = home.client.get(&format!("/tasks/{}", task.id)).await.ok();
    assert_eq!((shown.attempts[0].agent.as_str(), shown.attempts[0].stalls), ("builtin", 0));
    assert_eq!(serde_json::to_value(&shown.brief).unwrap()["fallbacks"], brief["fallbacks"]);
    home.client.post("/tasks", json!({"brief": {"goal": "x", "fallbacks": [":"]}})).await.problem(422);
    home.client.post("/tasks", json!({"brief": {"goal": "x", "login": "own"}})).await.problem(422);
    home.client.post("/tasks", json!({"brief": {"goal": "x", "critic": "m"}})).await.problem(422);
    home.close().await.unwrap();
}
