//! Landing, and what a moved target makes of it.

use domain::{alphabet::commit, check::Verdict, ports::workspace::Landing, task::Outcome};
use testkit::{ScriptedChecks, TurnScript};

use crate::harness::{Rig, brief};

fn moved() -> Landing {
    Landing::Moved { combined: commit(500), target_head: commit(400) }
}

#[tokio::test]
async fn a_moved_target_is_checked_and_landed() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    rig.workspaces.land_as([moved()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.approve(id).await;
    let Outcome::Landed { commit: landed, .. } = running.until_ended(id).await else { panic!("not landed") };
    assert_eq!(landed, commit(500));
}

#[tokio::test]
async fn a_moved_target_that_is_red_comes_back_to_its_person() {
    let mut rig = Rig::new(vec![TurnScript::finishes()]);
    rig.checks = ScriptedChecks::say([Verdict::Green, Verdict::Red]);
    rig.workspaces.land_as([moved()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.approve(id).await;
    let review = running.until(id, |task| task.needs().len() == 1 && task.summary().detail == "handed_back").await;
    assert!(review.needs()[0].attempt.0 == 1);
}

#[tokio::test]
async fn a_target_that_never_rests_comes_back_to_its_person() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    rig.workspaces.land_as((0..6).map(|_| moved()));
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.approve(id).await;
    running.until(id, |task| task.summary().detail == "handed_back").await;
}
