//! `Interrupt`: asks the attempt's running command to come to an end.

use domain::{event::Event, ids::AttemptNo};

use super::{Job, Performed};

pub(super) fn perform(job: &Job<'_>, attempt: AttemptNo) -> Performed {
    if let Some(command) = job.task.attempt(attempt).and_then(|attempt| attempt.status.command()) {
        job.driver.interrupt(job.task.id, command).ask();
    }
    Performed::Event(Event::Done { command: job.id })
}
