//! Streams: nothing missed, nothing twice, whoever comes back when.

use std::collections::BTreeSet;

use api::wire::{ExportLine, Hello, LogBody, LogLine, Spoken, Submitted, Summary, TaskEvent};
use domain::{ids::TaskId, ports::agent::TurnConclusion, summary::Phase};
use serde_json::json;

use crate::{
    client::{Event, Events},
    home::Home,
};

async fn until_ended(events: &mut Events, task: TaskId) -> Vec<Event> {
    let mut told = Vec::new();
    loop {
        let event = events.next().await.expect("the stream goes on");
        let done = event.name == "task" && {
            let told: TaskEvent = event.json();
            told.task.id == task && told.task.phase == Phase::Ended
        };
        told.push(event);
        if done {
            return told;
        }
    }
}

#[tokio::test]
async fn all_tasks_are_told_once_and_in_order_even_to_who_was_away() {
    let home = Home::open().await;
    home.ready().await;
    let mut live = home.client.events("/events", &[]).await;
    let hello = live.next().await.unwrap();
    assert_eq!(hello.name, "hello");
    let start = hello.json::<Hello>().position;
    assert_eq!(hello.id, start.to_string());
    let before = home.handle.ports().store.since(0, 10_000).await.unwrap();
    assert_eq!(before.last().map(|last| last.position), Some(start), "hello tells the end of the journal");

    // Many at once, so that commits share transactions and news arrive in any order.
    let mut submissions = Vec::new();
    for number in 0..20 {
        let body = json!({"brief": {"goal": format!("task {number}")}, "directory": home.repository()});
        submissions.push(tokio::spawn(home.client.send_owned("/tasks", body)));
    }
    let mut ids = Vec::new();
    for submission in submissions {
        ids.push(submission.await.unwrap().json::<Submitted>().task.id);
    }
    for id in &ids {
        home.client.post(&format!("/tasks/{id}/cancel"), json!({})).await.ok::<Spoken>();
    }
    for id in &ids {
        home.until(*id, |task| task.phase == Phase::Ended).await;
    }
    let journal = home.handle.ports().store.since(start, 100_000).await.unwrap();
    let expected: Vec<u64> = journal.iter().map(|recorded| recorded.position).collect();
    let mut told = Vec::new();
    while told.len() < expected.len() {
        let event = live.next().await.unwrap();
        let data: TaskEvent = event.json();
        assert_eq!((event.name.as_str(), event.id.as_str()), ("task", data.position.to_string().as_str()));
        told.push(data.position);
    }
    assert_eq!(told, expected);

    // From every place in it, the rest is the rest.
    for (away, position) in expected.iter().enumerate().step_by(17) {
        let id = position.to_string();
        let mut again = home.client.events("/events", &[("last-event-id", &id)]).await;
        for expected in &expected[away + 1..] {
            assert_eq!(again.next().await.unwrap().id, expected.to_string());
        }
    }
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_stream_opened_while_events_are_committed_has_no_gap() {
    let home = Home::open().await;
    let mut opened = BTreeSet::new();
    for round in 0..10 {
        let task = home.submit(json!({"goal": format!("task {round}")})).await.task;
        let cancel = home.client.send_owned(&format!("/tasks/{}/cancel", task.id), json!({}));
        let (mut events, _) = tokio::join!(home.client.events("/events", &[]), cancel);
        let start = events.next().await.unwrap().json::<Hello>().position;
        home.until(task.id, |task| task.phase == Phase::Ended).await;
        let rest = home.handle.ports().store.since(start, 1000).await.unwrap();
        for recorded in rest {
            assert_eq!(events.next().await.unwrap().id, recorded.position.to_string());
        }
        opened.insert(start);
    }
    assert!(!opened.is_empty());
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_followed_log_tells_everything_and_ends_with_the_task() {
    let home = Home::open().await;
    let task = home.submit(json!({"goal": "Fix it", "checks": ["cargo test"]})).await.task;
    let path = format!("/tasks/{}/log", task.id);
    let mut live = home.client.events(&path, &[("accept", "text/event-stream")]).await;
    home.client.post(&format!("/tasks/{}/comments", task.id), json!({"text": "be quick"})).await.ok::<Spoken>();
    home.end_turn(TurnConclusion::Finished);
    home.end_turn(TurnConclusion::Finished);
    let ready = home.until(task.id, |task| task.detail == "ready").await;
    let approve = json!({"head": ready.head.unwrap().as_str()});
    home.client.post(&format!("/tasks/{}/approve", task.id), approve).await.ok::<Spoken>();

    let mut lines = Vec::new();
    let end = loop {
        let event = live.next().await.expect("the stream ends with `ended`");
        if event.name == "ended" {
            break event;
        }
        let line: LogLine = event.json();
        assert_eq!((event.name.as_str(), &event.id), ("line", &line.cursor));
        lines.push(line);
    };
    assert_eq!(end.json::<Summary>().phase, Phase::Ended);
    assert!(live.next().await.is_none(), "it closes");

    let whole: api::wire::Log = home.client.get(&path).await.ok();
    let key = |line: &LogLine| match &line.body {
        LogBody::Event(event) => format!("event {}", event.seq),
        LogBody::Entry(entry) => format!("entry {:?}", entry),
    };
    let live: BTreeSet<String> = lines.iter().map(key).collect();
    assert_eq!(live.len(), lines.len(), "a line was told twice");
    assert_eq!(live, whole.lines.iter().map(key).collect());

    // Who comes back gets the rest, and in the end nothing.
    for (number, line) in lines.iter().enumerate() {
        let resume = [("last-event-id", line.cursor.as_str())];
        let follow = format!("{path}?follow=true");
        if number + 1 == lines.len() {
            assert_eq!(home.client.send("GET", &follow, &resume, None).await.status, 204);
            break;
        }
        let mut rest = home.client.events(&follow, &resume).await;
        // Each once. An event that was committed a moment after an entry, and had happened before it, may change places with it.
        let mut missing: BTreeSet<String> = lines[number + 1..].iter().map(key).collect();
        while !missing.is_empty() {
            let line: LogLine = rest.next().await.unwrap().json();
            assert!(missing.remove(&key(&line)), "told twice, or before: {line:?}");
        }
        assert_eq!(rest.next().await.unwrap().name, "ended");
    }
    home.close().await.unwrap();
}

#[tokio::test]
async fn an_export_holds_the_whole_journal() {
    let home = Home::open().await;
    let ready = home.ready().await;
    let reply = home.client.get(&format!("/tasks/{}/journal", ready.id)).await;
    assert_eq!(reply.header("content-type"), "application/x-ndjson");
    let text = std::str::from_utf8(&reply.body).unwrap();
    let lines: Vec<ExportLine> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(matches!(&lines[0], ExportLine::Task { task, .. } if **task == ready));
    let events: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            ExportLine::Event { position, envelope, receipt } => {
                Some((*position, (**envelope).clone(), receipt.clone()))
            }
            _ => None,
        })
        .collect();
    let journal = home.journal(ready.id).await;
    let expected: Vec<_> =
        journal.into_iter().map(|recorded| (recorded.position, recorded.envelope, recorded.receipt)).collect();
    assert_eq!(events, expected);
    assert!(lines.iter().any(|line| matches!(line, ExportLine::Judgement { .. })));
    assert!(lines.iter().any(|line| matches!(line, ExportLine::Entry { task, .. } if *task == ready.id)));
    let Some(ExportLine::End { events, entries }) = lines.last() else { panic!("{:?}", lines.last()) };
    assert_eq!((*events as usize, *entries), (expected.len(), 1));
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_task_that_ends_is_told_to_every_listener() {
    let home = Home::open().await;
    let mut listeners = Vec::new();
    for _ in 0..8 {
        listeners.push(home.client.events("/events", &[]).await);
    }
    for listener in &mut listeners {
        assert_eq!(listener.next().await.unwrap().name, "hello");
    }
    let task = home.submit(json!({"goal": "Fix it"})).await.task;
    home.client.post(&format!("/tasks/{}/cancel", task.id), json!({})).await.ok::<Spoken>();
    let mut told: Vec<Vec<String>> = Vec::new();
    for listener in &mut listeners {
        told.push(until_ended(listener, task.id).await.into_iter().map(|event| event.id).collect());
    }
    // Summaries are as of the telling, so one may see the end an event earlier; the order is the same for all.
    let shortest = told.iter().map(Vec::len).min().unwrap();
    assert!(told.iter().all(|ids| ids[..shortest] == told[0][..shortest]));
    home.close().await.unwrap();
}
