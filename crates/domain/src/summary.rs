//! The projection of a task that lists, the inbox and `--wait` read. Made from the state alone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    attempt::{Asked, AskedFor, Attempt},
    brief::Login,
    check::{Risk, Verdict},
    ids::{AttemptNo, CommitId, RequestId, TaskId},
    task::{Outcome, Review, Status, Task, Timer},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub id: TaskId,
    pub title: String,
    pub repository: String,
    /// Who works now: the brief's own, or a fallback.
    pub agent: String,
    pub model: Option<String>,
    /// Its agent was lent a person's own login.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds_key: bool,
    /// `working`, `needs_you`, `landing`, `closing` or `ended`.
    pub phase: Phase,
    /// The first unsettled attempt's state in one word, else the outcome's word.
    pub detail: String,
    pub progress: Option<String>,
    pub percent: Option<u8>,
    /// What is wanted of a person; empty when nothing is.
    pub needs: Vec<Need>,
    pub overdue_since: Option<Timestamp>,
    pub outcome: Option<Outcome>,
    pub head: Option<CommitId>,
    pub verdict: Option<Verdict>,
    /// Why its base does not pass in the environment it stands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<String>,
    pub submitted_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Working,
    NeedsYou,
    Landing,
    Closing,
    Ended,
}

impl Phase {
    pub fn word(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::NeedsYou => "needs_you",
            Self::Landing => "landing",
            Self::Closing => "closing",
            Self::Ended => "ended",
        }
    }
}

/// One decision wanted of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    pub request: RequestId,
    pub attempt: AttemptNo,
    pub since: Timestamp,
    pub reminders: u32,
    #[serde(flatten)]
    pub wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "wanted")]
pub enum Wanted {
    Answer {
        question: String,
        choices: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<DefaultAnswer>,
    },
    Plan {
        plan: String,
    },
    Review {
        head: CommitId,
        verdict: Option<Verdict>,
        risks: Vec<Risk>,
        problem: Option<String>,
    },
    /// Nothing to approve: the attempt needs help (comment, retry) or an end (reject).
    Help {
        problem: String,
    },
}

/// What is taken for the answer when nobody gives one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultAnswer {
    pub answer: String,
    pub at: Timestamp,
}

impl Task {
    pub fn summary(&self) -> Summary {
        let shown = self.shown_attempt();
        let progress = shown.and_then(|attempt| attempt.progress.as_ref());
        let (phase, outcome) = match &self.status {
            Status::Working => (Phase::Working, None),
            Status::AwaitingReview(_) => (Phase::NeedsYou, None),
            Status::Landing(_) => (Phase::Landing, None),
            Status::Closing { outcome } => (Phase::Closing, Some(outcome.clone())),
            Status::Ended { outcome, .. } => (Phase::Ended, Some(outcome.clone())),
        };
        let needs = self.needs();
        let (agent, model) = self.choice(shown.map_or(0, |attempt| attempt.choice));
        let detail = match (&self.status, &outcome) {
            (_, Some(outcome)) => outcome.word(),
            (Status::AwaitingReview(review), None) => match (&review.head, &review.problem) {
                (Some(_), None) => "ready",
                (Some(_), Some(_)) | (None, _) => "handed_back",
            },
            (Status::Landing(_), None) => "landing",
            (Status::Working | Status::Closing { .. } | Status::Ended { .. }, None) => {
                shown.map_or("working", |attempt| attempt.status.word())
            }
        };
        Summary {
            id: self.id,
            title: self.brief.title(),
            repository: self.origin.repository.path.to_string_lossy().into_owned(),
            agent: agent.to_owned(),
            model: model.map(str::to_owned),
            holds_key: self.brief.agent.login == Login::Own,
            phase: if phase == Phase::Working && !needs.is_empty() { Phase::NeedsYou } else { phase },
            detail: detail.to_owned(),
            progress: progress.map(|progress| progress.text.clone()),
            percent: progress.and_then(|progress| progress.percent),
            needs,
            overdue_since: self.overdue_since,
            outcome,
            head: shown.and_then(|attempt| attempt.head().cloned()),
            verdict: shown.and_then(|attempt| attempt.judged.as_ref()).map(|judged| judged.verdict),
            unhealthy: self.environment.as_ref().and_then(|used| used.health.ill()).map(str::to_owned),
            submitted_at: self.submitted_at,
            updated_at: self.updated_at,
        }
    }

    /// The attempt that lists speak of: the one under review or landing, else the first that still works, else the first.
    fn shown_attempt(&self) -> Option<&Attempt> {
        let chosen = match &self.status {
            Status::AwaitingReview(review) => Some(review.attempt),
            Status::Landing(landing) => Some(landing.attempt),
            Status::Working | Status::Closing { .. } | Status::Ended { .. } => None,
        };
        chosen
            .and_then(|no| self.attempt(no))
            .or_else(|| self.attempts.iter().find(|attempt| !attempt.status.is_settled()))
            .or_else(|| self.attempts.first())
    }

    /// Every decision that is wanted of a person now.
    pub fn needs(&self) -> Vec<Need> {
        match &self.status {
            Status::AwaitingReview(review) => {
                let verdict =
                    self.attempt(review.attempt).and_then(|attempt| attempt.judged.as_ref()).map(|j| j.verdict);
                let wanted = match &review.head {
                    Some(head) => Wanted::Review {
                        head: head.clone(),
                        verdict,
                        risks: review.risks.clone(),
                        problem: review.problem.clone(),
                    },
                    None => Wanted::Help { problem: review.problem.clone().unwrap_or_default() },
                };
                let Review { request, attempt, since, reminders, .. } = *review;
                vec![Need { request, attempt, since, reminders, wanted }]
            }
            Status::Working => self.attempts.iter().filter_map(|attempt| self.attempt_need(attempt)).collect(),
            Status::Landing(_) | Status::Closing { .. } | Status::Ended { .. } => Vec::new(),
        }
    }

    fn attempt_need(&self, attempt: &Attempt) -> Option<Need> {
        let Asked { request, what, since, reminders } = attempt.status.asked()?;
        let wanted = match what {
            AskedFor::Answer { question, choices, default } => {
                let at = self.timers.get(&Timer::Person(request)).copied();
                let default = default.zip(at).map(|(answer, at)| DefaultAnswer { answer: answer.to_owned(), at });
                Wanted::Answer { question: question.to_owned(), choices: choices.to_vec(), default }
            }
            AskedFor::PlanApproval { plan } => Wanted::Plan { plan: plan.to_owned() },
        };
        Some(Need { request, attempt: attempt.no, since, reminders, wanted })
    }
}
