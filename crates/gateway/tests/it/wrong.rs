//! Providers that answer, but wrongly: counts that cannot be, errors in what should be a success, pages for people.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use domain::{
    budget::Budget,
    ports::model::{Gateways, ModelFault},
};
use gateway::Dialect;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    task::AbortHandle,
};

use crate::{
    proxy::post,
    stage::{Stage, access, ask_once, text_of},
};

/// A server that gives these answers, one after the other, and then the last one for ever.
struct Canned {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    serving: AbortHandle,
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Canned {
    async fn of(answers: Vec<(&'static str, &'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let mut socket = BufReader::new(socket);
                let mut length = 0;
                let mut line = String::new();
                while socket.read_line(&mut line).await.unwrap() > 2 {
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                socket.read_exact(&mut vec![0; length]).await.unwrap();
                let (status, kind, body) = &answers[count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)];
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                socket.shutdown().await.unwrap();
            }
        })
        .abort_handle();
        Self { address, asked, serving }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

const STREAM: &str = "text/event-stream";
const JSON: &str = "application/json";

/// A whole streamed reply with this account of its usage.
fn stream(dialect: Dialect, usage: &str) -> String {
    match dialect {
        Dialect::Anthropic => [
            r#"{"type":"message_start","message":{"usage":{"input_tokens":5}}}"#.to_owned(),
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"hi"}}"#.to_owned(),
            format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{usage}}}"#),
            r#"{"type":"message_stop"}"#.to_owned(),
        ]
        .map(|event| format!("data: {event}\n\n"))
        .concat(),
        Dialect::Gemini => format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"hi\"}}]}},\"finishReason\":\"STOP\"}}],\"usageMetadata\":{usage}}}\n\n"
        ),
        Dialect::OpenAi => format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"hi\"}},\"finish_reason\":\"stop\"}}],\"usage\":{usage}}}\n\ndata: [DONE]\n\n"
        ),
    }
}

fn path(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "/v1/messages",
        Dialect::Gemini => "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
        Dialect::OpenAi => "/v1/chat/completions",
    }
}

fn body() -> serde_json::Value {
    json!({
        "model": "gemini-3.8-flash", "max_tokens": 10, "stream": true, "messages": [{"role": "user", "content": "x"}],
        "contents": [{"parts": [{"text": "x"}]}],
    })
}

#[tokio::test]
async fn counts_that_cannot_be_are_not_paid_by() {
    let stage = Stage::of(json!([])).await;
    for dialect in [Dialect::Anthropic, Dialect::Gemini, Dialect::OpenAi] {
        let (input, output) = match dialect {
            Dialect::Anthropic => ("input_tokens", "output_tokens"),
            Dialect::Gemini => ("promptTokenCount", "candidatesTokenCount"),
            Dialect::OpenAi => ("prompt_tokens", "completion_tokens"),
        };
        let count = |count: &str| format!(r#"{{"{input}":7,"{output}":{count}}}"#);
        for (usage, estimated) in [
            (count("3"), false),
            (count("-3"), true),
            (count("3.5"), true),
            (count("\"3\""), true),
            (count("9007199254740993"), true),
            (count("{}"), true),
        ] {
            let canned = Canned::of(vec![("200 OK", STREAM, stream(dialect, &usage))]).await;
            let model = stage.gateway.model(access(canned.address, dialect, Budget::default())).unwrap();
            assert_eq!(text_of(&ask_once(model.as_ref()).await.unwrap()), "hi", "{dialect:?} {usage}");
            let endpoint = stage.gateway.endpoint(access(canned.address, dialect, Budget::default())).await.unwrap();
            assert_eq!(post(&endpoint, path(dialect), &body()).await.text().await.unwrap(), stream(dialect, &usage));
            let settled = stage.ledger.settlements().await;
            for one in &settled[settled.len() - 2..] {
                assert_eq!((one.estimated, one.usage.total() < 20), (estimated, true), "{dialect:?} {usage} {one:?}");
            }
            assert_eq!(canned.asked(), 2);
        }
    }
}

#[tokio::test]
async fn an_error_that_passes_in_what_should_be_a_success_is_tried_again() {
    let stage = Stage::of(json!([])).await;
    let document = r#"{"error":{"message":"busy","type":"server_error","code":"server_error"}}"#;
    for (kind, error) in [(JSON, document.to_owned()), (STREAM, format!("data: {document}\n\n"))] {
        let whole = ("200 OK", STREAM, stream(Dialect::OpenAi, r#"{"prompt_tokens":1}"#));
        let answers = || vec![("200 OK", kind, error.clone()), ("200 OK", kind, error.clone()), whole.clone()];
        let canned = Canned::of(answers()).await;
        let model = stage.gateway.model(access(canned.address, Dialect::OpenAi, Budget::default())).unwrap();
        assert_eq!(text_of(&ask_once(model.as_ref()).await.unwrap()), "hi", "{kind}");
        let canned = Canned::of(answers()).await;
        let endpoint =
            stage.gateway.endpoint(access(canned.address, Dialect::OpenAi, Budget::default())).await.unwrap();
        let answer = post(&endpoint, path(Dialect::OpenAi), &body()).await;
        assert!(answer.text().await.unwrap().contains("hi"), "the agent never sees what passed");
        assert_eq!(canned.asked(), 3);
    }
}

#[tokio::test]
async fn an_error_that_lasts_and_a_page_for_people_are_told() {
    let stage = Stage::of(json!([])).await;
    let wrong = r#"{"error":{"message":"no such model","type":"invalid_request_error"}}"#;
    let page = "<!doctype html><title>Sign in</title>";
    for (kind, answer, words) in [(JSON, wrong, "no such model"), ("text/html", page, "web page")] {
        let canned = Canned::of(vec![("200 OK", kind, answer.to_owned())]).await;
        let model = stage.gateway.model(access(canned.address, Dialect::OpenAi, Budget::default())).unwrap();
        let fault = ask_once(model.as_ref()).await.unwrap_err();
        assert!(matches!(&fault, ModelFault::Garbage(why) if why.contains(words)), "{fault}");
        let endpoint =
            stage.gateway.endpoint(access(canned.address, Dialect::OpenAi, Budget::default())).await.unwrap();
        let told = post(&endpoint, path(Dialect::OpenAi), &body()).await;
        assert_eq!(told.status().as_u16(), if kind == JSON { 200 } else { 502 });
        assert!(told.text().await.unwrap().contains(words));
        let settled = stage.ledger.settlements().await;
        assert!(settled.iter().all(|one| one.estimated), "who knows what was paid for");
        assert_eq!(canned.asked(), 2);
    }
}

#[tokio::test]
async fn the_time_to_come_again_is_read_from_the_words_too() {
    let stage = Stage::of(json!([])).await;
    for (dialect, error, seconds) in [
        (
            Dialect::OpenAi,
            r#"{"error":{"message":"Rate limit reached. Please try again in 6m30s.","type":"tokens","code":"rate_limit_exceeded"}}"#,
            390,
        ),
        (
            Dialect::Gemini,
            r#"{"error":{"code":429,"message":"spent","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"390s"}]}}"#,
            390,
        ),
    ] {
        let canned = Canned::of(vec![("429 Too Many Requests", JSON, error.to_owned())]).await;
        let model = stage.gateway.model(access(canned.address, dialect, Budget::default())).unwrap();
        let before = jiff::Timestamp::now();
        let fault = ask_once(model.as_ref()).await.unwrap_err();
        let ModelFault::Held { until, .. } = &fault else { panic!("{fault}") };
        assert!(*until >= before + jiff::SignedDuration::from_secs(seconds), "{until}");
        assert_eq!(canned.asked(), 1, "nobody asks before");
    }
}

#[tokio::test]
async fn an_answer_that_tells_its_length_is_metered_to_its_end() {
    let stage = Stage::of(json!([])).await;
    let document = r#"{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
    let canned = Canned::of(vec![("200 OK", JSON, document.to_owned())]).await;
    let endpoint = stage.gateway.endpoint(access(canned.address, Dialect::OpenAi, Budget::default())).await.unwrap();
    let answer = post(&endpoint, path(Dialect::OpenAi), &body()).await;
    assert_eq!(answer.headers()["content-length"], document.len().to_string());
    assert_eq!(answer.text().await.unwrap(), document);
    let settled = stage.ledger.settlements().await;
    assert_eq!((settled[0].usage.total(), settled[0].estimated), (10, false));
}
