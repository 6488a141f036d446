//! Putting files into a sandbox's HOME before an agent starts there, which only a process in the sandbox can.

use std::time::Duration;

use bytes::Bytes;
use domain::ports::sandbox::{Exec, Exit, Sandbox};

use crate::prompts;

const PATIENCE: Duration = Duration::from_secs(60);
/// `$1` is the path; nobody else may read what is in it.
const SCRIPT: &str = r#"umask 077; file=$HOME/$1; mkdir -p "${file%/*}" && rm -f "$file" && cat >"$file""#;

/// Writes a file, mode 0600, at a path below HOME. An error says what went wrong, for people.
pub(crate) async fn put(sandbox: &dyn Sandbox, path: &str, content: Bytes) -> Result<(), String> {
    let exec = Exec {
        argv: ["sh", "-c", SCRIPT, "sh", path].map(str::to_owned).to_vec(),
        cwd: None,
        env: Vec::new(),
        stdin: content,
        timeout: PATIENCE,
    };
    let mut process = sandbox.spawn(exec).await.map_err(|fault| fault.to_string())?;
    match process.wait(PATIENCE).await {
        Some(Exit::Code(0)) => Ok(()),
        Some(Exit::OverQuota { held, quota }) => Err(prompts::over_quota(held, quota)),
        _ => {
            let printed = process.output().head;
            let printed = String::from_utf8_lossy(&printed);
            Err(format!("{path} could not be written into the sandbox's HOME: {}", printed.trim()))
        }
    }
}
