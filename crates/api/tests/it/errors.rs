//! Whatever is wrong with a request, its answer is a problem that says what, where and what to do.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::home::Home;

#[tokio::test]
async fn bad_bodies_are_told_apart() {
    let home = Home::open().await;
    let json = [("content-type", "application/json; charset=utf-8")];
    let send = async |headers: &[(&str, &str)], body: &str| {
        home.client.send_bytes("POST", "/tasks", headers, body.as_bytes().to_vec()).await
    };
    assert!(send(&json, "{\"brief\":").await.problem(400).detail.contains("not JSON"));
    assert!(send(&json, "{} {}").await.problem(400).detail.contains("goes on"));
    assert!(send(&[("content-type", "text/plain")], "{}").await.problem(415).hint.is_some());
    assert!(
        send(&json, &format!("{{\"base\": \"{}\"}}", "x".repeat(5 << 20))).await.problem(413).detail.contains("4 MB")
    );

    for (body, detail, hint) in [
        (json!({}), "exactly one of", ""),
        (json!({"brief": {"goal": "x"}, "brief_markdown": "x"}), "exactly one of", ""),
        (json!({"breif": {}}), "unknown field `breif`", "did you mean `brief`?"),
        (
            json!({"brief": {"goal": "x", "bugdet": "2usd"}}),
            "`brief`: unknown field `bugdet`",
            "did you mean `budget`?",
        ),
        (json!({"brief": {"goal": 3}}), "`brief.goal`: invalid type: integer `3`", ""),
        (json!({"brief": {"goal": "x", "budget": {"usd": -1}}}), "`brief.budget.usd`: invalid value", ""),
        (
            json!({"brief": {"goal": "x", "checks": ["true", {"name": "a"}]}}),
            "`brief.checks[1]`: missing field `command`",
            "",
        ),
        (
            json!({"brief": {"goal": "x", "land": "sqash"}}),
            "`brief.land`: unknown variant `sqash`",
            "did you mean `squash`?",
        ),
        (
            json!({"brief": {"goal": "x", "budget": "2eur"}}),
            "`brief.budget`: `2eur` is not a budget",
            "money like 2usd",
        ),
        (json!({"brief": {"goal": " "}}), "no goal", "sentence"),
        (
            json!({"brief": {"goal": "x", "protected_paths": ["[z-a]"]}}),
            "`protected_paths` has `[z-a]`",
            "gitignore syntax",
        ),
        (json!({"brief": {"goal": "x", "allowed_paths": ["../x"]}}), "leaves the repository", "from the root"),
        (json!({"brief": {"goal": "x", "allowed_paths": ["#x"]}}), "comment", "from the root"),
        (json!({"brief_markdown": "+++\nbugdet = 1\n+++\nx"}), "line 2: unknown field `bugdet`", "`budget`"),
        (json!({"brief": {"goal": "x"}, "directory": "here"}), "not an absolute path", ""),
        (json!({"brief": {"goal": "x"}, "directory": "/nowhere/at/all"}), "not in a git repository", "stand in"),
        (json!({"brief": {"goal": "x"}, "wip": true}), "without a `directory`", ""),
        (json!({"brief": {"goal": "x"}}), "a change needs a repository", ""),
    ] {
        let problem = home.client.post("/tasks", body.clone()).await.problem(422);
        assert!(problem.detail.contains(detail), "{body}: {problem:?}");
        assert!(problem.hint.unwrap_or_default().contains(hint), "{body}");
    }
    let unknown = json!({"brief": {"goal": "x", "agent": "buildin"}, "directory": home.repository()});
    assert!(home.client.post("/tasks", unknown).await.problem(404).hint.unwrap().contains("builtin"));
    home.close().await.unwrap();
}

#[tokio::test]
async fn bad_addresses_and_methods_are_told_apart() {
    let home = Home::open().await;
    for (method, path, status, detail) in [
        ("GET", "/nothing", 404, "no route /api/v1/nothing"),
        ("DELETE", "/tasks", 405, "DELETE is not possible"),
        ("GET", "/tasks/T-9", 404, "there is no task T-9"),
        ("GET", "/tasks/T-9/log", 404, "there is no task T-9"),
        ("GET", "/tasks/T-9/log?follow=true", 404, "there is no task T-9"),
        ("GET", "/tasks/T-9/journal", 404, "there is no task T-9"),
        ("POST", "/tasks/T-9/cancel", 404, "there is no task T-9"),
        ("POST", "/tasks/T-9/answer", 422, "missing field `answer`"),
        ("GET", "/tasks/x", 422, "`x` is not a task id"),
        ("GET", "/tasks/%ff", 422, ""),
        ("GET", "/tasks?phase=sleeping", 422, "`sleeping` is not a phase"),
        ("GET", "/tasks?limit=0", 422, "`limit` is 0"),
        ("GET", "/tasks?limit=many", 422, "invalid digit"),
        ("GET", "/tasks?phases=ended", 422, "unknown field `phases`"),
        ("GET", "/tasks?cursor=here", 422, "not a cursor"),
        ("GET", "/events?after=x", 422, "invalid digit"),
        ("PUT", "/keys/acme", 404, "no provider `acme`"),
    ] {
        let problem = home.client.send(method, path, &[], None).await.problem(status);
        assert!(problem.detail.contains(detail), "{method} {path}: {problem:?}");
    }
    let lost = home.client.send("GET", "/tasks/T-9/log", &[("last-event-id", "middle")], None).await;
    assert!(lost.problem(422).detail.contains("not a place in a log"));
    home.close().await.unwrap();
}

#[tokio::test]
async fn every_answer_names_the_version_and_the_socket_is_private() {
    let home = Home::open().await;
    for path in ["/status", "/nothing", "/tasks/x"] {
        assert_eq!(home.client.get(path).await.header("x-overnight-version"), "1.2.3");
    }
    let mode = std::fs::metadata(&home.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    home.close().await.unwrap();
}

/// The table in docs/api.md and the router say the same.
#[test]
fn every_route_is_in_the_document() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md")).unwrap();
    let documented: Vec<String> =
        document.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    let served: Vec<String> =
        api::ROUTES.iter().map(|route| format!("{} {}", route.method.to_uppercase(), route.path)).collect();
    for route in &served {
        assert!(documented.contains(route), "{route} is not in docs/api.md");
    }
    assert_eq!(documented.len(), served.len(), "docs/api.md lists routes that are not served");
}

#[tokio::test]
async fn hostile_text_stays_data() {
    let home = Home::open().await;
    let hostile = "line\r\n\r\nevent: fake\nid: 99\u{0}\u{1b}[2J\u{2028}</script>";
    let task = home.submit(json!({"goal": hostile})).await.task;
    let shown: Value = home.client.get(&format!("/tasks/{}", task.id)).await.ok();
    assert_eq!(shown["brief"]["goal"], hostile);
    let mut log = home.client.events(&format!("/tasks/{}/log?follow=true", task.id), &[]).await;
    let first = log.next().await.unwrap();
    assert_eq!(first.name, "line");
    assert!(first.json::<api::wire::LogLine>().body.text().contains("submitted: line"));
    home.close().await.unwrap();
}
