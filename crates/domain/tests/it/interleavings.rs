//! Random orders of completions, timers and human events over one to three attempts; late and repeated completions too.

use domain::{
    alphabet,
    brief::{Brief, Deliverable, Planning},
    event::Event,
    picture::{next_envelope, sample},
    step::step,
    task::{Status, Task},
};
use proptest::prelude::*;

use crate::walk::{assert_heard, assert_waits};

fn briefs() -> impl Strategy<Value = Brief> {
    (1u32..=3, 0u32..=2, any::<bool>(), any::<bool>(), proptest::option::of(1u32..20)).prop_map(
        |(attempts, max_corrections, plan, report, rounds)| {
            let mut brief = Brief { goal: "storm".to_owned(), attempts, max_corrections, ..Brief::default() };
            brief.budget.rounds = rounds;
            brief.budget.wall_s = rounds.map(|rounds| u64::from(rounds) * 3);
            brief.deadline = plan.then_some(jiff::Timestamp::UNIX_EPOCH);
            brief.planning = if plan { Planning::ApproveFirst } else { Planning::Direct };
            brief.deliverable = if report { Deliverable::Report } else { Deliverable::Change };
            brief
        },
    )
}

fn apply(task: &mut Task, event: &Event) {
    let before = task.clone();
    let envelope = next_envelope(&before, event.clone());
    let decision = step(task, &envelope);
    assert_waits(task);
    assert_heard(&before, event, task, &decision.receipt);
    for (id, command) in &decision.issued {
        let gone = decision.retired.contains(id);
        assert!(gone || task.in_flight.get(id) == Some(command), "{id} was issued and is not in flight");
    }
    for id in &decision.retired {
        assert!(!task.in_flight.contains_key(id));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_dropped_and_nothing_hangs(brief in briefs(), choices in prop::collection::vec(any::<u16>(), 1..60)) {
        let mut task = sample(brief);
        assert_waits(&task);
        let mut seen: Vec<Event> = Vec::new();
        for choice in choices {
            // One time in eight an earlier event comes again: a late or repeated completion, a second click.
            let event = if choice % 8 == 0 && !seen.is_empty() {
                seen[usize::from(choice / 8) % seen.len()].clone()
            } else {
                let letters = alphabet::letters(&task);
                letters[usize::from(choice) % letters.len()].event.clone()
            };
            apply(&mut task, &event);
            seen.push(event);
        }
    }

    /// However long the storm was: once people stop and everything that is in flight fails, the task comes to rest.
    #[test]
    fn a_task_comes_to_rest(brief in briefs(), choices in prop::collection::vec(any::<u16>(), 1..40)) {
        let mut task = sample(brief);
        for choice in choices {
            let letters = alphabet::letters(&task);
            apply(&mut task, &letters[usize::from(choice) % letters.len()].event);
        }
        for _ in 0..200 {
            let Some(id) = task.in_flight.keys().next().copied() else { break };
            apply(&mut task, &Event::CommandFailed { command: id, fault: domain::Fault::environment("the disk is full") });
        }
        let calm = match &task.status {
            Status::AwaitingReview(_) | Status::Ended { .. } => true,
            Status::Working => task.attempts.iter().all(|attempt| attempt.status.command().is_none()),
            Status::Landing(_) | Status::Closing { .. } => false,
        };
        prop_assert!(calm, "still busy: {:#?}", task.status);
    }

    /// The same events give the same state: what replay rests on. Stored and read back, too.
    #[test]
    fn replay_gives_the_same_state(brief in briefs(), choices in prop::collection::vec(any::<u16>(), 1..40)) {
        let mut task = sample(brief.clone());
        let mut again = sample(brief);
        for choice in choices {
            let letters = alphabet::letters(&task);
            let envelope = next_envelope(&task, letters[usize::from(choice) % letters.len()].event.clone());
            let stored = serde_json::to_string(&envelope).unwrap();
            let first = step(&mut task, &envelope);
            let second = step(&mut again, &serde_json::from_str(&stored).unwrap());
            prop_assert_eq!(first, second);
            again = serde_json::from_str(&serde_json::to_string(&again).unwrap()).unwrap();
        }
        prop_assert_eq!(task, again);
    }
}
