//! A recorded attempt, played again without its provider.

use std::sync::{Arc, Mutex};

use domain::{
    budget::Budget,
    ports::{
        model::{
            Access, Compared, Endpoint, Gateways, Message, Model, ModelFault, ModelReply, Part, ReplayRequest,
            Replayed, Role,
        },
        record::Exchange,
    },
};
use gateway::Dialect;
use serde_json::{Value, json};

use crate::{
    kept::Kept,
    proxy::{client, post},
    stage::{ask, real_key, said},
};

type Told = Arc<Mutex<Vec<(u32, Compared)>>>;

async fn replayed(kept: &Kept, record: Vec<Exchange>) -> (Replayed, Told) {
    let told = Told::default();
    let hears = Arc::clone(&told);
    let Access { key, credentials, redactor, .. } = kept.stage.access(Dialect::Anthropic, Budget::default());
    let hearing = Arc::new(move |call, compared| hears.lock().unwrap().push((call, compared)));
    let request = ReplayRequest { key, record, credentials, redactor, told: hearing };
    (kept.stage.gateway.replay(request).await.unwrap(), told)
}

fn compared(told: &Told) -> Vec<Compared> {
    let told = told.lock().unwrap();
    assert!(told.iter().map(|(call, _)| *call).eq(1..=told.len() as u32));
    told.iter().map(|(_, compared)| compared.clone()).collect()
}

/// As the built-in agent does: tools are called until there is no call, and their results depend on what is called.
async fn converse(model: &dyn Model) -> Vec<Result<ModelReply, ModelFault>> {
    let mut messages = vec![said("mend it")];
    let mut replies = Vec::new();
    loop {
        let reply = ask(model, &messages).await;
        replies.push(reply.clone());
        let Ok(reply) = reply else { return replies };
        let results: Vec<_> = reply
            .message
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::ToolCall { id, arguments, .. } => {
                    Some(Part::ToolResult { id: id.clone(), text: format!("ran {arguments}"), is_error: false })
                }
                _ => None,
            })
            .collect();
        messages.push(reply.message);
        if results.is_empty() {
            return replies;
        }
        messages.push(Message { role: Role::User, parts: results });
    }
}

#[tokio::test]
async fn the_built_in_agents_requests_are_the_same_to_the_byte_and_no_provider_is_asked() {
    let call = |n: u32| json!({"text": "so", "thinking": "hm", "tools": [{"name": "shell", "arguments": {"command": n}}], "latency_ms": 20});
    for dialect in [Dialect::Anthropic, Dialect::Gemini, Dialect::OpenAi] {
        let mut replies: Vec<Value> = (0..10).map(call).collect();
        replies[4]["fault"] = json!("cut");
        replies[4]["fault_times"] = json!(1);
        replies.push(json!({"text": "done"}));
        let kept = Kept::of(replies.into()).await;
        let access = kept.stage.access(dialect, Budget::default());
        let then = converse(kept.stage.gateway.model(access.clone()).unwrap().as_ref()).await;
        let record = kept.record(access.key, 12).await;
        let asked = kept.stage.records().len();

        let (Replayed { model, endpoint }, told) = replayed(&kept, record).await;
        let now = converse(model.as_ref()).await;
        assert_eq!(now, then);
        assert_eq!(compared(&told), vec![Compared::Identical; 12]);
        assert_eq!(kept.stage.records().len(), asked);
        let beyond = ask(model.as_ref(), &[said("more")]).await;
        assert!(matches!(beyond, Err(ModelFault::Rejected(_))), "{beyond:?}");
        assert_eq!(compared(&told)[12], Compared::BeyondTheRecord);
        assert_eq!(endpoint.protocols.len(), 1);
        assert_eq!(endpoint.model, access.model);
    }
}

#[tokio::test]
async fn why_there_was_no_reply_is_told_again() {
    for (fault, text, is) in [
        ("400", "too long", "Rejected"),
        ("401", "who", "DeadKey"),
        ("html", "", "Garbage"),
        ("garbage", "", "Garbage"),
        ("503", "", "Unavailable"),
    ] {
        let kept = Kept::of(json!([{"text": text, "fault": fault}])).await;
        let access = kept.stage.access(Dialect::OpenAi, Budget::default());
        let then = ask(kept.stage.gateway.model(access.clone()).unwrap().as_ref(), &[said("hello")]).await.unwrap_err();
        let (replayed, told) = replayed(&kept, kept.record(access.key, 1).await).await;
        let now = ask(replayed.model.as_ref(), &[said("hello")]).await.unwrap_err();
        for fault in [&then, &now] {
            assert!(format!("{fault:?}").starts_with(is), "{fault:?}");
        }
        assert_eq!(compared(&told), [Compared::Identical]);
    }
}

fn request(said: &str, stream: bool) -> Value {
    json!({"model": "claude-sonnet-5-5", "max_tokens": 90, "stream": stream, "messages": [{"role": "user", "content": said}]})
}

async fn answer(endpoint: &Endpoint, request: &Value) -> (u16, String, Result<Vec<u8>, ()>) {
    let answer = post(endpoint, "/v1/messages?beta=true", request).await;
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (answer.status().as_u16(), kind, answer.bytes().await.map(|bytes| bytes.to_vec()).map_err(drop))
}

#[tokio::test]
async fn a_client_gets_what_it_got_and_is_told_where_it_parts() {
    let conversation = |matches: &str, reply: Value| json!({"match": matches, "replies": [reply]});
    let kept = Kept::playing(json!({"conversations": [
        conversation("title", json!({"text": "A title"})),
        conversation("broken", json!({"text": "words ".repeat(200), "fault": "cut"})),
        conversation("refuse", json!({"text": "no", "fault": "400"})),
        conversation("", json!({"text": "words ".repeat(200)})),
    ]}))
    .await;
    let access = kept.stage.access(Dialect::Anthropic, Budget::default());
    let endpoint = kept.stage.gateway.endpoint(access.clone()).await.unwrap();
    let asked = [
        request("It is 2026-11-21 04:46:43. title, please", true),
        request("It is 2026-11-21 04:46:43, call_Ab12Cd34, in /tmp/tmp.q1w2e3", true),
        request("not streamed", false),
        request("broken", true),
        request("refuse", true),
        request("the last one that is recorded", true),
    ];
    let mut then = Vec::new();
    for request in &asked {
        then.push(answer(&endpoint, request).await);
    }
    assert_eq!(post(&endpoint, "/v1/messages/count_tokens", &request("x", false)).await.status(), 200);
    let record = kept.record(access.key, 7).await;
    drop(endpoint);

    let (Replayed { endpoint, .. }, told) = replayed(&kept, record).await;
    // The title is asked for later than it was.
    let later = request("It is 2027-02-01 11:00:00. title, please", true);
    assert_eq!(
        answer(&endpoint, &request("It is 2027-01-31 23:59:59, call_Zz98Yy76, in /tmp/tmp.r4t5z6", true)).await,
        then[1]
    );
    for at in 2..5 {
        assert_eq!(answer(&endpoint, &asked[at]).await, then[at]);
        assert_eq!(post(&endpoint, "/v1/messages/count_tokens", &request("y", false)).await.status(), 200);
    }
    assert_eq!(answer(&endpoint, &later).await, then[0]);
    assert_eq!(answer(&endpoint, &request("the last one that is replayed", true)).await, then[5]);
    assert_eq!(answer(&endpoint, &asked[0]).await.0, 404);
    let told = compared(&told);
    assert_eq!(told[0], Compared::SameButForIds);
    assert_eq!(told[1..4], vec![Compared::Identical; 3]);
    assert_eq!(told[4], Compared::SameButForIds);
    let Compared::Different { recorded, replayed } = &told[5] else { panic!("{told:?}") };
    assert!(recorded.starts_with("corded\"") && replayed.starts_with("played\""), "{told:?}");
    assert_eq!(told[6..], [Compared::BeyondTheRecord]);

    let stranger = client().post(format!("{}/v1/messages", endpoint.url)).header("x-api-key", "overnight-x");
    assert_eq!(stranger.body("{}").send().await.unwrap().status(), 401);
    let url = endpoint.url.clone();
    drop(endpoint);
    while client().get(&url).send().await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_secret_in_a_request_is_no_difference_and_is_not_told_as_one() {
    let kept = Kept::of(json!([{"text": "hi"}])).await;
    let access = kept.stage.access(Dialect::Anthropic, Budget::default());
    let key = real_key(Dialect::Anthropic);
    let asks = |more: &str| format!("It says {key} here. {more}");
    let model = kept.stage.gateway.model(access.clone()).unwrap();
    ask(model.as_ref(), &[said(&asks("Mend it."))]).await.unwrap();
    let record = kept.record(access.key, 1).await;
    let again = replayed(&kept, record.clone()).await;
    ask(again.0.model.as_ref(), &[said(&asks("Mend it."))]).await.unwrap();
    assert_eq!(compared(&again.1), [Compared::Identical]);
    let other = replayed(&kept, record).await;
    ask(other.0.model.as_ref(), &[said(&format!("Otherwise: {}", asks("Mend it.")))]).await.unwrap();
    let told = compared(&other.1);
    assert!(matches!(told[..], [Compared::Different { .. }]) && !format!("{told:?}").contains(key), "{told:?}");
}
