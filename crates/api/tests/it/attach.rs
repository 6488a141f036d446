//! Terminals and previews over upgraded connections.

use api::wire::attach::{FRAME_HEAD, Frame, Left, Size};
use domain::ids::TaskId;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
};

use crate::home::Home;

/// A person's side of a terminal.
struct Person(UnixStream);

impl Person {
    async fn at(home: &Home, task: TaskId, asked: Value) -> Self {
        let (stream, head) = home.client.upgrade(&format!("/tasks/{task}/attach"), "overnight-terminal", asked).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self(stream)
    }

    async fn send(&mut self, frame: &Frame) {
        self.0.write_all(&frame.encode()).await.unwrap();
    }

    async fn types(&mut self, text: &str) {
        self.send(&Frame::Data(text.as_bytes().to_vec())).await;
    }

    async fn hears(&mut self) -> Frame {
        let mut head = [0; FRAME_HEAD];
        self.0.read_exact(&mut head).await.unwrap();
        let (kind, length) = Frame::head(head).unwrap();
        let mut content = vec![0; length];
        self.0.read_exact(&mut content).await.unwrap();
        Frame::decode(kind, content).unwrap()
    }

    /// Reads what is printed until it contains `needle`.
    async fn until(&mut self, needle: &str) -> String {
        let mut printed = String::new();
        while !printed.contains(needle) {
            match self.hears().await {
                Frame::Data(bytes) => printed.push_str(&String::from_utf8(bytes).unwrap()),
                other => panic!("{other:?} after {printed:?}"),
            }
        }
        printed
    }

    async fn leaves(mut self) -> Left {
        loop {
            match self.hears().await {
                Frame::Data(_) => {}
                Frame::Left(left) => {
                    assert_eq!(self.0.read(&mut [0]).await.unwrap(), 0, "it was the last frame");
                    return *left;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_person_works_by_hand_and_is_told_what_becomes_of_it() {
    let home = Home::open().await;
    let task = home.ready().await;
    let asked = json!({ "argv": ["shout", "now"], "size": { "rows": 50, "columns": 132 } });
    let mut person = Person::at(&home, task.id, asked).await;
    assert_eq!(person.hears().await, Frame::Notes(vec!["the service web is not ready".to_owned()]));
    person.until("shout now at 50x132\n").await;
    person.types("hello").await;
    person.until("HELLO").await;
    person.send(&Frame::Resize(Size { rows: 30, columns: 90 })).await;
    person.until("WAS 50X132, IS 30X90").await;

    let refused = home.client.upgrade(&format!("/tasks/{}/attach", task.id), "overnight-terminal", json!({})).await.1;
    assert!(refused.starts_with("HTTP/1.1 409 "), "one at a time: {refused}");

    person.types("edit").await;
    person.until("EDIT").await;
    person.types("exit").await;
    let left = person.leaves().await;
    assert_eq!((left.code, left.changed_total, left.changed[0].path.as_str()), (Some(3), 1, "by-hand.txt"));
    assert!(left.said.contains("checks run"), "{left:?}");
    let after = home.until(task.id, |now| now.head.is_some() && now.head != task.head).await;
    home.quiet(after.id).await;
    home.close().await.unwrap();
}

#[tokio::test]
async fn nothing_changed_is_said_and_the_end_of_input_ends_a_script() {
    let home = Home::open().await;
    let task = home.ready().await;
    let mut person = Person::at(&home, task.id, json!({})).await;
    person.types("word\n").await;
    person.hears().await;
    person.until("WORD").await;
    person.send(&Frame::EndOfInput).await;
    let left = person.leaves().await;
    assert_eq!((left.code, left.changed.len(), left.said.as_str()), (Some(0), 0, "nothing changed"));
    home.close().await.unwrap();
}

#[tokio::test]
async fn who_hangs_up_keeps_the_work() {
    let home = Home::open().await;
    let task = home.ready().await;
    let mut person = Person::at(&home, task.id, json!({})).await;
    person.hears().await;
    person.types("edit").await;
    person.until("EDIT").await;
    drop(person);
    home.until(task.id, |now| now.head.is_some() && now.head != task.head).await;
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_stop_keeps_the_work_too() {
    let home = Home::open().await;
    let task = home.ready().await;
    let mut person = Person::at(&home, task.id, json!({})).await;
    person.hears().await;
    person.types("edit").await;
    person.until("EDIT").await;
    home.stop.ask();
    let left = person.leaves().await;
    assert_eq!((left.code, left.changed_total), (None, 1), "{left:?}");
    home.close().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_attached_to_is_told() {
    let home = Home::open().await;
    let task = home.ready().await;
    let path = format!("/tasks/{}/attach", task.id);
    let plain = home.client.post(&path, json!({})).await.problem(426);
    assert!(plain.hint.unwrap().contains("Upgrade: overnight-terminal"));
    let other = home.client.upgrade(&path, "websocket", json!({})).await.1;
    assert!(other.starts_with("HTTP/1.1 426 "), "{other}");
    let none = home.client.upgrade("/tasks/T-9/attach", "overnight-terminal", json!({})).await.1;
    assert!(none.starts_with("HTTP/1.1 404 "), "{none}");
    let mut person = Person::at(&home, task.id, json!({})).await;
    person.hears().await;
    // Nonsense is taken for hanging up.
    person.0.write_all(&[9, 0, 0, 0, 0]).await.unwrap();
    person.until("at 24x80").await;
    assert_eq!(person.0.read(&mut [0]).await.unwrap(), 0);
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_service_is_looked_at_through_the_daemon() {
    let home = Home::open().await;
    let task = home.ready().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    *home.furnishing.port.lock().unwrap() = Some(port);
    let path = format!("/tasks/{}/preview", task.id);
    let (mut outside, head) = home.client.upgrade(&path, "overnight-bytes", json!({})).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (mut inside, _) = listener.accept().await.unwrap();
    outside.write_all(b"GET").await.unwrap();
    outside.shutdown().await.unwrap();
    let mut asked = String::new();
    inside.read_to_string(&mut asked).await.unwrap();
    assert_eq!(asked, "GET");
    inside.write_all(b"page").await.unwrap();
    drop(inside);
    let mut answer = String::new();
    outside.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "page");

    drop(listener);
    let gone = home.client.upgrade(&path, "overnight-bytes", json!({ "port": port })).await.1;
    assert!(gone.starts_with("HTTP/1.1 404 "), "{gone}");
    home.client.post(&path, json!({})).await.problem(426);
    home.close().await.unwrap();
}
