//! Records of exchanges: whole and in order, small, gone after their time.

use std::fmt::Write as _;

use bytes::Bytes;
use domain::{
    FaultClass,
    ids::TurnNo,
    ports::{
        model::Protocol,
        record::{Exchange, Records},
    },
};
use proptest::prelude::*;
use rusqlite::Connection;

use crate::sample::{at, attempt, open};

fn exchange(second: u64, request: impl Into<Bytes>) -> Exchange {
    Exchange {
        turn: TurnNo(3),
        at: at(second),
        protocol: Protocol::GenerateContent,
        path: "/v1beta/models/m:streamGenerateContent?alt=sse".to_owned(),
        request: request.into(),
        status: 200,
        content_type: "text/event-stream".to_owned(),
        response: format!("data: {{\"answer\":{second}}}\n\n").into(),
        whole: second.is_multiple_of(2),
    }
}

/// The requests of a conversation that grows in front of what always ends it.
fn conversation(name: &str, rounds: u64) -> Vec<Exchange> {
    let mut said = format!("{{\"{name}\":[");
    (0..rounds)
        .map(|round| {
            let _ = write!(said, "{{\"round\":{round},\"text\":\"{}\"}},", format!("{round}{name} ").repeat(200));
            exchange(round, format!("{said}],\"tools\":\"{}\"}}", "schema ".repeat(500)))
        })
        .collect()
}

#[tokio::test]
async fn exchanges_come_back_as_they_were_also_in_another_life() {
    let home = tempfile::tempdir().unwrap();
    let mut store = open(home.path());
    let (main, side) = (conversation("main", 12), conversation("side", 12));
    let mut expected = Vec::new();
    for (n, (main, side)) in main.into_iter().zip(side).enumerate() {
        if n == 6 {
            drop(store);
            store = open(home.path());
        }
        store.append(attempt(1, 2), exchange(99, "of a neighbour")).await.unwrap();
        for exchange in [main, side] {
            drop(store.append(attempt(1, 1), exchange.clone()));
            expected.push(exchange);
        }
    }
    // Its answer says that all before it are there.
    store.append(attempt(1, 2), exchange(99, "")).await.unwrap();
    assert_eq!(store.exchanges(attempt(1, 1)).await.unwrap(), expected);
    assert_eq!(store.exchanges(attempt(1, 2)).await.unwrap().len(), 13);
    let fault = store.exchanges(attempt(2, 1)).await.unwrap_err();
    assert!(fault.class == FaultClass::NotFound && fault.what.contains("T-2.1"), "{fault}");

    let sent: usize = expected.iter().map(|exchange| exchange.request.len()).sum();
    let kept = number(home.path(), "SELECT sum(request) FROM exchanges WHERE attempt = 1");
    assert!(kept * 4 < sent as i64, "{kept} of {sent} bytes had to be kept");
    let bases = number(home.path(), "SELECT count(base) FROM exchanges WHERE attempt = 1");
    assert_eq!(bases, 22, "in each life, the first stands alone");
}

fn number(home: &std::path::Path, sql: &str) -> i64 {
    Connection::open(home.join("overnight.db")).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn what_is_long_and_cannot_be_compressed_is_kept_too() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let mut noise = 1_u64;
    let image: Vec<u8> = (0..3 << 20)
        .map(|_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 56) as u8
        })
        .collect();
    let first = Exchange { response: image.clone().into(), ..exchange(1, image.clone()) };
    let second = exchange(2, [&image[..], b"more"].concat());
    drop(store.append(attempt(1, 1), first.clone()));
    store.append(attempt(1, 1), second.clone()).await.unwrap();
    while store.exchanges(attempt(1, 1)).await.unwrap_or_default().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.exchanges(attempt(1, 1)).await.unwrap(), [first, second]);
}

#[tokio::test]
async fn records_expire_by_attempt_and_can_begin_anew() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let rounds = conversation("main", 4);
    for (task, from) in [(1, 0), (2, 2)] {
        for round in &rounds[from..][..2] {
            store.append(attempt(task, 1), round.clone()).await.unwrap();
        }
    }
    assert_eq!(store.expire(at(1)).await, Ok(0));
    assert_eq!(store.expire(at(2)).await, Ok(1));
    assert_eq!(store.exchanges(attempt(1, 1)).await.unwrap_err().class, FaultClass::NotFound);
    assert_eq!(store.exchanges(attempt(2, 1)).await.unwrap(), rounds[2..]);
    // Nothing that comes later leans on what has gone.
    store.append(attempt(1, 1), rounds[2].clone()).await.unwrap();
    assert_eq!(store.exchanges(attempt(1, 1)).await.unwrap(), rounds[2..3]);
    assert_eq!(store.expire(at(1000)).await, Ok(2));
}

#[tokio::test]
async fn a_damaged_exchange_is_named_and_spoils_no_other_record() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let vandal = Connection::open(home.path().join("overnight.db")).unwrap();
    let damages =
        ["body = zeroblob(length(body))", "request = request - 1", "prefix = 1000000", "base = 7", "protocol = ''"];
    for (task, damage) in (1..).zip(damages) {
        for round in conversation("main", 3) {
            store.append(attempt(task, 1), round).await.unwrap();
        }
        let last = format!("(SELECT max(number) FROM exchanges WHERE task = {task})");
        vandal.execute_batch(&format!("UPDATE exchanges SET {damage} WHERE number = {last}")).unwrap();
        let fault = store.exchanges(attempt(task, 1)).await.unwrap_err();
        assert_eq!(fault.class, FaultClass::Environment, "{damage}: {fault}");
        assert!(fault.what.contains("exchange ") && fault.what.contains(&format!("of T-{task}.1")), "{fault}");
    }
    store.append(attempt(9, 1), exchange(0, "whole")).await.unwrap();
    assert_eq!(store.exchanges(attempt(9, 1)).await.unwrap().len(), 1);
    assert_eq!(store.expire(at(1000)).await, Ok(6));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Requests made of the same few pieces share beginnings and ends in every way, overlapping ones among them.
    #[test]
    fn whatever_requests_share_they_come_back(requests in proptest::collection::vec(proptest::collection::vec(0..3_usize, 0..12), 1..12)) {
        let pieces = ["a".repeat(300), "ab".repeat(200), "c".to_owned()];
        let home = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = open(home.path());
            let requests = requests.iter().map(|request| request.iter().map(|piece| pieces[*piece].as_str()).collect::<String>());
            let sent: Vec<_> = requests.zip(0..).map(|(request, second)| exchange(second, request)).collect();
            for exchange in &sent {
                store.append(attempt(1, 1), exchange.clone()).await.unwrap();
            }
            assert_eq!(store.exchanges(attempt(1, 1)).await.unwrap(), sent);
        });
    }
}
