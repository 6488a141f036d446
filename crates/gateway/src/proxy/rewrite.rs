//! Reading from a request what metering needs, and changing in it only what must change, in place.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::dialect::{Protocol, openai};

/// A request for a reply, ready to go out.
#[derive(Debug)]
pub(super) struct Asked {
    pub model: String,
    /// The most tokens that the reply, or all its choices together, can have.
    pub max_output: u64,
    /// Whether it asks for what costs more than the model's price: a faster tier.
    pub is_surcharged: bool,
    pub body: Bytes,
    pub cap_added: bool,
    pub usage_asked: bool,
    pub kept: Kept,
}

/// What of its input a request only names, as the provider keeps it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// A response, with all that came before it.
    pub response: Option<String>,
    /// Whether there are single items of earlier responses.
    pub items: bool,
}

/// The fields that matter. A field that is there twice is refused, for who knows which one the provider takes.
#[derive(Deserialize)]
struct Fields<'a> {
    model: String,
    #[serde(default)]
    stream: Option<bool>,
    n: Option<u64>,
    service_tier: Option<String>,
    speed: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'a RawValue>,
    // Of Responses only.
    #[serde(borrow, default, deserialize_with = "present")]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    previous_response_id: Option<&'a RawValue>,
    #[serde(borrow)]
    background: Option<&'a RawValue>,
    conversation: Option<IgnoredAny>,
    prompt: Option<IgnoredAny>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// Tools that the client carries out itself: they cost nothing besides their tokens.
const CLIENTS_TOOLS: [&str; 5] = ["function", "custom", "local_shell", "apply_patch", "computer_use_preview"];

/// What only Responses have.
#[derive(Default)]
struct Further {
    kept: Kept,
    is_surcharged: bool,
}

impl Further {
    fn read(fields: &Fields<'_>) -> Result<Self, String> {
        if fields.background.is_some_and(|background| background.get() != "false") {
            return Err("a response in the background cannot be metered: leave `background` out".to_owned());
        }
        if fields.conversation.is_some() || fields.prompt.is_some() {
            return Err(
                "a `conversation` or `prompt` that the provider keeps cannot be metered: send it as `input`".to_owned()
            );
        }
        #[derive(Deserialize)]
        struct Tool {
            r#type: String,
        }
        let tools: Vec<Tool> = fields
            .tools
            .map_or(Ok(Vec::new()), |tools| serde_json::from_str(tools.get()))
            .map_err(|err| format!("`tools` cannot be read: {err}"))?;
        let response = fields
            .previous_response_id
            .map(|id| serde_json::from_str(id.get()))
            .transpose()
            .map_err(|err| format!("`previous_response_id` cannot be read: {err}"))?;
        Ok(Self {
            kept: Kept { response, items: fields.input.is_some_and(names_items) },
            is_surcharged: tools.iter().any(|tool| !CLIENTS_TOOLS.contains(&tool.r#type.as_str())),
        })
    }
}

/// Whether an item of the input is only the name of one. Where that cannot be told, it is taken for so.
fn names_items(input: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Item {
        r#type: Option<String>,
        role: Option<IgnoredAny>,
    }
    let is_name = |item: &Item| match item.r#type.as_deref() {
        None => item.role.is_none(),
        Some(kind) => kind == "item_reference",
    };
    input.get().starts_with('[')
        && serde_json::from_str::<Vec<Item>>(input.get()).map_or(true, |items| items.iter().any(is_name))
}

/// Tells `null` from nothing at all: a field that is there must be replaced, not added.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Changes to a body that are done together, so that places found in it stay right.
pub(super) struct Edits<'a> {
    body: &'a str,
    /// New fields, each with its comma.
    added: String,
    replaced: Vec<(Range<usize>, String)>,
}

impl<'a> Edits<'a> {
    pub(super) fn of(body: &'a str) -> Self {
        Self { body, added: String::new(), replaced: Vec::new() }
    }

    pub(super) fn set(&mut self, name: &str, old: Option<&RawValue>, value: &str) {
        match old {
            Some(old) => {
                // The old value is a part of the body itself.
                let start = old.get().as_ptr() as usize - self.body.as_ptr() as usize;
                self.replaced.push((start..start + old.get().len(), value.to_owned()));
            }
            None => self.added.push_str(&format!(r#""{name}":{value},"#)),
        }
    }

    /// `None`: nothing was changed.
    pub(super) fn done(mut self) -> Option<Bytes> {
        if self.added.is_empty() && self.replaced.is_empty() {
            return None;
        }
        self.replaced.sort_by_key(|(place, _)| place.start);
        let open = self.body.find('{')? + 1;
        let mut out = String::with_capacity(self.body.len() + 100);
        out.push_str(&self.body[..open]);
        out.push_str(&self.added);
        let mut from = open;
        for (place, value) in self.replaced {
            out.push_str(&self.body[from..place.start]);
            out.push_str(&value);
            from = place.end;
        }
        out.push_str(&self.body[from..]);
        Some(Bytes::from(out))
    }
}

/// A number of tokens, where there is one.
pub(super) fn number(raw: Option<&RawValue>) -> Result<Option<u64>, String> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(text) => {
            text.parse::<u64>().map(Some).map_err(|_| format!("the output cap `{text}` is no number of tokens"))
        }
    }
}

/// Reads a request whose body says all. `Err`: what is wrong with it, for the one who sent it.
pub(super) fn read(protocol: Protocol, body: Bytes, output_cap: u32) -> Result<Asked, String> {
    let text = str::from_utf8(&body).map_err(|_| "the request is not UTF-8".to_owned())?;
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|err| format!("the request cannot be read: {err}"))?;
    let mut edits = Edits::of(text);
    let further = match protocol {
        Protocol::Messages | Protocol::ChatCompletions | Protocol::GenerateContent => Further::default(),
        Protocol::Responses => Further::read(&fields)?,
    };
    let cap = match protocol {
        Protocol::Messages | Protocol::GenerateContent => number(fields.max_tokens)?,
        Protocol::ChatCompletions => number(fields.max_completion_tokens)?.max(number(fields.max_tokens)?),
        Protocol::Responses => number(fields.max_output_tokens)?,
    };
    let cap_added = cap.is_none();
    if cap_added {
        let (name, old) = match (protocol, openai::cap_name(&fields.model)) {
            (Protocol::Responses, _) => ("max_output_tokens", fields.max_output_tokens),
            (Protocol::ChatCompletions, name @ "max_completion_tokens") => (name, fields.max_completion_tokens),
            (Protocol::ChatCompletions | Protocol::Messages | Protocol::GenerateContent, _) => {
                ("max_tokens", fields.max_tokens)
            }
        };
        edits.set(name, old, &output_cap.to_string());
    }
    let usage_asked =
        protocol == Protocol::ChatCompletions && fields.stream == Some(true) && !reports_usage(fields.stream_options)?;
    if usage_asked {
        edits.set("stream_options", fields.stream_options, &with_usage(fields.stream_options)?);
    }
    let max_output = cap.unwrap_or(u64::from(output_cap)).saturating_mul(fields.n.unwrap_or(1).max(1));
    let is_surcharged = fields.service_tier.is_some_and(|tier| tier == "priority" || tier == "fast")
        || fields.speed.is_some_and(|speed| speed != "standard")
        || further.is_surcharged;
    let model = fields.model;
    let edited = edits.done();
    let body = edited.unwrap_or(body);
    Ok(Asked { model, max_output, is_surcharged, body, cap_added, usage_asked, kept: further.kept })
}

/// The request for another model: its name where the body says one.
pub(super) fn renamed(protocol: Protocol, body: &Bytes, model: &str) -> Bytes {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        model: Option<&'a RawValue>,
    }
    let renamed = || {
        let text = str::from_utf8(body).ok()?;
        let Named { model: old } = serde_json::from_str(text).ok()?;
        let mut edits = Edits::of(text);
        let prefix = if protocol == Protocol::GenerateContent { "models/" } else { "" };
        edits.set("model", Some(old?), &serde_json::Value::from(format!("{prefix}{model}")).to_string());
        edits.done()
    };
    // It was read before, so nothing but a missing name leaves it as it is.
    renamed().unwrap_or_else(|| body.clone())
}

type StreamOptions = serde_json::Map<String, serde_json::Value>;

fn stream_options(raw: Option<&RawValue>) -> Result<StreamOptions, String> {
    let options: Option<StreamOptions> = raw
        .map_or(Ok(None), |raw| serde_json::from_str(raw.get()))
        .map_err(|err| format!("`stream_options` cannot be read: {err}"))?;
    Ok(options.unwrap_or_default())
}

fn reports_usage(raw: Option<&RawValue>) -> Result<bool, String> {
    Ok(stream_options(raw)?.get("include_usage") == Some(&true.into()))
}

fn with_usage(raw: Option<&RawValue>) -> Result<String, String> {
    let mut options = stream_options(raw)?;
    options.insert("include_usage".to_owned(), true.into());
    Ok(serde_json::Value::from(options).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(protocol: Protocol, body: &str) -> Result<(String, u64), String> {
        let asked = super::read(protocol, Bytes::copy_from_slice(body.as_bytes()), 100)?;
        let text = String::from_utf8(asked.body.to_vec()).unwrap();
        assert_eq!(text != body, asked.cap_added || asked.usage_asked, "a change is told: {text}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        Ok((text, asked.max_output))
    }

    #[test]
    fn what_needs_no_change_stays_as_it_is() {
        for (protocol, body, most) in [
            (Protocol::Messages, r#" { "model":"m",  "max_tokens": 7,"stream":true,"messages":[]} "#, 7),
            (Protocol::ChatCompletions, r#"{"max_tokens":7,"model":"m","messages":[],"x":{"max_tokens":null}}"#, 7),
            (Protocol::ChatCompletions, r#"{"max_completion_tokens":7,"n":3,"model":"m","messages":[]}"#, 21),
            (
                Protocol::ChatCompletions,
                r#"{"max_tokens":7,"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
                7,
            ),
            (
                Protocol::Responses,
                r#"{"max_output_tokens":7,"model":"m","stream":true,"background":false,"conversation":null,"input":"x"}"#,
                7,
            ),
        ] {
            assert_eq!(read(protocol, body).unwrap(), (body.to_owned(), most));
        }
    }

    #[test]
    fn only_what_is_missing_is_put_in() {
        for (protocol, before, after) in [
            (Protocol::Messages, r#"{"model":"m" }"#, r#"{"max_tokens":100,"model":"m" }"#),
            (
                Protocol::Responses,
                r#"{"model":"m","stream":true}"#,
                r#"{"max_output_tokens":100,"model":"m","stream":true}"#,
            ),
            (Protocol::Messages, r#"{"model":"m","max_tokens":null}"#, r#"{"model":"m","max_tokens":100}"#),
            (
                Protocol::ChatCompletions,
                r#"{"model":"gpt-6-sol"}"#,
                r#"{"max_completion_tokens":100,"model":"gpt-6-sol"}"#,
            ),
            (Protocol::ChatCompletions, r#"{"model":"qwen"}"#, r#"{"max_tokens":100,"model":"qwen"}"#),
            (
                Protocol::ChatCompletions,
                r#"{"stream":true,"stream_options":{"x":1,"include_usage":false},"max_tokens":null,"model":"qwen"}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true,"x":1},"max_tokens":100,"model":"qwen"}"#,
            ),
            (
                Protocol::ChatCompletions,
                r#"{"model":"m","max_tokens":5,"stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"model":"m","max_tokens":5,"stream":true}"#,
            ),
        ] {
            assert_eq!(read(protocol, before).unwrap().0, after);
        }
    }

    #[test]
    fn what_costs_more_than_the_price_is_noticed() {
        let surcharged = |more: &str| {
            let body = format!(r#"{{"model":"m","max_tokens":1{more}}}"#);
            super::read(Protocol::ChatCompletions, Bytes::from(body), 100).unwrap().is_surcharged
        };
        for more in ["", r#","service_tier":"auto""#, r#","service_tier":null"#, r#","speed":"standard""#] {
            assert!(!surcharged(more), "{more}");
        }
        for more in [r#","service_tier":"priority""#, r#","speed":"fast""#] {
            assert!(surcharged(more), "{more}");
        }
    }

    #[test]
    fn what_a_provider_keeps_and_does_itself_is_noticed() {
        let asked = |more: &str| {
            let body = format!(r#"{{"model":"m","max_output_tokens":1,"input":"[{{}}]"{more}}}"#);
            super::read(Protocol::Responses, Bytes::from(body), 100)
        };
        let plain = asked(r#","tools":[{"type":"function","name":"f"},{"type":"custom"}],"previous_response_id":null"#);
        let plain = plain.unwrap();
        assert_eq!((plain.kept.response, plain.kept.items, plain.is_surcharged), (None, false, false));
        assert_eq!(asked(r#","previous_response_id":"resp_1""#).unwrap().kept.response.as_deref(), Some("resp_1"));
        for (input, names) in [
            (r#"[{"role":"user","content":"a"},{"type":"function_call_output","call_id":"c","output":"o"}]"#, false),
            (r#"[{"role":"user","content":"a"},{"type":"item_reference","id":"msg_1"}]"#, true),
            (r#"[{"id":"msg_1"}]"#, true),
            ("[7]", true),
        ] {
            let body = format!(r#"{{"model":"m","max_output_tokens":1,"input":{input}}}"#);
            let asked = super::read(Protocol::Responses, Bytes::from(body), 100).unwrap();
            assert_eq!(asked.kept.items, names, "{input}");
        }
        assert!(asked(r#","tools":[{"type":"web_search"}]"#).unwrap().is_surcharged);
        for more in [r#","background":true"#, r#","conversation":"c""#, r#","prompt":{"id":"p"}"#, r#","tools":7"#] {
            assert!(asked(more).is_err(), "{more}");
        }
    }

    #[test]
    fn what_cannot_be_metered_is_refused() {
        for body in [
            "",
            "[]",
            r#"{"messages":[]}"#,
            r#"{"model":"cheap","model":"dear","max_tokens":1}"#,
            r#"{"model":"m","max_tokens":1,"max_tokens":1000000}"#,
            r#"{"model":"m","max_tokens":"many"}"#,
            r#"{"model":"m","max_tokens":-1}"#,
            r#"{"model":"m","max_tokens":1,"stream":true,"stream_options":7}"#,
        ] {
            assert!(read(Protocol::ChatCompletions, body).is_err(), "{body}");
        }
    }
}
