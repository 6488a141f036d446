//! The daemon and the installation.

use api::wire::{Doctor, Key, Keys, Status, Stopping, house::Kept};
use serde_json::json;

use crate::home::Home;

#[tokio::test]
async fn keys_are_kept_and_never_shown() {
    let home = Home::open().await;
    let set: Key = home
        .client
        .send(
            "PUT",
            "/keys/anthropic",
            &[],
            Some(json!({"api_key": " sk-fake-1 \n", "base_url": "http://127.0.0.1:1"})),
        )
        .await
        .ok();
    assert_eq!((set.api_key, set.base_url), (Kept::Set, Kept::Set));
    home.client.send("PUT", "/keys/openai", &[], Some(json!({"api_key": "sk-fake-2"}))).await.ok::<Key>();
    // What is not given stays.
    home.client.send("PUT", "/keys/anthropic", &[], Some(json!({"api_key": "sk-fake-3"}))).await.ok::<Key>();
    let kept = home.handle.ports().secrets.get("home".to_owned()).await.unwrap();
    assert_eq!(kept.get("ANTHROPIC_API_KEY"), Some("sk-fake-3"));
    assert_eq!(kept.get("ANTHROPIC_BASE_URL"), Some("http://127.0.0.1:1"));

    for path in ["/keys", "/keys/anthropic", "/doctor", "/status"] {
        let reply = home.client.get(path).await;
        assert!(!String::from_utf8_lossy(&reply.body).contains("sk-fake"), "{path} tells a key");
    }
    let doctor: Doctor = home.client.get("/doctor").await.ok();
    assert_eq!(doctor.keys, ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY"]);

    let gone: Key = home.client.send("DELETE", "/keys/anthropic", &[], None).await.ok();
    assert_eq!((gone.api_key, gone.base_url), (Kept::Absent, Kept::Absent));
    let keys: Keys = home.client.get("/keys").await.ok();
    assert_eq!(keys.keys.iter().filter(|key| key.api_key == Kept::Set).count(), 1);
    for body in [json!({}), json!({"api_key": ""}), json!({"api_key": "a b"}), json!({"base_url": "ftp://x"})] {
        home.client.send("PUT", "/keys/openai", &[], Some(body)).await.problem(422);
    }
    home.close().await.unwrap();
}

#[tokio::test]
async fn status_and_doctor_say_how_things_stand() {
    let home = Home::open().await;
    home.ready().await;
    home.submit(json!({"goal": "Go on"})).await;
    let status: Status = home.client.get("/status").await.ok();
    assert_eq!((status.version.as_str(), status.pid), ("1.2.3", std::process::id()));
    assert_eq!((status.tasks.working, status.tasks.needs_you), (1, 1));
    assert_eq!(status.epoch.0, 1);
    let doctor: Doctor = home.client.get("/doctor").await.ok();
    let names: Vec<&str> = doctor.findings.iter().map(|finding| finding.name.as_str()).collect();
    assert_eq!(names, ["store", "home", "disk", "sandbox"]);
    assert!(doctor.findings.iter().filter(|finding| finding.name != "disk").all(|finding| finding.ok), "{doctor:?}");
    assert!(doctor.walls.confined && doctor.walls.walls[0].stands);
    assert_eq!((doctor.agents, doctor.agents_missing), (vec!["builtin".to_owned()], vec!["absent".to_owned()]));
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_is_answered_and_ends_streams_and_server() {
    let home = Home::open().await;
    let mut events = home.client.events("/events", &[]).await;
    assert_eq!(events.next().await.unwrap().name, "hello");
    let task = home.submit(json!({"goal": "Go on"})).await.task;
    let mut log = home.client.events(&format!("/tasks/{}/log?follow=true", task.id), &[]).await;
    let reply = home.client.send("POST", "/shutdown", &[], None).await;
    assert_eq!(reply.status, 202);
    assert_eq!(reply.json::<Stopping>().pid, std::process::id());
    while events.next().await.is_some() {}
    while log.next().await.is_some() {}
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("daemon.sock");
    drop(api::bind(&path).unwrap());
    assert!(path.exists(), "a dead daemon leaves its socket");
    let listener = api::bind(&path).unwrap();
    let (client, accepted) = tokio::join!(tokio::net::UnixStream::connect(&path), listener.accept());
    client.unwrap();
    accepted.unwrap();
    let fault = api::bind(&directory.path().join("no/such/place")).unwrap_err();
    assert!(fault.what.contains("no/such/place") && fault.hint.is_some());
}
