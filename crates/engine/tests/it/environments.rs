//! What a base's definition decides, and what is told of the network.

use std::time::Duration;

use domain::{
    check::{CheckSpec, Tier},
    environment::{Definition, Service},
    event::Event,
    ports::{egress::Refusal, environments::Purpose},
};
use testkit::TurnScript;

use crate::harness::{Rig, assert_replays, brief};

fn refusal(host: &str) -> Refusal {
    let (why, by) = ("not on the allow-list".to_owned(), Some("pip install six".to_owned()));
    Refusal { host: host.to_owned(), port: 443, why, entry: Some(host.to_owned()), by }
}

#[tokio::test]
async fn a_refused_host_is_told_once_and_stays_with_the_attempt() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    rig.environments.refuse([refusal("pypi.example"), refusal("pypi.example"), refusal("evil.example")]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.until_review(id).await;
    let task = running.task(id).await;
    let hosts: Vec<&str> = task.attempts[0].refusals.iter().map(|refusal| refusal.host.as_str()).collect();
    assert_eq!(hosts, ["pypi.example", "evil.example"]);
    assert_eq!(rig.store.events(id).iter().filter(|event| **event == "egress_refused").count(), 2);
    assert_replays(&rig, id).await;
}

#[tokio::test]
async fn the_checks_of_the_definition_judge_where_the_brief_names_none() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    let slow = CheckSpec { tier: Tier::Slow, ..CheckSpec::from_command("make slow") };
    let checks = vec![CheckSpec::from_command("make test"), slow];
    rig.environments.define(Definition { checks: checks.clone(), ..Definition::default() });
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.until_review(id).await;
    assert_eq!(running.task(id).await.checks, checks);
    assert_eq!(rig.environments.purposes(), [Purpose::Turn]);
}

#[tokio::test]
async fn a_preview_ends_with_its_task() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    let service = Service {
        name: "web".to_owned(),
        command: "serve".to_owned(),
        ready: None,
        ready_within: Duration::from_secs(1),
        port: Some(3000),
    };
    rig.environments.define(Definition { services: vec![service], ..Definition::default() });
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.until_review(id).await;
    // Nothing listens in these sandboxes; there is one all the same.
    running.handle.preview(id, None, None).await.unwrap_err();
    let checkout = format!("preview-{id}.1");
    assert!(rig.workspaces.calls().contains(&format!("checkout {checkout}")), "{:?}", rig.workspaces.calls());
    running.say(id, Event::Rejected { why: None }).await;
    running.until_ended(id).await;
    while !rig.workspaces.calls().iter().any(|call| call.starts_with("discard ")) {
        tokio::task::yield_now().await;
    }
    assert!(rig.workspaces.calls().contains(&format!("discard_checkout {checkout}")), "{:?}", rig.workspaces.calls());
}

#[tokio::test]
async fn a_note_of_what_a_person_did_opens_no_turn() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.until_review(id).await;
    running.say(id, Event::CommentAdded { text: "1 file changed by hand".to_owned(), by_hand: true }).await;
    running.until_review(id).await;
    assert_eq!(rig.agents.prompts().len(), 1);
}
