//! Going back: a new task from any turn of another (`fork`), or the same attempt from a turn of its own (`rewind`).

use domain::{
    Fault,
    brief::{AgentChoice, Brief},
    event::{Event, Fork, Receipt},
    ids::{Actor, AttemptKey, AttemptNo, TaskId, TurnNo, Via},
    ports::{model::Credentials, workspace::Snapshot},
};

use crate::{Handle, Said, by_hand::attempt_of, handle::Start, history};

/// A request to go on elsewhere from what a turn left.
#[derive(Clone, Debug)]
pub struct ForkRequest {
    /// The idempotency key: the same key is the same task.
    pub dedup: String,
    pub actor: Actor,
    pub via: Via,
    pub task: TaskId,
    /// `None`: the one under review, or the only one.
    pub attempt: Option<AttemptNo>,
    /// The last turn that is taken over.
    pub turn: TurnNo,
    /// What is asked for from there. Empty: to go on.
    pub text: String,
    /// `None`: as the task that is forked.
    pub model: Option<String>,
    pub agent: Option<String>,
    pub credentials: Credentials,
}

/// A request to take an attempt back.
#[derive(Clone, Debug)]
pub struct RewindRequest {
    pub dedup: String,
    pub actor: Actor,
    pub via: Via,
    pub task: TaskId,
    pub attempt: Option<AttemptNo>,
    pub turn: TurnNo,
    /// What to do from there. `None`: only the checks run.
    pub text: Option<String>,
}

impl Handle {
    /// Starts a task with the same brief from what a turn left, with the conversation so far.
    pub async fn fork(&self, request: ForkRequest) -> Result<TaskId, Fault> {
        if let Some((task, _)) = self.ports().store.submitted(request.dedup.clone()).await? {
            return Ok(task);
        }
        let source = self.core.task(request.task).await?;
        let from = AttemptKey { task: source.id, attempt: attempt_of(&source, request.attempt)? };
        let snapshot = self.left_by(from, request.turn).await?;
        let brief = forked(&source.brief, source.model.as_deref(), request.agent, request.model);
        let credentials = self.credentials_for_fork(&source, request.credentials).await?;
        let accepted = self.acceptable(&brief, &credentials, source.confinement).await?;
        let start = Start {
            id: self.ports().store.next_task(),
            dedup: request.dedup,
            actor: request.actor,
            via: request.via,
            accepted,
            origin: source.origin.clone(),
            profile: source.profile.clone(),
            fork: Some(Fork { from, turn: request.turn, snapshot, text: request.text }),
            credentials,
            confinement: source.confinement,
        };
        self.start(start).await
    }

    /// Takes an attempt that does not run back to what one of its turns left.
    pub async fn rewind(&self, request: RewindRequest) -> Result<Receipt, Fault> {
        let task = self.core.task(request.task).await?;
        let attempt = attempt_of(&task, request.attempt)?;
        let snapshot = self.left_by(AttemptKey { task: task.id, attempt }, request.turn).await?;
        let event = Event::Rewound { attempt, turn: request.turn, snapshot, text: request.text };
        let said = Said {
            dedup: request.dedup,
            actor: request.actor,
            via: request.via,
            event,
            credentials: Credentials::default(),
        };
        self.say(task.id, said).await
    }

    /// What a turn left.
    async fn left_by(&self, key: AttemptKey, turn: TurnNo) -> Result<Snapshot, Fault> {
        let turns = history::turns(&*self.ports().store, key.task, key.attempt).await?;
        let past = turns.iter().find(|past| past.turn == turn).ok_or_else(|| {
            Fault::not_found(format!("attempt {} of {} has no turn {turn}", key.attempt, key.task))
                .hint(format!("it has {} so far", turns.len()))
        })?;
        past.snapshot.clone().ok_or_else(|| {
            Fault::conflict(format!("turn {turn} of {} is not over", key.task))
                .hint("name an earlier turn, or wait for its end")
        })
    }

    /// The keys given now, else those of the task that is forked while it has some.
    async fn credentials_for_fork(
        &self,
        source: &domain::task::Task,
        given: Credentials,
    ) -> Result<Credentials, Fault> {
        if given.0.is_empty() {
            self.ports().secrets.get(crate::perform::secrets_scope(source.id)).await
        } else {
            Ok(given)
        }
    }
}

/// The brief of a fork with this agent and model, where others than those so far are named. `used`: the model so far.
fn forked(brief: &Brief, used: Option<&str>, agent: Option<String>, model: Option<String>) -> Brief {
    let mut brief = Brief { attempts: 1, ..brief.clone() };
    match agent {
        Some(name) => {
            brief.agent = AgentChoice { name, ..AgentChoice::default() };
            // The model of another agent may be none of this one's.
            brief.model = model;
        }
        // Of a brief that names none, what was the default then: by now it may be another.
        None => brief.model = model.or(brief.model).or(used.map(str::to_owned)),
    }
    brief
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_keeps_the_model_so_far_unless_model_or_agent_is_another() {
        let some = |name: &str| Some(name.to_owned());
        let plain = Brief::default();
        assert_eq!(forked(&plain, Some("used"), None, None).model, some("used"));
        assert_eq!(forked(&plain, Some("used"), None, some("new")).model, some("new"));
        let named = Brief { model: some("named"), ..Brief::default() };
        assert_eq!(forked(&named, Some("used"), None, None).model, some("named"));
        let other = forked(&named, Some("used"), some("codex"), None);
        assert_eq!((other.agent.name.as_str(), other.model), ("codex", None));
    }
}
