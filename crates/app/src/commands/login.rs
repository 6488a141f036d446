//! The login that a person has with an agent, lent to it for one task.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use api::wire::{Agents, Task};
use domain::{Fault, ids::TaskId, ports::model::Credentials};

use super::{Context, run};
use crate::client::of_task;

/// The most that one credential file holds, in bytes.
const BYTES: u64 = 256 << 10;

/// What the person's HOME has of the agent's credential files, under the names that they are sent by.
///
/// Errors: `NotFound` when there is none of them; what is wrong with one that is there.
pub fn of(context: &Context, agent: &str) -> Result<BTreeMap<String, String>, Fault> {
    let Agents { agents } = context.client.get_json("agents")?;
    // An unknown agent, and one that has no login, are the daemon's to refuse: it knows why.
    let Some(found) = agents.into_iter().find(|known| known.name == agent) else { return Ok(BTreeMap::new()) };
    let home = env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from).ok_or_else(|| {
        Fault::environment("HOME is not set, so your login cannot be found").hint("set HOME to your home directory")
    })?;
    let mut login = BTreeMap::new();
    for path in &found.login_files {
        let file = home.join(path);
        if let Some(content) = read(&file).map_err(|error| unreadable(&file, &error))? {
            login.insert(format!("{}{path}", Credentials::LOGIN), content);
        }
    }
    if login.is_empty() && !found.login_files.is_empty() {
        let files: Vec<String> = found.login_files.iter().map(|path| format!("~/{path}")).collect();
        return Err(Fault::not_found(format!("you have no login with `{agent}`: {} is not there", files.join(", ")))
            .hint(format!("log in with `{agent}` on this machine first, or leave `--login own` out")));
    }
    Ok(login)
}

/// The caller's keys for another task with the brief of this one, and the login that it was lent.
pub fn with_keys(context: &Context, task: TaskId) -> Result<Credentials, Fault> {
    let mut credentials = run::credentials();
    let Task { summary, brief, .. } = context.client.get_json(&of_task(task, ""))?;
    if let (true, Some(agent)) = (summary.holds_key, &brief.agent) {
        credentials.0.extend(of(context, agent)?);
    }
    Ok(credentials)
}

/// `None`: it is not there.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = String::new();
    file.take(BYTES + 1).read_to_string(&mut content)?;
    match content.len() as u64 > BYTES {
        true => Err(io::Error::other(format!("it has more than {BYTES} bytes"))),
        false => Ok(Some(content)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    Fault::input(format!("your login in {} cannot be read: {error}", path.display()))
        .hint("log in anew, or leave `--login own` out")
}
