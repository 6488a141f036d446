//! Putting files into a sandbox's HOME, and its sessions in order, before an agent starts there, which only a process in the sandbox can.

use std::time::Duration;

use bytes::Bytes;
use domain::ports::sandbox::{Exec, Exit, Sandbox};

use crate::prompts;

const PATIENCE: Duration = Duration::from_secs(60);
/// `$1` is the path; nobody else may read what is in it.
const SCRIPT: &str = r#"umask 077; file=$HOME/$1; mkdir -p "${file%/*}" && rm -f "$file" && cat >"$file""#;

/// Writes a file, mode 0600, at a path below HOME. An error says what went wrong, for people.
pub(crate) async fn put(sandbox: &dyn Sandbox, path: &str, content: Bytes) -> Result<(), String> {
    let failed = |printed: String| format!("{path} could not be written into the sandbox's HOME: {printed}");
    run(sandbox, SCRIPT, path, content, failed).await
}

/// Runs a script for `sh`; `$1` is the argument.
pub(crate) async fn prepare(sandbox: &dyn Sandbox, script: &str, argument: &str) -> Result<(), String> {
    let failed = |printed: String| format!("the sandbox's HOME could not be prepared: {printed}");
    run(sandbox, script, argument, Bytes::new(), failed).await
}

async fn run(
    sandbox: &dyn Sandbox,
    script: &str,
    argument: &str,
    stdin: Bytes,
    failed: impl FnOnce(String) -> String,
) -> Result<(), String> {
    let argv = ["sh", "-c", script, "sh", argument].map(str::to_owned).to_vec();
    let exec = Exec { argv, cwd: None, env: Vec::new(), stdin, timeout: PATIENCE };
    let mut process = sandbox.spawn(exec).await.map_err(|fault| fault.to_string())?;
    match process.wait(PATIENCE).await {
        Some(Exit::Code(0)) => Ok(()),
        Some(Exit::OverQuota { held, quota }) => Err(prompts::over_quota(held, quota)),
        _ => Err(failed(String::from_utf8_lossy(&process.output().head).trim().to_owned())),
    }
}
