//! `OpenAI` Responses: `POST /v1/responses`, as far as one must understand it whose clients speak it.

use serde::Deserialize;

use super::tokens::{Count, account};
use crate::prices::Counted;

/// The events that end a stream, each with the whole response.
const LAST: [&str; 3] = ["response.completed", "response.incomplete", "response.failed"];

/// A whole answer, or an event of a stream that holds one.
#[derive(Deserialize)]
struct Holder {
    response: Option<Response>,
    id: Option<String>,
    #[serde(default, deserialize_with = "account")]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Response {
    id: Option<String>,
    #[serde(default, deserialize_with = "account")]
    usage: Option<Usage>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    input_tokens: Count,
    /// Reasoning included.
    output_tokens: Count,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Count,
    cache_write_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Count,
}

impl Usage {
    fn counted(self) -> Counted {
        let mut counted = Counted::default();
        let mut read = |count: Count| count.read(&mut counted).unwrap_or(0);
        let InputDetails { cached_tokens, cache_write_tokens } = self.input_tokens_details.unwrap_or_default();
        let OutputDetails { reasoning_tokens } = self.output_tokens_details.unwrap_or_default();
        let (cache_read, cache_write) = (read(cached_tokens), read(cache_write_tokens));
        counted.usage = domain::budget::Usage {
            input: read(self.input_tokens).saturating_sub(cache_read).saturating_sub(cache_write),
            cache_read,
            cache_write,
            output: read(self.output_tokens),
            reasoning: read(reasoning_tokens),
        };
        counted
    }
}

fn response(json: &str) -> Option<Response> {
    let Holder { response, id, usage } = serde_json::from_str(json).ok()?;
    Some(response.unwrap_or(Response { id, usage }))
}

pub(super) fn count(json: &str, counted: &mut Counted) -> bool {
    let Some(usage) = response(json).and_then(|response| response.usage) else { return false };
    *counted = usage.counted();
    true
}

pub(super) fn ends(data: &str) -> bool {
    #[derive(Deserialize)]
    struct Event<'a> {
        r#type: &'a str,
    }
    // The first look spares the reading of thousands of small events; the second tells the type from what a client put in.
    LAST.iter().any(|last| data.contains(last))
        && serde_json::from_str::<Event<'_>>(data).is_ok_and(|event| LAST.contains(&event.r#type))
}

/// The name under which the provider keeps a response, so that the next request can go on from it.
pub(crate) fn id(json: &str) -> Option<String> {
    response(json)?.id
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: &str = r#"{"input_tokens":2006,"input_tokens_details":{"cached_tokens":1920},"output_tokens":300,"output_tokens_details":{"reasoning_tokens":128},"total_tokens":2306}"#;

    #[test]
    fn usage_and_name_are_read_from_a_document_and_from_the_last_event() {
        let expected =
            domain::budget::Usage { input: 86, cache_read: 1920, cache_write: 0, output: 300, reasoning: 128 };
        for json in [
            format!(r#"{{"id":"resp_1","object":"response","usage":{USAGE},"metadata":{{"usage":"x"}}}}"#),
            format!(
                r#"{{"type":"response.completed","sequence_number":9,"response":{{"id":"resp_1","usage":{USAGE}}}}}"#
            ),
        ] {
            let mut counted = Counted::default();
            assert!(count(&json, &mut counted), "{json}");
            assert_eq!((counted.usage, id(&json).as_deref()), (expected, Some("resp_1")));
        }
        for json in [r#"{"type":"response.created","response":{"id":"resp_1","usage":null}}"#, "[DONE]", "{"] {
            assert!(!count(json, &mut Counted::default()), "{json}");
        }
    }

    #[test]
    fn only_the_type_of_an_event_ends_a_stream() {
        for last in LAST {
            assert!(ends(&format!(r#"{{"sequence_number":3,"type":"{last}","response":{{}}}}"#)));
        }
        for other in [
            r#"{"type":"response.created","response":{"metadata":{"type":"response.completed"}}}"#,
            r#"{"type":"response.output_text.delta","delta":"\"type\":\"response.completed\""}"#,
            r#"{"type":"error","message":"response.failed"}"#,
        ] {
            assert!(!ends(other), "{other}");
        }
    }
}
