//! `devcontainer.json` (containers.dev): the commands after creation, variables, ports. Not its images: the programs of this
//! machine are used.

use domain::{
    Fault,
    environment::{Definition, Source},
    ports::sandbox::{HOME_DIR, WORKSPACE_DIR},
};
use serde_json::Value;

use super::{cursor::service, json, mistake};

/// In the order in which they run.
const INSTALL: [&str; 3] = ["onCreateCommand", "updateContentCommand", "postCreateCommand"];
const IGNORED: [(&str, &str); 9] = [
    ("image", "the programs of this machine are used"),
    ("build", "the programs of this machine are used"),
    ("dockerFile", "the programs of this machine are used"),
    ("dockerComposeFile", "the programs of this machine are used"),
    ("features", "the programs of this machine are used"),
    ("mounts", "a sandbox sees its workspace only"),
    ("runArgs", "a sandbox is no container"),
    ("initializeCommand", "nothing of a repository runs outside a sandbox"),
    ("postAttachCommand", "nobody attaches to a task by an editor"),
];

pub(super) fn parse(path: &str, text: &str) -> Result<Definition, Fault> {
    let file = json::object(path, text)?;
    let wrong = |name: &str, what: &str| mistake(path, text, None, &format!("`{name}` {what}"));
    let lines = |name: &str| match file.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => commands(value)
            .ok_or_else(|| wrong(name, "is no command: write a string, a list of arguments, or an object of these")),
    };
    let mut definition = Definition { source: Source::File(path.to_owned()), ..Definition::default() };
    for name in INSTALL {
        definition.install.extend(lines(name)?);
    }
    let start = lines("postStartCommand")?;
    if !start.is_empty() {
        definition.services.push(service("postStartCommand".to_owned(), start.join(" && ")));
    }
    let ports: Vec<u16> = match file.get("forwardPorts") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(ports)) => ports
            .iter()
            .map(|port| {
                json::port(port).ok_or_else(|| wrong("forwardPorts", &format!("names {port}, which is no port")))
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong("forwardPorts", "is not a list of ports, such as [3000]")),
    };
    if let (Some(service), Some(port)) = (definition.services.first_mut(), ports.first()) {
        service.port = Some(*port);
    }
    for name in ["containerEnv", "remoteEnv"] {
        let variables = match file.get(name) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(variables)) => variables,
            Some(_) => return Err(wrong(name, "is not an object of variables")),
        };
        for (variable, value) in variables {
            match value.as_str().and_then(expanded) {
                Some(value) => drop(definition.variables.insert(variable.clone(), value)),
                None => definition.notes.push(format!("The variable {variable} of {path} is not used: {value}.")),
            }
        }
    }
    let ignored = IGNORED.iter().filter(|(name, _)| file.contains_key(*name));
    definition.notes.extend(ignored.map(|(name, why)| format!("`{name}` of {path} is not used: {why}.")));
    Ok(definition)
}

/// A line, a program with its arguments, or several of these by name.
fn commands(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(line) if line.trim().is_empty() => Some(Vec::new()),
        Value::String(line) => Some(vec![line.trim().to_owned()]),
        Value::Array(argv) => {
            let words = argv.iter().map(|word| word.as_str().map(quoted)).collect::<Option<Vec<_>>>()?;
            Some(if words.is_empty() { Vec::new() } else { vec![words.join(" ")] })
        }
        Value::Object(several) => {
            let each = several.values().map(|one| if one.is_object() { None } else { commands(one) });
            Some(each.collect::<Option<Vec<_>>>()?.concat())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// One word for `sh`.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A value with the variables that mean the same here; `None` where it uses others.
fn expanded(value: &str) -> Option<String> {
    let value = value
        .replace("${containerWorkspaceFolder}", WORKSPACE_DIR)
        .replace("${containerWorkspaceFolderBasename}", WORKSPACE_DIR.trim_start_matches('/'))
        .replace("${containerEnv:HOME}", HOME_DIR);
    (!value.contains("${") && !value.contains('\0')).then_some(value)
}
