//! `.cursor/environment.json`: install, start, terminals, ports.

use domain::{
    Fault,
    environment::{Definition, Service, Source},
};
use serde_json::{Map, Value};

use super::{json, mistake, overnight::READY_WITHIN};

/// What has no meaning here, and why.
const IGNORED: [(&str, &str); 4] = [
    ("build", "the programs of this machine are used"),
    ("snapshot", "the programs of this machine are used"),
    ("user", "commands run as the sandbox's own user"),
    ("repositoryDependencies", "a workspace holds one repository"),
];

pub(super) fn parse(path: &str, text: &str) -> Result<Definition, Fault> {
    let file = json::object(path, text)?;
    let wrong = |what: &str| mistake(path, text, None, what);
    let line = |object: &Map<String, Value>, name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(line)) => Ok(Some(line.trim().to_owned()).filter(|line| !line.is_empty())),
        Some(_) => Err(wrong(&format!("`{name}` is not a string: write a command such as \"npm install\""))),
    };
    let mut definition = Definition { source: Source::File(path.to_owned()), ..Definition::default() };
    definition.install.extend(line(&file, "install")?);
    if let Some(command) = line(&file, "start")? {
        definition.services.push(service("start".to_owned(), command));
    }
    let none = Vec::new();
    let list = |name: &str| match file.get(name) {
        None | Some(Value::Null) => Ok(&none),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(wrong(&format!("`{name}` is not a list"))),
    };
    for (number, terminal) in list("terminals")?.iter().enumerate() {
        let place = format!("terminal {}", number + 1);
        let Some(terminal) = terminal.as_object() else { return Err(wrong(&format!("{place} is not an object"))) };
        let Some(command) = line(terminal, "command")? else {
            return Err(wrong(&format!("{place} has no `command`: write the line that it runs")));
        };
        definition.services.push(service(line(terminal, "name")?.unwrap_or(place), command));
    }
    for port in list("ports")? {
        let number = json::port(port.get("port").unwrap_or(port))
            .ok_or_else(|| wrong(&format!("{port} is no port: write {{ \"name\": \"web\", \"port\": 3000 }}")))?;
        let name = port.get("name").and_then(Value::as_str);
        let services = &mut definition.services;
        // The one of that name, else the last one without a port: terminals come after what starts them.
        let named = services.iter().position(|service| Some(service.name.as_str()) == name);
        let at = named.or_else(|| services.iter().rposition(|service| service.port.is_none()));
        if let Some(service) = at.and_then(|at| services.get_mut(at)) {
            service.port.get_or_insert(number);
        }
    }
    let ignored = IGNORED.iter().filter(|(name, _)| file.contains_key(*name));
    definition.notes.extend(ignored.map(|(name, why)| format!("`{name}` of {path} is not used: {why}.")));
    Ok(definition)
}

pub(super) fn service(name: String, command: String) -> Service {
    Service { name, command, ready: None, ready_within: READY_WITHIN, port: None }
}
