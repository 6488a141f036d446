//! Agents with clients of their own: plain HTTP through the proxy.

use std::io::ErrorKind;

use domain::{
    budget::{Budget, MicroUsd, Usage},
    ports::{
        model::{Endpoint, Gateways},
        sandbox::Door,
    },
};
use gateway::{Dialect, Rewrites, scripted::End};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::stage::{DIALECTS, Stage, ask_once, real_key};

fn path(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "/v1/messages?beta=true",
        Dialect::Gemini => "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
        Dialect::OpenAi => "/v1/chat/completions",
    }
}

pub fn client() -> Client {
    Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

pub async fn post(endpoint: &Endpoint, path: &str, body: &Value) -> Response {
    let request = client().post(format!("{}{path}", endpoint.url)).bearer_auth(&endpoint.token);
    request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap()
}

fn body(stream: bool) -> Value {
    json!({"model": "gpt-6.1-sol", "max_tokens": 1000, "stream": stream, "messages": [{"role": "user", "content": "hello"}]})
}

/// Asks for a path that a well-behaved client would tidy up first.
async fn get_raw(endpoint: &Endpoint, path: &str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut connection = tokio::net::TcpStream::connect(endpoint.url.trim_start_matches("http://")).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\nconnection: close\r\n\r\n", endpoint.token);
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_the_provider_says_passes_byte_for_byte_and_is_metered() {
    for dialect in DIALECTS {
        for stream in [true, false] {
            let usage = json!({"input": 10, "cache_read": 20, "cache_write": 30, "output": 40});
            let stage = Stage::of(json!([{"text": "words ".repeat(100), "thinking": "hm", "usage": usage}])).await;
            let endpoint = stage.endpoint(dialect).await;
            let mut request = body(stream);
            if dialect == Dialect::OpenAi && stream {
                request["stream_options"] = json!({"include_usage": true});
            }
            let through = post(&endpoint, path(dialect), &request).await;
            assert_eq!(through.status(), 200);
            let through = (through.headers()["content-type"].clone(), through.bytes().await.unwrap());
            let direct = client().post(format!("http://{}{}", stage.address, path(dialect)));
            let direct = direct.body(request.to_string()).send().await.unwrap();
            assert_eq!(through, (direct.headers()["content-type"].clone(), direct.bytes().await.unwrap()));
            let settled = stage.ledger.settlements().await;
            assert_eq!(settled.len(), 1);
            assert!(!settled[0].estimated, "{dialect:?} {stream}");
            assert_eq!(
                settled[0].usage,
                Usage { input: 10, cache_read: 20, cache_write: 30, output: 40, reasoning: 0 }
            );
            let records = stage.records();
            assert_eq!(records[0].key.as_deref(), Some(real_key(dialect)), "the agent's token never leaves");
            assert_eq!(records[0].bytes, records[1].bytes);
            assert_eq!(stage.gateway.rewrites(), Rewrites::default());
        }
    }
}

#[tokio::test]
async fn a_stream_is_made_to_tell_its_usage_and_a_cap_is_set() {
    let stage = Stage::of(json!([{"text": "hi", "usage": {"input": 1, "output": 2}}])).await;
    let endpoint = stage.endpoint(Dialect::OpenAi).await;
    let mut request = body(true);
    request.as_object_mut().unwrap().remove("max_tokens");
    // Without `/v1`, as clients do that have it in their base address.
    let answer = post(&endpoint, "/chat/completions", &request).await.text().await.unwrap();
    assert!(answer.contains("prompt_tokens"), "{answer}");
    assert_eq!(stage.gateway.rewrites(), Rewrites { caps_added: 1, usage_asked: 1, ..Rewrites::default() });
    let book = stage.ledger.closed().await;
    assert!(book.settled[0].0.amount.tokens > 16_384, "the cap is what is reserved");
    assert!(!book.settled[0].1.estimated);
}

#[tokio::test]
async fn only_a_living_token_opens_the_door() {
    for dialect in DIALECTS {
        let stage = Stage::of(json!([{"text": "hi"}])).await;
        let Endpoint { url, token, guard, .. } = stage.endpoint(dialect).await;
        let anonymous = client().post(format!("{url}{}", path(dialect))).body(body(false).to_string());
        assert_eq!(anonymous.send().await.unwrap().status(), 401);
        let send = async |token: &str| {
            let request = client().post(format!("{url}{}", path(dialect))).header("x-api-key", token);
            let answer = request.body(body(false).to_string()).send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        };
        assert_eq!(send(&token).await.0, 200);
        let (status, error) = send("overnight-made-up").await;
        assert_eq!((status, error["error"]["type"].as_str()), (401, Some("authentication_error")));
        assert_eq!(error["type"] == "error", dialect == Dialect::Anthropic, "{error}");
        drop(guard);
        assert_eq!(send(&token).await.0, 401, "void with its guard");
        assert_eq!(stage.records().len(), 1);
    }
}

/// Serves as a sandbox has it served; its address, and a second handle on the listener.
fn serve(door: &dyn Door) -> (String, std::net::TcpListener) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    door.serve(listener.try_clone().unwrap());
    (url, listener)
}

#[tokio::test]
async fn a_listener_that_is_shut_is_served_no_more() {
    let stage = Stage::of(json!([{"text": "words ".repeat(200), "fault": "stall"}])).await;
    let endpoint = stage.endpoint(Dialect::Anthropic).await;
    let (url, listener) = serve(&*endpoint.door);
    let request = client().post(format!("{url}/v1/messages")).header("x-api-key", &endpoint.token);
    let mut answer = request.body(body(true).to_string()).send().await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
    assert!(answer.bytes().await.is_err(), "the sandbox is gone, and its calls with it");
    stage.ledger.settlements().await;
}

#[tokio::test]
async fn a_door_serves_its_own_attempt_only_and_closes_with_the_guard() {
    let stage = Stage::of(json!([{"text": "words ".repeat(200), "fault": "stall"}])).await;
    let neighbour = stage.endpoint(Dialect::Anthropic).await;
    let Endpoint { door, token, guard, .. } = stage.endpoint(Dialect::Anthropic).await;
    let mut urls = Vec::new();
    // As often as the sandbox's first process is started.
    for _ in 0..2 {
        urls.push(serve(&*door).0);
    }
    let ask = async |url: &str, token: &str| {
        let request = client().post(format!("{url}/v1/messages")).header("x-api-key", token);
        request.body(body(true).to_string()).send().await
    };
    let mut answers = Vec::new();
    for url in &urls {
        assert_eq!(ask(url, &neighbour.token).await.unwrap().status(), 401, "a neighbour's token");
        let mut answer = ask(url, &token).await.unwrap();
        assert!(answer.chunk().await.unwrap().is_some());
        answers.push(answer);
    }
    drop(guard);
    for answer in answers {
        assert!(answer.bytes().await.is_err(), "a call under way ends too");
    }
    assert_eq!(stage.ledger.settlements().await.len(), 2);
    urls.push(serve(&*door).0);
    for url in &urls {
        while ask(url, &token).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn connections_of_a_door_are_bounded_and_those_that_wait_are_taken_later() {
    const MOST: usize = 64;
    let stage = Stage::of(json!([])).await;
    let endpoint = stage.endpoint(Dialect::Anthropic).await;
    let (_, listener) = serve(&*endpoint.door);
    let address = listener.local_addr().unwrap();
    let ask = async |socket: &mut TcpStream| {
        socket.write_all(b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    };
    // An error, to its last byte.
    let answered = async |socket: &mut TcpStream| {
        let mut answer = Vec::new();
        while !answer.ends_with(br#""type":"error"}"#) {
            answer.push(socket.read_u8().await.unwrap());
        }
    };
    let mut held = Vec::new();
    for _ in 0..MOST {
        let mut socket = TcpStream::connect(address).await.unwrap();
        ask(&mut socket).await;
        answered(&mut socket).await;
        held.push(socket);
    }
    let mut other = TcpStream::connect(address).await.unwrap();
    ask(&mut other).await;
    for socket in &mut held {
        ask(socket).await;
        answered(socket).await;
    }
    assert!(other.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "it waits");
    drop(held.pop());
    answered(&mut other).await;
}

#[tokio::test]
async fn an_empty_purse_is_told_in_the_dialect_and_for_good() {
    for dialect in DIALECTS {
        let stage = Stage::of(json!([{"text": "hi", "usage": {"input": 500, "output": 500}}])).await;
        let budget = Budget { tokens: Some(1_500), ..Budget::default() };
        let endpoint = stage.gateway.endpoint(stage.access(dialect, budget)).await.unwrap();
        assert_eq!(post(&endpoint, path(dialect), &body(false)).await.status(), 200);
        stage.ledger.closed().await;
        let refused = post(&endpoint, path(dialect), &body(false)).await;
        assert_eq!(refused.status(), 402);
        assert_eq!(refused.headers()["x-should-retry"], "false");
        let error: Value = refused.json().await.unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains("tokens budget reached"), "{error}");
        let mut small = body(false);
        small["max_tokens"] = 1.into();
        assert_eq!(post(&endpoint, path(dialect), &small).await.status(), 402, "and no further call");
        assert_eq!(stage.records().len(), 1);
    }
}

#[tokio::test]
async fn what_has_no_price_is_not_bought_with_a_budget_in_money() {
    for (dialect, more) in [(Dialect::OpenAi, ("service_tier", "priority")), (Dialect::Anthropic, ("speed", "fast"))] {
        let stage = Stage::of(json!([{"text": "hi"}])).await;
        let budget = Budget { cost: Some(MicroUsd(100_000_000)), ..Budget::default() };
        let endpoint = stage.gateway.endpoint(stage.access(dialect, budget)).await.unwrap();
        assert_eq!(post(&endpoint, path(dialect), &body(false)).await.status(), 200);
        let mut dear = body(false);
        dear[more.0] = more.1.into();
        assert_eq!(post(&endpoint, path(dialect), &dear).await.status(), 402);
    }
}

#[tokio::test]
async fn what_the_provider_refuses_passes_in_its_own_words() {
    for dialect in DIALECTS {
        for (fault, status, tries) in [("400", 400, 1), ("401", 401, 1), ("429", 429, 4), ("500", 500, 4)] {
            let stage = Stage::of(json!([{"text": "because", "fault": fault}])).await;
            let endpoint = stage.endpoint(dialect).await;
            let answer = post(&endpoint, path(dialect), &body(true)).await;
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers().contains_key("retry-after"), fault == "429");
            let error: Value = answer.json().await.unwrap();
            let message = error["error"]["message"].as_str().unwrap();
            assert!(if fault == "429" { message.contains("because") } else { message == "because" }, "{message}");
            assert_eq!(stage.records().len(), tries);
            let settled = stage.ledger.settlements().await;
            assert_eq!((settled[0].usage.total(), settled[0].estimated), (0, false));
        }
    }
}

#[tokio::test]
async fn a_key_that_a_provider_repeats_goes_no_further() {
    for dialect in DIALECTS {
        for fault in ["400", "401", "429", "500"] {
            let stage = Stage::of(json!([{"text": format!("what is {}?", real_key(dialect)), "fault": fault}])).await;
            let answer = post(&stage.endpoint(dialect).await, path(dialect), &body(true)).await.text().await.unwrap();
            let fault = ask_once(stage.model(dialect).as_ref()).await.unwrap_err().to_string();
            for said in [answer, fault] {
                assert!(!said.contains(real_key(dialect)), "{said}");
            }
        }
    }
}

#[tokio::test]
async fn a_cut_stream_is_cut_for_the_agent_too_and_settled_by_estimate() {
    for dialect in DIALECTS {
        for fault in ["cut", "stall"] {
            let mut stage = Stage::of(json!([{"text": "words ".repeat(200), "fault": fault}])).await;
            if fault == "stall" {
                stage.hasten();
            }
            let endpoint = stage.endpoint(dialect).await;
            let answer = post(&endpoint, path(dialect), &body(true)).await;
            assert_eq!(answer.status(), 200);
            assert!(answer.bytes().await.is_err(), "{dialect:?} {fault}");
            assert!(stage.ledger.settlements().await[0].estimated);
        }
    }
}

#[tokio::test]
async fn an_agent_that_leaves_is_settled_and_the_provider_is_let_go() {
    let stage = Stage::of(json!([{"text": "words ".repeat(200), "fault": "stall"}])).await;
    let endpoint = stage.endpoint(Dialect::Anthropic).await;
    let mut answer = post(&endpoint, "/v1/messages", &body(true)).await;
    assert!(answer.chunk().await.unwrap().is_some());
    drop(answer);
    let settled = stage.ledger.settlements().await;
    assert!(settled[0].estimated && settled[0].usage.input > 0, "{settled:?}");
    assert_eq!(stage.recorded(1).await[0].end, End::Cut);
}

#[tokio::test]
async fn what_costs_nothing_is_not_reserved_and_what_is_not_there_is_said() {
    let stage = Stage::of(json!([])).await;
    let endpoint = stage.endpoint(Dialect::Anthropic).await;
    let count = post(&endpoint, "/v1/messages/count_tokens", &body(false)).await;
    assert_eq!(count.json::<Value>().await.unwrap()["input_tokens"], 1);
    let models = client().get(format!("{}/v1/models", endpoint.url)).bearer_auth(&endpoint.token);
    assert_eq!(models.send().await.unwrap().status(), 200);
    let missing = post(&endpoint, "/v1/responses/compact", &body(false)).await;
    assert_eq!(missing.status(), 404);
    for path in ["/v1/models/%2e%2e/files", "/v1/models/x/../../files", "/v1/files"] {
        assert_eq!(get_raw(&endpoint, path).await, 404, "{path}");
    }
    let twice = r#"{"model":"a","model":"b","max_tokens":1,"messages":[]}"#;
    let twice = client().post(format!("{}/v1/messages", endpoint.url)).bearer_auth(&endpoint.token).body(twice);
    assert_eq!(twice.send().await.unwrap().status(), 400);
    let book = stage.ledger.closed().await;
    assert!(book.settled.is_empty() && book.most.tokens == 0);
}

#[tokio::test]
async fn the_proxy_ends_with_its_gateway() {
    let stage = Stage::of(json!([{"text": "hi"}])).await;
    let endpoint = stage.endpoint(Dialect::Anthropic).await;
    let url = endpoint.url.clone();
    drop(endpoint);
    let gateway = std::sync::Arc::downgrade(&stage.gateway);
    drop(stage);
    assert!(gateway.upgrade().is_none());
    // The port is given back once the task that was aborted is gone.
    while tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
