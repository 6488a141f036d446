//! The agent `command`: a program of the person's choice, such as a script or a codemod, does the work. No model is needed;
//! where the task names one, the program's own client finds the gateway in the usual variables, and a token instead of a key.
//!
//! The program runs in the workspace once per turn. What is wanted stands on its standard input and in the file named by
//! `OVERNIGHT_PROMPT_FILE`. It may print `[PROGRESS:75] text`, `[PROGRESS] text` and `[RESULT] text` on lines of their own;
//! exit code 0 means done. Comments wait for the next turn, as a program cannot be told anything on the way.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{
    Fault, FaultClass,
    ports::{
        BoxFuture,
        agent::{Agent, EntryBody, Hands, Line, Mode, ModelNeed, Needs, TurnConclusion, TurnEnd, TurnRequest},
        model::{Endpoint, Message, Part, Role},
        sandbox::{Exec, Exit, Output, Process},
    },
};

use crate::{
    Options,
    clip::{self, Room},
    journal::{Journal, conclude},
    prompts,
};

/// How often the output is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Output goes to the transcript in pieces of this size, or of whatever came in so many looks …
const PIECE_SIZE: u64 = 4 * 1024;
const PIECE_LOOKS: u32 = 8;
/// … up to so many bytes and pieces; of the rest the tail follows at the end.
const LIVE: u64 = 32 * 1024;
const MAX_PIECES: u32 = 200;
/// The most that is shown of an output.
const SHOWN: Room = Room { head: 32 * 1024, tail: 32 * 1024 };
/// Of the output that tells why a program failed, or what it did when it gives no result.
const LAST_WORDS: Room = Room { head: 0, tail: 2 * 1024 };
/// Lines of result that are kept.
const MAX_RESULTS: usize = 200;
/// The longest line that is looked at for a mark.
const MAX_LINE: usize = 8 * 1024;

/// The agent `command`.
#[derive(Debug)]
pub(crate) struct Command {
    options: Arc<Options>,
}

impl Command {
    pub fn new(options: Arc<Options>) -> Self {
        Self { options }
    }

    async fn run(&self, request: &TurnRequest, hands: &Hands) -> Result<TurnEnd, Fault> {
        let mut begun = false;
        for entry in hands.transcript.load().await?.into_iter().filter(|entry| entry.turn == request.turn) {
            begun = true;
            if let EntryBody::End { end } = entry.body {
                return Ok(end);
            }
        }
        let mut journal = Journal::new(hands, request);
        let (conclusion, words) = if begun {
            // A program is like one long tool call: never run again by itself, as nobody knows how far it came.
            failed("the program was cut off by a restart of Overnight; what it did until then is in the workspace")
        } else if request.mode == Mode::Plan {
            dead_end("a program cannot be asked for a plan: submit the task without one, or choose the agent `builtin`")
        } else {
            let prompt = prompts::opening(request, true);
            let message = Message { role: Role::User, parts: vec![Part::Text { text: prompt.clone() }] };
            journal.write(0, EntryBody::Prompt { message });
            journal.settled().await?;
            self.work(request, hands, prompt.into(), &mut journal).await?
        };
        journal.end(conclusion, &words, 0).await
    }

    /// Runs the program. An error is the transcript's: the program is killed then.
    async fn work(
        &self,
        request: &TurnRequest,
        hands: &Hands,
        prompt: Bytes,
        journal: &mut Journal<'_>,
    ) -> Result<Ending, Fault> {
        let mut process = match self.start(request, hands, prompt).await {
            Ok(process) => process,
            Err(ending) => return Ok(ending),
        };
        let mut follower = Follower::default();
        let exit = follower.follow(&mut *process, &*hands.line, journal).await?;
        Ok(concluded(request, exit, &follower.results, &process.output()))
    }

    async fn start(&self, request: &TurnRequest, hands: &Hands, prompt: Bytes) -> Result<Box<dyn Process>, Ending> {
        let argv = &request.brief.agent.argv;
        if argv.is_empty() {
            return Err(dead_end(
                "no program was named for the agent `command`: put it behind `--`, as in `-- cargo clippy --fix`",
            ));
        }
        let file = keep_prompt(hands, prompt.clone()).await.map_err(failed)?;
        if hands.line.is_interrupted() {
            return Err((TurnConclusion::Interrupted, String::new()));
        }
        let variables = [
            ("OVERNIGHT_TASK", request.key.task.to_string()),
            ("OVERNIGHT_ATTEMPT", request.key.attempt.to_string()),
            ("OVERNIGHT_TURN", request.turn.to_string()),
            ("OVERNIGHT_PROMPT_FILE", file),
        ];
        let mut env: Vec<_> = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        env.extend(hands.endpoint.iter().flat_map(client_variables));
        let wall = request.brief.budget.wall_s.map_or(Duration::MAX, Duration::from_secs);
        let exec =
            Exec { argv: argv.clone(), cwd: None, env, stdin: prompt, timeout: self.options.program_timeout.min(wall) };
        hands.sandbox.spawn(exec).await.map_err(|fault| match fault.class {
            FaultClass::Input | FaultClass::NotFound => dead_end(fault.to_string()),
            _ => failed(fault.to_string()),
        })
    }
}

impl Agent for Command {
    fn needs(&self) -> Result<Needs, Fault> {
        Ok(Needs { model: ModelNeed::Offered, protocols: Vec::new(), programs: Vec::new(), login: None })
    }

    fn run_turn(&self, turn: TurnRequest, hands: Hands) -> BoxFuture<'_, Result<TurnEnd, Fault>> {
        Box::pin(async move { conclude(self.run(&turn, &hands).await) })
    }
}

/// What the usual clients look for: the gateway's address, and a token of the attempt in the place of a key.
fn client_variables(endpoint: &Endpoint) -> [(String, String); 7] {
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    [
        variable("ANTHROPIC_BASE_URL", &endpoint.url),
        variable("ANTHROPIC_API_KEY", &endpoint.token),
        variable("GOOGLE_GEMINI_BASE_URL", &endpoint.url),
        variable("GEMINI_API_KEY", &endpoint.token),
        variable("GOOGLE_API_KEY", &endpoint.token),
        variable("OPENAI_BASE_URL", &format!("{}/v1", endpoint.url)),
        variable("OPENAI_API_KEY", &endpoint.token),
    ]
}

/// The turn's end as it came about: how, and the program's words on it.
type Ending = (TurnConclusion, String);

fn failed(why: impl Into<String>) -> Ending {
    (TurnConclusion::Failed { why: why.into() }, String::new())
}

fn dead_end(why: impl Into<String>) -> Ending {
    (TurnConclusion::DeadEnd { why: why.into() }, String::new())
}

/// What the program's end (`None`: it was interrupted) and its words come to.
fn concluded(request: &TurnRequest, exit: Option<Exit>, results: &VecDeque<String>, output: &Output) -> Ending {
    let last = clip::since(output, 0, LAST_WORDS).text.trim().to_owned();
    let words = match request.mode {
        _ if !results.is_empty() => results.iter().map(String::as_str).collect::<Vec<_>>().join("\n"),
        Mode::Report => clip::since(output, 0, SHOWN).text.trim().to_owned(),
        Mode::Plan | Mode::Work => last.clone(),
    };
    let program = request.brief.agent.argv.join(" ");
    let how = match exit {
        None => return (TurnConclusion::Interrupted, words),
        Some(Exit::Code(0)) => return (TurnConclusion::Finished, words),
        Some(Exit::NotStarted) => {
            return dead_end(format!(
                "`{program}` cannot be started: no such program in the sandbox, or it is not executable. Name one that is in \
                 the repository (as `./path`) or on the PATH there"
            ));
        }
        Some(Exit::Code(code)) => format!("ended with exit code {code}"),
        Some(Exit::Signal(signal)) => format!("was killed by signal {signal}"),
        Some(Exit::TimedOut) => "was killed because it ran for too long".to_owned(),
        Some(Exit::OverQuota { held, quota }) => format!("was killed: {}", prompts::over_quota(held, quota)),
    };
    // A program does the same again, and on top of what it did before: whether that is wanted, a person says.
    let last = if last.is_empty() { "it printed nothing".to_owned() } else { last };
    (TurnConclusion::DeadEnd { why: format!("`{program}` {how}: {last}") }, words)
}

/// Writes the prompt into the attempt's HOME, which only a process in the sandbox can, and says where it is.
async fn keep_prompt(hands: &Hands, prompt: Bytes) -> Result<String, String> {
    const SCRIPT: &str = r#"cat >"$HOME/prompt.md" && printf %s "$HOME/prompt.md""#;
    let patience = Duration::from_secs(60);
    let exec = Exec {
        argv: ["sh", "-c", SCRIPT].map(str::to_owned).to_vec(),
        cwd: None,
        env: Vec::new(),
        stdin: prompt,
        timeout: patience,
    };
    let mut process = hands.sandbox.spawn(exec).await.map_err(|fault| fault.to_string())?;
    let exit = process.wait(patience).await;
    let printed = String::from_utf8_lossy(&process.output().head).into_owned();
    match exit {
        Some(Exit::Code(0)) => Ok(printed),
        Some(Exit::OverQuota { held, quota }) => Err(prompts::over_quota(held, quota)),
        _ => Err(format!("the prompt could not be written into the sandbox's HOME: {}", printed.trim())),
    }
}

/// Reads along with a program's output.
#[derive(Default)]
struct Follower {
    /// Bytes looked at for marks.
    read: u64,
    /// Bytes written to the transcript, in how many pieces, and how many looks ago.
    told: u64,
    pieces: u32,
    looks: u32,
    /// The last line so far, while it has no end.
    line: String,
    results: VecDeque<String>,
    progress: Option<(Option<u8>, String)>,
}

impl Follower {
    /// Waits for the program's end while its output goes to the transcript and its marks to the line. `None`: it was
    /// interrupted, and killed.
    async fn follow(
        &mut self,
        process: &mut dyn Process,
        line: &dyn Line,
        journal: &mut Journal<'_>,
    ) -> Result<Option<Exit>, Fault> {
        let exit = loop {
            let waited = tokio::select! {
                biased;
                exit = process.wait(LOOK_EVERY) => exit,
                () = line.interrupted() => {
                    process.kill().await;
                    break None;
                }
            };
            if waited.is_some() {
                break waited;
            }
            let output = process.output();
            self.look(&output, line);
            self.tell_transcript(&output, journal);
            journal.settled().await?;
        };
        let output = process.output();
        self.look(&output, line);
        self.mark();
        self.tell(line);
        if self.told < output.total {
            let room = if self.told == 0 { SHOWN } else { Room { head: 0, tail: SHOWN.tail } };
            let text = clip::since(&output, self.told, room).text;
            journal.write(0, EntryBody::Output { text });
        }
        Ok(exit)
    }

    /// Takes in the marks of what is new.
    fn look(&mut self, output: &Output, line: &dyn Line) {
        if output.total == self.read {
            return;
        }
        let news = clip::since(output, self.read, SHOWN).text;
        self.read = output.total;
        let mut lines = news.split('\n');
        self.line.push_str(lines.next().unwrap_or_default());
        for next in lines {
            self.mark();
            next.clone_into(&mut self.line);
        }
        if self.line.len() > MAX_LINE {
            self.line.clear();
        }
        self.tell(line);
    }

    /// Writes the next piece of output once it is worth an entry.
    fn tell_transcript(&mut self, output: &Output, journal: &mut Journal<'_>) {
        self.looks += 1;
        let new = output.total - self.told;
        let is_worth_it = new >= PIECE_SIZE || (new > 0 && self.looks >= PIECE_LOOKS);
        if is_worth_it && self.told < LIVE && self.pieces < MAX_PIECES {
            let text = clip::since(output, self.told, SHOWN).text;
            journal.write(0, EntryBody::Output { text });
            (self.told, self.pieces, self.looks) = (output.total, self.pieces + 1, 0);
        }
    }

    /// Passes on how far the program is: the latest word only, as nobody reads a hundred a second.
    fn tell(&mut self, line: &dyn Line) {
        if let Some((percent, text)) = self.progress.take() {
            line.progress(percent, text);
        }
    }

    /// Understands the line that just ended.
    fn mark(&mut self) {
        let line = std::mem::take(&mut self.line);
        if let Some(result) = line.trim().strip_prefix("[RESULT]") {
            self.results.push_back(result.trim().to_owned());
            if self.results.len() > MAX_RESULTS {
                self.results.pop_front();
            }
        } else if let Some(progress) = progress(line.trim()) {
            self.progress = Some(progress);
        }
    }
}

/// Reads `[PROGRESS:75] text` and `[PROGRESS] text`.
fn progress(line: &str) -> Option<(Option<u8>, String)> {
    let rest = line.strip_prefix("[PROGRESS")?;
    let (percent, text) = rest.split_once(']')?;
    let percent = match percent {
        "" => None,
        _ => Some(percent.strip_prefix(':')?.trim().trim_end_matches('%').parse::<u8>().ok()?.min(100)),
    };
    Some((percent, text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines_are_read_and_others_left_alone() {
        let some = |percent, text: &str| Some((percent, text.to_owned()));
        assert_eq!(progress("[PROGRESS:75] almost"), some(Some(75), "almost"));
        assert_eq!(progress("[PROGRESS: 75%] almost"), some(Some(75), "almost"));
        assert_eq!(progress("[PROGRESS] going"), some(None, "going"));
        assert_eq!(progress("[PROGRESS:101]"), some(Some(100), ""));
        for other in ["[PROGRESS:x] a", "[PROGRESSING] a", "PROGRESS a", "[PROGRESS", "a [PROGRESS] b"] {
            assert_eq!(progress(other), None, "{other}");
        }
    }
}
