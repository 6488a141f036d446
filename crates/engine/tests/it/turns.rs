//! From submission to review and back into turns.

use domain::{
    check::Verdict,
    event::Event,
    ports::agent::{Prompt, TurnConclusion},
    task::Outcome,
};
use testkit::{Say, ScriptedChecks, TurnScript};

use crate::harness::{Rig, assert_replays, brief};

#[tokio::test]
async fn a_task_goes_from_submission_to_review_to_landed() {
    let rig = Rig::new(vec![TurnScript::finishes().after(Say::Progress(50, "halfway"))]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.approve(id).await;
    assert!(matches!(running.until_ended(id).await, Outcome::Landed { .. }));
    let calls = rig.workspaces.calls();
    assert_eq!(calls.iter().filter(|call| call.starts_with("land")).count(), 1, "{calls:?}");
    assert_eq!(calls.last().map(String::as_str), Some("discard T-1"), "{calls:?}");
    assert!(rig.store.events(id).contains(&"progressed"));
    assert_replays(&rig, id).await;
}

#[tokio::test]
async fn the_same_submission_is_one_task() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    let running = rig.start().await;
    let first = running.submit_as("same", brief()).await;
    let second = running.submit_as("same", brief()).await;
    assert_eq!(first, second);
    running.until_review(first).await;
    assert_eq!(rig.agents.prompts().len(), 1);
}

#[tokio::test]
async fn red_checks_go_back_to_the_agent() {
    let mut rig = Rig::new(vec![TurnScript::finishes(), TurnScript::finishes()]);
    rig.checks = ScriptedChecks::say([Verdict::Red, Verdict::Green]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    assert_eq!(running.until_review(id).await.problem, None);
    let prompts = rig.agents.prompts();
    assert!(
        matches!(&prompts[1], Prompt::Fix { digest, again: false, .. } if digest == "the checks are red"),
        "{prompts:?}"
    );
}

#[tokio::test]
async fn attempts_run_side_by_side_and_the_task_waits_for_all() {
    let rig = Rig::new(vec![TurnScript::finishes(), TurnScript::finishes(), TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(domain::brief::Brief { attempts: 3, ..brief() }).await;
    running.until_review(id).await;
    assert_eq!(running.task(id).await.attempts.iter().filter(|attempt| attempt.head().is_some()).count(), 3);
    assert_replays(&rig, id).await;
}

#[tokio::test]
async fn the_number_of_turns_at_once_is_bounded() {
    let bell = std::sync::Arc::new(tokio::sync::Notify::new());
    let wait = || TurnScript::finishes().after(Say::WaitFor(bell.clone()));
    let mut rig = Rig::new(vec![wait(), wait(), wait()]);
    rig.options.turns = 1;
    let running = rig.start().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(running.submit_as(&format!("s{number}"), brief()).await);
    }
    for started in 1..=3 {
        rig.agents.started().await;
        assert_eq!(rig.agents.prompts().len(), started);
        bell.notify_one();
    }
    for id in ids {
        running.until_review(id).await;
    }
}

#[tokio::test]
async fn a_question_waits_for_its_answer() {
    let asked = TurnConclusion::Asked { question: "which?".to_owned(), choices: Vec::new(), default: None };
    let rig = Rig::new(vec![TurnScript::ends(asked), TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    let task = running.until(id, |task| !task.needs().is_empty()).await;
    let request = task.needs()[0].request;
    running.say(id, Event::QuestionAnswered { request, answer: "the second".to_owned() }).await;
    running.until_review(id).await;
    assert!(matches!(&rig.agents.prompts()[1], Prompt::Answer { answer, .. } if answer == "the second"));
}
