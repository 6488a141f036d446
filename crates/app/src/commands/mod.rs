//! What each command does: mostly one request to the daemon and an answer for a person.

mod agents;
mod approve;
mod attach;
mod blame;
mod console;
mod daemon;
mod demo;
mod diff;
mod doctor;
mod env;
mod generate;
mod key;
mod lists;
mod login;
mod logs;
mod models;
mod plan;
mod preview;
mod run;
mod say;
mod secret;
mod show;
mod stage;
mod trial;
mod turns;
mod wait;

use std::io::{self, Read};

use api::wire;
use domain::{Fault, ids::TaskId};

use crate::{
    Exit,
    cli::{Agents, Command, EndTask, Models},
    client::Client,
    home::Home,
    terminal::{self, Form, Screen},
};

/// What a command works with.
#[derive(Debug)]
pub struct Context {
    pub client: Client,
    pub screen: Screen,
    pub form: Form,
}

impl Context {
    /// Prints an answer as it came: the JSON of the API is the JSON of the command line.
    fn print_json(&self, body: &[u8]) {
        terminal::print_bytes(body);
        terminal::print("\n");
    }
}

pub fn perform(command: Command, form: Form) -> Result<Exit, Fault> {
    match command {
        Command::Completions { shell } => return Ok(generate::completions(shell)),
        Command::Man { dir } => return generate::man(dir.as_deref()),
        Command::ScriptedModel(args) => return demo::scripted_model(args),
        Command::Demo => return demo::demo(form),
        _ => {}
    }
    let home = Home::locate()?;
    let context = Context { client: Client::new(home), screen: Screen::of_stdout(), form };
    match command {
        Command::Run(args) => run::run(&context, *args),
        Command::List(args) => lists::list(&context, &args),
        Command::Inbox => lists::inbox(&context),
        Command::Show(of) => show::show(&context, of.task),
        Command::Logs(args) => logs::logs(&context, &args),
        Command::Diff(args) => diff::diff(&context, &args),
        Command::Blame(args) => blame::blame(&context, &args),
        Command::Pull(of) => diff::pull(&context, of.task),
        Command::Comment(args) => say::comment(&context, args),
        Command::Answer(args) => say::answer(&context, args),
        Command::Approve(args) => approve::approve(&context, &args),
        Command::Reject(EndTask { of, why }) => say::end(&context, of.task, "reject", &wire::Reject { why }),
        Command::Cancel(EndTask { of, why }) => say::end(&context, of.task, "cancel", &wire::Cancel { why }),
        Command::Restore(of) => say::restore(&context, of.task),
        Command::Retry(of) => say::retry(&context, of.task),
        Command::Serve(args) => crate::daemon::serve::serve(context.client.home(), args.background),
        Command::Daemon(what) => daemon::daemon(&context, &what),
        Command::Doctor => doctor::doctor(&context),
        Command::Export(of) => export(&context, of.task),
        Command::Agents { what: None } => agents::list(&context),
        Command::Agents { what: Some(Agents::Test(args)) } => trial::trial(&context, &args.name),
        Command::Profiles(at) => agents::profiles(&context, &at),
        Command::Models { what: None } => models::list(&context),
        Command::Models { what: Some(Models::Test(args)) } => models::test(&context, args.name),
        Command::Budget => models::budget(&context),
        Command::Plan(args) => plan::plan(&context, args),
        Command::Fork(args) => turns::fork(&context, args),
        Command::Rewind(args) => turns::rewind(&context, args),
        Command::Replay(args) => turns::replay(&context, &args),
        Command::Key(what) => key::key(&context, what),
        Command::Env(what) => env::env(&context, &what),
        Command::Secret(what) => secret::secret(&context, &what),
        Command::Attach(args) => attach::attach(&context, args),
        Command::Preview(args) => preview::preview(&context, &args),
        Command::Completions { .. } | Command::Man { .. } | Command::ScriptedModel(_) | Command::Demo => {
            Err(Fault::bug("a command that needs no home was not answered"))
        }
    }
}

fn export(context: &Context, task: TaskId) -> Result<Exit, Fault> {
    let answer = context.client.get(&crate::client::of_task(task, "journal"))?;
    crate::client::for_each_line(answer, terminal::print_bytes).map_err(|error| {
        Fault::transient(format!("the export of {task} broke off: {error}")).hint(format!(
            "its last line is cut; start it again; if that breaks off too, `overnight logs {task}` says what is damaged"
        ))
    })?;
    Ok(Exit::Well)
}

/// The text of an argument; `-` stands for standard input.
fn text_or_stdin(text: String) -> Result<String, Fault> {
    if text != "-" {
        return Ok(text);
    }
    let mut text = String::new();
    io::stdin()
        .lock()
        .read_to_string(&mut text)
        .map_err(|error| Fault::input(format!("standard input cannot be read: {error}")))?;
    Ok(text)
}
