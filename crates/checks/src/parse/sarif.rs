//! SARIF 2.1.0 (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>): results with a level and a place.

use serde::Deserialize;

use super::{
    complaints::{Complaint, Complaints},
    text::relative,
};

#[derive(Deserialize)]
struct Log {
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    #[serde(default)]
    results: Vec<Finding>,
}

/// One `result`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    rule_id: Option<String>,
    #[serde(default = "fail")]
    kind: String,
    #[serde(default = "warning")]
    level: String,
    message: Message,
    #[serde(default)]
    locations: Vec<Location>,
    #[serde(default)]
    suppressions: Vec<serde::de::IgnoredAny>,
}

fn fail() -> String {
    "fail".to_owned()
}

fn warning() -> String {
    "warning".to_owned()
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: Option<Physical>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    artifact_location: Artifact,
    region: Option<Region>,
}

#[derive(Deserialize)]
struct Artifact {
    #[serde(default)]
    uri: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: Option<u32>,
}

/// Whether a file's content is for this reader.
pub(super) fn is_it(content: &str) -> bool {
    content.trim_start_matches('\u{feff}').trim_start().starts_with('{')
}

/// Adds the results of a file; one that is not well-formed says nothing.
pub(super) fn read_file(content: &str, found: &mut Complaints) {
    if let Ok(log) = serde_json::from_str(content.trim_start_matches('\u{feff}')) {
        // Below everything that was printed.
        results(usize::MAX, log, found);
    }
}

/// The same of a document that was printed at line `index`.
pub(super) fn read(index: usize, document: &serde_json::Value, found: &mut Complaints) {
    if let Ok(log) = Log::deserialize(document) {
        results(index, log, found);
    }
}

fn results(index: usize, log: Log, found: &mut Complaints) {
    let results = log.runs.into_iter().flat_map(|run| run.results);
    for result in results.filter(|result| result.kind == "fail" && result.suppressions.is_empty()) {
        let Some(place) = result.locations.into_iter().find_map(|location| location.physical_location) else {
            continue;
        };
        let words = [result.rule_id.unwrap_or_default(), result.message.text].join(" ");
        let line = place.region.and_then(|region| region.start_line);
        let path = place.artifact_location.uri;
        let complaint = Complaint::at(relative(path.trim_start_matches("file://")), line, words.trim());
        found.add(index, if result.level == "error" { complaint } else { complaint.mild() });
    }
}
