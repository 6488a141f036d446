//! `kill -9` at any moment: what was acknowledged is there, whole and in order.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use domain::{
    ids::{TaskId, TurnNo},
    ports::{
        agent::{Entry, EntryBody},
        ledger::{Ledger, Reservation},
        store::{CommitFault, Store, Transcripts},
    },
};

use crate::sample::{attempt, next, open, replay, submit};

const HOME: &str = "OVERNIGHT_TEST_CRASH_HOME";
const TASKS: u64 = 20;

#[tokio::test]
async fn acknowledged_writes_survive_kill_nine() {
    let home = tempfile::tempdir().unwrap();
    let mut events = BTreeMap::<u64, u64>::new();
    let mut rounds = BTreeMap::<u64, u32>::new();
    for life in 1..=6 {
        for (task, seq, round) in one_life(home.path(), life * 60) {
            events.entry(task).and_modify(|last| *last = seq.max(*last)).or_insert(seq);
            rounds.entry(task).and_modify(|last| *last = round.max(*last)).or_insert(round);
        }
        verify(home.path(), &events, &rounds).await;
    }
}

/// Runs a writing process until it has told `acknowledgements`, kills it, and returns all it told: task, event, round.
fn one_life(home: &Path, acknowledgements: usize) -> Vec<(u64, u64, u32)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::writes_until_killed", "--exact", "--nocapture"])
        .env_clear()
        .env(HOME, home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = Vec::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // Without its end it was cut off by the kill.
        if let Some(numbers) = line.trim_start().strip_prefix("written ").filter(|numbers| numbers.ends_with('\n')) {
            let numbers: Vec<u64> = numbers.split_whitespace().map(|number| number.parse().unwrap()).collect();
            told.push((numbers[0], numbers[1], numbers[2] as u32));
        }
        if told.len() == acknowledgements {
            child.kill().unwrap();
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(told.len() >= acknowledgements, "the child ended by itself after {} writes", told.len());
    told
}

async fn verify(home: &Path, events: &BTreeMap<u64, u64>, rounds: &BTreeMap<u64, u32>) {
    let store = open(home);
    for (&id, &acknowledged) in events {
        let id = TaskId(id);
        let task = store.task(id).await.unwrap().unwrap();
        assert!(task.seq >= acknowledged, "{id} is at {} and told {acknowledged}", task.seq);
        let journal = store.journal(id, 0, u32::MAX).await.unwrap();
        let envelopes: Vec<_> = journal.into_iter().map(|event| event.envelope).collect();
        let seqs: Vec<_> = envelopes.iter().map(|envelope| envelope.seq).collect();
        assert_eq!(seqs, (1..=task.seq).collect::<Vec<_>>());
        assert_eq!(replay(id, &envelopes), task);
        assert_eq!(store.summary(id).await.unwrap(), Some(task.summary()));

        let entries = Transcripts::open(&*store, attempt(id.0, 1)).load().await.unwrap();
        let recorded: Vec<_> = entries.iter().map(|entry| entry.round).collect();
        assert_eq!(recorded, (1..=recorded.len() as u32).collect::<Vec<_>>());
        let calls = store.calls(id).await.unwrap().len();
        // A round's reservation is written before its entry.
        assert!(recorded.len() as u32 >= rounds[&id.0] && calls >= recorded.len(), "{id}");
    }
    let outbox: Vec<_> = store.outbox().await.unwrap().into_iter().map(|row| (row.task, row.id, row.command)).collect();
    let mut in_flight = Vec::new();
    for id in 1..=TASKS {
        let task = store.task(TaskId(id)).await.unwrap();
        in_flight
            .extend(task.into_iter().flat_map(|task| task.in_flight).map(|(id_, command)| (TaskId(id), id_, command)));
    }
    assert_eq!(outbox, in_flight);
}

/// The process that is killed. Does nothing when it is run as a test of its own.
#[test]
fn writes_until_killed() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&home));
        let writers: Vec<_> = (1..=TASKS).map(|id| tokio::spawn(write(Arc::clone(&store), TaskId(id)))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

async fn write(store: Arc<store::Store>, id: TaskId) {
    let transcript = Transcripts::open(&*store, attempt(id.0, 1));
    let mut round = transcript.load().await.unwrap().len() as u32;
    let mut task = match store.task(id).await.unwrap() {
        Some(task) => task,
        None => {
            let (task, first) = submit(id, &format!("run {id}"));
            store.commit(first).await.unwrap();
            task
        }
    };
    loop {
        round += 1;
        let reservation = Reservation {
            id: format!("round {round}"),
            key: attempt(id.0, 1),
            amount: Default::default(),
            budget: Default::default(),
            purses: Vec::new(),
        };
        store.reserve(reservation).await.unwrap().unwrap();
        let body = EntryBody::Output { text: "x".repeat(5000) };
        let entry = transcript.append(Entry { turn: TurnNo(1), round, body });
        match store.commit(next(&mut task)).await {
            Ok(_) => {}
            Err(CommitFault::Duplicate { .. } | CommitFault::Stale | CommitFault::Port(_)) => {
                panic!("{id} was refused")
            }
        }
        entry.await.unwrap();
        println!("written {} {} {round}", id.0, task.seq);
    }
}
