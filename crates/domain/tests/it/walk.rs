//! Every state that can be reached, and every letter in it.

use domain::{
    event::{Event, Receipt},
    picture,
    task::{Status, Task},
};

/// No state without an owner and a deadline; none that waits for nothing.
pub fn assert_waits(task: &Task) {
    let waits = task.waits();
    let final_state = matches!(task.status, Status::Ended { snapshots: domain::task::Kept::Purged, .. });
    assert_eq!(waits.is_empty(), final_state, "waits for nothing: {task:#?}");
    for wait in waits {
        assert!(wait.deadline.is_some(), "{wait:?} has no deadline in {task:#?}");
    }
    for id in task.in_flight.keys() {
        assert!(task.timers.contains_key(&domain::task::Timer::Command(*id)), "{id} has no deadline in {task:#?}");
    }
}

/// What a person said changed something or was refused with a reason.
pub fn assert_heard(before: &Task, event: &Event, after: &Task, receipt: &Receipt) {
    if !event.is_said() {
        return;
    }
    let mut unchanged = before.clone();
    (unchanged.seq, unchanged.updated_at) = (after.seq, after.updated_at);
    match receipt {
        Receipt::Accepted { note } => {
            assert!(!note.is_empty());
            assert_ne!(&unchanged, after, "accepted and dropped: {event:?} in {before:#?}");
        }
        Receipt::Refused { fault } => {
            assert!(!fault.what.is_empty());
            assert_eq!(&unchanged, after, "refused, yet something changed: {event:?}");
        }
    }
}

#[test]
fn every_reachable_state_has_an_owner_and_a_deadline_and_hears_people() {
    let mut steps = 0;
    let arrows = picture::walk(|before, event, after, receipt| {
        steps += 1;
        assert_waits(after);
        assert_heard(before, event, after, receipt);
    });
    assert!(steps > 1_000, "only {steps} steps were walked");
    assert!(arrows.len() > 60, "only {} arrows", arrows.len());
    for outcome in ["landed", "reported", "rejected", "failed", "canceled", "nothing_to_do"] {
        let place = format!("ended_{outcome}");
        assert!(arrows.iter().any(|arrow| arrow.to == place), "no arrow leads to {place}");
    }
}
