//! `env`: what the tasks of a repository start on.

use api::{
    telling::blocked,
    wire::{
        self, Environment, Kept,
        environment::{Built, Definition, Layer, Line},
    },
};
use domain::{
    Fault,
    environment::{EnvironmentUse, Health, Readiness, SecretPurpose, Source, Stage},
    ids::CommitId,
    ports::egress::Refusal,
};

use super::{Context, console, run};
use crate::{
    Exit,
    cli::{At, Build, Check, Env, Volume},
    client::{escape, read_json},
    terminal::{self, Form, Paint, Screen, clean},
};

pub fn env(context: &Context, what: &Env) -> Result<Exit, Fault> {
    match what {
        Env::Show(at) => show(context, at),
        Env::Build(args) => build(context, args),
        Env::Check(args) => check(context, args),
        Env::Log { id } => log(context, id.as_deref()),
    }
}

fn show(context: &Context, at: &At) -> Result<Exit, Fault> {
    let body = context.client.body(context.client.get(&of_here(at.base.as_deref())?)?)?;
    match context.form {
        Form::Json => context.print_json(&body),
        Form::Text => terminal::print(&page(&context.screen, &read_json(&body)?)),
    }
    Ok(Exit::Well)
}

fn of_here(base: Option<&str>) -> Result<String, Fault> {
    let base = base.map_or_else(String::new, |base| format!("&base={}", escape(base)));
    Ok(format!("environment?directory={}{base}", escape(&run::current_directory()?.to_string_lossy())))
}

fn page(screen: &Screen, environment: &Environment) -> String {
    let Environment { repository, base, definition, checks, layers } = environment;
    let mut text = format!("{}  at {}\n", screen.paint(Paint::Bold, clean(repository)), base.short());
    let mut rows = defined(definition);
    let judged: Vec<&str> = checks.iter().map(|check| check.command.as_str()).collect();
    rows.push((
        "judged by",
        if judged.is_empty() { "no check: name one in [checks]".to_owned() } else { judged.join("\n") },
    ));
    rows.extend(definition.notes.iter().map(|note| ("note", note.clone())));
    for (name, value) in rows {
        console::row(screen, &mut text, name, &value);
    }
    text.push_str(&format!("\n{}\n", screen.paint(Paint::Bold, "Layers")));
    for layer in layers {
        text.push_str(&row(screen, layer, base));
    }
    if layers.is_empty() {
        text.push_str(match definition.source {
            _ if definition.install.is_empty() => "  none, and none is needed: there is nothing to install\n",
            Source::Nothing | Source::File(_) => {
                "  none yet: the first task builds one, or `overnight env build` does now\n"
            }
            Source::Detected(_) => {
                "  none yet: `overnight env build` builds one, and tasks start with all of this installed\n"
            }
        });
    }
    text
}

/// What the base says, in rows; what it does not say is left out.
fn defined(definition: &Definition) -> Vec<(&'static str, String)> {
    let services = definition.services.iter().map(|service| {
        let port = service.port.map_or_else(String::new, |port| format!(" · port {port}"));
        let ready = match &service.ready {
            None => String::new(),
            Some(Readiness::Port(port)) => format!(" · ready when port {port} is open"),
            Some(Readiness::Http { port, path }) => format!(" · ready when :{port}{path} answers"),
            Some(Readiness::Command(line)) => format!(" · ready when `{line}` does well"),
        };
        format!("{}: {}{port}{ready}", service.name, service.command)
    });
    let stage = match definition.stage {
        Stage::Staging => "",
        Stage::Production => " --stage production",
    };
    let secrets = definition.secrets.iter().map(|secret| {
        let to = match &secret.to {
            SecretPurpose::Install => "while installing".to_owned(),
            SecretPurpose::Proxy { host, header, .. } => format!("put on requests to {host} as {header}"),
        };
        match secret.value {
            Kept::Set => format!("{}: {to}", secret.name),
            Kept::Absent => {
                format!("{}: {to} · not set: `overnight secret set {}{stage}`", secret.name, secret.name)
            }
        }
    });
    let network = [
        ("installing", &definition.install_network),
        ("turns", &definition.network),
        ("checks", &definition.checks_network),
    ];
    let network = network.into_iter().filter(|(_, hosts)| !hosts.is_empty());
    let resources = definition.resources;
    let bounds = [
        resources.memory_bytes.map(|bytes| format!("{} of memory", console::bytes(bytes))),
        resources.processes.map(|number| format!("{number} processes")),
        resources.processor_percent.map(|percent| format!("{}.{:02} processors", percent / 100, percent % 100)),
        resources.disk_bytes.map(|bytes| format!("{} of disk", console::bytes(bytes))),
    ];
    let lines = |lines: &mut dyn Iterator<Item = String>| lines.collect::<Vec<_>>().join("\n");
    let source = match &definition.source {
        Source::Nothing => "nothing to install was found".to_owned(),
        Source::File(path) => path.clone(),
        Source::Detected(files) => format!("detected: {}", files.join(", ")),
    };
    vec![
        ("from", source),
        ("installs", definition.install.join("\n")),
        ("network", lines(&mut network.map(|(who, hosts)| format!("{who}: {}", hosts.join(" "))))),
        ("watches", definition.locks.join(" ")),
        ("caches", definition.caches.join(" ")),
        ("services", lines(&mut services.into_iter())),
        ("variables", lines(&mut definition.variables.iter().map(|(name, value)| format!("{name}={value}")))),
        ("secrets", lines(&mut secrets.into_iter())),
        ("bounds", lines(&mut bounds.into_iter().flatten())),
    ]
}

fn row(screen: &Screen, layer: &Layer, base: &CommitId) -> String {
    let (paint, word) = health(&layer.health);
    let of = if layer.base == *base { "of this base".to_owned() } else { format!("of {}", layer.base.short()) };
    let users = if layer.users > 0 {
        format!(" · {} over it", console::counted(layer.users, "workspace"))
    } else {
        String::new()
    };
    let mut text = format!(
        "  {}  {}  {of} · {} · {} ago · built in {}{users}\n",
        screen.paint(Paint::Bold, layer.id.short()),
        screen.paint(paint, word),
        console::bytes(layer.bytes),
        console::age(layer.frozen_at),
        console::length(layer.seconds),
    );
    if let Some(why) = layer.health.ill() {
        text.push_str(&format!("              {}\n", clean(why)));
    }
    text
}

fn health(health: &Health) -> (Paint, &'static str) {
    match health {
        Health::Healthy => (Paint::Green, "healthy"),
        Health::Unhealthy { .. } => (Paint::Red, "unhealthy"),
        Health::Unknown => (Paint::Yellow, "unjudged"),
    }
}

fn build(context: &Context, args: &Build) -> Result<Exit, Fault> {
    let start = if args.fresh { wire::environment::From::Nothing } else { wire::environment::From::Newest };
    let asked = wire::BuildEnvironment { directory: run::current_directory()?, base: args.at.base.clone(), start };
    let body = follow(context, "build", &asked, ("built", args.volume))?;
    if context.form == Form::Json {
        context.print_json(body.as_bytes());
    }
    let built: Built = read_json(body.as_bytes())?;
    if context.form == Form::Text {
        let definition = match built.refused.as_slice() {
            [] => None,
            _ => Some(context.client.get_json::<Environment>(&of_here(args.at.base.as_deref())?)?.definition),
        };
        terminal::print(&outcome(&context.screen, &built, definition.as_ref()));
    }
    Ok(came_to(&built.used))
}

fn outcome(screen: &Screen, built: &Built, definition: Option<&Definition>) -> String {
    let mut text = String::new();
    for path in &built.left_out {
        text.push_str(&format!("left as the base has it: {}\n", clean(path)));
    }
    text.push_str(&refused(&built.refused, List::Installing, definition));
    text.push_str(&used(screen, &built.used));
    text.push_str(&format!("built in {}\n", console::length(built.seconds)));
    text
}

/// Which allow-list of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Installing,
    Turns,
    Checks,
}

/// The line that would allow these too, and keeps what the list allows already; `None` where no line would.
pub fn allowing<'a>(definition: &Definition, list: List, entries: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let (table, name, known) = match list {
        List::Installing => ("environment", "install_network", &definition.install_network),
        List::Turns => ("environment", "network", &definition.network),
        List::Checks => ("checks", "network", &definition.checks_network),
    };
    let mut all: Vec<&str> = known.iter().map(String::as_str).collect();
    for entry in entries {
        if !all.contains(&entry) {
            all.push(entry);
        }
    }
    if all.len() == known.len() {
        return None;
    }
    let mut line = format!("→ in overnight.toml, [{table}]: {name} = {all:?}");
    match &definition.source {
        Source::File(path) if path != "overnight.toml" && list != List::Checks && !definition.install.is_empty() => {
            line.push_str(&format!("\n  with install = {:?}, as it takes the place of {path}", definition.install));
        }
        Source::File(_) | Source::Detected(_) | Source::Nothing => {}
    }
    Some(line)
}

/// Hosts that were not let through, and the line that would let them.
pub fn refused(refusals: &[Refusal], list: List, definition: Option<&Definition>) -> String {
    let mut text: String = refusals.iter().map(|refusal| format!("{}\n", clean(&blocked(refusal)))).collect();
    let entries = refusals.iter().filter_map(|refusal| refusal.entry.as_deref());
    if let Some(line) = definition.and_then(|definition| allowing(definition, list, entries)) {
        text.push_str(&format!("  {}\n", clean(&line).replace('\n', "\n  ")));
    }
    text
}

fn used(screen: &Screen, used: &EnvironmentUse) -> String {
    let (paint, word) = health(&used.health);
    let layer = used.layer.as_ref().map_or("no layer", |layer| layer.short());
    let mut text = format!("{layer}  {}", screen.paint(paint, word));
    for why in used.health.ill().into_iter().chain(used.note.as_deref()) {
        text.push_str(&format!("  {}", clean(why)));
    }
    text.push('\n');
    text
}

fn check(context: &Context, args: &Check) -> Result<Exit, Fault> {
    let asked = wire::CheckEnvironment { directory: run::current_directory()?, base: args.at.base.clone() };
    let body = follow(context, "check", &asked, ("checked", args.volume))?;
    let judged: EnvironmentUse = read_json(body.as_bytes())?;
    match context.form {
        Form::Json => context.print_json(body.as_bytes()),
        Form::Text => terminal::print(&used(&context.screen, &judged)),
    }
    Ok(came_to(&judged))
}

/// What a build printed: one that is named, else that of the newest layer.
fn log(context: &Context, id: Option<&str>) -> Result<Exit, Fault> {
    let newest = match id {
        Some(id) => id.to_owned(),
        None => {
            let none = || {
                Fault::not_found("there is no layer, or nothing of its build was kept")
                    .hint("a build that failed names its log; `overnight env build` builds one")
            };
            let environment: Environment = context.client.get_json(&of_here(None)?)?;
            environment.layers.into_iter().next().and_then(|layer| layer.log).ok_or_else(none)?.0
        }
    };
    let text = context.client.body(context.client.get(&format!("blobs/{}", escape(&newest)))?)?;
    let text = String::from_utf8_lossy(&text);
    match context.form {
        Form::Json => context.print_json(serde_json::json!({ "id": newest, "log": text }).to_string().as_bytes()),
        Form::Text => terminal::print(&clean(&text)),
    }
    Ok(Exit::Well)
}

fn came_to(used: &EnvironmentUse) -> Exit {
    if used.health.ill().is_some() { Exit::Badly } else { Exit::Well }
}

/// Asks for long work, prints its lines as they come, and returns the JSON of the event that ends it.
fn follow(
    context: &Context,
    what: &str,
    asked: &impl serde::Serialize,
    (last, volume): (&str, Volume),
) -> Result<String, Fault> {
    context.client.work(&format!("environment/{what}"), asked, |event| {
        if event.name == last {
            return Ok(Some(event.data));
        }
        if event.name == "line" && context.form == Form::Text && !volume.quiet {
            let Line { text } = read_json(event.data.as_bytes())?;
            terminal::print(&format!("{}\n", clean(&text)));
        }
        Ok(None)
    })
}

/// What a person should hear before the first task that works here: what was found, and what to do with it.
pub fn before_first_use(environment: &Environment) -> Option<String> {
    if !environment.layers.is_empty() {
        return None;
    }
    let installs = environment.definition.install.join("`, then `");
    match &environment.definition.source {
        Source::Nothing => None,
        Source::File(path) if installs.is_empty() => Some(format!("environment: {path}; nothing to install")),
        Source::File(path) => Some(format!("environment: {path}; the first task waits while `{installs}` runs, once")),
        Source::Detected(files) => Some(format!(
            "environment: found {}; `overnight env build` would install once for all tasks, with `{installs}`",
            files.join(", ")
        )),
    }
}
