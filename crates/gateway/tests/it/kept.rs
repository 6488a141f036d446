//! A gateway on a real store: what it records and pays stands in a home.

use std::sync::{Arc, Mutex};

use domain::{
    budget::{Budget, MicroUsd, Purse},
    ids::{AttemptKey, TurnNo},
    ports::{
        model::{Access, Barrier, CallNews, CallWatch, Endpoint, Gateways, Protocol},
        record::{Exchange, Records},
    },
    redact::Redactor,
};
use gateway::{Dialect, Gateway, Options};
use serde_json::{Value, json};

use crate::{
    ledger::MemoryLedger,
    proxy::post,
    stage::{Stage, SystemClock, ask_once, quick, real_key},
};

/// Hears of calls.
#[derive(Default)]
pub struct Heard(Mutex<Vec<CallNews>>);

impl CallWatch for Heard {
    fn tell(&self, news: CallNews) {
        self.0.lock().unwrap().push(news);
    }
}

impl Heard {
    pub fn all(&self) -> Vec<CallNews> {
        self.0.lock().unwrap().clone()
    }

    /// The news once they satisfy.
    pub async fn when(&self, is: impl Fn(&[CallNews]) -> bool) -> Vec<CallNews> {
        while !is(&self.all()) {
            tokio::task::yield_now().await;
        }
        self.all()
    }
}

/// A stage whose gateway keeps its books and records in a home.
pub struct Kept {
    pub stage: Stage,
    pub store: Arc<store::Store>,
    pub home: tempfile::TempDir,
}

impl Kept {
    pub async fn of(replies: Value) -> Self {
        Self::playing(json!({"conversations": [{"replies": replies}]})).await
    }

    pub async fn playing(script: Value) -> Self {
        let mut stage = Stage::playing(script).await;
        let home = tempfile::tempdir().unwrap();
        let options = store::Options { home: home.path().to_owned(), clock: Arc::new(SystemClock) };
        let store = store::Store::open(options).unwrap();
        let options =
            Options { ledger: store.clone(), records: Some(store.clone()), ..quick(Arc::new(MemoryLedger::default())) };
        stage.gateway = Gateway::new(options).unwrap();
        Self { stage, store, home }
    }

    /// The record of an attempt once it has this many exchanges.
    pub async fn record(&self, key: AttemptKey, count: usize) -> Vec<Exchange> {
        loop {
            let record = self.store.exchanges(key).await.unwrap_or_default();
            if record.len() >= count {
                return record;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn limited(stage: &Stage, budget: Budget, purses: Vec<Purse>) -> (Access, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let access = Access { purses, watch: Arc::clone(&heard) as _, ..stage.access(Dialect::OpenAi, budget) };
    (access, heard)
}

fn nearing(news: &[CallNews]) -> Vec<&str> {
    let told = news.iter().filter_map(|news| match news {
        CallNews::Nearing(left) => Some(left.as_str()),
        _ => None,
    });
    told.collect()
}

#[tokio::test]
async fn an_attempt_is_told_once_that_little_is_left_whoever_calls() {
    let reply = json!({"text": "hi", "usage": {"input": 100, "output": 300}});
    let kept = Kept::of(json!([reply])).await;
    let (access, heard) = limited(&kept.stage, Budget { rounds: Some(5), ..Budget::default() }, Vec::new());
    let model = kept.stage.gateway.model(access).unwrap();
    for _ in 0..5 {
        ask_once(model.as_ref()).await.unwrap();
    }
    let news = heard.when(|news| !nearing(news).is_empty()).await;
    assert_eq!(news.iter().filter(|news| **news == CallNews::Answered).count(), 5);
    let told = nearing(&news);
    assert!(told.len() == 1 && told[0].starts_with("the task's budget is nearly spent: 1 of 5 rounds"), "{told:?}");

    // Each call is $0.0032 of the purse.
    let limit = Budget { cost: Some(MicroUsd(15_000)), ..Budget::default() };
    let (access, heard) = limited(&kept.stage, Budget::default(), vec![Purse { key: "person ada".to_owned(), limit }]);
    let endpoint = kept.stage.gateway.endpoint(access).await.unwrap();
    let body = json!({"model": "gpt-6.1-sol", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]});
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let answer = post(&endpoint, "/v1/chat/completions", &body).await;
        statuses.push(answer.status().as_u16());
        answer.bytes().await.unwrap();
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 402]);
    let news = heard.when(|news| !nearing(news).is_empty()).await;
    let told = nearing(&news);
    assert_eq!(
        told,
        [
            "the budget `person ada` is nearly spent: $0.002200 of $0.01 are left; bring the work to an end that can be kept"
        ]
    );
    assert!(
        matches!(news.last(), Some(CallNews::Refused(Barrier::OverBudget { why })) if why.contains("person ada")),
        "{news:?}"
    );
    for told in [CallNews::Asked, CallNews::Answering, CallNews::Answered] {
        assert_eq!(news.iter().filter(|news| **news == told).count(), 5, "{news:?}");
    }
}

/// A secret of the repository, the token of the gateway and the keys of the providers.
const SECRET: &str = "s3cr3t-Value-of-the-repository";

#[tokio::test]
async fn what_is_recorded_is_what_the_client_sent_and_got_without_any_secret() {
    for dialect in [Dialect::Anthropic, Dialect::Gemini, Dialect::OpenAi] {
        let echo = format!("you said {SECRET} and {}", real_key(dialect));
        let kept = Kept::of(json!([{"text": echo}, {"fault": "400", "text": "no such thing"}])).await;
        let redactor = Arc::new(Redactor::new([("PYPI_TOKEN", SECRET)]));
        let access = Access { redactor, turn: TurnNo(7), ..kept.stage.access(dialect, Budget::default()) };
        let key = access.key;
        let endpoint = kept.stage.gateway.endpoint(access.clone()).await.unwrap();
        let said = format!("echo {SECRET} {} {}", endpoint.token, real_key(dialect));
        let (protocol, path, request) = match dialect {
            Dialect::Anthropic => (
                Protocol::Messages,
                "/v1/messages?beta=true",
                json!({"model": "claude-sonnet-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": said}]}),
            ),
            Dialect::OpenAi => (
                Protocol::ChatCompletions,
                "/v1/chat/completions",
                json!({"model": "gpt-6.1-sol", "stream": true, "messages": [{"role": "user", "content": said}]}),
            ),
            Dialect::Gemini => (
                Protocol::GenerateContent,
                "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
                json!({"contents": [{"role": "user", "parts": [{"text": said}]}]}),
            ),
        };
        let with_key =
            if dialect == Dialect::Gemini { format!("{path}&key={}", endpoint.token) } else { path.to_owned() };
        let answer = post(&endpoint, &with_key, &request).await;
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let answer = answer.text().await.unwrap();
        assert!(answer.contains(SECRET), "the client gets it as it is");
        ask_once(kept.stage.gateway.model(access).unwrap().as_ref()).await.unwrap();

        let record = kept.record(key, 2).await;
        let clean = |text: &str| {
            text.replace(SECRET, "[PYPI_TOKEN redacted]")
                .replace(&endpoint.token, "[OVERNIGHT_TOKEN redacted]")
                .replace(real_key(dialect), &format!("[{} redacted]", key_name(dialect)))
        };
        let first = &record[0];
        assert_eq!(first.request, clean(&request.to_string()), "as it was before anything was put in");
        assert_eq!(first.response, clean(&answer));
        assert_eq!((first.turn, first.protocol, first.path.as_str()), (TurnNo(7), protocol, path));
        assert_eq!((first.status, first.content_type.as_str(), first.whole), (200, kind.as_str(), true));
        assert!(record[1].whole && record[1].protocol == protocol && !record[1].response.is_empty());
        drop(kept.store);
        drop(kept.stage);
        for file in std::fs::read_dir(kept.home.path()).unwrap() {
            let Ok(bytes) = std::fs::read(file.unwrap().path()) else { continue };
            for secret in [SECRET, &endpoint.token, real_key(dialect)] {
                assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none());
            }
        }
        for exchange in &record {
            for secret in [SECRET, &endpoint.token, real_key(dialect)] {
                assert!(!format!("{exchange:?}").contains(secret));
            }
        }
    }
}

fn key_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "ANTHROPIC_API_KEY",
        Dialect::Gemini => "GOOGLE_API_KEY",
        Dialect::OpenAi => "OPENAI_API_KEY",
    }
}

#[tokio::test]
async fn errors_and_answers_that_were_cut_are_recorded_too() {
    let kept = Kept::of(json!([{"text": "words ".repeat(200), "fault": "cut"}])).await;
    let access = kept.stage.access(Dialect::Anthropic, Budget::default());
    let key = access.key;
    let endpoint = kept.stage.gateway.endpoint(access).await.unwrap();
    let mut request = json!({"model": "claude-sonnet-5-5", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hello"}]});
    assert!(post(&endpoint, "/v1/messages", &request).await.bytes().await.is_err());
    let cut = &kept.record(key, 1).await[0];
    assert!(!cut.whole && cut.response.starts_with(b"event: message_start") && cut.status == 200);
    request["max_tokens"] = json!("many");
    assert_eq!(post(&endpoint, "/v1/messages", &request).await.status(), 400);
    assert_eq!(post(&endpoint, "/v1/messages/count_tokens", &request).await.status(), 200);
    let record = kept.record(key, 3).await;
    assert_eq!(record.iter().map(|exchange| exchange.status).collect::<Vec<_>>(), [200, 400, 200]);
    assert_eq!(record[2].path, "/v1/messages/count_tokens");
    let unknown = post(&Endpoint { token: "overnight-x".to_owned(), ..endpoint }, "/v1/messages", &request).await;
    assert_eq!(unknown.status(), 401, "nobody's call is in nobody's record");
}
