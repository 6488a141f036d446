//! Transcripts: order, paging, bells.

use domain::{
    FaultClass,
    ids::TaskId,
    ports::{agent::EntryBody, store::Transcripts},
};
use rusqlite::Connection;

use crate::sample::{at, attempt, open, output};

#[tokio::test]
async fn appends_keep_their_order_without_being_awaited_one_by_one() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let transcript = Transcripts::open(&*store, attempt(1, 1));
    let appends: Vec<_> = (0..500).map(|n| transcript.append(output(&n.to_string()))).collect();
    // The last one's answer says that all before it are there.
    appends.into_iter().last().unwrap().await.unwrap();
    let texts: Vec<_> = transcript.load().await.unwrap().into_iter().map(|entry| entry.body).collect();
    let expected: Vec<_> = (0..500).map(|n: u32| EntryBody::Output { text: n.to_string() }).collect();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn a_task_is_read_over_all_its_attempts_and_an_attempt_alone() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    for (task, no, text) in [(1, 1, "a"), (1, 2, "b"), (2, 1, "x"), (1, 1, "c"), (1, 2, "d")] {
        Transcripts::open(&*store, attempt(task, no)).append(output(text)).await.unwrap();
    }
    let rows = Transcripts::read(&*store, TaskId(1), 0, 3).await.unwrap();
    let keys: Vec<_> = rows.iter().map(|row| (row.key, row.at, row.entry.clone())).collect();
    assert_eq!(
        keys,
        [(attempt(1, 1), at(0), output("a")), (attempt(1, 2), at(0), output("b")), (attempt(1, 1), at(0), output("c"))]
    );
    let rest = Transcripts::read(&*store, TaskId(1), rows[2].position, 3).await.unwrap();
    assert_eq!(rest.into_iter().map(|row| row.entry).collect::<Vec<_>>(), [output("d")]);
    drop(store);

    let store = open(home.path());
    assert_eq!(Transcripts::open(&*store, attempt(1, 2)).load().await.unwrap(), [output("b"), output("d")]);
    assert_eq!(Transcripts::open(&*store, attempt(3, 1)).load().await.unwrap(), []);
}

#[tokio::test]
async fn a_bell_rings_for_what_comes_after_the_call_and_when_it_can_be_read() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let transcript = Transcripts::open(&*store, attempt(1, 1));
    transcript.append(output("before")).await.unwrap();
    // Asked before the append, polled only after it.
    let (bell, second) = (store.changed(TaskId(1)), store.changed(TaskId(1)));
    let other = store.changed(TaskId(2));
    transcript.append(output("after")).await.unwrap();
    bell.await;
    second.await;
    assert_eq!(Transcripts::read(&*store, TaskId(1), 0, 9).await.unwrap().len(), 2);

    // Asked again, it rings again; and the other task's rings for the other task only.
    let again = store.changed(TaskId(1));
    tokio::select! {
        biased;
        () = again => panic!("rang for nothing"),
        () = other => panic!("rang for another task"),
        () = std::future::ready(()) => {}
    }
    let again = store.changed(TaskId(1));
    drop(transcript.append(output("not awaited")));
    again.await;
    assert_eq!(transcript.load().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_damaged_entry_is_named() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let transcript = Transcripts::open(&*store, attempt(1, 1));
    transcript.append(output("a")).await.unwrap();
    let vandal = Connection::open(home.path().join("overnight.db")).unwrap();
    vandal.execute_batch("UPDATE transcript SET entry = 'not json'").unwrap();
    let fault = transcript.load().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Environment);
    assert!(fault.what.contains("transcript entry 1 of T-1.1"), "{fault}");
}
