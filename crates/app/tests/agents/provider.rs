//! A scripted provider of a test's own, and what it was asked.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout},
};

use serde_json::{Value, json};

use crate::harness::Place;

/// Ended with the test.
pub struct Provider {
    process: Child,
    /// Keeps the pipe open that the provider printed its address to.
    _out: BufReader<ChildStdout>,
    pub url: String,
    log: PathBuf,
}

impl Provider {
    pub fn play(place: &Place, replies: &[Value]) -> Self {
        let (file, log) = (place.directory.path().join("script.json"), place.directory.path().join("model.jsonl"));
        fs::write(&file, json!({ "conversations": [{ "replies": replies }] }).to_string()).unwrap();
        let arguments = ["scripted-model", "--script", file.to_str().unwrap(), "--log", log.to_str().unwrap()];
        let mut process = place.command(&arguments).spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { process, _out: out, url, log }
    }

    pub fn requests(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
