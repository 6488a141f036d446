//! Agents whose clients speak `OpenAI`'s Responses.

use std::sync::Arc;

use domain::{
    budget::{Budget, MicroUsd, Usage},
    ports::model::{Endpoint, Gateways, Message, Part, Protocol, Role, Stop},
};
use gateway::{Dialect, Gateway, KeyHeader, Options, ProviderConfig, Rewrites};
use serde_json::{Value, json};

use crate::{
    proxy::{client, post},
    stage::{Stage, ask, quick, said, text_of},
};

const PATH: &str = "/v1/responses";

fn body(stream: bool) -> Value {
    json!({"model": "gpt-6.1-sol", "max_output_tokens": 1000, "stream": stream, "input": "hello"})
}

async fn stage(replies: Value) -> (Stage, Endpoint) {
    let stage = Stage::of(replies).await;
    let endpoint = stage.endpoint(Dialect::OpenAi).await;
    (stage, endpoint)
}

#[tokio::test]
async fn responses_pass_byte_for_byte_and_are_metered() {
    let usage = json!({"input": 10, "cache_read": 20, "cache_write": 30, "output": 40});
    let calls = json!([{"name": "shell", "arguments": {"command": "echo \"response.completed\""}}]);
    for stream in [true, false] {
        let reply = json!({"text": "words ".repeat(100), "thinking": "hm", "tools": calls, "usage": usage});
        let (stage, endpoint) = stage(json!([reply])).await;
        let mut request = body(stream);
        request["metadata"] = json!({"type": "response.completed", "usage": "none"});
        let through = post(&endpoint, PATH, &request).await;
        assert_eq!(through.status(), 200);
        let through = (through.headers()["content-type"].clone(), through.bytes().await.unwrap());
        let direct = client().post(format!("http://{}{PATH}", stage.address)).body(request.to_string());
        let direct = direct.send().await.unwrap();
        assert_eq!(through, (direct.headers()["content-type"].clone(), direct.bytes().await.unwrap()));
        let settled = stage.ledger.settlements().await;
        assert!(settled.len() == 1 && !settled[0].estimated, "{stream} {settled:?}");
        assert_eq!(settled[0].usage, Usage { input: 10, cache_read: 20, cache_write: 30, output: 40, reasoning: 0 });
        let records = stage.records();
        assert_eq!(records[0].key.as_deref(), Some("real-openai-key"), "the agent's token never leaves");
        assert_eq!(records[0].bytes, records[1].bytes);
        assert_eq!(stage.gateway.rewrites(), Rewrites::default());
    }
}

#[tokio::test]
async fn a_missing_cap_is_set_and_reserved() {
    let (stage, endpoint) = stage(json!([{"text": "hi"}])).await;
    let mut request = body(true);
    request.as_object_mut().unwrap().remove("max_output_tokens");
    // Without `/v1`, as clients do that have it in their base address.
    assert_eq!(post(&endpoint, "/responses", &request).await.status(), 200);
    assert_eq!(stage.gateway.rewrites(), Rewrites { caps_added: 1, ..Rewrites::default() });
    assert!(stage.ledger.closed().await.settled[0].0.amount.tokens > 16_384);
}

#[tokio::test]
async fn what_a_response_goes_on_from_is_reserved_too() {
    let usage = json!({"input": 5_000, "output": 700});
    let (stage, endpoint) = stage(json!([{"text": "one", "usage": usage}, {"text": "two"}, {"text": "three"}])).await;
    let first: Value = post(&endpoint, PATH, &body(false)).await.json().await.unwrap();
    let mut second = body(true);
    second["previous_response_id"] = first["id"].clone();
    let second = post(&endpoint, PATH, &second).await.text().await.unwrap();
    assert!(second.contains("two") && second.contains("response.completed"), "{second}");
    let named = json!([{"role": "user", "content": "hello"}, {"type": "item_reference", "id": "msg_1"}]);
    let mut third = body(false);
    third["input"] = named;
    post(&endpoint, PATH, &third).await;
    let reserved: Vec<u64> =
        stage.ledger.closed().await.settled.iter().map(|(reservation, _)| reservation.amount.tokens).collect();
    assert!(reserved[1] >= reserved[0] + 5_700, "all of the first is input of the second: {reserved:?}");
    assert!(reserved[2] >= reserved[0] + 700, "what was said before may be input of the third: {reserved:?}");

    let neighbour = stage.endpoint(Dialect::OpenAi).await;
    let mut foreign = body(false);
    foreign["previous_response_id"] = first["id"].clone();
    let refused = post(&neighbour, PATH, &foreign).await;
    assert_eq!(refused.status(), 400, "another attempt's response");
    let error: Value = refused.json().await.unwrap();
    assert_eq!(error["error"]["code"], "previous_response_not_found");
}

#[tokio::test]
async fn what_cannot_be_metered_is_refused_and_what_has_no_price_not_bought_with_money() {
    let (stage, endpoint) = stage(json!([{"text": "hi"}])).await;
    for (field, value) in [("background", json!(true)), ("conversation", json!("c")), ("prompt", json!({"id": "p"}))] {
        let mut request = body(false);
        request[field] = value;
        let refused = post(&endpoint, PATH, &request).await;
        assert_eq!(refused.status(), 400, "{field}");
        assert!(refused.text().await.unwrap().contains("cannot be metered"));
    }
    assert!(stage.records().is_empty());
    let budget = Budget { cost: Some(MicroUsd(100_000_000)), ..Budget::default() };
    let endpoint = stage.gateway.endpoint(stage.access(Dialect::OpenAi, budget)).await.unwrap();
    let mut request = body(false);
    request["tools"] = json!([{"type": "function", "name": "f", "parameters": {}}]);
    assert_eq!(post(&endpoint, PATH, &request).await.status(), 200);
    request["tools"] = json!([{"type": "web_search"}]);
    assert_eq!(post(&endpoint, PATH, &request).await.status(), 402);
}

#[tokio::test]
async fn a_stream_without_its_last_event_is_settled_by_estimate() {
    for fault in ["cut", "error_event", "no_usage"] {
        let (stage, endpoint) = stage(json!([{"text": "words ".repeat(200), "fault": fault}])).await;
        let answer = post(&endpoint, PATH, &body(true)).await;
        assert_eq!(answer.bytes().await.is_err(), fault == "cut");
        assert!(stage.ledger.settlements().await[0].estimated, "{fault}");
    }
}

#[tokio::test]
async fn an_incomplete_response_is_whole() {
    let usage = json!({"input": 7, "output": 1000});
    let (stage, endpoint) = stage(json!([{"text": "words", "stop": "length", "usage": usage}])).await;
    let answer = post(&endpoint, PATH, &body(true)).await.text().await.unwrap();
    assert!(answer.contains("max_output_tokens\"}") && answer.contains("event: response.incomplete"), "{answer}");
    let settled = stage.ledger.settlements().await;
    assert!(!settled[0].estimated && settled[0].usage.output == 1000);
}

#[tokio::test]
async fn counting_tokens_costs_nothing() {
    let (stage, endpoint) = stage(json!([])).await;
    let count = post(&endpoint, "/v1/responses/input_tokens", &body(false)).await;
    assert_eq!(count.json::<Value>().await.unwrap()["input_tokens"], 1);
    assert!(stage.ledger.closed().await.settled.is_empty());
}

#[tokio::test]
async fn the_neutral_port_speaks_it_too() {
    let call = json!([{"name": "shell", "arguments": {"command": "ls"}}]);
    let usage = json!({"input": 10, "cache_read": 20, "output": 40});
    let replies = json!([{"text": "look", "thinking": "hm", "tools": call, "usage": usage}, {"text": "done", "when": "three files"}]);
    let stage = Stage::of(replies).await;
    let provider = ProviderConfig {
        name: "answers".to_owned(),
        protocols: vec![Protocol::Responses],
        base_url: format!("http://{}/v1", stage.address),
        key: None,
        header: KeyHeader::Bearer,
        headers: Default::default(),
    };
    let options = Options { providers: vec![provider], ..quick(Arc::clone(&stage.ledger)) };
    let mut access = stage.access(Dialect::OpenAi, Budget::default());
    access.model = "answers/m".to_owned();
    let model = Gateway::new(options).unwrap().model(access).unwrap();
    let mut messages = vec![said("mend it")];
    let reply = ask(model.as_ref(), &messages).await.unwrap();
    assert_eq!((text_of(&reply).as_str(), reply.stop), ("look", Stop::ToolCalls));
    assert_eq!(reply.usage, Usage { input: 10, cache_read: 20, cache_write: 0, output: 40, reasoning: 0 });
    let Some(Part::ToolCall { id, .. }) = reply.message.parts.last() else { panic!("{reply:?}") };
    let result = Part::ToolResult { id: id.clone(), text: "three files".to_owned(), is_error: false };
    messages.extend([reply.message.clone(), Message { role: Role::User, parts: vec![result] }]);
    assert_eq!(text_of(&ask(model.as_ref(), &messages).await.unwrap()), "done");
    assert_eq!(stage.records()[1].prefix_kept, Some(true));
    let settled = stage.ledger.settlements().await;
    assert!(settled.iter().all(|one| !one.estimated && one.cost.is_none()), "its price is unknown, not zero");
}
