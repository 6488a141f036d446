//! The scripted provider as a process of its own, and its record of what reached it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

#[derive(Debug)]
pub struct Provider {
    child: Child,
    url: String,
    log: PathBuf,
}

/// One model call, as the provider saw it.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it had arrived in full.
    pub at: Timestamp,
    /// The script's conversation that was played.
    pub matched: String,
    /// The same for all calls that begin with the same user message.
    pub conversation: String,
    /// How many replies the conversation already held.
    pub index: u64,
    /// Of the body.
    pub bytes: u64,
    /// Whether the body begins with the last one's of this conversation; `None` for the first.
    pub keeps_prefix: Option<bool>,
    /// Of the system prompt and the tools.
    pub head: String,
    /// Whether the whole reply was sent.
    pub is_complete: bool,
}

impl Provider {
    /// `bare` is the program with a cleared environment.
    pub(super) fn start(mut bare: Command, directory: &Path, script: &Value) -> Result<Self> {
        let (file, log) = (directory.join("script.json"), directory.join("requests.jsonl"));
        fs::write(&file, serde_json::to_vec(script)?).with_context(|| format!("cannot write {}", file.display()))?;
        fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))?;
        let errors = fs::File::create(directory.join("provider.log"))?;
        bare.args(["scripted-model", "--script"]).arg(file).arg("--log").arg(&log);
        let mut child = bare
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context("cannot start the scripted model")?;
        let output = child.stdout.take().context("its output is a pipe")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("cannot read what the scripted model says")?;
        let url = line.trim().rsplit(' ').next().filter(|url| url.starts_with("http://"));
        let Some(url) = url.map(str::to_owned) else {
            child.kill().and_then(|()| child.wait()).context("cannot end the scripted model")?;
            anyhow::bail!("the scripted model said {line:?} instead of its address");
        };
        Ok(Self { child, url, log })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn requests(&self) -> Result<Vec<Request>> {
        let text = fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        // A line that is being written has no end yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| read(line).with_context(|| format!("not a record of a request: {line}"))).collect()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(line: &str) -> Option<Request> {
    let value: Value = serde_json::from_str(line).ok()?;
    let number = |key: &str| value.get(key).and_then(Value::as_u64);
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    Some(Request {
        at: text("at")?.parse().ok()?,
        matched: text("matched").unwrap_or_default().to_owned(),
        conversation: text("conversation")?.to_owned(),
        index: number("index")?,
        bytes: number("bytes")?,
        keeps_prefix: value.get("prefix_kept").and_then(Value::as_bool),
        head: text("head")?.to_owned(),
        is_complete: text("end")? == "completed",
    })
}
