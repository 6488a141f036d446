//! The wire formats of model providers. Only this folder and `scripted` know them.

pub(crate) mod anthropic;
pub(crate) mod gemini;
pub(crate) mod openai;
pub(crate) mod responses;
mod tokens;
mod write;

use std::time::Duration;

use bytes::Bytes;
pub(crate) use domain::ports::model::Protocol;
use domain::ports::model::{ModelReply, ModelRequest};
use reqwest::StatusCode;
use serde::Deserialize;

use crate::{patience::span, prices::Counted};

/// A provider's language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Anthropic Messages.
    Anthropic,
    /// Gemini's `generateContent`.
    Gemini,
    /// `OpenAI` Chat Completions, which most local servers speak too.
    OpenAi,
}

impl Dialect {
    /// The prefix that forces this dialect on a model name.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic/",
            Self::Gemini => "gemini/",
            Self::OpenAi => "openai/",
        }
    }

    /// An error as this dialect's clients expect it. `kind` is Anthropic's or `OpenAI`'s word for it.
    pub(crate) fn error_body(self, status: StatusCode, kind: &str, message: &str) -> Bytes {
        let body = match self {
            Self::Anthropic => serde_json::json!({"type": "error", "error": {"type": kind, "message": message}}),
            Self::Gemini => gemini::error(status, message),
            Self::OpenAi => {
                serde_json::json!({"error": {"message": message, "type": kind, "param": null, "code": kind}})
            }
        };
        Bytes::from(body.to_string())
    }
}

/// What a protocol's bytes mean, to whoever watches them pass.
pub(crate) trait Wire: Copy {
    /// The family it belongs to.
    fn dialect(self) -> Dialect;

    /// Encodes a request as the body of a streamed call.
    fn encode(self, model: &str, request: &ModelRequest<'_>) -> Bytes;

    fn decoder(self) -> Decoder;

    /// Reads what a piece of JSON (a whole answer, or one event of a stream) says of its usage into `counted`. True when it says any.
    fn count(self, json: &str, counted: &mut Counted) -> bool;

    /// What an event has in it that tells usage.
    fn usage_mark(self) -> &'static [u8];

    /// Whether this event is the last of a whole stream.
    fn ends(self, data: &str) -> bool;
}

impl Wire for Protocol {
    fn dialect(self) -> Dialect {
        match self {
            Self::Messages => Dialect::Anthropic,
            Self::GenerateContent => Dialect::Gemini,
            Self::ChatCompletions | Self::Responses => Dialect::OpenAi,
        }
    }

    fn encode(self, model: &str, request: &ModelRequest<'_>) -> Bytes {
        match self {
            Self::Messages => anthropic::encode(model, request),
            Self::ChatCompletions => openai::encode(model, request),
            // Its model stands in the path.
            Self::GenerateContent => gemini::encode(request),
            Self::Responses => responses::encode(model, request),
        }
    }

    fn decoder(self) -> Decoder {
        match self {
            Self::Messages => Decoder::Messages(anthropic::Decoder::default()),
            Self::ChatCompletions => Decoder::ChatCompletions(openai::Decoder::default()),
            Self::GenerateContent => Decoder::GenerateContent(gemini::Decoder::default()),
            Self::Responses => Decoder::Responses(responses::Decoder::default()),
        }
    }

    fn count(self, json: &str, counted: &mut Counted) -> bool {
        match self {
            Self::Messages => anthropic::count(json, counted),
            Self::ChatCompletions => openai::count(json, counted),
            Self::GenerateContent => gemini::count(json, counted),
            Self::Responses => responses::count(json, counted),
        }
    }

    fn usage_mark(self) -> &'static [u8] {
        match self {
            Self::Messages | Self::ChatCompletions | Self::Responses => br#""usage""#,
            Self::GenerateContent => br#""usageMetadata""#,
        }
    }

    fn ends(self, data: &str) -> bool {
        match self {
            Self::Messages => data.contains(r#""message_stop""#),
            Self::ChatCompletions => data == "[DONE]",
            // No event says so: other candidates may go on after the first has ended.
            Self::GenerateContent => false,
            Self::Responses => responses::ends(data),
        }
    }
}

/// A provider's account of what went wrong, from the body of an error or an event of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// Everything the provider says of its kind: `overloaded_error`, `insufficient_quota`.
    pub kind: String,
    pub message: String,
    /// When it asks to be tried again.
    pub retry: Option<Duration>,
}

impl Complaint {
    /// In words of no kind.
    pub fn of(message: String) -> Self {
        Self { kind: String::new(), retry: wait(&message), message }
    }

    /// `None`: the text is no JSON object with an `error`.
    pub fn read(json: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            error: Error,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Error {
            Text(String),
            Told {
                r#type: Option<String>,
                code: Option<serde_json::Value>,
                message: Option<String>,
                // Gemini's.
                #[serde(default)]
                status: serde_json::Value,
                #[serde(default)]
                details: serde_json::Value,
            },
        }
        let envelope: Envelope = serde_json::from_str(json).ok()?;
        Some(match envelope.error {
            Error::Text(message) => Self::of(message),
            Error::Told { r#type, code, status, message, details } => {
                let code = match code {
                    Some(serde_json::Value::String(code)) => Some(code),
                    Some(code @ serde_json::Value::Number(_)) => Some(code.to_string()),
                    _ => None,
                };
                let details = || details.as_array().into_iter().flatten();
                let told = details().find_map(|detail| span(detail.get("retryDelay")?.as_str()?));
                let reasons = details().filter_map(|detail| detail.get("reason")?.as_str());
                let words = status.as_str().into_iter().chain(reasons).map(str::to_owned);
                let kind: Vec<String> = r#type.into_iter().chain(code).chain(words).collect();
                let message = message.unwrap_or_else(|| "no reason given".to_owned());
                Self { kind: kind.join(" "), retry: told.or_else(|| wait(&message)), message }
            }
        })
    }

    /// Whether asking again later can help.
    pub fn is_passing(&self) -> bool {
        let passing = [
            "overloaded",
            "api_error",
            "server_error",
            "rate_limit",
            "timeout",
            "internal",
            "unavailable",
            "exhausted",
        ];
        let kind = self.kind.to_ascii_lowercase();
        passing.iter().any(|word| kind.contains(word))
            || kind.split(' ').any(|word| word.starts_with('5') && word.len() == 3)
    }

    /// Whether too much is asked of the account, or of the provider: for some time, nobody need ask.
    pub fn is_about_quota(&self) -> bool {
        let kind = self.kind.to_ascii_lowercase();
        ["overloaded", "rate_limit", "ratelimit", "exhausted", "quota"].iter().any(|word| kind.contains(word))
    }

    /// Whether the key is none: Gemini calls that an invalid request.
    pub fn is_about_the_key(&self) -> bool {
        self.kind.contains("API_KEY_INVALID")
    }

    /// Whether nothing is left to pay with: no waiting mends that.
    pub fn is_out_of_money(&self) -> bool {
        self.kind.contains("insufficient_quota") || self.kind.contains("billing")
    }
}

/// `Please try again in 1m20s.`
fn wait(message: &str) -> Option<Duration> {
    let (_, after) = message.split_once("try again in ")?;
    let word = after.split([' ', ',']).next()?;
    span(word.trim_end_matches('.'))
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind.as_str() {
            "" => f.write_str(&self.message),
            kind => write!(f, "{kind}: {}", self.message),
        }
    }
}

/// What an event of a stream brought to light.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The provider gives up on this stream; another try can help.
    Passing(String),
    /// This is no valid reply.
    Invalid(String),
}

impl Trouble {
    fn complaint(complaint: &Complaint) -> Self {
        if complaint.is_passing() { Self::Passing(complaint.to_string()) } else { Self::Invalid(complaint.to_string()) }
    }

    fn invalid(what: &str, data: &str) -> Self {
        Self::Invalid(format!("{what}: {}", excerpt(data)))
    }
}

/// The beginning of a text, for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    const MOST: usize = 300;
    let mut excerpt: String = text.trim().chars().filter(|char| !char.is_control()).take(MOST).collect();
    if text.chars().nth(MOST).is_some() {
        excerpt.push('…');
    }
    excerpt
}

/// Puts a reply together from the events of its stream.
#[derive(Debug)]
pub(crate) enum Decoder {
    Messages(anthropic::Decoder),
    ChatCompletions(openai::Decoder),
    GenerateContent(gemini::Decoder),
    Responses(responses::Decoder),
}

impl Decoder {
    pub fn event(&mut self, data: &str) -> Result<(), Trouble> {
        match self {
            Self::Messages(decoder) => decoder.event(data),
            Self::ChatCompletions(decoder) => decoder.event(data),
            Self::GenerateContent(decoder) => decoder.event(data),
            Self::Responses(decoder) => decoder.event(data),
        }
    }

    /// The usage reported so far; `None` when the provider has not said any.
    pub fn counted(&self) -> Option<Counted> {
        match self {
            Self::Messages(decoder) => decoder.counted,
            Self::ChatCompletions(decoder) => decoder.counted,
            Self::GenerateContent(decoder) => decoder.counted,
            Self::Responses(decoder) => decoder.counted,
        }
    }

    /// Whether nothing more belongs to the reply.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Messages(decoder) => decoder.over,
            Self::ChatCompletions(decoder) => decoder.over,
            // Its stream just ends.
            Self::GenerateContent(_) => false,
            Self::Responses(decoder) => decoder.over,
        }
    }

    /// The reply, when the stream has ended. `None`: it ended before the reply did.
    pub fn finish(self) -> Option<Result<ModelReply, Trouble>> {
        match self {
            Self::Messages(decoder) => decoder.finish(),
            Self::ChatCompletions(decoder) => decoder.finish(),
            Self::GenerateContent(decoder) => decoder.finish(),
            Self::Responses(decoder) => decoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::ports::model::{Message, Part, Role};

    use super::*;

    #[test]
    fn images_are_written_in_every_dialect() {
        let parts = vec![Part::Image { media: "image/png".to_owned(), base64: "aGk=".to_owned() }];
        let messages = [Message { role: Role::User, parts }];
        let request = ModelRequest { system: "", tools: &[], messages: &messages, max_output: 1 };
        let url = "data:image/png;base64,aGk=";
        for (protocol, place, value) in [
            (Protocol::Messages, "/messages/0/content/0/source/data", "aGk="),
            (Protocol::Messages, "/messages/0/content/0/source/media_type", "image/png"),
            (Protocol::ChatCompletions, "/messages/0/content/0/image_url/url", url),
            (Protocol::Responses, "/input/0/content/0/image_url", url),
            (Protocol::GenerateContent, "/contents/0/parts/0/inlineData/data", "aGk="),
            (Protocol::GenerateContent, "/contents/0/parts/0/inlineData/mimeType", "image/png"),
        ] {
            let sent: serde_json::Value = serde_json::from_slice(&protocol.encode("m", &request)).unwrap();
            assert_eq!(sent.pointer(place), Some(&value.into()), "{protocol:?}: {sent}");
        }
    }
}
