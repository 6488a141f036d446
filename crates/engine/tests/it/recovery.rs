//! Stopped or killed at any point, a task goes on by itself.

use domain::{Fault, task::Outcome};
use testkit::{Say, TurnScript};

use crate::harness::{Rig, assert_replays, brief};

#[tokio::test]
async fn a_stopped_engine_leaves_the_turn_to_the_next_one() {
    let rig = Rig::new(vec![TurnScript::finishes().after(Say::HangForEver), TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    rig.agents.started().await;
    running.engine.stop().await;
    assert!(rig.workspaces.calls().contains(&"snapshot T-1.1".to_owned()), "the work of the turn is kept");
    assert!(!rig.store.events(id).contains(&"turn_ended"));

    let again = rig.start().await;
    again.approve(id).await;
    assert!(matches!(again.until_ended(id).await, Outcome::Landed { .. }));
    assert_replays(&rig, id).await;
}

/// A crash loses the process and keeps the store: simulated by copying nothing and starting a second engine on the same memory after
/// the first one's runtime has been torn down in the middle of things.
#[test]
fn an_engine_that_vanishes_is_followed_by_one_that_finishes() {
    let rig = Rig::new(vec![TurnScript::finishes().after(Say::HangForEver), TurnScript::finishes()]);
    let first = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let id = first.block_on(async {
        let running = rig.start().await;
        let id = running.submit(brief()).await;
        rig.agents.started().await;
        id
    });
    first.shutdown_background();

    let second = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    second.block_on(async {
        let running = rig.start().await;
        running.approve(id).await;
        running.until_ended(id).await;
        assert_replays(&rig, id).await;
    });
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_delays_a_completion_and_does_not_lose_it() {
    let bell = std::sync::Arc::new(tokio::sync::Notify::new());
    let rig = Rig::new(vec![TurnScript::finishes().after(Say::WaitFor(bell.clone()))]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    rig.agents.started().await;
    rig.store.refuse_commits(Some(Fault::environment("the disk is full")));
    bell.notify_one();
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(!rig.store.events(id).contains(&"turn_ended"));
    rig.store.refuse_commits(None);
    running.until_review(id).await;
}

#[tokio::test(start_paused = true)]
async fn a_passing_fault_is_tried_again_and_a_lasting_one_comes_to_a_person() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    rig.workspaces.fail_next("prepare", Fault::transient("busy"));
    rig.workspaces.fail_next("snapshot", Fault::environment("the disk is full"));
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    let review = running.until_review(id).await;
    assert!(review.problem.unwrap().contains("the disk is full"));
    assert!(!rig.workspaces.calls().iter().any(|call| call.starts_with("release")), "an unkept workspace stays");
}

#[tokio::test]
async fn a_performer_that_panics_comes_to_a_person() {
    let rig = Rig::new(vec![TurnScript::finishes().after(Say::Panic), TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    let problem = running.until_review(id).await.problem.unwrap();
    assert!(problem.contains("start_turn panicked"), "{problem}");
    running.say(id, domain::event::Event::RetryRequested).await;
    assert_eq!(running.until_review(id).await.problem, None, "its lane goes on");
    running.engine.stop().await;
}

#[tokio::test]
async fn an_engine_that_lost_its_home_says_so() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    let running = rig.start().await;
    rig.store.refuse_commits(Some(Fault::fenced("another daemon has this home")));
    let submit = running.handle.clone();
    let repository = domain::ports::workspace::ResolveRequest::default();
    let refused = submit
        .submit(engine::Submit {
            dedup: "x".to_owned(),
            actor: crate::harness::person(),
            via: domain::ids::Via::CommandLine,
            brief: brief(),
            repository: Some(repository),
            credentials: domain::ports::model::Credentials::default(),
            confinement: domain::ports::sandbox::Confinement::Confined,
        })
        .await;
    assert!(refused.is_err());
    running.engine.fenced().await;
}
