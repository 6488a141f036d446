//! Hard budgets: reserved before the call, however many run at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use domain::{
    budget::{Budget, MicroUsd},
    ports::model::{Access, CallNews, CallWatch, Gateways, ModelFault},
};
use futures::future::join_all;
use gateway::Dialect;
use serde_json::json;

use crate::{
    proxy::post,
    stage::{DIALECTS, Stage, ask_once},
};

/// Whether no call can be made any more.
#[derive(Default)]
struct Barred(AtomicBool);

impl CallWatch for Barred {
    fn tell(&self, news: CallNews) {
        self.0.fetch_or(matches!(news, CallNews::Refused(_)), Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_model_beside_the_tasks_own_that_cannot_be_had_ends_nothing() {
    let bounded = Budget { cost: Some(MicroUsd(100_000_000)), ..Budget::default() };
    for (budget, own, beside) in [
        (bounded, json!([{"text": "hi"}]), 402),
        (Budget::default(), json!([{"fault": "403", "fault_times": 1, "text": "hi"}]), 403),
    ] {
        let stage = Stage::of(own).await;
        let barred = Arc::new(Barred::default());
        let access = Access { watch: Arc::clone(&barred) as _, ..stage.access(Dialect::OpenAi, budget) };
        let endpoint = stage.gateway.endpoint(access).await.unwrap();
        let ask = |model: &str| json!({"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]});
        assert_eq!(post(&endpoint, "/v1/chat/completions", &ask("gpt-0-titles")).await.status(), beside);
        assert!(!barred.0.load(Ordering::Relaxed), "the task's own calls go on");
        assert_eq!(post(&endpoint, "/v1/chat/completions", &ask("gpt-6.1-sol")).await.status(), 200);
    }
}

#[tokio::test]
async fn a_call_that_could_pass_the_limit_is_not_made() {
    for dialect in DIALECTS {
        for budget in [
            // 1,000 tokens of output alone are $0.01.
            Budget { cost: Some(MicroUsd(10_000)), ..Budget::default() },
            Budget { tokens: Some(1000), ..Budget::default() },
        ] {
            let stage = Stage::of(json!([{"text": "hi"}])).await;
            let model = stage.gateway.model(stage.access(dialect, budget)).unwrap();
            let fault = ask_once(model.as_ref()).await.unwrap_err();
            assert!(matches!(&fault, ModelFault::OverBudget(why) if why.contains("budget reached")), "{fault}");
            assert!(stage.records().is_empty(), "the provider was not asked");
            assert!(stage.ledger.closed().await.settled.is_empty());
        }
    }
}

#[tokio::test]
async fn many_at_once_never_pass_the_limit_together() {
    let limit = 20_000;
    let usage = json!({"input": 100, "output": 300});
    let stage =
        Stage::playing(json!({"latency_ms": 5, "conversations": [{"replies": [{"text": "hi", "usage": usage}]}]}))
            .await;
    let budget = Budget { tokens: Some(limit), ..Budget::default() };
    let models: Vec<_> = (0..8).map(|_| stage.gateway.model(stage.access(Dialect::OpenAi, budget)).unwrap()).collect();
    let outcomes = join_all(models.iter().map(|model| async move {
        let mut calls = 0;
        loop {
            match ask_once(model.as_ref()).await {
                Ok(_) => calls += 1,
                Err(ModelFault::OverBudget(_)) => return calls,
                Err(fault) => panic!("{fault}"),
            }
        }
    }))
    .await;
    let book = stage.ledger.closed().await;
    let spent: u64 = book.settled.iter().map(|(_, settlement)| settlement.usage.total()).sum();
    assert_eq!(spent, 400 * outcomes.iter().sum::<u64>());
    assert!(book.most.tokens <= limit && spent <= limit, "{} of {limit}", book.most.tokens);
    assert!(spent > limit / 2, "most of the budget was of use: {spent} of {limit}");
}
