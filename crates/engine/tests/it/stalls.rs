//! Turns that get nowhere, and turns that have to wait for a model.

use std::time::Duration;

use domain::{
    brief::{Brief, Fallback},
    ports::agent::{Prompt, TurnConclusion},
};
use jiff::{SignedDuration, Timestamp};
use testkit::{Say, TurnScript};

use crate::harness::{Rig, assert_replays, brief};

fn stuck() -> TurnScript {
    TurnScript::ends(TurnConclusion::Interrupted).after(Say::UntilInterrupted)
}

/// A rig whose agents' silence counts at once.
fn impatient(turns: Vec<TurnScript>) -> Rig {
    let mut rig = Rig::new(turns);
    rig.options.terms.stalls.quiet = Duration::from_millis(1);
    rig
}

#[tokio::test]
async fn the_ladder_ends_with_a_person() {
    let rig = impatient(vec![stuck(), stuck(), stuck(), stuck()]);
    let running = rig.start().await;
    let fallbacks = vec![Fallback { agent: Some("other".to_owned()), model: Some("another".to_owned()) }];
    let id = running.submit(Brief { fallbacks, ..brief() }).await;
    let review = running.until_review(id).await;
    assert!(review.problem.is_some_and(|problem| problem.contains("got nowhere")));
    let asked = rig.agents.asked();
    let rungs: Vec<_> = asked.iter().map(|asked| (asked.agent.as_str(), asked.request.fresh)).collect();
    // The session goes on; a new one from the snapshot; another agent.
    assert_eq!(rungs, [("builtin", false), ("builtin", false), ("builtin", true), ("other", true)]);
    assert!(matches!(&asked[1].request.prompt, Prompt::Continue { .. }));
    let prepared_anew =
        rig.workspaces.calls().windows(2).filter(|two| two[0] == "release T-1.1" && two[1] == "prepare T-1.1").count();
    assert_eq!(prepared_anew, 2, "{:?}", rig.workspaces.calls());
    assert!(rig.store.events(id).contains(&"progressed"), "people were told before the turn was ended");
    assert_replays(&rig, id).await;
}

#[tokio::test]
async fn a_turn_that_ends_well_forgets_the_stalls_before_it() {
    let rig = impatient(vec![stuck(), TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    assert_eq!(running.until_review(id).await.problem, None);
    assert_eq!(running.task(id).await.attempts[0].stalls, 0);
}

#[tokio::test]
async fn an_agent_that_goes_round_in_circles_is_nudged_and_then_stopped() {
    let mut rig = Rig::new(vec![
        TurnScript::ends(TurnConclusion::Interrupted)
            .after(Say::Repeat(3))
            .after(Say::HearNotice)
            .after(Say::Repeat(3))
            .after(Say::UntilInterrupted),
        TurnScript::finishes(),
    ]);
    rig.options.terms.stalls.repeats = 3;
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    assert_eq!(running.until_review(id).await.problem, None);
    assert!(rig.agents.notices()[0].contains("the same tool call 3 times"), "{:?}", rig.agents.notices());
    assert!(matches!(&rig.agents.prompts()[1], Prompt::Continue { why, .. } if why.contains("6 times")));
}

#[tokio::test(start_paused = true)]
async fn a_turn_without_a_model_waits_for_it_and_goes_on_by_itself() {
    let until = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(5);
    let held = TurnScript::ends(TurnConclusion::Held { why: "out of quota until five".to_owned(), until });
    let rig = Rig::new(vec![held, TurnScript::finishes()]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    let task = running.until(id, |task| task.summary().detail == "resting").await;
    let wakes = task.wake_at().unwrap();
    assert!(wakes >= until && wakes < until + SignedDuration::from_mins(1), "{wakes}");
    assert_eq!(task.attempts[0].restarts, 0, "nothing has failed");
    rig.clock.advance(SignedDuration::from_hours(6));
    assert_eq!(running.until_review(id).await.problem, None);
    assert!(matches!(&rig.agents.prompts()[1], Prompt::Continue { why, .. } if why.contains("quota")));
}

#[tokio::test(start_paused = true)]
async fn a_question_with_a_default_answers_itself_after_a_day() {
    let asked = |default: Option<&str>| {
        let (question, choices) = ("tabs or spaces?".to_owned(), Vec::new());
        TurnScript::ends(TurnConclusion::Asked { question, choices, default: default.map(str::to_owned) })
    };
    let rig = Rig::new(vec![asked(Some("spaces")), asked(None)]);
    let running = rig.start().await;
    let id = running.submit(brief()).await;
    running.until(id, |task| task.summary().detail == "awaiting_answer").await;
    rig.clock.advance(SignedDuration::from_hours(25));
    running.until(id, |task| task.attempts[0].turns == 2 && task.summary().detail == "awaiting_answer").await;
    assert!(matches!(&rig.agents.prompts()[1], Prompt::Answer { answer, .. } if answer.starts_with("spaces")));
    // Without one, a person is reminded and waited for.
    rig.clock.advance(SignedDuration::from_hours(25));
    running.until(id, |task| task.attempts[0].status.asked().is_some_and(|asked| asked.reminders == 1)).await;
}
