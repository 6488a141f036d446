//! Budgets hold whatever races, repeats and crashes.

use std::sync::Arc;

use domain::{
    budget::{Amount, Budget, MicroUsd, Purse, Spend, Usage},
    ids::TaskId,
    ports::ledger::{Ledger, OverBudget, Reservation, Settlement},
};
use proptest::prelude::*;
use rusqlite::Connection;

use crate::sample::{at, attempt, open};

fn reservation(id: &str, tokens: u64, cost: Option<u64>, budget: Budget) -> Reservation {
    let amount = Amount { cost: cost.map(MicroUsd), tokens };
    Reservation { id: id.to_owned(), key: attempt(1, 1), amount, budget, purses: Vec::new() }
}

fn settlement(id: &str, output: u64, cost: Option<u64>) -> Settlement {
    let usage = Usage { input: 1, output, ..Usage::default() };
    let (model, cost) = ("anthropic/some-model".to_owned(), cost.map(MicroUsd));
    Settlement { id: id.to_owned(), key: attempt(1, 1), model, usage, cost, estimated: false }
}

async fn refused(store: &store::Store, reservation: Reservation) -> OverBudget {
    store.reserve(reservation).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn every_kind_of_limit_is_held_with_open_reservations_in_full() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let budget = Budget { cost: Some(MicroUsd(1_000_000)), tokens: Some(1000), rounds: Some(3), wall_s: None };
    store.reserve(reservation("a", 600, Some(400_000), budget)).await.unwrap().unwrap();
    let over = refused(&store, reservation("b", 401, Some(1), budget)).await;
    assert_eq!(
        (over.what, over.spent.as_str(), over.limit.as_str(), over.asked.as_str()),
        ("tokens", "600", "1000", "401")
    );
    let over = refused(&store, reservation("b", 400, Some(600_001), budget)).await;
    assert_eq!(
        (over.what, over.spent.as_str(), over.limit.as_str(), over.asked.as_str()),
        ("cost", "$0.40", "$1.00", "$0.60")
    );
    let over = refused(&store, reservation("b", 1, None, budget)).await;
    assert_eq!(over.what, "cost");
    assert!(over.asked.contains("no known price"), "{over}");

    // Settled for less, so there is room again.
    store.settle(settlement("a", 99, Some(100_000))).await.unwrap();
    store.reserve(reservation("b", 900, Some(900_000), budget)).await.unwrap().unwrap();
    store.reserve(reservation("c", 0, Some(0), budget)).await.unwrap().unwrap();
    let over = refused(&store, reservation("d", 0, Some(0), budget)).await;
    assert_eq!((over.what, over.spent.as_str(), over.limit.as_str()), ("rounds", "3", "3"));
    // Another task has its own budget.
    let other = Reservation { key: attempt(2, 1), ..reservation("d", 1000, Some(0), budget) };
    store.reserve(other).await.unwrap().unwrap();
    // A price that nobody knows is no obstacle where money is not limited.
    store.reserve(reservation("e", 0, None, Budget::default())).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_same_id_is_the_same_call() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let budget = Budget { tokens: Some(100), rounds: Some(1), ..Budget::default() };
    for _ in 0..2 {
        store.reserve(reservation("a", 100, Some(5), budget)).await.unwrap().unwrap();
    }
    let open_amount = Amount { cost: Some(MicroUsd(5)), tokens: 100 };
    assert_eq!(store.spent(TaskId(1)).await.unwrap(), (Spend::default(), open_amount));
    store.settle(settlement("a", 9, Some(4))).await.unwrap();
    store.settle(settlement("a", 9999, Some(9999))).await.unwrap();
    store.reserve(reservation("a", 100, Some(5), budget)).await.unwrap().unwrap();
    let usage = Usage { input: 1, output: 9, ..Usage::default() };
    let spend = Spend { calls: 1, usage, cost: MicroUsd(4), ..Spend::default() };
    assert_eq!(store.spent(TaskId(1)).await.unwrap(), (spend, Amount::default()));
}

#[tokio::test]
async fn what_the_provider_did_not_say_counts_as_reserved_at_least() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    for (id, cost) in [("cut", Some(50)), ("long", Some(50)), ("renamed", Some(7)), ("unpriced", None)] {
        store.reserve(reservation(id, 100, cost, Budget::default())).await.unwrap().unwrap();
    }
    store.settle(Settlement { estimated: true, ..settlement("cut", 9, Some(5)) }).await.unwrap();
    store.settle(Settlement { estimated: true, ..settlement("long", 199, Some(80)) }).await.unwrap();
    store.settle(settlement("renamed", 9, None)).await.unwrap();
    store.settle(settlement("unpriced", 9, None)).await.unwrap();
    store.settle(settlement("never reserved", 9, Some(1000))).await.unwrap();
    let (spend, held) = store.spent(TaskId(1)).await.unwrap();
    assert_eq!(held, Amount::default());
    assert_eq!(spend.usage, Usage { input: 5, output: 99 + 199 + 3 * 9, ..Usage::default() });
    assert_eq!(spend.cost, MicroUsd(50 + 80 + 7 + 1000));
    assert_eq!((spend.calls, spend.estimated_calls, spend.unpriced_calls), (5, 3, 1));
}

#[tokio::test]
async fn an_open_reservation_outlives_the_process_and_a_settlement_need_not_be_awaited() {
    let home = tempfile::tempdir().unwrap();
    let budget = Budget { tokens: Some(100), ..Budget::default() };
    let store = open(home.path());
    store.reserve(reservation("a", 60, None, budget)).await.unwrap().unwrap();
    store.reserve(reservation("b", 40, None, budget)).await.unwrap().unwrap();
    drop(store.settle(settlement("b", 9, None)));
    drop(store);

    let store = open(home.path());
    assert_eq!(refused(&store, reservation("c", 31, None, budget)).await.spent, "70");
    store.reserve(reservation("c", 30, None, budget)).await.unwrap().unwrap();
    let calls = store.calls(TaskId(1)).await.unwrap();
    let told: Vec<_> =
        calls.iter().map(|call| (call.id.as_str(), call.reserved.tokens, call.settled.is_some())).collect();
    assert_eq!(told, [("a", 60, false), ("b", 40, true), ("c", 30, false)]);
    let settled = calls[1].settled.as_ref().unwrap();
    assert_eq!((settled.at, settled.model.as_str(), settled.usage.output), (at(0), "anthropic/some-model", 9));
}

#[tokio::test]
async fn absurd_amounts_do_not_overflow() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    for id in ["a", "b", "c"] {
        store.reserve(reservation(id, u64::MAX, Some(u64::MAX), Budget::default())).await.unwrap().unwrap();
    }
    store.settle(settlement("a", u64::MAX, Some(u64::MAX))).await.unwrap();
    let budget = Budget { tokens: Some(u64::MAX - 1), ..Budget::default() };
    assert_eq!(refused(&store, reservation("d", u64::MAX, None, budget)).await.what, "tokens");
}

fn purse(key: &str, cost: u64) -> Purse {
    Purse { key: key.to_owned(), limit: Budget { cost: Some(MicroUsd(cost)), ..Budget::default() } }
}

#[tokio::test]
async fn a_call_must_fit_into_every_purse_and_counts_in_each() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let paid = |task, id: &str, cost, purses: &[Purse]| Reservation {
        key: attempt(task, 1),
        purses: purses.to_vec(),
        ..reservation(id, 100, Some(cost), Budget::default())
    };
    let (day, alice, bob) = (purse("day 2026-11-21", 120), purse("person alice", 60), purse("person bob", 60));
    let hers = [day.clone(), alice.clone()];
    // A purse that is named twice is paid from once.
    let twice = [day.clone(), alice.clone(), alice];
    store.reserve(paid(1, "a", 50, &twice)).await.unwrap().unwrap();
    store.reserve(paid(2, "a", 50, &[day.clone(), bob])).await.unwrap().unwrap();
    let over = refused(&store, paid(3, "a", 21, std::slice::from_ref(&day))).await;
    assert_eq!((over.purse.as_deref(), over.what), (Some("day 2026-11-21"), "cost"));
    assert!(over.to_string().starts_with("day 2026-11-21 cost budget reached: $0.000100"), "{over}");

    let usage = Usage { input: 1, output: 9, reasoning: 4, ..Usage::default() };
    store.settle(Settlement { usage, ..settlement("a", 9, Some(20)) }).await.unwrap();
    let spend = Spend { calls: 1, usage, cost: MicroUsd(20), ..Spend::default() };
    let none = Amount::default();
    assert_eq!(store.spent_from("person alice".to_owned()).await.unwrap(), (spend, none));
    assert_eq!(store.spent_from("person bob".to_owned()).await.unwrap().1.cost, Some(MicroUsd(50)));
    let (spent, held) = store.spent_from("day 2026-11-21".to_owned()).await.unwrap();
    assert_eq!((spent, held), (spend, Amount { cost: Some(MicroUsd(50)), tokens: 100 }));
    assert_eq!(store.spent_from("day 2026-11-22".to_owned()).await.unwrap(), (Spend::default(), none));
    assert_eq!(refused(&store, paid(3, "b", 41, &hers)).await.purse.as_deref(), Some("person alice"));
    let refused_to_an_unpriced_model =
        refused(&store, Reservation { purses: hers.into(), ..reservation("c", 1, None, Budget::default()) });
    assert!(refused_to_an_unpriced_model.await.asked.contains("no known price"));
    // What was refused left no trace.
    assert_eq!(store.spent(TaskId(3)).await.unwrap(), (Spend::default(), none));
    drop(store);
    assert_eq!(open(home.path()).spent_from("day 2026-11-21".to_owned()).await.unwrap(), (spent, held));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_attempts_never_pass_the_dollar_that_they_share() {
    const DOLLAR: u64 = 1_000_000;
    const RESERVED: u64 = 20_000;
    const USED: u64 = 7_000;
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let attempts = (0..100_u64).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut calls = 0_u64;
            loop {
                let id = format!("call {calls}");
                let reservation = Reservation {
                    key: attempt(n, 1),
                    purses: vec![purse("team", DOLLAR)],
                    ..reservation(&id, 0, Some(RESERVED), Budget::default())
                };
                if let Err(over) = store.reserve(reservation).await.unwrap() {
                    return (calls, over);
                }
                let (spent, held) = store.spent_from("team".to_owned()).await.unwrap();
                assert!(spent.cost.0 + held.cost.unwrap_or_default().0 <= DOLLAR, "{spent:?} {held:?}");
                store.settle(Settlement { key: attempt(n, 1), ..settlement(&id, 0, Some(USED)) }).await.unwrap();
                calls += 1;
            }
        })
    });
    let attempts: Vec<_> = attempts.collect();
    let mut calls = 0;
    for attempt in attempts {
        let (made, over) = attempt.await.unwrap();
        calls += made;
        assert_eq!((over.purse.as_deref(), over.limit.as_str()), (Some("team"), "$1.00"));
    }
    let (spent, held) = store.spent_from("team".to_owned()).await.unwrap();
    assert_eq!((spent.calls, spent.cost, held), (calls, MicroUsd(calls * USED), Amount::default()));
    assert!(spent.cost.0 <= DOLLAR && spent.cost.0 + RESERVED > DOLLAR - 50 * RESERVED, "{spent:?}");
}

/// As the first version of the home kept calls: nothing but the calls themselves.
#[tokio::test]
async fn an_older_home_is_added_up_when_it_is_opened() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("overnight.db");
    let older = Connection::open(&file).unwrap();
    older.execute_batch(include_str!("../../src/migrations/0001.sql")).unwrap();
    older.pragma_update(None, "user_version", 1).unwrap();
    let rows = "(1, 'open', 1, 0, 30, 300, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (1, 'settled', 1, 0, 50, 100, 9, 'm', 1, 2, 3, 4, 40, 0),
        (1, 'cut', 1, 0, 50, 100, 9, 'm', 1, 2, 3, 4, 5, 1),
        (1, 'unpriced', 1, 0, NULL, 100, 9, 'm', 1, 0, 0, 0, NULL, 0),
        (1, 'renamed', 1, 0, 7, 100, 9, 'm', 1, 0, 0, 0, NULL, 0),
        (2, 'open', 1, 0, NULL, 9223372036854775807, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (2, 'other', 1, 0, NULL, 9223372036854775807, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";
    older.execute_batch(&format!("INSERT INTO calls VALUES {rows}")).unwrap();
    drop(older);
    let store = open(home.path());
    let (spend, held) = store.spent(TaskId(1)).await.unwrap();
    let usage = Usage { input: 4, cache_read: 4, cache_write: 6, output: 4 + 94, reasoning: 0 };
    let expected = Spend { calls: 4, usage, cost: MicroUsd(40 + 50 + 7), unpriced_calls: 1, estimated_calls: 2 };
    assert_eq!((spend, held), (expected, Amount { cost: Some(MicroUsd(30)), tokens: 300 }));
    // What was open then is settled now.
    store.settle(settlement("open", 9, Some(10))).await.unwrap();
    let (spend, held) = store.spent(TaskId(1)).await.unwrap();
    assert_eq!((spend.calls, spend.cost, held), (5, MicroUsd(107), Amount::default()));
    assert_eq!(store.spent(TaskId(2)).await.unwrap().1.tokens, i64::MAX as u64);
}

#[derive(Clone, Debug)]
struct Wish {
    tokens: u64,
    cost: u64,
    /// How much of it is really used, in percent; `None`: never settled.
    used: Option<u64>,
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let wish = (0..200_u64, 0..200_u64, proptest::option::of(0..=100_u64)).prop_map(|(tokens, cost, used)| Wish {
        tokens,
        cost,
        used,
    });
    proptest::collection::vec(wish, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// All race for one task's budget from many threads.
    #[test]
    fn racing_reservations_never_pass_a_limit(wishes in wishes(), tokens in 0..2000_u64, cost in 0..2000_u64, rounds in 0..40_u32) {
        let budget = Budget { cost: Some(MicroUsd(cost)), tokens: Some(tokens), rounds: Some(rounds), wall_s: None };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
        let home = tempfile::tempdir().unwrap();
        let (granted, (spend, held)) = runtime.block_on(async {
            let store = open(home.path());
            let racers: Vec<_> = wishes.iter().cloned().enumerate()
                .map(|(n, wish)| tokio::spawn(race(Arc::clone(&store), n, wish, budget)))
                .collect();
            let mut granted = Vec::new();
            for racer in racers {
                granted.push(racer.await.unwrap());
            }
            (granted, store.spent(TaskId(1)).await.unwrap())
        });
        let calls = granted.iter().filter(|granted| **granted).count() as u64;
        prop_assert!(calls <= u64::from(rounds));
        prop_assert!(spend.usage.total() + held.tokens <= tokens);
        prop_assert!(spend.cost.0 + held.cost.unwrap_or_default().0 <= cost);
        // And nobody was refused for whom there was room: what is free now was not less then.
        if wishes.iter().all(|wish| wish.used.is_none()) && calls < u64::from(rounds) {
            for (wish, _) in wishes.iter().zip(&granted).filter(|(_, granted)| !**granted) {
                prop_assert!(held.tokens + wish.tokens > tokens || held.cost.unwrap_or_default().0 + wish.cost > cost);
            }
        }
    }
}

async fn race(store: Arc<store::Store>, n: usize, wish: Wish, budget: Budget) -> bool {
    let id = format!("call {n}");
    let granted = store.reserve(reservation(&id, wish.tokens, Some(wish.cost), budget)).await.unwrap().is_ok();
    if let (true, Some(percent)) = (granted, wish.used) {
        let usage = Usage { output: wish.tokens * percent / 100, ..Usage::default() };
        let cost = Some(MicroUsd(wish.cost * percent / 100));
        store.settle(Settlement { usage, cost, ..settlement(&id, 0, None) }).await.unwrap();
    }
    granted
}
