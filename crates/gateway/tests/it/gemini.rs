//! Gemini's dialect: agents whose clients speak it, and the neutral port over it.

use domain::{
    budget::{Budget, MicroUsd, Usage},
    ports::model::{Endpoint, Gateways, Message, ModelFault, Part, Role, Stop},
};
use gateway::{Dialect, Rewrites};
use serde_json::{Value, json};

use crate::{
    proxy::{client, post},
    stage::{Stage, ask, ask_once, said, text_of},
};

const WHOLE: &str = "/v1beta/models/gemini-3.8-flash:generateContent";
const STREAM: &str = "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse";
const COUNT: &str = "/v1beta/models/gemini-3.8-flash:countTokens";

fn body() -> Value {
    json!({"contents": [{"parts": [{"text": "hello"}]}], "generationConfig": {"maxOutputTokens": 1000}})
}

async fn stage(replies: Value) -> (Stage, Endpoint) {
    let stage = Stage::of(replies).await;
    let endpoint = stage.endpoint(Dialect::Gemini).await;
    (stage, endpoint)
}

#[tokio::test]
async fn answers_pass_byte_for_byte_and_are_metered() {
    let usage = json!({"input": 10, "cache_read": 20, "output": 40});
    let calls = json!([{"name": "shell", "arguments": {"command": "echo \"finishReason\" usageMetadata"}}]);
    for path in [STREAM, WHOLE] {
        let reply = json!({"text": "words ".repeat(100), "thinking": "hm", "tools": calls, "usage": usage});
        let (stage, endpoint) = stage(json!([reply])).await;
        let through = post(&endpoint, path, &body()).await;
        assert_eq!(through.status(), 200);
        let through = (through.headers()["content-type"].clone(), through.bytes().await.unwrap());
        let direct = client().post(format!("http://{}{path}", stage.address)).body(body().to_string());
        let direct = direct.send().await.unwrap();
        assert_eq!(through, (direct.headers()["content-type"].clone(), direct.bytes().await.unwrap()));
        let settled = stage.ledger.settlements().await;
        assert!(settled.len() == 1 && !settled[0].estimated, "{path} {settled:?}");
        assert_eq!(settled[0].usage, Usage { input: 10, cache_read: 20, cache_write: 0, output: 40, reasoning: 20 });
        // 10 x $0.75 + 20 x $0.075 + 40 x $3.75 a million.
        assert_eq!(settled[0].cost, Some(MicroUsd(159)));
        let records = stage.records();
        assert_eq!(records[0].key.as_deref(), Some("real-gemini-key"), "the agent's token never leaves");
        assert_eq!(records[0].bytes, records[1].bytes);
        assert_eq!(stage.gateway.rewrites(), Rewrites::default());
    }
}

#[tokio::test]
async fn the_token_stands_where_the_key_would() {
    let (stage, endpoint) = stage(json!([{"text": "hi"}])).await;
    let Endpoint { url, token, .. } = &endpoint;
    let plain = |path: &str| client().post(format!("{url}{path}")).body(body().to_string());
    let by_header = plain(WHOLE).header("x-goog-api-key", token).header("x-http-method-override", "DELETE");
    assert_eq!(by_header.send().await.unwrap().status(), 200);
    assert_eq!(plain(&format!("{STREAM}&key={token}")).send().await.unwrap().status(), 200);
    for path in [WHOLE.to_owned(), format!("{WHOLE}?key=made-up")] {
        let refused = plain(&path).send().await.unwrap();
        assert_eq!(refused.status(), 401);
        let error: Value = refused.json().await.unwrap();
        assert_eq!((&error["error"]["code"], &error["error"]["status"]), (&401.into(), &"UNAUTHENTICATED".into()));
    }
    assert!(stage.records().iter().all(|record| record.key.as_deref() == Some("real-gemini-key")));
    assert_eq!(stage.records().len(), 2);
}

#[tokio::test]
async fn a_missing_cap_is_set_and_reserved() {
    let (stage, endpoint) = stage(json!([{"text": "hi"}])).await;
    let mut request = body();
    request.as_object_mut().unwrap().remove("generationConfig");
    assert_eq!(post(&endpoint, STREAM, &request).await.status(), 200);
    assert_eq!(stage.gateway.rewrites(), Rewrites { caps_added: 1, ..Rewrites::default() });
    assert!(stage.ledger.closed().await.settled[0].0.amount.tokens > 16_384);
}

#[tokio::test]
async fn what_cannot_be_metered_is_refused_and_what_has_no_price_not_bought_with_money() {
    let (stage, endpoint) = stage(json!([{"text": "hi"}])).await;
    let mut cached = body();
    cached["cachedContent"] = "cachedContents/of-a-neighbour".into();
    let mut file = body();
    file["contents"][0]["parts"][0] = json!({"fileData": {"fileUri": "files/of-a-neighbour"}});
    for request in [cached, file] {
        let refused = post(&endpoint, STREAM, &request).await;
        assert_eq!(refused.status(), 400);
        let error: Value = refused.json().await.unwrap();
        assert_eq!(error["error"]["status"], "INVALID_ARGUMENT");
        assert!(error["error"]["message"].as_str().unwrap().contains("cannot be metered"), "{error}");
    }
    assert_eq!(post(&endpoint, &format!("{WHOLE}?fields=candidates"), &body()).await.status(), 400);
    for path in ["/v1beta/cachedContents", "/v1beta/files", "/v1beta/models/..%2ffiles:generateContent"] {
        let missing = post(&endpoint, path, &body()).await;
        assert_eq!(missing.status(), 404);
        assert_eq!(missing.json::<Value>().await.unwrap()["error"]["status"], "NOT_FOUND", "{path}");
    }
    assert!(stage.records().is_empty());
    let budget = Budget { cost: Some(MicroUsd(100_000_000)), ..Budget::default() };
    let endpoint = stage.gateway.endpoint(stage.access(Dialect::Gemini, budget)).await.unwrap();
    let mut request = body();
    request["tools"] = json!([{"functionDeclarations": [{"name": "f"}]}]);
    assert_eq!(post(&endpoint, WHOLE, &request).await.status(), 200);
    request["tools"] = json!([{"googleSearch": {}}]);
    let refused = post(&endpoint, WHOLE, &request).await;
    assert_eq!(refused.status(), 402);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["status"], "RESOURCE_EXHAUSTED");
    assert_eq!(post(&endpoint, WHOLE, &body()).await.status(), 402, "and no further call");
}

#[tokio::test]
async fn a_stream_without_its_end_is_settled_by_estimate() {
    for fault in ["cut", "error_event", "no_usage"] {
        let (stage, endpoint) = stage(json!([{"text": "words ".repeat(200), "fault": fault}])).await;
        let answer = post(&endpoint, STREAM, &body()).await;
        assert_eq!(answer.bytes().await.is_err(), fault == "cut");
        assert!(stage.ledger.settlements().await[0].estimated, "{fault}");
    }
}

#[tokio::test]
async fn counting_tokens_costs_nothing() {
    let (stage, endpoint) = stage(json!([])).await;
    assert_eq!(post(&endpoint, COUNT, &body()).await.json::<Value>().await.unwrap()["totalTokens"], 1);
    let list = client().get(format!("{}/v1beta/models", endpoint.url)).header("x-goog-api-key", &endpoint.token);
    assert_eq!(list.send().await.unwrap().status(), 200);
    assert!(stage.ledger.closed().await.settled.is_empty());
}

fn call_of(message: &Message) -> &str {
    let call = message.parts.iter().find_map(|part| match part {
        Part::ToolCall { id, .. } => Some(id.as_str()),
        Part::Text { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
    });
    call.unwrap()
}

#[tokio::test]
async fn a_conversation_goes_on_with_everything_given_back() {
    let call = json!([{"name": "shell", "arguments": {"command": "ls"}}]);
    let usage = json!({"input": 10, "cache_read": 20, "output": 40});
    let stage = Stage::of(json!([
        {"text": "look", "thinking": "first", "tools": call, "usage": usage},
        {"tools": call, "when": "three files"},
        {"text": "done", "when": "no such"}
    ]))
    .await;
    let model = stage.model(Dialect::Gemini);
    let mut messages = vec![said("mend it")];
    for result in ["three files", "no such file"] {
        let reply = ask(model.as_ref(), &messages).await.unwrap();
        assert_eq!(reply.stop, Stop::ToolCalls);
        let (id, is_error) = (call_of(&reply.message).to_owned(), result.starts_with("no"));
        messages.push(reply.message);
        let result = Part::ToolResult { id, text: result.to_owned(), is_error };
        messages.push(Message { role: Role::User, parts: vec![result, Part::Text { text: "hurry".to_owned() }] });
    }
    let [Part::Opaque { json: thought }, Part::Text { text }, Part::Opaque { json: signature }, _] =
        messages[1].parts.as_slice()
    else {
        panic!("{:?}", messages[1].parts);
    };
    assert_eq!((thought.as_str(), text.as_str()), (r#"{"thought":true,"text":"first"}"#, "look"));
    assert!(signature.starts_with(r#"{"thoughtSignature":"sig-"#), "{signature}");
    assert_ne!(call_of(&messages[1]), call_of(&messages[3]), "every call has a name of its own");
    assert!(ask(model.as_ref(), &messages).await.is_ok());
    messages.last_mut().unwrap().parts.push(Part::Text { text: "now".to_owned() });
    let reply = ask(model.as_ref(), &messages).await.unwrap();
    assert_eq!((text_of(&reply).as_str(), reply.stop), ("done", Stop::EndTurn));
    let kept: Vec<_> = stage.records().iter().map(|record| record.prefix_kept).collect();
    assert_eq!(kept, [None, Some(true), Some(true), Some(true)], "each request continues the last");
    let settled = stage.ledger.settlements().await;
    assert_eq!(settled[0].usage, Usage { input: 10, cache_read: 20, cache_write: 0, output: 40, reasoning: 20 });
    assert!(settled.iter().all(|one| !one.estimated));
}

#[tokio::test]
async fn every_end_is_told() {
    for (word, stop) in [("length", Stop::Length), ("refused", Stop::Refused)] {
        let stage = Stage::of(json!([{"text": "no", "stop": word}])).await;
        assert_eq!(ask_once(stage.model(Dialect::Gemini).as_ref()).await.unwrap().stop, stop);
    }
    let tools = json!([{"name": "shell", "arguments": {}}]);
    for (fault, calls) in [
        ("invalid_json_arguments", 2),
        ("cut", 2),
        ("error_event", 2),
        ("429", 1),
        ("503", 1),
        ("drop", 1),
        ("json_error", 1),
    ] {
        let reply = json!({"text": "at last", "tools": tools, "fault": fault, "fault_times": 1});
        let stage = Stage::of(json!([reply])).await;
        let reply = ask_once(stage.model(Dialect::Gemini).as_ref()).await.unwrap();
        assert_eq!((text_of(&reply).as_str(), reply.stop), ("at last", Stop::ToolCalls), "{fault}");
        assert_eq!(stage.ledger.settlements().await.len(), calls, "{fault}");
    }
    for fault in ["garbage", "empty", "html"] {
        let stage = Stage::of(json!([{"text": "x", "fault": fault}])).await;
        let fault = ask_once(stage.model(Dialect::Gemini).as_ref()).await.unwrap_err();
        assert!(matches!(fault, ModelFault::Garbage(_)), "{fault}");
    }
    let stage = Stage::of(json!([{"fault": "401"}])).await;
    let fault = ask_once(stage.model(Dialect::Gemini).as_ref()).await.unwrap_err();
    assert!(matches!(fault, ModelFault::DeadKey(_)), "{fault}");
}
