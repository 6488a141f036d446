//! Environments and secrets of a repository.

use api::wire::{Doctor, Environment, Kept, Secret, Secrets, environment::Built};
use domain::{
    Fault,
    environment::{EnvironmentUse, Health},
    ports::environments::Start,
};
use serde_json::json;

use crate::{
    furnishing::{layer, refusal},
    home::Home,
};

#[tokio::test]
async fn secrets_go_in_and_never_come_out() {
    let home = Home::open().await;
    let at = |name: &str, stage: &str| format!("/secrets{name}?directory={}{stage}", home.repository());
    let put = async |path: &str, value: &str| home.client.send("PUT", path, &[], Some(json!({ "value": value }))).await;
    let set: Secret = put(&at("/NPM_TOKEN", ""), "sesame-open\n").await.ok();
    assert_eq!((set.name.as_str(), set.stage.word(), set.value), ("NPM_TOKEN", "staging", Kept::Set));
    put(&at("/NPM_TOKEN", "&stage=production"), "sesame-real").await.ok::<Secret>();
    let short: Secret = put(&at("/PIN", ""), "1234").await.ok();
    assert!(short.notes[0].contains("too short"), "{short:?}");

    let list: Secrets = home.client.get(&at("", "")).await.ok();
    assert_eq!(list.names, ["NPM_TOKEN", "PIN"]);
    let environment = format!("/environment?directory={}", home.repository());
    for path in [&at("", ""), &at("", "&stage=production"), &environment, "/doctor", "/status"] {
        let reply = home.client.get(path).await;
        assert!(reply.status.is_success(), "{path}: {reply:?}");
        assert!(!String::from_utf8_lossy(&reply.body).contains("sesame"), "{path} tells a secret");
    }

    home.client.send("DELETE", &at("/PIN", ""), &[], None).await.ok::<Secret>();
    home.client.send("DELETE", &at("/PIN", ""), &[], None).await.problem(404);
    for (path, value, status) in [
        (at("/9PIN", ""), "x".to_owned(), 422),
        (at("/PIN", ""), String::new(), 422),
        (at("/PIN", ""), "a\u{0}b".to_owned(), 422),
        (at("/PIN", ""), "x".repeat(70 << 10), 422),
        (at("/PIN", "&stage=testing"), "x".to_owned(), 422),
        ("/secrets/PIN?directory=here".to_owned(), "x".to_owned(), 422),
        ("/secrets/PIN".to_owned(), "x".to_owned(), 422),
    ] {
        let problem = put(&path, &value).await.problem(status);
        assert!(problem.hint.is_some() || value.is_empty(), "{path}: {problem:?}");
    }
    home.close().await.unwrap();
}

#[tokio::test]
async fn an_environment_is_shown_with_its_layers_and_what_is_missing() {
    let home = Home::open().await;
    home.client
        .send(
            "PUT",
            &format!("/secrets/NPM_TOKEN?directory={}", home.repository()),
            &[],
            Some(json!({ "value": "sesame" })),
        )
        .await
        .ok::<Secret>();
    let shown: Environment = home.client.get(&format!("/environment?directory={}", home.repository())).await.ok();
    assert_eq!(shown.definition.install, ["npm ci"]);
    assert_eq!(shown.checks[0].command, "npm test");
    let kept: Vec<_> = shown.definition.secrets.iter().map(|secret| (secret.name.as_str(), secret.value)).collect();
    assert_eq!(kept, [("NPM_TOKEN", Kept::Set), ("API_TOKEN", Kept::Absent)]);
    assert_eq!((&shown.layers[0].id, shown.layers[0].bytes), (&layer(), 5_000));

    let task = home.submit(json!({"goal": "Go on"})).await.task;
    let of_task: Environment = home.client.get(&format!("/tasks/{}/environment", task.id)).await.ok();
    assert_eq!(of_task, shown);
    home.client.get("/tasks/T-99/environment").await.problem(404);
    home.client.get("/environment?directory=here").await.problem(422);
    home.client.get("/environment?directory=/nowhere/at/all").await.problem(422);

    let doctor: Doctor = home.client.get("/doctor").await.ok();
    let layers = doctor.layers.unwrap();
    assert_eq!((layers.layers, layers.bytes, layers.budget_bytes, layers.rung.as_str()), (2, 3_000, 10_000, "copy"));
    assert_eq!(doctor.presets[0].hosts, ["npm.example"]);
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_build_is_told_line_by_line() {
    let home = Home::open().await;
    let asked = json!({ "directory": home.repository(), "start": "nothing" });
    let mut events = home.client.work("/environment/build", asked.clone()).await;
    let first = events.next().await.unwrap();
    assert_eq!((first.name.as_str(), first.data.as_str()), ("line", r#"{"text":"installing\u001b[1m"}"#));
    // Nothing of this waits for the end.
    home.furnishing.pace.add_permits(1);
    assert_eq!(events.next().await.unwrap().data, r#"{"text":"installed"}"#);
    let last = events.next().await.unwrap();
    assert_eq!(last.name, "built");
    let built: Built = last.json();
    assert_eq!((built.seconds, built.used.layer, built.refused), (7, Some(layer()), vec![refusal()]));
    assert!(events.next().await.is_none());

    *home.furnishing.fails.lock().unwrap() = Some(Fault::environment("npm ci failed").hint("add the host"));
    home.furnishing.pace.add_permits(1);
    let mut events = home.client.work("/environment/build", asked).await;
    let mut last = events.next().await.unwrap();
    while let Some(event) = events.next().await {
        last = event;
    }
    assert_eq!(last.name, "problem");
    assert_eq!(last.json::<api::wire::Problem>().hint.as_deref(), Some("add the host"));
    assert_eq!(*home.furnishing.built.lock().unwrap(), [Start::Nothing, Start::Nothing]);

    let mut events = home.client.work("/environment/check", json!({ "directory": home.repository() })).await;
    assert_eq!(events.next().await.unwrap().data, r#"{"text":"npm test"}"#);
    assert_eq!(events.next().await.unwrap().json::<EnvironmentUse>().health, Health::Healthy);
    home.client.post("/environment/build", json!({ "directory": "/nowhere/at/all" })).await.problem(422);
    let word = json!({ "directory": home.repository(), "start": "scratch" });
    assert!(home.client.post("/environment/build", word).await.problem(422).detail.contains("start"));
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_stop_ends_a_build() {
    let home = Home::open().await;
    let mut events = home.client.work("/environment/build", json!({ "directory": home.repository() })).await;
    assert_eq!(events.next().await.unwrap().name, "line");
    home.stop.ask();
    assert_eq!(events.next().await.unwrap().json::<api::wire::Problem>().status, 503);
    home.close().await.unwrap();
}

#[tokio::test]
async fn an_unhealthy_environment_is_on_every_list() {
    let home = Home::open().await;
    let ill = Health::Unhealthy { why: "npm test fails on the base".to_owned(), log: None };
    *home.furnishing.used.lock().unwrap() = EnvironmentUse { layer: Some(layer()), health: ill.clone(), note: None };
    let task = home.ready().await;
    assert_eq!(task.unhealthy.as_deref(), Some("npm test fails on the base"));
    let inbox: api::wire::Inbox = home.client.get("/inbox").await.ok();
    assert_eq!(inbox.needs_you[0].unhealthy, task.unhealthy);
    let shown: api::wire::Task = home.client.get(&format!("/tasks/{}", task.id)).await.ok();
    assert_eq!(shown.environment.unwrap().health, ill);
    home.close().await.unwrap();
}
