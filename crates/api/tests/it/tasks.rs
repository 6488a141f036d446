//! Starting tasks, and reading what became of them.

use api::wire::{Blame, Inbox, Log, LogBody, Problem, Pulled, Spoken, Submitted, Task, Tasks};
use domain::{
    check::Verdict,
    ids::{Actor, Via},
    ports::agent::TurnConclusion,
    summary::{Phase, Wanted},
    task::Outcome,
};
use serde_json::json;

use crate::{
    home::Home,
    stands_in::{base, commit},
};

#[tokio::test]
async fn a_task_goes_from_brief_to_landing() {
    let home = Home::open().await;
    let submitted = home.submit(json!({"goal": "Fix it", "checks": ["cargo test"], "budget": "2usd"})).await;
    assert_eq!((submitted.base, submitted.target.as_deref()), (base(), Some("main")));
    assert_eq!(submitted.notes, ["the clone is shallow"]);
    let id = submitted.task.id;

    home.end_turn(TurnConclusion::Finished);
    home.until(id, |task| task.phase == Phase::NeedsYou).await;
    let ready = home.quiet(id).await;
    assert_eq!((ready.detail.as_str(), ready.verdict), ("ready", Some(Verdict::Green)));

    let shown = home.client.get("/tasks/T-1").await;
    let task: Task = shown.ok();
    assert_eq!(task.summary, ready);
    assert_eq!(task.brief.goal, "Fix it");
    assert_eq!(task.attempts[0].judgement.as_ref().unwrap().runs[0].fixed, ["overflow"]);
    assert_eq!(task.said[0].event, "submitted");
    assert!(matches!(task.submitted_by, Actor::Person(_)));

    let diff = home.client.get("/tasks/1/diff").await;
    let head = diff.header("x-overnight-head").to_owned();
    assert_eq!(head, commit(id, domain::ids::TurnNo(1)).as_str());
    assert_eq!(diff.header("x-overnight-base"), base().as_str());
    assert_eq!(diff.header("content-type"), "text/x-diff");
    assert_eq!(&diff.body[..], [format!("diff {} {head}\n", base()).as_bytes(), b"+\xff\n"].concat());

    let spoken: Spoken = home.client.post("/tasks/T-1/approve", json!({"head": head})).await.ok();
    assert!(matches!(spoken.task.phase, Phase::Landing | Phase::Closing | Phase::Ended), "{spoken:?}");
    let landed = home.until(id, |task| task.phase == Phase::Ended).await;
    assert!(matches!(landed.outcome, Some(Outcome::Landed { ref on, .. }) if on == "main"), "{landed:?}");
    home.close().await.unwrap();
}

#[tokio::test]
async fn what_the_end_of_a_task_leaves_behind_is_told() {
    let home = Home::open().await;
    std::fs::write(format!("{}/keep-the-branch", home.repository()), "").unwrap();
    let id = home.submit(json!({"goal": "Fix it"})).await.task.id;
    home.end_turn(TurnConclusion::Finished);
    home.until(id, |task| task.phase == Phase::NeedsYou).await;
    home.client.post("/tasks/T-1/reject", json!({})).await.ok::<Spoken>();
    home.until(id, |task| task.phase == Phase::Ended).await;
    let task: Task = home.client.get("/tasks/T-1").await.ok();
    assert!(task.residue.unwrap().contains("the branch was kept"));
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_brief_file_and_a_report_without_a_repository_start_tasks() {
    let home = Home::open().await;
    let text = "+++\nreport = true\n+++\nSay what is slow\n";
    let reply = home.client.post("/tasks", json!({"brief_markdown": text})).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("location"), "/api/v1/tasks/T-1");
    home.end_turn(TurnConclusion::Finished);
    let submitted: Submitted = reply.json();
    home.until(submitted.task.id, |task| task.phase == Phase::Ended).await;
    let task: Task = home.client.get("/tasks/1").await.ok();
    assert_eq!(task.attempts[0].report.as_deref(), Some("a summary"), "{task:?}");

    // Ended and asked for again, it gets a scratch repository of its own.
    let again: Spoken = home.client.post("/tasks/1/retry", json!({})).await.ok();
    assert_eq!(again.task.id.to_string(), "T-2", "{again:?}");
    let task: Task = home.client.get("/tasks/2").await.ok();
    assert!(task.repository_path.ends_with("scratch-T-2"), "{}", task.repository_path);
    home.close().await.unwrap();
}

#[tokio::test]
async fn the_same_key_is_the_same_task() {
    let home = Home::open().await;
    let body = json!({"brief": {"goal": "Once"}, "directory": home.repository()});
    let send = |key: &'static str| {
        let (client, body) = (home.client.clone(), body.clone());
        async move { client.send("POST", "/tasks", &[("idempotency-key", key)], Some(body)).await }
    };
    let (first, second) = tokio::join!(send("a"), send("a"));
    let third = send("a").await;
    let other = send("b").await;
    let id = |reply: &crate::client::Reply| reply.ok::<Submitted>().task.id;
    assert_eq!(id(&first), id(&second));
    assert_eq!(id(&first), id(&third));
    assert_ne!(id(&first), id(&other));
    let bad = send("not a key").await;
    assert!(bad.problem(422).detail.contains("Idempotency-Key"));
    home.close().await.unwrap();
}

#[tokio::test]
async fn lists_have_pages_and_phases() {
    let home = Home::open().await;
    for goal in ["one", "two", "three", "four", "five"] {
        home.submit(json!({"goal": goal})).await;
    }
    let mut titles = Vec::new();
    let mut path = "/tasks?limit=2".to_owned();
    loop {
        let page: Tasks = home.client.get(&path).await.ok();
        assert!(page.tasks.len() <= 2);
        titles.extend(page.tasks.into_iter().map(|task| task.title));
        match page.next {
            Some(next) => path = format!("/tasks?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(titles, ["five", "four", "three", "two", "one"]);
    let none: Tasks = home.client.get("/tasks?phase=ended,landing").await.ok();
    assert!(none.tasks.is_empty());
    let here: Tasks = home.client.get("/tasks?repository=/nowhere").await.ok();
    assert!(here.tasks.is_empty());
    home.close().await.unwrap();
}

#[tokio::test]
async fn the_inbox_holds_what_needs_a_person_and_what_has_just_ended() {
    let home = Home::open().await;
    let ready = home.ready().await;
    let working = home.submit(json!({"goal": "Go on"})).await.task;
    let gone = home.submit(json!({"goal": "Never mind"})).await.task;
    home.client.post(&format!("/tasks/{}/cancel", gone.id), json!({"why": "changed my mind"})).await.ok::<Spoken>();
    home.until(gone.id, |task| task.phase == Phase::Ended).await;
    let inbox: Inbox = home.client.get("/inbox").await.ok();
    assert_eq!(inbox.needs_you.iter().map(|task| task.id).collect::<Vec<_>>(), [ready.id]);
    assert!(matches!(inbox.needs_you[0].needs[0].wanted, Wanted::Review { .. }));
    assert_eq!(inbox.ended.iter().map(|task| task.id).collect::<Vec<_>>(), [gone.id]);
    assert!(inbox.needs_you.iter().chain(&inbox.ended).all(|task| task.id != working.id));
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_client_that_knows_the_state_is_told_so() {
    let home = Home::open().await;
    let ready = home.ready().await;
    for path in [format!("/tasks/{}", ready.id), format!("/tasks/{}/diff", ready.id)] {
        let tag = home.client.get(&path).await.header("etag").to_owned();
        assert!(tag.starts_with('"'), "{tag}");
        let known = format!("\"other\", W/{tag}");
        let again = home.client.send("GET", &path, &[("if-none-match", &known)], None).await;
        assert_eq!((again.status.as_u16(), again.body.len(), again.header("etag")), (304, 0, tag.as_str()));
    }
    let tag = home.client.get(&format!("/tasks/{}", ready.id)).await.header("etag").to_owned();
    home.client.post(&format!("/tasks/{}/comments", ready.id), json!({"text": "more"})).await.ok::<Spoken>();
    let path = format!("/tasks/{}", ready.id);
    let changed = home.client.send("GET", &path, &[("if-none-match", &tag)], None).await;
    assert_eq!(changed.status, 200);
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_diff_before_the_first_snapshot_and_one_of_no_attempt_are_refused() {
    let home = Home::open().await;
    let task = home.submit(json!({"goal": "Fix it"})).await.task;
    let early = home.client.get(&format!("/tasks/{}/diff", task.id)).await.problem(409);
    assert!(early.detail.contains("no snapshot yet"), "{early:?}");
    let none: Problem = home.client.get(&format!("/tasks/{}/diff?attempt=9", task.id)).await.problem(404);
    assert!(none.detail.contains("no attempt 9"), "{none:?}");
    let pull = home.client.post(&format!("/tasks/{}/pull", task.id), json!({"directory": "here"})).await.problem(422);
    assert!(pull.detail.contains("not an absolute path"), "{pull:?}");
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_file_is_told_apart_into_the_changes_lines_and_the_bases() {
    let home = Home::open().await;
    let ready = home.ready().await;
    let path = |query: &str| format!("/tasks/{}/blame{query}", ready.id);
    for query in ["?path=src/a%20b.txt", "?path=src%2Fa+b.txt&attempt=1"] {
        let blame: Blame = home.client.get(&path(query)).await.ok();
        assert_eq!((&blame.base, Some(&blame.head)), (&base(), ready.head.as_ref()));
        let lines: Vec<_> = blame.lines.iter().map(|line| (line.line, line.text.as_str(), line.ours)).collect();
        assert_eq!(lines, [(1, "one", false), (2, "two", true)]);
        assert_eq!(blame.lines[1].commit, blame.head);
    }
    let none: Problem = home.client.get(&path("?path=b.txt")).await.problem(404);
    assert!(none.detail.contains("no regular file"), "{none:?}");
    home.client.get(&path("?path=b.txt&attempt=9")).await.problem(404);
    let unnamed = home.client.get(&path("")).await.problem(422);
    assert!(unnamed.detail.contains("path"), "{unnamed:?}");
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_change_is_pulled_into_a_checkout() {
    let home = Home::open().await;
    let ready = home.ready().await;
    let body = json!({"directory": home.repository()});
    let pulled: Pulled = home.client.post(&format!("/tasks/{}/pull", ready.id), body).await.ok();
    assert_eq!(Some(pulled.head), ready.head);
    assert!(pulled.lines[0].contains("overnight/T-1"));
    home.close().await.unwrap();
}

#[tokio::test]
async fn blobs_are_given_as_bytes() {
    let home = Home::open().await;
    let ready = home.ready().await;
    let journal = home.journal(ready.id).await;
    let detail = journal.into_iter().find_map(|recorded| match recorded.envelope.event {
        domain::event::Event::ChecksRan { judged, .. } => Some(judged.detail.0),
        _ => None,
    });
    let reply = home.client.get(&format!("/blobs/{}", detail.unwrap())).await;
    assert_eq!(reply.header("content-type"), "application/octet-stream");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert_eq!(reply.json::<domain::check::Judgement>().verdict, Verdict::Green);
    home.client.get(&format!("/blobs/{}", "0".repeat(64))).await.problem(404);
    home.client.get("/blobs/..%2Fsecret.key").await.problem(422);
    home.close().await.unwrap();
}

#[tokio::test]
async fn a_log_is_read_page_by_page_without_gap_or_repetition() {
    let home = Home::open().await;
    let ready = home.ready().await;
    let whole: Log = home.client.get(&format!("/tasks/{}/log", ready.id)).await.ok();
    assert!(whole.complete);
    let mut lines = Vec::new();
    let mut after = String::new();
    loop {
        let page: Log = home.client.get(&format!("/tasks/{}/log?limit=1{after}", ready.id)).await.ok();
        lines.extend(page.lines);
        after = format!("&after={}", page.next);
        if page.complete {
            break;
        }
    }
    assert_eq!(lines, whole.lines);
    let texts: Vec<String> = lines.iter().map(|line| line.body.text()).collect();
    for part in ["submitted: Fix it", "working on turn 1", "the turn ended", "+2 -3", "checks: green"] {
        assert!(texts.iter().any(|text| text.contains(part)), "{part} is not in {texts:?}");
    }
    let entries = lines.iter().filter(|line| matches!(line.body, LogBody::Entry(_))).count();
    assert_eq!(entries, 1);
    home.close().await.unwrap();
}

#[tokio::test]
async fn the_command_line_is_told_from_other_clients() {
    let home = Home::open().await;
    let task = home.submit(json!({"goal": "Fix it"})).await.task;
    let path = format!("/tasks/{}/comments", task.id);
    let body = Some(json!({"text": "hello"}));
    home.client.send("POST", &path, &[("user-agent", "overnight-cli/1.2.3")], body).await.ok::<Spoken>();
    let journal = home.journal(task.id).await;
    let via: Vec<Via> =
        journal.iter().map(|recorded| recorded.envelope.via).filter(|via| *via != Via::Engine).collect();
    assert_eq!(via, [Via::Http, Via::CommandLine]);
    home.close().await.unwrap();
}
