//! The tool that runs commands, whatever an agent calls it and whatever it wants to be told with it.

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::Tool;

/// What agents call it.
const NAMES: [&str; 9] = [
    "exec_command",
    "shell",
    "shell_command",
    "Bash",
    "bash",
    "run_shell_command",
    "execute_bash",
    "run_command",
    "terminal",
];
/// What it calls the command.
const COMMANDS: [&str; 4] = ["command", "cmd", "script", "code"];

/// Such a tool, as a request offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shell {
    name: String,
    schema: Value,
}

/// In any protocol: some put what a function is in an object of its own, one puts all functions in one tool.
#[derive(Deserialize)]
struct Offered {
    name: Option<String>,
    #[serde(alias = "parametersJsonSchema", alias = "parameters", alias = "input_schema")]
    schema: Option<Value>,
    function: Option<Box<Offered>>,
    #[serde(default, alias = "functionDeclarations")]
    functions: Vec<Offered>,
}

/// The one that is offered among `tools`.
pub(super) fn offered(tools: Option<&RawValue>) -> Option<Shell> {
    let tools: Vec<Offered> = serde_json::from_str(tools?.get()).ok()?;
    let mut found: Vec<_> = tools.into_iter().flat_map(Offered::shells).collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().next().map(|(_, shell)| shell)
}

impl Offered {
    fn shells(self) -> Vec<(usize, Shell)> {
        let parts = self.function.map(|function| *function).into_iter().chain(self.functions);
        let mut found: Vec<_> = parts.flat_map(Self::shells).collect();
        if let Some(name) = self.name
            && let Some(rank) = NAMES.iter().position(|known| *known == name)
        {
            found.push((rank, Shell { name, schema: self.schema.unwrap_or_default() }));
        }
        found
    }
}

impl Shell {
    /// A call that runs `command`.
    pub fn run(&self, command: &str) -> Tool {
        let properties = &self.schema["properties"];
        let name = COMMANDS.into_iter().find(|name| !properties[*name].is_null()).unwrap_or(COMMANDS[0]);
        let is_list = properties[name]["type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("array"));
        let command = if is_list { json!(["bash", "-c", command]) } else { command.into() };
        let mut arguments = Map::from_iter([(name.to_owned(), command)]);
        for required in self.schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            arguments.entry(required).or_insert_with(|| something(&properties[required]));
        }
        Tool { name: self.name.clone(), arguments: arguments.into() }
    }
}

/// A value that a schema allows.
fn something(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str().unwrap_or("string").to_ascii_lowercase().as_str() {
        "boolean" => false.into(),
        "integer" | "number" => 10.into(),
        "array" => json!([]),
        "object" => json!({}),
        _ => "as the script says".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(tools: &Value) -> Option<(String, Value)> {
        let raw = serde_json::value::to_raw_value(tools).unwrap();
        offered(Some(&raw)).map(|shell| shell.run("ls")).map(|tool| (tool.name, tool.arguments))
    }

    #[test]
    fn it_is_found_in_every_protocol_and_told_what_it_requires() {
        let schema = json!({
            "properties": {"command": {"type": "string"}, "description": {"type": "string"}, "is_background": {"type": "boolean"}},
            "required": ["command", "description", "is_background"],
        });
        let told = json!({"command": "ls", "description": "as the script says", "is_background": false});
        let cases = [
            (json!([{"name": "Read"}, {"name": "Bash", "input_schema": schema}]), "Bash"),
            (json!([{"type": "function", "function": {"name": "bash", "parameters": schema}}]), "bash"),
            (
                json!([{"functionDeclarations": [{"name": "run_shell_command", "parametersJsonSchema": schema}]}]),
                "run_shell_command",
            ),
        ];
        for (tools, name) in cases {
            assert_eq!(run(&tools), Some((name.to_owned(), told.clone())), "{tools}");
        }
        let listed = json!([{"type": "web_search"}, {"type": "function", "name": "shell", "parameters": {
            "properties": {"command": {"type": "array"}}, "required": ["command"],
        }}]);
        assert_eq!(run(&listed), Some(("shell".to_owned(), json!({"command": ["bash", "-c", "ls"]}))));
        assert_eq!(run(&json!([{"name": "Read"}])), None);
    }
}
