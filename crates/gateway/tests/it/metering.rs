//! What is settled is what the provider counted: in every protocol, streamed and not, whatever goes wrong between.

use domain::{
    budget::{Budget, Usage},
    ids::TaskId,
    ports::{
        ledger::Ledger,
        model::{Endpoint, Gateways, Protocol},
    },
};
use gateway::{Dialect, scripted::End};
use serde_json::{Value, json};

use crate::{kept::Kept, proxy::post};

fn dialect(protocol: Protocol) -> Dialect {
    match protocol {
        Protocol::Messages => Dialect::Anthropic,
        Protocol::ChatCompletions | Protocol::Responses => Dialect::OpenAi,
        Protocol::GenerateContent => Dialect::Gemini,
    }
}

/// Sends a request as a client of this protocol does; whether its answer came whole.
async fn asks(endpoint: &Endpoint, protocol: Protocol, stream: bool, said: &str) -> bool {
    let (path, body) = match protocol {
        Protocol::Messages => (
            "/v1/messages",
            json!({"model": "claude-sonnet-5-5", "max_tokens": 900, "stream": stream, "messages": [{"role": "user", "content": said}]}),
        ),
        Protocol::ChatCompletions => (
            "/v1/chat/completions",
            json!({"model": "gpt-6.1-sol", "stream": stream, "messages": [{"role": "user", "content": said}]}),
        ),
        Protocol::Responses => (
            "/v1/responses",
            json!({"model": "gpt-6.1-sol", "max_output_tokens": 900, "stream": stream, "input": said}),
        ),
        Protocol::GenerateContent => (
            if stream {
                "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse"
            } else {
                "/v1beta/models/gemini-3.8-flash:generateContent"
            },
            json!({"contents": [{"role": "user", "parts": [{"text": said}]}]}),
        ),
    };
    let answer = post(endpoint, path, &body).await;
    let ok = answer.status() == 200;
    answer.bytes().await.is_ok() && ok
}

fn script() -> Value {
    let usage = |n: u64| json!({"input": 10 * n, "cache_read": 20 * n, "cache_write": 0, "output": 40 + n});
    let reply = |matches: &str, n: u64, mut reply: Value| {
        reply["usage"] = usage(n);
        reply["text"] = "words ".repeat(200).into();
        json!({"match": matches, "replies": [reply]})
    };
    json!({"conversations": [
        reply("limited", 1, json!({"fault": "429", "fault_times": 2})),
        reply("overloaded", 2, json!({"fault": "529", "fault_times": 1})),
        reply("dropped", 3, json!({"fault": "drop", "fault_times": 1})),
        reply("failing", 4, json!({"fault": "500", "fault_times": 3})),
        reply("title", 5, json!({})),
        reply("cut", 6, json!({"fault": "cut"})),
        reply("", 7, json!({"thinking": "hm", "tools": [{"name": "shell", "arguments": {"command": "ls"}}]})),
    ]})
}

#[tokio::test]
async fn the_ledger_agrees_with_the_provider_to_the_token() {
    for protocol in Protocol::ALL {
        for stream in [true, false] {
            let kept = Kept::playing(script()).await;
            let access = kept.stage.access(dialect(protocol), Budget::default());
            let endpoint = kept.stage.gateway.endpoint(access).await.unwrap();
            for said in ["hello", "limited", "overloaded", "title, please", "dropped", "failing", "hello"] {
                assert!(asks(&endpoint, protocol, stream, said).await, "{protocol:?} {stream} {said}");
            }
            let records = kept.stage.records();
            let counted =
                records.iter().filter(|record| record.end == End::Completed).filter_map(|record| record.usage);
            let provider = counted.fold(Usage::default(), |sum, usage| {
                let of = |usage: gateway::scripted::ReplyUsage| Usage {
                    input: usage.input,
                    cache_read: usage.cache_read,
                    cache_write: usage.cache_write,
                    output: usage.output,
                    reasoning: 0,
                };
                sum.plus(&of(usage))
            });
            let spend = loop {
                let (spend, held) = kept.store.spent(TaskId(1)).await.unwrap();
                if spend.calls == 7 && held.tokens == 0 {
                    break spend;
                }
            };
            // The provider's log does not tell it apart.
            let usage = Usage { reasoning: 0, ..spend.usage };
            assert_eq!((usage, spend.estimated_calls), (provider, 0), "{protocol:?} {stream}");
            assert_eq!(spend.usage.reasoning > 0, protocol == Protocol::GenerateContent, "it says what it thought");
            assert_eq!(spend.usage.output, 7 * 40 + 7 + 1 + 2 + 5 + 3 + 4 + 7, "every call is in it once");
        }
    }
}

#[tokio::test]
async fn a_cut_stream_counts_as_much_as_was_reserved_and_is_marked() {
    for protocol in Protocol::ALL {
        let kept = Kept::playing(script()).await;
        let access = kept.stage.access(dialect(protocol), Budget::default());
        let endpoint = kept.stage.gateway.endpoint(access).await.unwrap();
        assert!(!asks(&endpoint, protocol, true, "cut").await, "{protocol:?}");
        let call = loop {
            let calls = kept.store.calls(TaskId(1)).await.unwrap();
            if let Some(call) = calls.into_iter().find(|call| call.settled.is_some()) {
                break call;
            }
        };
        let settled = call.settled.unwrap();
        let (spend, _) = kept.store.spent(TaskId(1)).await.unwrap();
        assert!(settled.estimated && spend.estimated_calls == 1, "{protocol:?}");
        assert_eq!(spend.usage.total(), call.reserved.tokens.max(settled.usage.total()), "{protocol:?}");
        assert_eq!(Some(spend.cost), call.reserved.cost.max(settled.cost), "{protocol:?}");
    }
}
