//! Ports of `gateway`: model calls that are metered, paid from a budget, recorded, and keyed outside the sandbox.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BoxFuture, record::Exchange};
use crate::{
    Fault,
    budget::{Budget, MicroUsd, Purse, Usage},
    ids::{AttemptKey, TurnNo},
    redact::Redactor,
};

/// Keys and addresses of one person's providers, by the standard variable names. `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credentials(pub std::collections::BTreeMap<String, String>);

impl Credentials {
    /// The variables that are taken from whoever calls `run`. Another account of a provider has the same ones with its name: `OPENAI_API_KEY@work`.
    pub const VARIABLES: [&'static str; 22] = [
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_REGION",
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_API_VERSION",
        "AZURE_OPENAI_ENDPOINT",
        "BEDROCK_BASE_URL",
        "GEMINI_API_KEY",
        "GEMINI_BASE_URL",
        "GOOGLE_API_KEY",
        "GOOGLE_GEMINI_BASE_URL",
        "LLAMACPP_BASE_URL",
        "LLAMA_API_KEY",
        "OLLAMA_API_KEY",
        "OLLAMA_HOST",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENROUTER_API_KEY",
        "OPENROUTER_BASE_URL",
        "VLLM_API_KEY",
        "VLLM_BASE_URL",
    ];

    /// Names of what holds a lent login begin with it; the credential file's path below HOME follows.
    pub const LOGIN: &'static str = "LOGIN:";

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// How a client speaks to a model. What the bytes look like, `gateway` alone knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Anthropic's Messages.
    Messages,
    /// `OpenAI`'s Chat Completions, which most servers speak.
    ChatCompletions,
    /// `OpenAI`'s Responses.
    Responses,
    /// Google's `generateContent`.
    GenerateContent,
}

impl Protocol {
    pub const ALL: [Self; 4] = [Self::Messages, Self::ChatCompletions, Self::Responses, Self::GenerateContent];

    /// As people and tables call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::ChatCompletions => "chat_completions",
            Self::Responses => "responses",
            Self::GenerateContent => "generate_content",
        }
    }
}

/// What an attempt may call, with whose keys and on whose budget.
#[derive(Clone)]
pub struct Access {
    pub key: AttemptKey,
    pub turn: TurnNo,
    /// As [`Gateways::resolve`] returned it.
    pub model: String,
    pub credentials: Credentials,
    pub budget: Budget,
    pub purses: Vec<Purse>,
    /// Taken out of what is recorded.
    pub redactor: Arc<Redactor>,
    pub watch: Arc<dyn CallWatch>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("key", &self.key).field("model", &self.model).finish_non_exhaustive()
    }
}

/// Hears of an attempt's model calls while they happen, whoever makes them. Called from within a runtime; must return at once.
pub trait CallWatch: Send + Sync {
    fn tell(&self, news: CallNews);
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallNews {
    /// A request went out.
    Asked,
    /// Something of an answer came; at most about once a second for a streamed one.
    Answering,
    /// The answer has ended and is settled.
    Answered,
    /// Said once per turn, when four fifths of the task's budget or of a purse are spent: what is left, in a sentence for the agent.
    Nearing(String),
    /// No later call of this turn can succeed either: whoever made it may be ended.
    Refused(Barrier),
}

/// Why no further call can succeed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Barrier {
    OverBudget {
        why: String,
    },
    /// Every account's key is refused.
    DeadKey {
        why: String,
    },
    /// Every account is out of quota, or its provider is down, until then.
    Held {
        why: String,
        until: Timestamp,
    },
}

/// A wish for a model.
#[derive(Clone, Copy, Debug)]
pub struct ModelAsk<'a> {
    /// `None`: the default for the credentials at hand.
    pub name: Option<&'a str>,
    pub credentials: &'a Credentials,
    pub budget: &'a Budget,
    /// What the asker's client speaks: the model must be reached by one of them. Empty: any.
    pub protocols: &'a [Protocol],
}

/// A model that can be called: its full name, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedModel {
    pub name: String,
    pub priced: bool,
    /// In which its provider can be asked for it, best first.
    pub protocols: Vec<Protocol>,
}

/// A model as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// To be given to `--model`.
    pub name: String,
    /// `anthropic`, `openai`, … or a provider of the configuration.
    pub provider: String,
    /// The host calls go to.
    pub host: String,
    /// Names of the accounts in the order they are tried.
    pub accounts: Vec<String>,
    pub protocols: Vec<Protocol>,
    /// Of a million tokens: input, output. `None`: unknown.
    pub price: Option<(MicroUsd, MicroUsd)>,
    /// Since when that price is valid.
    pub priced_since: Option<jiff::civil::Date>,
    /// Whether the provider's list of models has it: `None` where it gives none, an error where it cannot be reached.
    pub reachable: Result<Option<bool>, Fault>,
    /// Until when its accounts are out of quota.
    pub held_until: Option<Timestamp>,
}

/// What one real call came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriedModel {
    pub name: String,
    pub host: String,
    pub account: String,
    pub text: String,
    pub usage: Usage,
    pub cost: Option<MicroUsd>,
    pub milliseconds: u64,
}

pub trait Gateways: Send + Sync {
    /// Chooses a model: the one named, or the default for the credentials at hand. A provider can be forced by a prefix: `anthropic/NAME`,
    /// `openrouter/NAME`, `ollama/NAME`, … or a provider or model of the configuration. `Input` with a hint when the model is unknown, when no
    /// key is at hand (says how to get one and that `overnight demo` needs none), when it speaks none of the protocols, and when `budget`
    /// limits money but the model has no known price.
    fn resolve(&self, ask: ModelAsk<'_>) -> Result<ResolvedModel, Fault>;

    /// The neutral model for the built-in agent.
    fn model(&self, access: Access) -> Result<Arc<dyn Model>, Fault>;

    /// A base URL with a token of its own, for an agent that brings its own client. Void when the guard is dropped.
    fn endpoint(&self, access: Access) -> BoxFuture<'_, Result<Endpoint, Fault>>;

    /// The models of the configuration and of the credentials at hand, each provider asked once whether it is there, side by side
    /// and within seconds.
    fn models(&self, credentials: Credentials) -> BoxFuture<'_, Vec<ModelInfo>>;

    /// Makes one real call of a few tokens, paid from `purses`.
    fn try_out(
        &self,
        name: String,
        credentials: Credentials,
        purses: Vec<Purse>,
    ) -> BoxFuture<'_, Result<TriedModel, Fault>>;

    /// Answers an attempt's calls from its record, in the recorded order and without any network; `request.told` hears of each how the request
    /// compares with the recorded one. A call beyond the record is refused (`Rejected`, or 404).
    fn replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<Replayed, Fault>>;
}

/// An attempt's record that is to answer its calls.
#[derive(Clone)]
pub struct ReplayRequest {
    pub key: AttemptKey,
    pub record: Vec<Exchange>,
    /// Taken out of each request before it is compared, as they were taken out of the record.
    pub credentials: Credentials,
    pub redactor: Arc<Redactor>,
    pub told: Comparing,
}

impl std::fmt::Debug for ReplayRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayRequest").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Hears of each replayed call, from 1.
pub type Comparing = Arc<dyn Fn(u32, Compared) + Send + Sync>;

/// Both ways to a recorded model.
pub struct Replayed {
    pub model: Arc<dyn Model>,
    pub endpoint: Endpoint,
}

impl std::fmt::Debug for Replayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replayed").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A replayed request beside the recorded one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Compared {
    /// Byte by byte.
    Identical,
    /// But for dates, durations, and ids that are made anew in each run.
    SameButForIds,
    /// Where they part: an excerpt of either, from the first difference on, at most 200 bytes each.
    Different { recorded: String, replayed: String },
    /// The record has no such call.
    BeyondTheRecord,
}

/// Where an agent's own client finds its model.
pub struct Endpoint {
    /// `http://127.0.0.1:PORT` on the host, valid for the Anthropic, Gemini and OpenAI paths alike. A sandbox with a network of its own is
    /// given `door` instead, and finds it at [`super::egress::MODEL_PORT`] of its loopback.
    pub url: String,
    pub door: Arc<dyn super::sandbox::Door>,
    /// Goes where the provider's key would go.
    pub token: String,
    /// The model, by the name that its provider knows.
    pub model: String,
    /// In which the model can be asked for at this endpoint, best first.
    pub protocols: Vec<Protocol>,
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
    /// What a person or a tool shows. Bounded by whoever makes it: it goes out with every later request.
    Image {
        /// `image/png` or `image/jpeg`.
        media: String,
        base64: String,
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
    /// Every account is out of quota, or its provider is down, until then.
    #[error("{why}")]
    Held { why: String, until: Timestamp },
    /// The provider could not be reached or kept failing after bounded retries.
    #[error("{0}")]
    Unavailable(String),
    /// The answer was no valid reply. It was paid for.
    #[error("{0}")]
    Garbage(String),
    #[error(transparent)]
    Port(#[from] Fault),
}
