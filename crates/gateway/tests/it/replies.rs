//! Good replies: what is decoded, what is paid, and what is sent again.

use domain::{
    budget::{MicroUsd, Usage},
    ports::model::{Message, Part, Role, Stop},
};
use gateway::Dialect;
use serde_json::json;

use crate::stage::{DIALECTS, Stage, ask, ask_once, real_key, said, text_of};

#[tokio::test]
async fn a_reply_comes_whole_in_either_dialect() {
    let long = "words and \"quotes\" and \u{1f600}\n".repeat(50);
    for dialect in DIALECTS {
        let stage = Stage::of(json!([{
            "text": long, "thinking": "hm, \u{e4}",
            "tools": [
                {"name": "shell", "arguments": {"command": "ls \"a b\"\n"}},
                {"name": "read", "arguments": {"path": "x".repeat(500)}}
            ],
            "usage": {"input": 10, "cache_read": 20, "cache_write": 30, "output": 40}
        }]))
        .await;
        let reply = ask_once(stage.model(dialect).as_ref()).await.unwrap();
        assert_eq!(reply.stop, Stop::ToolCalls);
        assert_eq!(reply.usage, Usage { input: 10, cache_read: 20, cache_write: 30, output: 40, reasoning: 0 });
        assert_eq!(text_of(&reply), long);
        let [Part::Opaque { json }, Part::Text { .. }, first, second] = reply.message.parts.as_slice() else {
            panic!("{dialect:?}: {:?}", reply.message.parts);
        };
        assert!(json.contains("hm, \u{e4}"), "{json}");
        for (call, name, argument, value) in
            [(first, "shell", "command", "ls \"a b\"\n".to_owned()), (second, "read", "path", "x".repeat(500))]
        {
            let Part::ToolCall { id, name: called, arguments } = call else { panic!("{call:?}") };
            assert!(!id.is_empty() && called == name);
            let arguments: serde_json::Value = serde_json::from_str(arguments).unwrap();
            assert_eq!(arguments[argument], value);
        }
        let settled = stage.ledger.settlements().await;
        assert_eq!(settled.len(), 1);
        assert_eq!((settled[0].usage, settled[0].estimated), (reply.usage, false));
        // 10 x $2 + 20 x $0.10 + 30 x $2.50 + 40 x $10 a million, for both.
        assert_eq!(settled[0].cost, Some(MicroUsd(497)));
        let records = stage.records();
        assert_eq!(records[0].key.as_deref(), Some(real_key(dialect)));
        assert!(records[0].streamed);
    }
}

#[tokio::test]
async fn a_conversation_goes_on_with_everything_given_back() {
    for dialect in DIALECTS {
        let stage = Stage::playing(json!({"conversations": [{
            "match": "mend",
            "replies": [
                {"text": "look", "thinking": "first", "tools": [{"name": "shell", "arguments": {"command": "ls"}}]},
                {"tools": [{"name": "shell", "arguments": {"command": "cat"}}], "when": "three files"},
                {"text": "done", "when": "no such"}
            ]
        }]}))
        .await;
        let model = stage.model(dialect);
        let mut messages = vec![said("mend it")];
        for result in ["three files", "no such file"] {
            let reply = ask(model.as_ref(), &messages).await.unwrap();
            let id = reply.message.parts.iter().find_map(|part| match part {
                Part::ToolCall { id, .. } => Some(id.clone()),
                Part::Text { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
            });
            messages.push(reply.message);
            let is_error = result.starts_with("no");
            let result = Part::ToolResult { id: id.unwrap(), text: result.to_owned(), is_error };
            let more = Part::Text { text: "and hurry".to_owned() };
            messages.push(Message { role: Role::User, parts: vec![result, more] });
        }
        // Something more is said before an answer comes: it joins the message that was sent already.
        assert!(ask(model.as_ref(), &messages).await.is_ok());
        messages.last_mut().unwrap().parts.push(Part::Text { text: "now".to_owned() });
        let reply = ask(model.as_ref(), &messages).await.unwrap();
        assert_eq!((text_of(&reply).as_str(), reply.stop), ("done", Stop::EndTurn));
        let records = stage.records();
        assert_eq!(records.iter().map(|record| record.index).collect::<Vec<_>>(), [0, 1, 2, 2]);
        let kept: Vec<_> = records.iter().map(|record| record.prefix_kept).collect();
        assert_eq!(kept, [None, Some(true), Some(true), Some(true)], "{dialect:?}: each request continues the last");
        assert!(records.iter().all(|record| record.head == records[0].head), "tools and system prompt stay");
    }
}

#[tokio::test]
async fn arguments_that_are_no_json_come_as_they_are_and_can_be_sent_back() {
    for dialect in DIALECTS {
        let stage = Stage::of(json!([
            {"tools": [{"name": "shell", "arguments": {"command": "ls"}}], "fault": "invalid_json_arguments"},
            {"text": "sorry"}
        ]))
        .await;
        let model = stage.model(dialect);
        let reply = ask_once(model.as_ref()).await.unwrap();
        let Part::ToolCall { id, arguments, .. } = &reply.message.parts[0] else { panic!("{reply:?}") };
        assert_eq!(arguments, "{\"command\":\"ls\",,");
        let result = Part::ToolResult { id: id.clone(), text: "no JSON".to_owned(), is_error: true };
        let messages = [said("hello"), reply.message.clone(), Message { role: Role::User, parts: vec![result] }];
        assert_eq!(text_of(&ask(model.as_ref(), &messages).await.unwrap()), "sorry");
    }
}

#[tokio::test]
async fn every_way_to_stop_is_told() {
    for dialect in DIALECTS {
        for (word, stop) in [("length", Stop::Length), ("refused", Stop::Refused)] {
            let stage = Stage::of(json!([{"text": "no", "stop": word}])).await;
            assert_eq!(ask_once(stage.model(dialect).as_ref()).await.unwrap().stop, stop, "{dialect:?}");
        }
    }
}

#[tokio::test]
async fn a_reply_without_usage_is_settled_by_estimate() {
    for dialect in DIALECTS {
        let stage = Stage::of(json!([{"text": "hi", "fault": "no_usage"}])).await;
        assert_eq!(text_of(&ask_once(stage.model(dialect).as_ref()).await.unwrap()), "hi");
        assert!(stage.ledger.settlements().await[0].estimated, "{dialect:?}");
    }
}

#[tokio::test]
async fn one_connection_serves_one_call_after_the_other() {
    let stage = Stage::of(json!([{"text": "hi"}])).await;
    let model = stage.model(Dialect::Anthropic);
    for _ in 0..20 {
        ask_once(model.as_ref()).await.unwrap();
    }
    assert_eq!(stage.ledger.settlements().await.len(), 20);
}
