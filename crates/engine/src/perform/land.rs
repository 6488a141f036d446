//! `Land`: brings an approved head to its target, exactly once (the workspace room finds a landing that is already there).

use domain::{Fault, command::Command, event::Event, ports::workspace::LandRequest};

use super::{Job, message};

pub(super) async fn perform(job: &Job<'_>, command: &Command) -> Result<Event, Fault> {
    let Command::Land { head, by, at, rechecked, .. } = command else {
        return Err(Fault::bug(format!("{} is not for this performer", command.name())));
    };
    let task = &job.task;
    let request = LandRequest {
        task: task.id,
        repository: task.origin.repository.clone(),
        base: task.origin.base.clone(),
        head: head.clone(),
        target: task.origin.target.clone(),
        method: task.brief.landing,
        message: message::landing(task, by),
        approver: by.to_string(),
        at: *at,
        rechecked: rechecked.clone(),
    };
    let landing = job.site.ports.workspaces.land(request).await?;
    Ok(Event::LandingDone { command: job.id, landing })
}
