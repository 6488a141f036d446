//! Commit messages: a subject a person would write, and trailers that tie the commit to its task.

use domain::{
    ids::{Actor, AttemptNo, TurnNo},
    task::Task,
};

/// The message of a snapshot. When it is landed as it is, this is what history shows.
pub(crate) fn snapshot(task: &Task, attempt: AttemptNo, turn: TurnNo) -> String {
    let id = task.id;
    format!(
        "{}\n\n{}Overnight-Task: {id}\nOvernight-Attempt: {attempt}\nOvernight-Turn: {turn}\n",
        task.brief.title(),
        goal(task)
    )
}

/// The message of a commit made for landing.
pub(super) fn landing(task: &Task, by: &Actor) -> String {
    format!("{}\n\n{}Approved-by: {by}\nOvernight-Task: {}\n", task.brief.title(), goal(task), task.id)
}

/// The goal as a paragraph, where the subject does not say all of it.
fn goal(task: &Task) -> String {
    let goal = task.brief.goal.trim();
    if goal == task.brief.title() { String::new() } else { format!("{goal}\n\n") }
}
