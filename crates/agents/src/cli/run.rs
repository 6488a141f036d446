//! One run of an agent's program: started with a prompt, told to stop, and gone.

use std::time::Duration;

use bytes::Bytes;
use domain::{
    FaultClass,
    ports::{
        agent::{Hands, Mode, TurnRequest},
        sandbox::{Conversation, Exec, Exit, Lines, Process},
    },
};

use super::{CommandLine, recipe::Events};
use crate::{
    acp::{Filling, Halt, dead_end, failed},
    clip::{self, Room},
    home,
};

/// Says what it is known by in the sandbox, and becomes the agent.
const START: &str = r#"echo "$$" && exec "$@""#;
/// Makes the directory of ours in HOME, and says where HOME is.
const SETTLE: &str = r#"umask 077; mkdir -p "$HOME/.overnight" && printf %s "$HOME""#;
/// Below HOME.
const PROMPT: &str = ".overnight/prompt.md";
/// The longest argument; the kernel takes 128 KiB.
const MAX_ARGUMENT: usize = 96 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);
const LAST_WORDS: Room = Room { head: 0, tail: 2 * 1024 };
/// Of a file that says how it went.
const MAX_FILE: usize = 64 << 20;

/// What a prompt is said in.
pub(super) struct Session<'a> {
    pub id: &'a str,
    pub is_old: bool,
}

/// A program that runs.
pub(super) struct Run {
    pub process: Box<dyn Process>,
    pub lines: Box<dyn Lines>,
    /// Inside the sandbox.
    pid: Option<u32>,
}

impl Run {
    pub async fn start(
        agent: &CommandLine,
        request: &TurnRequest,
        hands: &Hands,
        session: Session<'_>,
        said: &str,
    ) -> Result<Self, Halt> {
        let recipe = &agent.recipe;
        let found = agent.found().map_err(|fault| dead_end(fault.to_string()))?;
        let env = furnish(agent, hands).await?;
        let (arguments, stdin) = arguments(agent, request, hands, session, said).await?;
        let mut argv = ["sh", "-c", START, "sh"].map(str::to_owned).to_vec();
        argv.extend(found.argv());
        argv.extend(arguments);
        let wall = request.brief.budget.wall_s.map_or(Duration::MAX, Duration::from_secs);
        let timeout = agent.options.program_timeout.min(wall);
        let exec = Exec { argv, cwd: None, env, stdin: Bytes::new(), timeout };
        let conversation = hands.sandbox.converse(exec).await.map_err(|fault| match fault.class {
            FaultClass::Input | FaultClass::NotFound => dead_end(format!("`{}`: {fault}", recipe.name)),
            _ => failed(format!("`{}`: {fault}", recipe.name)),
        })?;
        let Conversation { process, mut input, mut lines } = conversation;
        // Beside the reading; its end closes the input.
        tokio::spawn(async move {
            if !stdin.is_empty() {
                // A program that does not read it says so by its end.
                let _ = input.write(stdin).await;
            }
        });
        let first = lines.next().await.ok().flatten();
        let pid = first.and_then(|line| std::str::from_utf8(&line).ok()?.trim().parse().ok());
        Ok(Self { process, lines, pid })
    }

    /// Asks it to stop, as a person at its terminal would.
    pub async fn interrupt(&mut self, hands: &Hands) {
        let Some(pid) = self.pid else { return };
        let argv = ["sh", "-c", r#"kill -INT "$1""#, "sh", &pid.to_string()].map(str::to_owned).to_vec();
        let exec = Exec { argv, cwd: None, env: Vec::new(), stdin: Bytes::new(), timeout: PATIENCE };
        // It is killed soon, whether this reaches it or not.
        if let Ok(mut process) = hands.sandbox.spawn(exec).await {
            process.wait(PATIENCE).await;
        }
    }

    /// The end of what it printed on standard error.
    pub fn complaints(&self) -> String {
        clip::since(&self.process.output(), 0, LAST_WORDS).text.trim().to_owned()
    }
}

/// Puts into HOME what its client needs to find the gateway, or the login that was lent. Its variables.
async fn furnish(agent: &CommandLine, hands: &Hands) -> Result<Vec<(String, String)>, Halt> {
    let recipe = &agent.recipe;
    let filling = Filling { endpoint: hands.endpoint.as_ref() };
    let client = match &hands.endpoint {
        Some(endpoint) => Some(recipe.client(endpoint).ok_or_else(|| {
            dead_end(format!("the client of `{}` cannot ask for the model `{}`", recipe.name, endpoint.model))
        })?),
        None => None,
    };
    for file in recipe.files.iter().chain(client.iter().flat_map(|client| &client.files)) {
        let content = filling.content(&file.content);
        home::put(&*hands.sandbox, &file.path, content.into()).await.map_err(failed)?;
    }
    for (path, content) in &hands.login {
        home::put(&*hands.sandbox, path, content.clone()).await.map_err(failed)?;
    }
    let plain = (recipe.events == Events::Text).then(|| ("NO_COLOR".to_owned(), "1".to_owned()));
    let variables = recipe.env.iter().chain(client.iter().flat_map(|client| &client.env));
    let variables = variables.map(|(name, value)| (name.clone(), filling.variable(value)));
    Ok(plain.into_iter().chain(variables).collect())
}

/// What follows the program's name, and what it reads.
async fn arguments(
    agent: &CommandLine,
    request: &TurnRequest,
    hands: &Hands,
    session: Session<'_>,
    said: &str,
) -> Result<(Vec<String>, Bytes), Halt> {
    let recipe = &agent.recipe;
    let template = if session.is_old { &recipe.resume } else { &recipe.argv };
    let takes = |word: &str| template.iter().any(|argument| argument == word);
    let is_long = takes("{prompt}") && said.len() > MAX_ARGUMENT;
    let mut home = String::new();
    if is_long || takes("{prompt_file}") || recipe.mentions("{home}") {
        home = settle(hands).await?;
    }
    let file = format!("{home}/{PROMPT}");
    if is_long || takes("{prompt_file}") {
        let content = Bytes::copy_from_slice(said.as_bytes());
        home::put(&*hands.sandbox, PROMPT, content).await.map_err(failed)?;
    }
    let filling = Filling { endpoint: hands.endpoint.as_ref() };
    let mode = if request.mode == Mode::Plan { &recipe.plan } else { &recipe.work };
    let mut arguments = Vec::new();
    for argument in template.iter().skip(1) {
        match argument.as_str() {
            "{prompt}" if is_long => {
                arguments.push(format!("Your task stands in the file {file}. Read all of it, and do what it says."));
            }
            "{prompt}" => arguments.push(said.to_owned()),
            "{prompt_file}" => arguments.push(file.clone()),
            "{mode}" => arguments.extend(mode.iter().cloned()),
            _ => arguments.push(filling.variable(&argument.replace("{session}", session.id).replace("{home}", &home))),
        }
    }
    let is_told = takes("{prompt}") || takes("{prompt_file}");
    let stdin = if is_told { Bytes::new() } else { Bytes::copy_from_slice(said.as_bytes()) };
    Ok((arguments, stdin))
}

async fn settle(hands: &Hands) -> Result<String, Halt> {
    let argv = ["sh", "-c", SETTLE].map(str::to_owned).to_vec();
    let exec = Exec { argv, cwd: None, env: Vec::new(), stdin: Bytes::new(), timeout: PATIENCE };
    let mut process = hands.sandbox.spawn(exec).await.map_err(|fault| failed(fault.to_string()))?;
    let exit = process.wait(PATIENCE).await;
    let printed = String::from_utf8_lossy(&process.output().head).into_owned();
    match exit {
        Some(Exit::Code(0)) => Ok(printed),
        _ => Err(failed(format!("the sandbox's HOME cannot be written: {}", printed.trim()))),
    }
}

/// A file below HOME, which only a process in the sandbox can read. `None`: it is not there, or too long.
pub(super) async fn read(hands: &Hands, path: &str) -> Option<Vec<u8>> {
    let argv = ["sh", "-c", r#"cat "$HOME/$1""#, "sh", path].map(str::to_owned).to_vec();
    let exec = Exec { argv, cwd: None, env: Vec::new(), stdin: Bytes::new(), timeout: PATIENCE };
    let Conversation { mut process, input, mut lines } = hands.sandbox.converse(exec).await.ok()?;
    drop(input);
    let mut content = Vec::new();
    while let Some(line) = lines.next().await.ok()? {
        content.extend_from_slice(&line);
        content.push(b'\n');
        if content.len() > MAX_FILE {
            return None;
        }
    }
    (process.wait(PATIENCE).await == Some(Exit::Code(0))).then_some(content)
}
