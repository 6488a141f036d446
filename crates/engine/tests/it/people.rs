//! What people say while the engine works.

use domain::{
    Fault,
    event::{Event, Receipt},
    ports::{
        agent::{Prompt, TurnConclusion},
        model::Credentials,
        store::Secrets as _,
    },
    task::{Outcome, Status},
};
use futures::FutureExt as _;
use testkit::{Say, TurnScript};

use crate::harness::{Rig, assert_replays, brief};

fn comment(text: &str) -> Event {
    Event::CommentAdded { text: text.to_owned(), by_hand: false }
}

#[tokio::test]
async fn a_comment_reaches_the_running_turn_and_is_acknowledged() {
    let rig = Rig::new(vec![TurnScript::finishes().after(Say::HearComment)]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    rig.agents.started().await;
    running.say(id, comment("use the other one")).await;
    running.until_review(id).await;
    assert_eq!(rig.agents.heard().len(), 1);
    assert_eq!(running.task(id).await.comments[0].delivered.len(), 1);
    assert_eq!(rig.agents.prompts().len(), 1, "it was delivered within the turn");
    assert_replays(&rig, id).await;
}

#[tokio::test]
async fn a_comment_that_misses_the_turn_opens_the_next() {
    let bell = std::sync::Arc::new(tokio::sync::Notify::new());
    let deaf = TurnScript::finishes().after(Say::WaitFor(bell.clone()));
    let rig = Rig::new(vec![deaf, TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    rig.agents.started().await;
    running.say(id, comment("and the docs")).await;
    bell.notify_one();
    running.until_review(id).await;
    let prompts = rig.agents.prompts();
    assert!(matches!(&prompts[1], Prompt::Comments { comments } if comments[0].1 == "and the docs"), "{prompts:?}");
}

#[tokio::test]
async fn cancel_interrupts_the_turn_and_keeps_its_work() {
    let turn = TurnScript::ends(TurnConclusion::Interrupted).after(Say::UntilInterrupted);
    let rig = Rig::new(vec![turn]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    rig.agents.started().await;
    running.say(id, Event::CancelRequested { why: None }).await;
    assert!(matches!(running.until_ended(id).await, Outcome::Canceled { .. }));
    assert!(rig.workspaces.calls().contains(&"snapshot T-1.1".to_owned()));
    running.say(id, Event::RestoreRequested).await;
    assert!(running.until_review(id).await.head.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_ignores_the_interrupt_is_cut_off() {
    let rig = Rig::new(vec![TurnScript::finishes().after(Say::HangForEver)]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    rig.agents.started().await;
    running.say(id, Event::Rejected { why: Some("no".to_owned()) }).await;
    assert!(matches!(running.until_ended(id).await, Outcome::Rejected { .. }));
}

#[tokio::test]
async fn a_turn_that_waits_for_a_place_is_canceled_at_once() {
    let mut rig = Rig::new(vec![TurnScript::finishes().after(Say::HangForEver)]);
    rig.options.turns = 1;
    let running = rig.start().await;
    running.submit_as("holds the place", brief()).await;
    rig.agents.started().await;
    let id = running.submit_as("waits", brief()).await;
    running.say(id, Event::CancelRequested { why: None }).await;
    assert!(matches!(running.until_ended(id).await, Outcome::Canceled { .. }));
}

#[tokio::test]
async fn what_was_said_is_carried_out_though_its_speaker_hangs_up() {
    let rig = Rig::new(vec![TurnScript::finishes(), TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.until_review(id).await;
    let said = engine::Said {
        dedup: "x".to_owned(),
        actor: crate::harness::person(),
        via: domain::ids::Via::CommandLine,
        event: comment("and the docs"),
        credentials: domain::ports::model::Credentials::default(),
    };
    // As a request is dropped when its client hangs up: in the middle, wherever that is.
    assert!(running.handle.say(id, said).now_or_never().is_none());
    running.until(id, |task| task.attempts[0].turns == 2).await;
    running.until_review(id).await;
}

#[tokio::test]
async fn the_same_word_twice_is_one_event() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    let head = running.until_review(id).await.head.unwrap();
    let said = || engine::Said {
        dedup: "click".to_owned(),
        actor: crate::harness::person(),
        via: domain::ids::Via::Page,
        event: Event::Approved { head: head.clone(), accept: Vec::new() },
        credentials: domain::ports::model::Credentials::default(),
    };
    let (first, second) = tokio::join!(running.handle.say(id, said()), running.handle.say(id, said()));
    assert_eq!(first.unwrap(), second.unwrap());
    running.until_ended(id).await;
    assert_eq!(rig.store.events(id).iter().filter(|name| **name == "approved").count(), 1);
}

#[tokio::test]
async fn what_comes_too_late_is_refused_visibly() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.approve(id).await;
    running.until_ended(id).await;
    assert!(matches!(running.say(id, comment("wait")).await, Receipt::Refused { .. }));
    assert!(matches!(running.task(id).await.status, Status::Ended { .. }));
}

#[tokio::test]
async fn an_unknown_task_is_not_found() {
    let rig = Rig::new(Vec::new());
    let running = rig.start().await;
    let said = engine::Said {
        dedup: "x".to_owned(),
        actor: crate::harness::person(),
        via: domain::ids::Via::CommandLine,
        event: comment("hello"),
        credentials: domain::ports::model::Credentials::default(),
    };
    let fault = running.handle.say(domain::ids::TaskId(99), said).await.unwrap_err();
    assert_eq!(fault.class, domain::FaultClass::NotFound);
}

#[tokio::test]
async fn the_keys_are_forgotten_even_where_a_branch_is_kept() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.until_review(id).await;
    let keys = Credentials([("ANTHROPIC_API_KEY".to_owned(), "k".to_owned())].into());
    rig.store.put("task/1".to_owned(), keys).await.unwrap();
    rig.workspaces.fail_next("discard", Fault::conflict("the branch was kept"));
    running.say(id, Event::Rejected { why: None }).await;
    running.until_ended(id).await;
    let Status::Ended { residue, .. } = running.task(id).await.status else { unreachable!() };
    assert!(residue.unwrap().contains("the branch was kept"));
    assert_eq!(rig.store.get("task/1".to_owned()).await.unwrap(), Credentials::default());
}
