//! Providers that fail, in every way they do: what is tried again, what is paid, what the agent is told.

use domain::{
    budget::Budget,
    ports::model::{Gateways, ModelFault},
};
use gateway::{Deadlines, Dialect, Gateway, Options, Retry};
use serde_json::json;
use std::{sync::Arc, time::Duration};

use crate::stage::{DIALECTS, Stage, access, ask_once, quick, text_of};

#[tokio::test]
async fn what_passes_is_tried_again_on_the_same_reservation() {
    for dialect in DIALECTS {
        for fault in ["429", "500", "529", "503", "408", "drop", "silent"] {
            let mut stage = Stage::of(json!([{"text": "at last", "fault": fault, "fault_times": 2}])).await;
            if fault == "silent" {
                stage.hasten();
            }
            let reply = ask_once(stage.model(dialect).as_ref()).await.unwrap();
            assert_eq!(text_of(&reply), "at last", "{dialect:?} {fault}");
            let settled = stage.ledger.settlements().await;
            assert_eq!(settled.len(), 1, "{dialect:?} {fault}");
            assert_eq!((settled[0].usage, settled[0].estimated), (reply.usage, false));
            assert_eq!(stage.recorded(3).await.len(), 3);
        }
    }
}

#[tokio::test]
async fn patience_ends() {
    let kinds = [("503", false), ("429", false), ("drop", true), ("silent", true), ("json_error", true)];
    for (name, charged) in kinds {
        let mut stage = Stage::of(json!([{"text": "busy", "fault": name}])).await;
        if name == "silent" {
            stage.hasten();
        }
        let fault = ask_once(stage.model(Dialect::Anthropic).as_ref()).await.unwrap_err();
        match name {
            "429" => assert!(matches!(&fault, ModelFault::Held { why, .. } if why.contains("busy")), "{fault}"),
            _ => assert!(matches!(&fault, ModelFault::Unavailable(why) if why.contains("after 4 tries")), "{fault}"),
        }
        assert_eq!(stage.recorded(4).await.len(), 4);
        let settled = stage.ledger.settlements().await;
        assert_eq!((settled.len(), settled[0].estimated), (1, charged), "{name}");
        assert_eq!(settled[0].usage.total(), 0);
    }
}

#[tokio::test]
async fn a_provider_that_is_not_there_costs_nothing() {
    let stage = Stage::of(json!([])).await;
    let nowhere = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let model = stage.gateway.model(access(nowhere, Dialect::OpenAi, Budget::default())).unwrap();
    let fault = ask_once(model.as_ref()).await.unwrap_err();
    assert!(matches!(&fault, ModelFault::Unavailable(why) if why.contains("refused")), "{fault}");
    let settled = stage.ledger.settlements().await;
    assert_eq!((settled[0].usage.total(), settled[0].estimated), (0, false));
}

#[tokio::test]
async fn a_pause_that_is_asked_for_is_kept_or_not_waited_for() {
    let stage = Stage::of(json!([{"text": "hi", "fault": "429", "fault_times": 1, "retry_after": 0.01}])).await;
    let hour = Duration::from_secs(3600);
    let retry = Retry { tries: 2, first: hour, in_all: 2 * hour };
    let gateway = Gateway::new(Options { retry, ..quick(Arc::clone(&stage.ledger)) }).unwrap();
    let model = gateway.model(stage.access(Dialect::OpenAi, Budget::default())).unwrap();
    assert_eq!(text_of(&ask_once(model.as_ref()).await.unwrap()), "hi", "and not in an hour");

    let stage = Stage::of(json!([{"text": "come tomorrow", "fault": "429", "retry_after": 86400}])).await;
    let fault = ask_once(stage.model(Dialect::OpenAi).as_ref()).await.unwrap_err();
    let tomorrow = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let ModelFault::Held { why, until } = &fault else { panic!("{fault}") };
    assert!(
        why.contains("come tomorrow") && *until <= tomorrow && *until > tomorrow - jiff::SignedDuration::from_mins(5)
    );
    assert_eq!(stage.statuses(), [429], "a pause longer than patience is none");
}

#[tokio::test]
async fn a_dead_key_is_told_at_once() {
    for dialect in DIALECTS {
        for fault in ["401", "403", "402", "quota"] {
            let stage = Stage::of(json!([{"text": "who are you", "fault": fault}])).await;
            let told = ask_once(stage.model(dialect).as_ref()).await.unwrap_err();
            assert!(matches!(&told, ModelFault::DeadKey(why) if why.contains("who are you")), "{fault}: {told}");
            assert_eq!(stage.records().len(), 1, "no second try");
            let settled = stage.ledger.settlements().await;
            assert_eq!((settled[0].usage.total(), settled[0].estimated), (0, false));
        }
    }
}

#[tokio::test]
async fn a_refused_request_carries_the_providers_words() {
    for fault in ["400", "404", "413", "422", "302"] {
        let stage = Stage::of(json!([{"text": "prompt is too long", "fault": fault}])).await;
        let told = ask_once(stage.model(Dialect::Anthropic).as_ref()).await.unwrap_err();
        assert!(matches!(&told, ModelFault::Rejected(why) if why.contains("prompt is too long")), "{told}");
        assert_eq!(stage.records().len(), 1);
    }
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_paid_and_asked_for_anew() {
    for dialect in DIALECTS {
        for fault in ["cut", "error_event", "stall"] {
            let text = "a long answer ".repeat(60);
            let mut stage = Stage::of(json!([{"text": text, "fault": fault, "fault_times": 1}])).await;
            if fault == "stall" {
                stage.hasten();
            }
            let reply = ask_once(stage.model(dialect).as_ref()).await.unwrap();
            assert_eq!(text_of(&reply), text, "{dialect:?} {fault}: nothing of the first try is left in it");
            let settled = stage.ledger.settlements().await;
            assert_eq!(settled.len(), 2, "{dialect:?} {fault}");
            assert!(settled[0].estimated && !settled[1].estimated);
            assert_eq!(settled[0].usage.input > 0, dialect == Dialect::Anthropic, "what was reported is kept");
        }
    }
}

#[tokio::test]
async fn breaking_off_again_and_again_ends() {
    let stage = Stage::of(json!([{"text": "never whole ".repeat(50), "fault": "cut"}])).await;
    let fault = ask_once(stage.model(Dialect::Anthropic).as_ref()).await.unwrap_err();
    assert!(matches!(&fault, ModelFault::Unavailable(why) if why.contains("broke off 3 times")), "{fault}");
    let settled = stage.ledger.settlements().await;
    assert_eq!(settled.len(), 3);
    assert!(settled.iter().all(|call| call.estimated));
}

#[tokio::test]
async fn an_answer_that_is_no_reply_is_paid_and_told() {
    for dialect in DIALECTS {
        for (fault, words) in [("garbage", "cannot be read"), ("empty", "an empty body"), ("html", "a web page")] {
            let stage = Stage::of(json!([{"text": "x", "fault": fault}])).await;
            let told = ask_once(stage.model(dialect).as_ref()).await.unwrap_err();
            assert!(matches!(&told, ModelFault::Garbage(why) if why.contains(words)), "{dialect:?} {fault}: {told}");
            assert!(stage.ledger.settlements().await[0].estimated);
            assert_eq!(stage.records().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_reply_has_a_last_moment() {
    let stage = Stage::of(json!([{"text": "slow", "fault": "silent"}])).await;
    let options = quick(Arc::clone(&stage.ledger));
    let deadlines = Deadlines { reply: Duration::from_millis(100), ..options.deadlines };
    let gateway = Gateway::new(Options { deadlines, ..options }).unwrap();
    let model = gateway.model(stage.access(Dialect::OpenAi, Budget::default())).unwrap();
    let fault = ask_once(model.as_ref()).await.unwrap_err();
    assert!(matches!(&fault, ModelFault::Unavailable(why) if why.contains("within 100ms")), "{fault}");
    assert!(stage.ledger.settlements().await[0].estimated);
}

#[tokio::test]
async fn a_call_that_is_given_up_is_settled() {
    let stage = Stage::playing(json!({"latency_ms": 60000, "conversations": [{"replies": [{"text": "late"}]}]})).await;
    let model = stage.model(Dialect::Anthropic);
    let call = tokio::spawn(async move { ask_once(model.as_ref()).await });
    stage.ledger.when(|book| book.open.len() == 1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(stage.ledger.settlements().await.len(), 1);
}

#[tokio::test]
async fn a_reply_without_end_does_not_fill_the_memory() {
    let stage = Stage::of(json!([{"text": "x".repeat(65 << 20)}])).await;
    let fault = ask_once(stage.model(Dialect::Anthropic).as_ref()).await.unwrap_err();
    assert!(matches!(&fault, ModelFault::Garbage(why) if why.contains("more than 67108864 bytes")), "{fault}");
    assert!(stage.ledger.settlements().await[0].estimated, "what came is paid");
}
