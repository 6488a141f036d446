//! Clients that leave before the last word.

use std::sync::Arc;

use domain::{
    budget::Budget,
    ports::model::{Access, CallNews, CallWatch, Gateways},
};
use gateway::Dialect;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{Semaphore, oneshot},
};

use crate::{
    proxy::post,
    stage::{Stage, access},
};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
const BEGINNING: &str = r#"data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"hi"},"finish_reason":null}]}

data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

"#;
const END: &str = r#"data: {"id":"c","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":12,"total_tokens":42}}

data: [DONE]

"#;

/// Lets pass who waits for a call's end.
struct Ended(Semaphore);

impl CallWatch for Ended {
    fn tell(&self, news: CallNews) {
        if matches!(news, CallNews::Answered) {
            self.0.add_permits(1);
        }
    }
}

#[tokio::test]
async fn what_a_client_does_not_wait_for_is_counted_all_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go_on, gone_on) = oneshot::channel::<()>();
    let provider = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut [0; 16 << 10]).await.unwrap() > 0);
        socket.write_all([HEAD, BEGINNING].concat().as_bytes()).await.unwrap();
        gone_on.await.unwrap();
        socket.write_all(END.as_bytes()).await.unwrap();
    });
    let stage = Stage::of(json!([])).await;
    let ended = Arc::new(Ended(Semaphore::new(0)));
    let access = Access { watch: Arc::clone(&ended) as _, ..access(address, Dialect::OpenAi, Budget::default()) };
    let endpoint = stage.gateway.endpoint(access).await.unwrap();
    let body = json!({"model": "gpt-6.1-sol", "max_tokens": 1000, "stream": true, "messages": [{"role": "user", "content": "hello"}]});
    let mut answer = post(&endpoint, "/v1/chat/completions", &body).await;
    assert!(answer.chunk().await.unwrap().is_some());
    drop(answer);
    ended.0.acquire().await.unwrap().forget();
    go_on.send(()).unwrap();
    let settled = stage.ledger.settlements().await;
    assert_eq!((settled[0].usage.input, settled[0].usage.output, settled[0].estimated), (30, 12, false));
    assert_eq!(ended.0.available_permits(), 0, "a call ends once");
    provider.await.unwrap();
}
