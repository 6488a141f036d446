//! The stories that users live: one task each, told event by event.

use domain::{
    alphabet,
    brief::{Brief, Planning},
    check::Risk,
    command::Command,
    event::{Event, Receipt},
    ids::{AttemptNo, RequestId, TurnNo},
    picture::{next_envelope, place, sample},
    step::step,
    task::{Outcome, Status, Task},
};
use jiff::SignedDuration;

/// Applies the first letter with this label.
fn tell(task: &mut Task, label: &str) -> Receipt {
    let letters = alphabet::letters(task);
    let letter = letters.iter().find(|letter| letter.label == label);
    let letter = letter.unwrap_or_else(|| panic!("{label} cannot happen in {}", place(task)));
    let envelope = next_envelope(task, letter.event.clone());
    step(task, &envelope).receipt
}

fn say(task: &mut Task, event: Event) -> Receipt {
    let envelope = next_envelope(task, event);
    step(task, &envelope).receipt
}

fn story(brief: Brief, labels: &[&str]) -> Task {
    let mut task = sample(brief);
    for label in labels {
        tell(&mut task, label);
    }
    task
}

fn brief() -> Brief {
    Brief { goal: "mend it".to_owned(), ..Brief::default() }
}

const TO_REVIEW: [&str; 4] =
    ["workspace_ready", "turn_ended(finished)", "snapshot_taken(changed)", "checks_ran(green)"];

#[test]
fn a_green_change_waits_for_its_person_and_lands() {
    let mut task = story(brief(), &TO_REVIEW);
    assert_eq!(place(&task), "awaiting_review");
    tell(&mut task, "approved");
    assert_eq!(place(&task), "landing");
    tell(&mut task, "landing_done(landed)");
    tell(&mut task, "done(clean_up)");
    assert!(matches!(&task.status, Status::Ended { outcome: Outcome::Landed { on, .. }, .. } if on == "main"));
}

#[test]
fn what_a_preparation_told_of_itself_is_over_with_it() {
    let mut task = sample(brief());
    let (attempt, turn) = (AttemptNo(1), TurnNo(1));
    say(&mut task, Event::Progressed { attempt, turn, percent: None, text: "installing".to_owned() });
    assert!(task.attempts[0].progress.is_some());
    tell(&mut task, "workspace_ready");
    assert!(task.attempts[0].progress.is_none());
}

#[test]
fn red_goes_back_with_the_digest_and_the_second_same_failure_asks_for_another_approach() {
    let mut task =
        story(brief(), &["workspace_ready", "turn_ended(finished)", "snapshot_taken(changed)", "checks_ran(red)"]);
    let fixes = |task: &Task| {
        task.in_flight.values().find_map(|command| match command {
            Command::StartTurn { prompt: domain::ports::agent::Prompt::Fix { again, digest, .. }, .. } => {
                Some((*again, digest.clone()))
            }
            _ => None,
        })
    };
    tell(&mut task, "workspace_ready");
    assert_eq!(fixes(&task), Some((false, "digest".to_owned())));
    for label in ["turn_ended(finished)", "snapshot_taken(changed)", "checks_ran(red)", "workspace_ready"] {
        tell(&mut task, label);
    }
    assert_eq!(fixes(&task), Some((true, "digest".to_owned())));
}

#[test]
fn corrections_are_bounded_and_end_with_a_person() {
    let mut task = sample(Brief { max_corrections: 2, ..brief() });
    for _ in 0..3 {
        for label in ["workspace_ready", "turn_ended(finished)", "snapshot_taken(changed)", "checks_ran(red)"] {
            tell(&mut task, label);
        }
    }
    let Status::AwaitingReview(review) = &task.status else { panic!("{:?}", task.status) };
    assert_eq!(review.problem.as_deref(), Some("the checks are still red after 2 corrections"));
    assert_eq!(review.risks, [Risk::NotGreen]);
}

#[test]
fn an_approval_of_a_moved_head_is_refused_visibly() {
    let mut task = story(brief(), &TO_REVIEW);
    let Receipt::Refused { fault } = tell(&mut task, "approved(stale head)") else { panic!("accepted") };
    assert!(fault.what.contains("you saw"), "{fault}");
    assert_eq!(place(&task), "awaiting_review");
}

#[test]
fn what_a_person_did_by_hand_becomes_the_head_and_is_judged_and_told() {
    let mut task = story(brief(), &TO_REVIEW);
    let before = task.attempts[0].snapshot.clone();
    let Receipt::Refused { fault } = tell(&mut task, "worked_by_hand(stale)") else { panic!("accepted") };
    assert!(fault.hint.is_some_and(|hint| hint.contains("your work is kept as")), "where it is must be told");
    assert_eq!(task.attempts[0].snapshot, before);
    assert!(matches!(tell(&mut task, "worked_by_hand"), Receipt::Accepted { .. }));
    assert_ne!(task.attempts[0].snapshot, before);
    assert!(task.in_flight.values().any(|command| matches!(command, Command::RunChecks { .. })));
    // Red goes to the agent as ever, with the person's note.
    for label in ["checks_ran(red)", "workspace_ready"] {
        tell(&mut task, label);
    }
    let told = task.in_flight.values().find_map(|command| match command {
        Command::StartTurn { prompt, .. } => prompt.comments().first().cloned(),
        _ => None,
    });
    assert!(told.is_some_and(|(_, text)| text.contains("by hand")));
}

#[test]
fn green_after_work_by_hand_opens_no_turn() {
    let mut task = story(brief(), &TO_REVIEW);
    tell(&mut task, "worked_by_hand");
    tell(&mut task, "checks_ran(green)");
    assert_eq!(place(&task), "awaiting_review");
}

#[test]
fn red_lands_only_when_its_risk_is_named() {
    let mut task = sample(Brief { max_corrections: 0, ..brief() });
    for label in ["workspace_ready", "turn_ended(finished)", "snapshot_taken(changed)", "checks_ran(red)"] {
        tell(&mut task, label);
    }
    let Receipt::Refused { fault } = tell(&mut task, "approved") else { panic!("accepted") };
    assert!(fault.hint.is_some_and(|hint| hint.contains("--accept not-green")));
    assert!(matches!(tell(&mut task, "approved(risks accepted)"), Receipt::Accepted { .. }));
}

#[test]
fn a_comment_during_a_turn_is_delivered_and_one_after_it_opens_the_next() {
    let mut task = story(brief(), &["workspace_ready"]);
    tell(&mut task, "comment_added");
    assert!(task.in_flight.values().any(|command| matches!(command, Command::DeliverComment { .. })));
    // The turn ends before the agent has read it: it must not be lost.
    for label in ["turn_ended(finished)", "snapshot_taken(changed)"] {
        tell(&mut task, label);
    }
    assert_eq!(place(&task), "preparing");
    tell(&mut task, "workspace_ready");
    assert_eq!(task.comments[0].delivered.len(), 1);
    for label in ["turn_ended(finished)", "snapshot_taken(changed)", "checks_ran(green)"] {
        tell(&mut task, label);
    }
    assert_eq!(place(&task), "awaiting_review");
}

#[test]
fn a_comment_that_arrives_with_the_green_verdict_is_not_dropped() {
    let mut task = story(brief(), &["workspace_ready", "turn_ended(finished)", "snapshot_taken(changed)"]);
    tell(&mut task, "comment_added");
    tell(&mut task, "checks_ran(green)");
    assert_eq!(place(&task), "preparing");
}

#[test]
fn a_comment_that_arrives_with_the_last_red_verdict_is_heard_in_one_more_turn() {
    let brief = Brief { max_corrections: 0, ..brief() };
    let mut task = story(brief, &["workspace_ready", "turn_ended(finished)", "snapshot_taken(changed)"]);
    tell(&mut task, "comment_added");
    tell(&mut task, "checks_ran(red)");
    assert_eq!(place(&task), "preparing");
    tell(&mut task, "workspace_ready");
    assert_eq!(task.comments[0].delivered.len(), 1);
    for label in ["turn_ended(finished)", "snapshot_taken(changed)", "checks_ran(red)"] {
        tell(&mut task, label);
    }
    assert_eq!(place(&task), "awaiting_review", "one comment is one more turn");
}

#[test]
fn a_comment_during_a_landing_that_fails_goes_to_the_agent() {
    let mut task = story(brief(), &TO_REVIEW);
    for label in ["approved", "comment_added", "landing_done(conflict)"] {
        tell(&mut task, label);
    }
    assert_eq!(place(&task), "preparing");
    tell(&mut task, "workspace_ready");
    assert_eq!(task.comments[0].delivered.len(), 1);
}

#[test]
fn a_question_waits_for_its_answer_and_a_stale_answer_is_refused() {
    let mut task = story(brief(), &["workspace_ready", "turn_ended(asked)", "snapshot_taken(empty)"]);
    assert_eq!(place(&task), "awaiting_answer");
    let stale = Event::QuestionAnswered { request: RequestId(99), answer: "x".to_owned() };
    assert!(matches!(say(&mut task, stale), Receipt::Refused { .. }));
    tell(&mut task, "question_answered");
    assert_eq!(place(&task), "preparing");
}

#[test]
fn a_plan_is_approved_before_the_work_starts() {
    let mut task = story(
        Brief { planning: Planning::ApproveFirst, ..brief() },
        &["workspace_ready", "turn_ended(finished)", "snapshot_taken(empty)"],
    );
    assert_eq!(place(&task), "awaiting_plan");
    tell(&mut task, "plan_refined");
    for label in ["workspace_ready", "turn_ended(finished)", "snapshot_taken(empty)", "plan_approved"] {
        tell(&mut task, label);
    }
    assert_eq!(task.attempts[0].plan.as_deref(), Some("words"));
}

#[test]
fn a_moved_target_is_checked_again_and_keeps_the_approval_when_green() {
    let mut task = story(brief(), &TO_REVIEW);
    for label in ["approved", "landing_done(moved)"] {
        tell(&mut task, label);
    }
    assert_eq!(place(&task), "rechecking");
    tell(&mut task, "checks_ran(green)");
    assert!(task.in_flight.values().any(|command| matches!(command, Command::Land { rechecked: Some(_), .. })));
}

#[test]
fn a_moved_target_that_turns_red_voids_the_approval() {
    let mut task = story(brief(), &TO_REVIEW);
    for label in ["approved", "landing_done(moved)", "checks_ran(red)"] {
        tell(&mut task, label);
    }
    assert_eq!(place(&task), "awaiting_review");
    // The same approval again would come to the same end: the risk of the merge has to be named.
    let Receipt::Refused { fault } = tell(&mut task, "approved") else { panic!("accepted") };
    assert!(fault.hint.is_some_and(|hint| hint.contains("--accept not-green")));
    assert!(matches!(tell(&mut task, "approved(risks accepted)"), Receipt::Accepted { .. }));
}

#[test]
fn cancel_keeps_the_work_of_a_running_turn_and_restore_brings_it_back() {
    let mut task = story(brief(), &["workspace_ready"]);
    tell(&mut task, "cancel_requested");
    for label in ["turn_ended(interrupted)", "snapshot_taken(changed)", "done(clean_up)"] {
        tell(&mut task, label);
    }
    assert_eq!(place(&task), "ended_canceled");
    tell(&mut task, "restore_requested");
    assert_eq!(place(&task), "awaiting_review");
}

#[test]
fn a_cancel_during_landing_waits_for_the_landing() {
    let mut task = story(brief(), &TO_REVIEW);
    for label in ["approved", "cancel_requested", "landing_done(conflict)"] {
        tell(&mut task, label);
    }
    assert_eq!(place(&task), "closing");
}

#[test]
fn an_empty_change_is_nothing_to_do() {
    let mut task =
        story(brief(), &["workspace_ready", "turn_ended(finished)", "snapshot_taken(empty)", "done(clean_up)"]);
    assert_eq!(place(&task), "ended_nothing_to_do");
    assert!(matches!(tell(&mut task, "comment_added"), Receipt::Refused { .. }));
}

#[test]
fn only_the_named_reviewer_approves() {
    let mut task = story(Brief { reviewer: Some("grace".to_owned()), ..brief() }, &TO_REVIEW);
    let Receipt::Refused { fault } = tell(&mut task, "approved") else { panic!("accepted") };
    assert!(fault.what.contains("grace"));
}

#[test]
fn a_failing_turn_is_tried_again_for_an_hour_and_a_person_can_end_its_rest() {
    const FAILS: [&str; 3] = ["workspace_ready", "turn_ended(failed)", "snapshot_taken(empty)"];
    let mut task = story(brief(), &FAILS);
    let mut rested = SignedDuration::ZERO;
    while place(&task) == "resting" {
        rested += task.wake_at().unwrap().duration_since(task.updated_at);
        tell(&mut task, "timer_fired(rest)");
        for label in FAILS {
            tell(&mut task, label);
        }
    }
    assert_eq!(place(&task), "needs_help");
    assert!(rested >= SignedDuration::from_hours(1), "{rested}");

    let mut task = story(brief(), &FAILS);
    assert!(matches!(tell(&mut task, "retry_requested"), Receipt::Accepted { .. }));
    assert_eq!(place(&task), "preparing");
    assert!(matches!(tell(&mut task, "retry_requested"), Receipt::Refused { .. }));
}
