//! The clock: deadlines, reminders, rests.

use domain::{
    Fault,
    ports::agent::{Prompt, TurnConclusion},
    task::Status,
};
use jiff::SignedDuration;
use testkit::{Say, TurnScript};

use crate::harness::{Rig, brief};

#[tokio::test(start_paused = true)]
async fn a_turn_that_takes_too_long_is_interrupted_and_what_it_did_is_judged() {
    let turn = TurnScript::ends(TurnConclusion::Interrupted).after(Say::UntilInterrupted);
    let rig = Rig::new(vec![turn]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    rig.agents.started().await;
    // In steps, as time passes: a jump would be taken for a machine that slept.
    for _ in 0..(5 * 60) {
        rig.clock.advance(SignedDuration::from_mins(1));
        tokio::time::advance(std::time::Duration::from_mins(1)).await;
    }
    running.until_review(id).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_turn_rests_and_is_tried_again() {
    let failed = || TurnScript::ends(TurnConclusion::Failed { why: "the provider is down".to_owned() });
    let rig = Rig::new(vec![failed(), TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.until(id, |task| task.summary().detail == "resting").await;
    rig.clock.advance(SignedDuration::from_mins(1));
    running.until_review(id).await;
    assert!(matches!(&rig.agents.prompts()[1], Prompt::Continue { why, .. } if why == "the provider is down"));
}

#[tokio::test(start_paused = true)]
async fn a_person_is_reminded_and_never_overruled() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.until_review(id).await;
    rig.clock.advance(SignedDuration::from_hours(25));
    let task =
        running.until(id, |task| matches!(&task.status, Status::AwaitingReview(review) if review.reminders == 1)).await;
    assert!(task.wake_at().is_some());
}

#[tokio::test(start_paused = true)]
async fn snapshots_are_forgotten_after_thirty_days() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.approve(id).await;
    running.until_ended(id).await;
    rig.clock.advance(SignedDuration::from_hours(31 * 24));
    running.until(id, |task| task.waits().is_empty()).await;
    assert!(rig.workspaces.calls().contains(&"purge T-1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_a_clean_up_could_not_remove_goes_with_the_snapshots() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.until(id, |task| matches!(task.status, Status::AwaitingReview(_)) && task.in_flight.is_empty()).await;
    rig.workspaces.fail_next("release", Fault::environment("the disk is full"));
    running.approve(id).await;
    running.until_ended(id).await;
    let calls = rig.workspaces.calls().len();
    rig.clock.advance(SignedDuration::from_hours(31 * 24));
    running.until(id, |task| task.waits().is_empty()).await;
    assert_eq!(rig.workspaces.calls()[calls..], ["release T-1.1", "purge T-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_night_that_the_machine_slept_through_is_no_stall() {
    let bell = std::sync::Arc::new(tokio::sync::Notify::new());
    let rig = Rig::new(vec![TurnScript::finishes().after(Say::WaitFor(bell.clone()))]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    rig.agents.started().await;
    rig.clock.advance(SignedDuration::from_hours(9));
    tokio::time::sleep(std::time::Duration::from_mins(5)).await;
    assert!(!rig.store.events(id).contains(&"timer_fired"));
    bell.notify_one();
    running.until_review(id).await;
}

#[tokio::test(start_paused = true)]
async fn a_night_slept_through_gives_later_turns_no_more_time() {
    let turn = TurnScript::ends(TurnConclusion::Interrupted).after(Say::UntilInterrupted);
    let rig = Rig::new(vec![turn]);
    let running = rig.start().await;
    rig.clock.advance(SignedDuration::from_hours(9));
    tokio::time::sleep(std::time::Duration::from_mins(5)).await;
    let id = running.submit(brief()).await;
    rig.agents.started().await;
    for _ in 0..(5 * 60) {
        rig.clock.advance(SignedDuration::from_mins(1));
        tokio::time::advance(std::time::Duration::from_mins(1)).await;
    }
    running.until_review(id).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_place_is_no_work() {
    let bell = std::sync::Arc::new(tokio::sync::Notify::new());
    let mut rig = Rig::new(vec![TurnScript::finishes().after(Say::WaitFor(bell.clone())), TurnScript::finishes()]);
    rig.options.turns = 1;
    let running = rig.start().await;
    let first = running.submit_as("first", brief()).await;
    rig.agents.started().await;
    let mut hasty = brief();
    hasty.budget.wall_s = Some(60);
    let second = running.submit_as("second", hasty).await;
    for _ in 0..(2 * 60) {
        rig.clock.advance(SignedDuration::from_mins(1));
        tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    }
    assert!(!rig.workspaces.calls().contains(&"prepare T-2.1".to_owned()), "it holds nothing while it waits");
    bell.notify_one();
    assert_eq!(running.until_review(first).await.problem, None);
    assert_eq!(running.until_review(second).await.problem, None);
}

#[tokio::test(start_paused = true)]
async fn a_long_queue_is_waited_out() {
    let hang = || TurnScript::finishes().after(Say::HangForEver);
    let mut rig = Rig::new(vec![hang(), hang(), hang(), TurnScript::finishes()]);
    rig.options.turns = 1;
    let running = rig.start().await;
    let mut last = None;
    for number in 0..4 {
        last = Some(running.submit_as(&format!("s{number}"), brief()).await);
    }
    // Each of the first three is cut off after four hours.
    for _ in 0..(13 * 60) {
        rig.clock.advance(SignedDuration::from_mins(1));
        tokio::time::advance(std::time::Duration::from_mins(1)).await;
    }
    assert_eq!(running.until_review(last.unwrap()).await.problem, None);
}
