//! What is particular to requests of Gemini's clients: keys in the query, a model in the path, a cap deep inside.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::rewrite::{Asked, Edits, Kept, number, present};
use crate::dialect;

/// A query without its `key`, and that key. `Err`: what else is asked for. A filter of the answer's fields, say, could hide its usage.
pub(super) fn query(query: Option<&str>) -> Result<(Option<&str>, String), String> {
    let (mut key, mut rest) = (None, String::new());
    for field in query.unwrap_or_default().split('&').filter(|field| !field.is_empty()) {
        match field.split_once('=') {
            Some(("key", value)) => key = Some(value),
            Some(("alt", "sse" | "json")) | Some(("pageSize" | "pageToken", _)) => {
                rest.push(if rest.is_empty() { '?' } else { '&' });
                rest.push_str(field);
            }
            _ => return Err(format!("the gateway passes no `{field}` in a query: leave it out")),
        }
    }
    Ok((key, rest))
}

/// The path for another model, where it names one.
pub(super) fn renamed(path: &str, model: &str) -> String {
    match dialect::gemini::target(path) {
        Some((_, method)) => format!("{}{model}:{method}", dialect::gemini::MODELS),
        None => path.to_owned(),
    }
}

/// The fields that matter, in either spelling. A field that is there twice is refused, for who knows which one the provider takes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    model: Option<String>,
    contents: Vec<Content>,
    #[serde(alias = "system_instruction")]
    system_instruction: Option<Content>,
    #[serde(borrow, default, alias = "generation_config", deserialize_with = "present")]
    generation_config: Option<&'a RawValue>,
    #[serde(alias = "cached_content")]
    cached_content: Option<IgnoredAny>,
    tools: Option<Vec<HashMap<String, IgnoredAny>>>,
    #[serde(alias = "service_tier")]
    service_tier: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    #[serde(borrow, default, alias = "max_output_tokens", deserialize_with = "present")]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(alias = "candidate_count")]
    candidate_count: Option<u64>,
    #[serde(alias = "response_modalities")]
    response_modalities: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Content {
    parts: Option<Vec<Part>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    #[serde(alias = "file_data")]
    file_data: Option<IgnoredAny>,
    #[serde(alias = "inline_data")]
    inline_data: Option<Blob>,
    #[serde(alias = "function_response")]
    function_response: Option<Content>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    #[serde(alias = "mime_type")]
    mime_type: Option<String>,
}

/// What the parts of a request hold besides text.
#[derive(Default)]
struct Held {
    /// Something that the provider keeps.
    files: bool,
    /// Something with a price of its own.
    sounds: bool,
}

impl Held {
    fn look(&mut self, content: &Content) {
        for part in content.parts.iter().flatten() {
            self.files |= part.file_data.is_some();
            let kind = part.inline_data.as_ref().and_then(|blob| blob.mime_type.as_deref());
            self.sounds |= kind.is_some_and(|kind| !kind.starts_with("image/") && !kind.starts_with("text/"));
            if let Some(response) = &part.function_response {
                self.look(response);
            }
        }
    }
}

/// Reads a request to a model for a reply. `Err`: what is wrong with it, for the one who sent it.
pub(super) fn read(model: &str, body: Bytes, output_cap: u32) -> Result<Asked, String> {
    let text = str::from_utf8(&body).map_err(|_| "the request is not UTF-8".to_owned())?;
    let unreadable = |err| format!("the request cannot be read: {err}");
    let fields: Fields<'_> = serde_json::from_str(text).map_err(unreadable)?;
    if fields.model.is_some_and(|named| named.strip_prefix("models/").unwrap_or(&named) != model) {
        return Err(format!("the request is for another model than its path, which says `{model}`"));
    }
    if fields.cached_content.is_some() {
        return Err("a `cachedContent` that the provider keeps cannot be metered: send it in `contents`".to_owned());
    }
    let mut held = Held::default();
    fields.contents.iter().chain(&fields.system_instruction).for_each(|content| held.look(content));
    if held.files {
        return Err(
            "a `fileData` that the provider keeps or fetches cannot be metered: send it as `inlineData`".to_owned()
        );
    }
    let config: Config<'_> = match fields.generation_config.map(RawValue::get) {
        None | Some("null") => Config::default(),
        Some(config) => serde_json::from_str(config).map_err(unreadable)?,
    };
    // None at all, to a provider that leaves out what is zero.
    let cap = number(config.max_output_tokens)?.filter(|cap| *cap > 0);
    let mut edits = Edits::of(text);
    if cap.is_none() {
        match (fields.generation_config, config.max_output_tokens) {
            (_, Some(old)) => edits.set("maxOutputTokens", Some(old), &output_cap.to_string()),
            (old, None) => edits.set("generationConfig", old, &capped(old, output_cap)),
        }
    }
    let is_own_tool = |name: &String| name != "functionDeclarations" && name != "function_declarations";
    let is_surcharged = held.sounds
        || fields.tools.iter().flatten().any(|tool| tool.keys().any(is_own_tool))
        || config.response_modalities.iter().flatten().any(|form| !form.eq_ignore_ascii_case("text"))
        || fields.service_tier.is_some_and(|tier| !["standard", "flex", "unspecified"].contains(&tier.as_str()));
    let max_output = cap.unwrap_or(u64::from(output_cap)).saturating_mul(config.candidate_count.unwrap_or(1).max(1));
    let edited = edits.done();
    Ok(Asked {
        model: model.to_owned(),
        max_output,
        is_surcharged,
        cap_added: cap.is_none(),
        usage_asked: false,
        body: edited.unwrap_or(body),
        kept: Kept::default(),
    })
}

/// A configuration with a cap in it, and all else as it was.
fn capped(config: Option<&RawValue>, output_cap: u32) -> String {
    let inside = config.and_then(|config| config.get().strip_prefix('{')).unwrap_or("}");
    let comma = if inside.trim_start().starts_with('}') { "" } else { "," };
    format!(r#"{{"maxOutputTokens":{output_cap}{comma}{inside}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Asked, String> {
        super::read("gemini-3.8-flash", Bytes::copy_from_slice(body.as_bytes()), 100)
    }

    #[test]
    fn a_missing_cap_is_put_in_and_nothing_else_changes() {
        for (before, after) in [
            (r#"{"contents":[]}"#, r#"{"generationConfig":{"maxOutputTokens":100},"contents":[]}"#),
            (
                r#"{"contents":[],"generationConfig":null}"#,
                r#"{"contents":[],"generationConfig":{"maxOutputTokens":100}}"#,
            ),
            (
                r#"{"generationConfig":{ },"contents":[]}"#,
                r#"{"generationConfig":{"maxOutputTokens":100 },"contents":[]}"#,
            ),
            (
                r#"{"generation_config": {"topK":1}, "contents":[]}"#,
                r#"{"generation_config": {"maxOutputTokens":100,"topK":1}, "contents":[]}"#,
            ),
            (
                r#"{"contents":[],"generationConfig":{"max_output_tokens":0,"topK":1}}"#,
                r#"{"contents":[],"generationConfig":{"max_output_tokens":100,"topK":1}}"#,
            ),
        ] {
            let asked = read(before).unwrap();
            assert_eq!((str::from_utf8(&asked.body).unwrap(), asked.cap_added, asked.max_output), (after, true, 100));
            serde_json::from_slice::<serde_json::Value>(&asked.body).unwrap();
        }
        let whole =
            r#" {"contents":[{"parts":[{"text":"a"}]}] ,"generationConfig":{"candidateCount":3,"maxOutputTokens":7}}"#;
        let asked = read(whole).unwrap();
        assert_eq!((str::from_utf8(&asked.body).unwrap(), asked.cap_added, asked.max_output), (whole, false, 21));
    }

    #[test]
    fn what_cannot_be_metered_is_refused() {
        let file = r#"{"fileData":{"fileUri":"files/x"}}"#;
        for body in [
            "{}",
            r#"{"contents":[],"cachedContent":"cachedContents/x"}"#,
            r#"{"contents":[],"cached_content":"cachedContents/x"}"#,
            r#"{"contents":[],"model":"models/gemini-dear"}"#,
            r#"{"contents":[],"generationConfig":{},"generation_config":{}}"#,
            r#"{"contents":[],"generationConfig":{"maxOutputTokens":1,"max_output_tokens":2}}"#,
            r#"{"contents":[],"generationConfig":{"maxOutputTokens":-1}}"#,
            r#"{"contents":[],"generationConfig":7}"#,
            &format!(r#"{{"contents":[{{"parts":[{file}]}}]}}"#),
            &format!(r#"{{"contents":[],"systemInstruction":{{"parts":[{file}]}}}}"#),
            &format!(r#"{{"contents":[{{"parts":[{{"functionResponse":{{"name":"f","parts":[{file}]}}}}]}}]}}"#),
            &r#"{"contents":[{"parts":[{"fileData":{"fileUri":"files/x"}}]}]}"#.replace("fileData", "file_d\\u0061ta"),
        ] {
            assert!(read(body).is_err(), "{body}");
        }
        assert!(read(r#"{"contents":[],"model":"models/gemini-3.8-flash","cachedContent":null}"#).is_ok());
    }

    #[test]
    fn what_costs_more_than_the_price_is_noticed() {
        let surcharged = |more: &str| read(&format!(r#"{{"contents":[]{more}}}"#)).unwrap().is_surcharged;
        for more in [
            "",
            r#","tools":[{"functionDeclarations":[{"name":"f"}]},{"function_declarations":[]}]"#,
            r#","serviceTier":"flex","generationConfig":{"responseModalities":["TEXT"]}"#,
        ] {
            assert!(!surcharged(more), "{more}");
        }
        for more in [
            r#","tools":[{"functionDeclarations":[]},{"googleSearch":{}}]"#,
            r#","tools":[{"functionDeclarations":[],"codeExecution":{}}]"#,
            r#","tools":[{"url_context":{}}]"#,
            r#","serviceTier":"priority""#,
            r#","generationConfig":{"responseModalities":["TEXT","IMAGE"]}"#,
            r#","systemInstruction":{"parts":[{"inline_data":{"mime_type":"audio/wav","data":""}}]}"#,
        ] {
            assert!(surcharged(more), "{more}");
        }
    }

    #[test]
    fn only_harmless_things_of_a_query_pass() {
        assert_eq!(query(None), Ok((None, String::new())));
        assert_eq!(query(Some("alt=sse&key=k")), Ok((Some("k"), "?alt=sse".to_owned())));
        assert_eq!(query(Some("key=k&pageSize=5&pageToken=x")), Ok((Some("k"), "?pageSize=5&pageToken=x".to_owned())));
        for other in ["fields=candidates", "%61lt=sse", "access_token=x", "alt=media", "$alt=sse", "k%65y=x", "key"] {
            assert!(query(Some(other)).is_err(), "{other}");
        }
    }
}
