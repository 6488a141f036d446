//! The scripted provider itself: its script, its record, and the process it can be.

use futures::future::join_all;
use gateway::{
    Dialect,
    scripted::{End, Record, Script, main_args},
};
use serde_json::json;

use crate::stage::{Stage, ask, said, text_of};

#[test]
fn a_script_that_cannot_be_read_says_where() {
    for (script, words) in [
        ("{", "line 1"),
        (r#"{"conversations":[{"replies":[{"txt":"a"}]}]}"#, "txt"),
        (r#"{"conversations":[{"replies":[{"fault":"flood"}]}]}"#, "flood"),
        (r#"{"conversations":[{"replies":[{"fault":"200"}]}]}"#, "200"),
    ] {
        let told = Script::parse(script).unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    }
    for args in [&[][..], &["--script"], &["--script", "/no/such", "--log", "/dev/null"], &["--speed", "9"]] {
        assert!(main_args(args.iter().map(|arg| (*arg).to_owned())).is_err());
    }
}

#[tokio::test]
async fn the_conversation_and_the_reply_are_told_from_the_request() {
    let stage = Stage::playing(json!({"conversations": [
        {"match": "red", "replies": [{"text": "first red"}], "default": {"text": "more red"}},
        {"match": "blue", "replies": [{"text": "blue", "when": "please"}]}
    ]}))
    .await;
    let model = stage.model(Dialect::Anthropic);
    let first = ask(model.as_ref(), &[said("a red thing")]).await.unwrap();
    assert_eq!(text_of(&first), "first red");
    let further = [said("a red thing"), first.message, said("more")];
    assert_eq!(text_of(&ask(model.as_ref(), &further).await.unwrap()), "more red");
    for (text, why) in [("blue", "wants `please`"), ("green", "no conversation")] {
        let told = ask(model.as_ref(), &[said(text)]).await.unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(text_of(&ask(model.as_ref(), &[said("blue, please")]).await.unwrap()), "blue");
    let records = stage.records();
    assert_eq!(records[0].conversation, records[1].conversation);
    assert_eq!(records[1].prefix_kept, Some(true));
    assert!(records.iter().all(|record| record.end == End::Completed));
    assert_eq!(records.iter().map(|record| record.status).collect::<Vec<_>>(), [200, 200, 400, 400, 200]);
}

#[tokio::test]
async fn a_changed_beginning_is_noticed() {
    let stage = Stage::of(json!([{"text": "a"}, {"text": "b"}])).await;
    let model = stage.model(Dialect::OpenAi);
    let first = ask(model.as_ref(), &[said("hello"), said("you")]).await.unwrap();
    ask(model.as_ref(), &[said("hello"), first.message, said("you there")]).await.unwrap();
    assert_eq!(stage.records()[1].prefix_kept, Some(false));
}

#[tokio::test]
async fn many_conversations_go_on_at_once() {
    let replies: Vec<_> = (0..10).map(|round| json!({"text": format!("round {round}")})).collect();
    let stage = Stage::of(json!(replies)).await;
    let model = stage.model(Dialect::Anthropic);
    join_all((0..200).map(|number| {
        let model = &model;
        async move {
            let mut messages = vec![said(&format!("task {number}"))];
            for round in 0..10 {
                let reply = ask(model.as_ref(), &messages).await.unwrap();
                assert_eq!(text_of(&reply), format!("round {round}"));
                messages.extend([reply.message, said("go on")]);
            }
        }
    }))
    .await;
    let records = stage.records();
    assert_eq!(records.len(), 2000);
    assert!(records.iter().all(|record| record.prefix_kept != Some(false)));
    assert_eq!(stage.ledger.settlements().await.len(), 2000);
}

#[tokio::test]
async fn a_record_is_written_as_a_line_of_json() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.jsonl");
    let stage = Stage::of(json!([{"text": "hi"}])).await;
    ask(stage.model(Dialect::OpenAi).as_ref(), &[said("hello")]).await.unwrap();
    let log = gateway::scripted::Log::to_file(&path).unwrap();
    assert!(log.records().is_empty());
    let line = serde_json::to_string(&stage.records()[0]).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), stage.records()[0]);
}
