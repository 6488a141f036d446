//! Ports of `gateway` and the ledger under it: model calls that are metered, paid from a budget, and keyed outside the sandbox.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::BoxFuture;
use crate::{
    Fault,
    budget::{Amount, Budget, Spend, Usage},
    ids::{AttemptKey, TaskId},
};

/// Keys and addresses of one person's providers, by the standard variable names. `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credentials(pub std::collections::BTreeMap<String, String>);

impl Credentials {
    /// The variables that are taken from whoever calls `run`.
    pub const VARIABLES: [&'static str; 8] = [
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "GEMINI_API_KEY",
        "GEMINI_BASE_URL",
        "GOOGLE_API_KEY",
        "GOOGLE_GEMINI_BASE_URL",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
    ];

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What an attempt may call, with whose keys and on whose budget.
#[derive(Clone, Debug)]
pub struct Access {
    pub key: AttemptKey,
    /// As [`Gateways::resolve`] returned it.
    pub model: String,
    pub credentials: Credentials,
    pub budget: Budget,
}

/// A model that can be called: its full name, and what is known of its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedModel {
    pub name: String,
    pub priced: bool,
}

pub trait Gateways: Send + Sync {
    /// Chooses a model: `name`, or the default for the credentials at hand. A dialect can be forced by a prefix: `anthropic/NAME`,
    /// `gemini/NAME`, `openai/NAME`. `Input` with a hint when the model is unknown, when no key is at hand (says how to get one and that `overnight
    /// demo` needs none), and when `budget` limits money but the model has no known price.
    fn resolve(&self, name: Option<&str>, credentials: &Credentials, budget: &Budget) -> Result<ResolvedModel, Fault>;

    /// The neutral model for the built-in agent.
    fn model(&self, access: Access) -> Result<Arc<dyn Model>, Fault>;

    /// A base URL with a token of its own, for an agent that brings its own client. Void when the guard is dropped.
    fn endpoint(&self, access: Access) -> BoxFuture<'_, Result<Endpoint, Fault>>;
}

/// Where an agent's own client finds its model.
pub struct Endpoint {
    /// `http://127.0.0.1:PORT` on the host, valid for the Anthropic, Gemini and OpenAI paths alike. A sandbox with a network of its own is
    /// given `door` instead, and finds it at [`super::egress::MODEL_PORT`] of its loopback.
    pub url: String,
    pub door: Arc<dyn super::sandbox::Door>,
    /// Goes where the provider's key would go.
    pub token: String,
    /// Dropping it revokes the token.
    pub guard: Box<dyn Send + Sync>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).finish_non_exhaustive()
    }
}

/// One model, bound to an attempt's budget and keys.
pub trait Model: Send + Sync {
    /// Asks for one reply. The call is reserved against the budget first and settled afterwards; retries on 429 and 5xx happen inside.
    fn reply<'a>(&'a self, request: ModelRequest<'a>) -> BoxFuture<'a, Result<ModelReply, ModelFault>>;
}

/// What is sent. Two requests of a conversation whose `messages` extend each other are sent so that the first one's bytes
/// are a prefix of the second one's, up to the closing brackets.
#[derive(Clone, Copy, Debug)]
pub struct ModelRequest<'a> {
    pub system: &'a str,
    pub tools: &'a [ToolSpec],
    pub messages: &'a [Message],
    pub max_output: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    /// A JSON Schema, as text, so that its bytes never change.
    pub schema: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
    Assistant,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Part {
    Text {
        text: String,
    },
    /// `arguments` is the model's own text, which may be no valid JSON.
    ToolCall {
        id: String,
        name: String,
        arguments: String,
    },
    ToolResult {
        id: String,
        text: String,
        is_error: bool,
    },
    /// Something of the provider's own (reasoning with its signature) that goes back unchanged: a JSON value as text.
    Opaque {
        json: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReply {
    /// Role `Assistant`.
    pub message: Message,
    pub stop: Stop,
    pub usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    EndTurn,
    ToolCalls,
    /// The output cap was reached.
    Length,
    Refused,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelFault {
    /// The budget does not allow another call.
    #[error("{0}")]
    OverBudget(String),
    /// The provider refuses the key: trying again is useless.
    #[error("{0}")]
    DeadKey(String),
    /// The provider refuses this request (too long, malformed, unknown model): trying the same again is useless.
    #[error("{0}")]
    Rejected(String),
    /// The provider could not be reached or kept failing after bounded retries.
    #[error("{0}")]
    Unavailable(String),
    /// The answer was no valid reply. It was paid for.
    #[error("{0}")]
    Garbage(String),
    #[error(transparent)]
    Port(#[from] Fault),
}

/// Cross-task accounting, implemented by `store`. Idempotent by reservation id. An unsettled reservation counts in full for ever.
pub trait Ledger: Send + Sync {
    /// Durable when it resolves. `Ok(Err(over))` when spend plus open reservations plus this amount would pass a limit.
    /// Concurrent reservations on one task are put in order: together they never pass a limit.
    fn reserve(&self, reservation: Reservation) -> BoxFuture<'_, Result<Result<(), OverBudget>, Fault>>;

    /// Replaces the reservation by what was really used. Ordered before every later write of this process; need not be awaited for that.
    fn settle(&self, settlement: Settlement) -> BoxFuture<'_, Result<(), Fault>>;

    /// Settled spend of a task (all attempts), and what open reservations hold on top.
    fn spent(&self, task: TaskId) -> BoxFuture<'_, Result<(Spend, Amount), Fault>>;
}

#[derive(Clone, Debug)]
pub struct Reservation {
    /// Unique for ever; the same id again is the same reservation.
    pub id: String,
    pub key: AttemptKey,
    pub amount: Amount,
    pub budget: Budget,
}

#[derive(Clone, Debug)]
pub struct Settlement {
    pub id: String,
    pub key: AttemptKey,
    pub model: String,
    pub usage: Usage,
    /// `None`: no known price.
    pub cost: Option<crate::budget::MicroUsd>,
    /// The provider did not say (cut stream): counted at max(reported, reservation).
    pub estimated: bool,
}

/// Which limit stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} budget reached: {spent} spent or reserved of {limit}, the next call could need {asked}")]
pub struct OverBudget {
    /// `cost`, `tokens` or `rounds`.
    pub what: &'static str,
    pub spent: String,
    pub limit: String,
    pub asked: String,
}
