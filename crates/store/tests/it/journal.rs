//! Commits: order, once-only, outbox, timers, projections; and damaged rows.

use domain::{
    FaultClass,
    event::{Event, Receipt},
    ids::TaskId,
    ports::store::{Commit, CommitFault, Committed, Store, SummaryQuery},
    summary::Phase,
    task::Timer,
};
use rusqlite::Connection;

use crate::sample::{advance, at, next, open, replay, submit};

#[tokio::test]
async fn what_was_committed_is_read_back_the_same() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let id = store.next_task();
    let (mut task, first) = submit(id, "run 1");
    let mut commits = vec![first];
    commits.extend((0..6).map(|_| next(&mut task)));
    let mut positions = Vec::new();
    for commit in &commits {
        positions.push(store.commit(commit.clone()).await.unwrap().position);
    }
    assert!(positions.is_sorted() && positions[0] > 0);

    let reopened = {
        drop(store);
        open(home.path())
    };
    assert_eq!(reopened.task(id).await.unwrap(), Some(task.clone()));
    assert_eq!(reopened.summary(id).await.unwrap(), Some(task.summary()));
    let journal = reopened.journal(id, 0, 100).await.unwrap();
    assert_eq!(journal.iter().map(|event| event.position).collect::<Vec<_>>(), positions);
    for (event, commit) in journal.iter().zip(&commits) {
        assert_eq!((&event.envelope, &event.receipt, event.task), (&commit.envelope, &commit.receipt, id));
    }
    let envelopes: Vec<_> = journal.into_iter().map(|event| event.envelope).collect();
    assert_eq!(replay(id, &envelopes), task);
    let outbox: Vec<_> = reopened.outbox().await.unwrap().into_iter().map(|row| (row.id, row.command)).collect();
    assert_eq!(outbox, task.in_flight.into_iter().collect::<Vec<_>>());
    assert_eq!(reopened.next_task(), TaskId(id.0 + 1));
}

#[tokio::test]
async fn pages_of_the_journal_begin_after_the_last_one_seen() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let (mut one, first) = submit(TaskId(1), "run 1");
    let (_, other) = submit(TaskId(2), "run 2");
    for commit in [first, other, next(&mut one), next(&mut one)] {
        store.commit(commit).await.unwrap();
    }
    let seqs = |events: Vec<domain::ports::store::Recorded>| -> Vec<(u64, u64)> {
        events.iter().map(|event| (event.task.0, event.envelope.seq)).collect()
    };
    assert_eq!(seqs(store.journal(TaskId(1), 1, 1).await.unwrap()), [(1, 2)]);
    assert_eq!(seqs(store.journal(TaskId(1), 3, 9).await.unwrap()), []);
    let events = store.since(0, 3).await.unwrap();
    let last = events[2].position;
    assert_eq!(seqs(events), [(1, 1), (2, 1), (1, 2)]);
    assert_eq!(seqs(store.since(last, 3).await.unwrap()), [(1, 3)]);
}

#[tokio::test]
async fn the_same_key_is_the_same_event() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let (mut task, first) = submit(TaskId(1), "run 1");
    let receipt = first.receipt.clone();
    store.commit(first).await.unwrap();
    assert_eq!(store.submitted("run 1".to_owned()).await.unwrap(), Some((TaskId(1), receipt.clone())));
    assert_eq!(store.submitted("run 2".to_owned()).await.unwrap(), None);

    // A submission is the same whatever task it was to become.
    let (_, again) = submit(TaskId(2), "run 1");
    let duplicate = CommitFault::Duplicate { task: TaskId(1), seq: 1, receipt };
    assert_eq!(store.commit(again).await, Err(duplicate));
    assert_eq!(store.task(TaskId(2)).await.unwrap(), None);

    // Any other event within its task only; and it is known before it is found stale.
    let said = Event::CommentAdded { text: "mind the docs".to_owned(), by_hand: false };
    let comment = advance(&mut task, "comment 1", said.clone());
    store.commit(comment.clone()).await.unwrap();
    let duplicate = CommitFault::Duplicate { task: TaskId(1), seq: 2, receipt: comment.receipt.clone() };
    assert_eq!(store.commit(comment).await, Err(duplicate));
    let (mut other, first) = submit(TaskId(2), "run 2");
    store.commit(first).await.unwrap();
    store.commit(advance(&mut other, "comment 1", said)).await.unwrap();
}

#[tokio::test]
async fn a_writer_that_was_overtaken_is_stale() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let (mut task, first) = submit(TaskId(1), "run 1");
    store.commit(first).await.unwrap();
    let mut rival = task.clone();
    store.commit(next(&mut task)).await.unwrap();
    let mut late = next(&mut rival);
    late.envelope.dedup = "another".to_owned();
    assert_eq!(store.commit(late).await, Err(CommitFault::Stale));
    // The number of a task that is there already, under a new key.
    assert_eq!(store.commit(submit(TaskId(1), "run 2").1).await, Err(CommitFault::Stale));
    assert_eq!(store.task(TaskId(1)).await.unwrap(), Some(task));
}

#[tokio::test]
async fn a_commit_whose_parts_do_not_belong_together_is_a_bug() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let (_, mut commit) = submit(TaskId(1), "run 1");
    commit.envelope.seq = 2;
    let Err(CommitFault::Port(fault)) = store.commit(commit).await else { panic!("committed") };
    assert_eq!(fault.class, FaultClass::Bug);
}

#[tokio::test]
async fn concurrent_commits_share_transactions_and_a_refused_one_spoils_no_other() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    // All queued before any is awaited; every third is somebody else's submission again.
    let commits: Vec<Commit> = (1..=300).map(|n| submit(TaskId(n), &format!("run {}", n - n % 3 / 2)).1).collect();
    let replies: Vec<_> = commits.into_iter().map(|commit| store.commit(commit)).collect();
    let mut positions = Vec::new();
    for (n, reply) in (1..).zip(replies) {
        match reply.await {
            Ok(Committed { position }) => positions.push(position),
            Err(CommitFault::Duplicate { task, seq: 1, .. }) => assert_eq!((n % 3, task.0), (2, n - 1)),
            Err(fault) => panic!("{n}: {fault}"),
        }
    }
    assert_eq!(positions, (1..=200).collect::<Vec<u64>>());
    assert_eq!(store.outbox().await.unwrap().len(), 200);
}

#[tokio::test]
async fn timers_are_found_when_they_are_due() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    assert_eq!(store.due(at(1_000_000)).await.unwrap(), (Vec::new(), None));
    for (id, wake) in [(1, Some(30)), (2, Some(10)), (3, None), (4, Some(20))] {
        let (_, mut commit) = submit(TaskId(id), &format!("run {id}"));
        commit.state.timers = wake.map(|second| (Timer::Deadline, at(second))).into_iter().collect();
        store.commit(commit).await.unwrap();
    }
    assert_eq!(store.due(at(9)).await.unwrap(), (Vec::new(), Some(at(10))));
    assert_eq!(store.due(at(10)).await.unwrap(), (vec![TaskId(2)], Some(at(20))));
    assert_eq!(store.due(at(99)).await.unwrap(), (vec![TaskId(2), TaskId(4), TaskId(1)], None));
}

#[tokio::test]
async fn summaries_are_listed_newest_first_and_filtered() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    for id in 1..=9 {
        let (_, mut commit) = submit(TaskId(id), &format!("run {id}"));
        commit.summary.phase = [Phase::Working, Phase::NeedsYou, Phase::Ended][id as usize % 3];
        commit.summary.repository = ["/a", "/b"][id as usize % 2].to_owned();
        store.commit(commit).await.unwrap();
    }
    let ids = async |query| -> Vec<u64> {
        store.summaries(query).await.unwrap().iter().map(|summary| summary.id.0).collect()
    };
    let all = SummaryQuery { limit: 100, ..SummaryQuery::default() };
    assert_eq!(ids(all.clone()).await, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(ids(SummaryQuery { limit: 2, before: Some(TaskId(5)), ..all.clone() }).await, [4, 3]);
    let phases = vec![Phase::NeedsYou, Phase::Ended];
    assert_eq!(ids(SummaryQuery { phases: phases.clone(), ..all.clone() }).await, [8, 7, 5, 4, 2, 1]);
    let repository = Some("/a".to_owned());
    assert_eq!(ids(SummaryQuery { phases, repository, limit: 2, ..all }).await, [8, 4]);
}

#[tokio::test]
async fn a_damaged_row_is_named_and_keeps_nobody_else_from_loading() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    for id in 1..=3 {
        let (mut task, first) = submit(TaskId(id), &format!("run {id}"));
        store.commit(first).await.unwrap();
        store.commit(next(&mut task)).await.unwrap();
    }
    let vandal = Connection::open(home.path().join("overnight.db")).unwrap();
    vandal.execute_batch("UPDATE events SET envelope = '{\"seq\": tw' WHERE task = 2 AND seq = 1").unwrap();
    vandal.execute_batch("UPDATE tasks SET state = CAST(x'ff7b' AS TEXT) WHERE id = 2").unwrap();
    vandal.execute_batch("UPDATE summaries SET summary = '[]' WHERE task = 2").unwrap();
    vandal.execute_batch("UPDATE outbox SET body = '{\"kind\":\"fly\"}' WHERE task = 2").unwrap();
    vandal.execute_batch("UPDATE events SET version = 9 WHERE task = 3 AND seq = 2").unwrap();

    for (fault, row) in [
        (store.journal(TaskId(2), 0, 9).await.unwrap_err(), "event 1 of T-2"),
        (store.task(TaskId(2)).await.unwrap_err(), "the state of T-2"),
        (store.summary(TaskId(2)).await.unwrap_err(), "the summary of T-2"),
        (store.journal(TaskId(3), 1, 9).await.unwrap_err(), "event 2 of T-3"),
    ] {
        assert_eq!(fault.class, FaultClass::Environment);
        assert!(fault.what.contains(row) && fault.what.contains("overnight.db") && fault.hint.is_some(), "{fault}");
    }
    let tasks = |rows: Vec<TaskId>| rows.into_iter().map(|task| task.0).collect::<Vec<_>>();
    assert_eq!(tasks(store.outbox().await.unwrap().into_iter().map(|row| row.task).collect()), [1, 3]);
    // Two damaged events are passed over, and the page is full all the same.
    assert_eq!(tasks(store.since(1, 3).await.unwrap().into_iter().map(|event| event.task).collect()), [1, 2, 3]);
    let query = SummaryQuery { limit: 2, ..SummaryQuery::default() };
    assert_eq!(tasks(store.summaries(query).await.unwrap().into_iter().map(|summary| summary.id).collect()), [3, 1]);
    assert!(store.task(TaskId(1)).await.unwrap().is_some());
    let (_, more) = submit(TaskId(4), "run 4");
    assert!(matches!(more.receipt, Receipt::Accepted { .. }));
    store.commit(more).await.unwrap();
}
