//! `DeliverComment`: puts a comment on the line of the running turn. If the turn is over, the comment opens the next one: `step` has it.

use domain::{
    event::Event,
    ids::{AttemptNo, CommentId},
};

use super::{Job, Performed};

pub(super) fn perform(job: &Job<'_>, attempt: AttemptNo, comment: CommentId, text: &str) -> Performed {
    if let Some(line) = job.site.lines.get(job.key(attempt)) {
        line.push(comment, text.to_owned());
    }
    Performed::Event(Event::Done { command: job.id })
}
