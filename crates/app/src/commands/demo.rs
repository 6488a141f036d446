//! `demo`: the whole job through the real path, in a home and a repository of its own. Only the model is a script.

use std::{collections::BTreeMap, env, ops::ControlFlow, path::PathBuf, process, thread};

use api::wire::{self, Doctor, LogBody, LogLine, Submitted, Task, brief};
use domain::{Fault, check::CheckSpec, ids::TaskId, ports::model::Credentials, summary::Phase};

use super::{
    console, logs,
    stage::{Play, Stage, quoted},
    wait,
};
use crate::{
    Exit,
    cli::ScriptedModel,
    client::{Client, of_task, read_json},
    daemon::{lock, start},
    home::{Home, VARIABLE},
    terminal::{self, Form, Paint, Screen},
};

const SCRIPT: &str = include_str!("../demo/script.json");
const FILES: [(&str, &str); 3] = [
    ("vercmp", include_str!("../demo/repository/vercmp")),
    ("test.sh", include_str!("../demo/repository/test.sh")),
    ("README.md", include_str!("../demo/repository/README.md")),
];
const GOAL: &str = "vercmp says that 1.10.0 is older than 1.9.0\n\nIt must say newer. Compare any two versions of three numbers correctly.";
const CHECK: &str = "sh test.sh";
/// Of one entry of the log.
const LINES: usize = 10;
const MODEL: &str = "anthropic/scripted";

pub fn demo(form: Form) -> Result<Exit, Fault> {
    let screen = Screen::of_stdout();
    let stage = Stage::build(&Play { name: "demo", repository: "vercmp", files: &FILES, script: SCRIPT })?;
    let say = |text: &str| {
        if form == Form::Text {
            terminal::print(text);
        }
    };
    say(&stage.introduction(&screen));

    let client = Client::new(stage.home.clone());
    start::start(&stage.home)?;
    let model = stage.start_model()?;
    let doctor: Doctor = client.get_json("doctor")?;
    let unconfined = !doctor.walls.confined;
    if unconfined {
        say(
            "This machine cannot shut processes in (`overnight doctor` says why), so this runs as with `--unconfined`.\n\n",
        );
    }
    let submitted: Submitted = read_json(&client.post("tasks", &stage.submission(model, unconfined))?)?;
    let id = submitted.task.id;

    let printer = logs::Printer::new(screen, form);
    let mut last = None;
    logs::follow(&client, id, |line: &LogLine| {
        printer.print(line, &clipped(&line.body.text()));
        if matches!(line.body, LogBody::Entry(_)) {
            return Ok(ControlFlow::Continue(()));
        }
        let task: Task = client.get_json(&of_task(id, ""))?;
        let over = matches!(task.summary.phase, Phase::NeedsYou | Phase::Ended);
        last = Some(task.summary);
        Ok(if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    let Some(last) = last else { return Err(Fault::bug(format!("{id} ended without an event"))) };
    match form {
        Form::Json => terminal::print(&format!("{}\n", serde_json::json!(last))),
        Form::Text => {
            let (paint, state) = console::state(&last);
            let headline = format!("{}  {}", screen.paint(Paint::Bold, id), screen.paint(paint, state));
            terminal::print(&format!("\n{headline}\n{}", stage.next_commands(&screen, id)));
        }
    }
    Ok(wait::exit(&last))
}

impl Stage {
    fn submission(&self, model: String, unconfined: bool) -> wire::Submit {
        let brief = wire::Brief {
            goal: GOAL.to_owned(),
            checks: vec![brief::Check(CheckSpec::from_command(CHECK))],
            model: Some(MODEL.to_owned()),
            ..wire::Brief::default()
        };
        let credentials = [("ANTHROPIC_API_KEY", "no-key-is-needed".to_owned()), ("ANTHROPIC_BASE_URL", model)];
        let credentials = credentials.map(|(name, value)| (name.to_owned(), value));
        wire::Submit {
            brief: Some(brief),
            directory: Some(self.repository.clone()),
            credentials: Credentials(BTreeMap::from(credentials)),
            unconfined,
            ..wire::Submit::default()
        }
    }

    fn introduction(&self, screen: &Screen) -> String {
        let title = GOAL.lines().next().unwrap_or_default();
        format!(
            "A repository with a bug: {}\n\
             The model is a script that plays a session, first with a wrong fix. All the rest is real: the daemon, the\n\
             built-in agent, its workspace, the checks. No key and no network is used.\n\n\
             {}\n\n",
            self.repository.display(),
            screen.paint(Paint::Bold, format!("overnight run \"{title} …\" --check \"{CHECK}\"")),
        )
    }

    fn next_commands(&self, screen: &Screen, id: TaskId) -> String {
        let program = env::current_exe().unwrap_or_else(|_| PathBuf::from("overnight"));
        let overnight = |what: &str| format!("{VARIABLE}={} {} {what}", quoted(self.home.path()), quoted(&program));
        let (repository, directory) = (quoted(&self.repository), quoted(&self.directory));
        let lines = [
            (
                "Look at the change, and at everything about it:",
                vec![overnight(&format!("diff {id}")), overnight(&format!("show {id}"))],
            ),
            (
                "Sign it off, and find it on the branch:",
                vec![
                    overnight(&format!("approve {id}")),
                    format!("git -C {repository} log -p -1   # and: sh {repository}/test.sh"),
                ],
            ),
            ("Or leave nothing behind:", vec![overnight(&format!("reject {id}"))]),
            (
                "Stop the daemon of the demo and remove it all:",
                vec![format!("{} && rm -r {directory}", overnight("daemon stop"))],
            ),
        ];
        let mut text = String::new();
        for (title, commands) in lines {
            text.push_str(&format!("\n{}\n", screen.paint(Paint::Dim, title)));
            commands.iter().for_each(|command| text.push_str(&format!("  {command}\n")));
        }
        text
    }
}

/// The first lines: the demo is about the way, not about what a tool printed.
fn clipped(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    match lines.len() {
        0..=LINES => text.to_owned(),
        all => format!("{}\n… {} more lines", lines[..LINES].join("\n"), all - LINES),
    }
}

/// Serves a script as a provider, until the daemon that it is for ends.
pub fn scripted_model(args: ScriptedModel) -> Result<Exit, Fault> {
    if let Some(home) = &args.until_daemon_ends {
        // Ctrl-C in the demo must not take the model from a daemon that goes on.
        rustix::process::setsid()
            .map_err(|error| Fault::environment(format!("the terminal cannot be left: {error}")))?;
        let home = Home::at(home)?;
        thread::spawn(move || process::exit(i32::from(lock::wait_until_free(&home).is_err())));
    }
    let port = args.port.to_string();
    let paths = [("--script", args.script), ("--log", args.log)];
    let mut arguments = vec!["--port".to_owned(), port];
    for (name, path) in paths {
        let path = path.into_os_string().into_string();
        let path = path.map_err(|path| Fault::input(format!("{} is not UTF-8", path.display())))?;
        arguments.extend([name.to_owned(), path]);
    }
    match gateway::scripted::main_args(arguments)? {}
}
