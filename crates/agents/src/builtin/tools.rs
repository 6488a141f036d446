//! The tools as the model sees them, and its calls as we understand them.

use std::sync::LazyLock;

use domain::ports::model::ToolSpec;
use serde::Deserialize;

/// In one fixed order with fixed bytes: they are the head of every request. At most 4 KB together.
pub(super) static SPECS: LazyLock<Vec<ToolSpec>> = LazyLock::new(|| {
    let spec = |&(name, description, schema): &(&str, &str, &str)| ToolSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        schema: schema.to_owned(),
    };
    TABLE.iter().map(spec).collect()
});

const TABLE: [(&str, &str, &str); 9] = [
    (
        "shell",
        "Run a bash command line. If it takes longer than wait_s seconds (default 60), it goes on and you get its id for poll.",
        r#"{"type":"object","properties":{"command":{"type":"string"},"wait_s":{"type":"number"}},"required":["command"]}"#,
    ),
    (
        "poll",
        "Wait up to wait_s seconds (default 60) for a command that goes on, and get what it printed since. kill ends it at once.",
        r#"{"type":"object","properties":{"id":{"type":"string"},"wait_s":{"type":"number"},"kill":{"type":"boolean"}},"required":["id"]}"#,
    ),
    (
        "read",
        "Read a text file: limit lines (default 400) from line offset (default 1).",
        r#"{"type":"object","properties":{"path":{"type":"string"},"offset":{"type":"integer"},"limit":{"type":"integer"}},"required":["path"]}"#,
    ),
    (
        "edit",
        "Replace text in a file. old must be there exactly, whitespace included, and only once unless all is true.",
        r#"{"type":"object","properties":{"path":{"type":"string"},"old":{"type":"string"},"new":{"type":"string"},"all":{"type":"boolean"}},"required":["path","old","new"]}"#,
    ),
    (
        "write",
        "Write a whole file; makes its directories.",
        r#"{"type":"object","properties":{"path":{"type":"string"},"content":{"type":"string"}},"required":["path","content"]}"#,
    ),
    (
        "search",
        "Find lines by an extended regular expression in files that git does not ignore, below path (default: everywhere).",
        r#"{"type":"object","properties":{"pattern":{"type":"string"},"path":{"type":"string"}},"required":["pattern"]}"#,
    ),
    (
        "ask",
        "Ask the person a question, with choices if there are some, and the default that holds if nobody answers. Ends your turn.",
        r#"{"type":"object","properties":{"question":{"type":"string"},"choices":{"type":"array","items":{"type":"string"}},"default":{"type":"string"}},"required":["question"]}"#,
    ),
    (
        "progress",
        "Tell the person in a few words where you are, with percent (0 to 100) if you know it.",
        r#"{"type":"object","properties":{"text":{"type":"string"},"percent":{"type":"integer"}},"required":["text"]}"#,
    ),
    (
        "finish",
        "End your turn: all is done. The summary is for the reviewer.",
        r#"{"type":"object","properties":{"summary":{"type":"string"}},"required":["summary"]}"#,
    ),
];

/// A tool call that can be carried out.
#[derive(Debug)]
pub(super) enum Call {
    Shell(Shell),
    Poll(Poll),
    Read(Read),
    Edit(Edit),
    Write(Write),
    Search(Search),
    Ask(Ask),
    Progress(Progress),
    Finish(Finish),
}

impl Call {
    /// Whether it can change files; such a call is refused in a planning turn.
    pub fn changes(&self) -> bool {
        match self {
            Self::Shell(_) | Self::Poll(_) | Self::Edit(_) | Self::Write(_) => true,
            Self::Read(_) | Self::Search(_) | Self::Ask(_) | Self::Progress(_) | Self::Finish(_) => false,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Shell {
    pub command: String,
    pub wait_s: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Poll {
    pub id: String,
    pub wait_s: Option<f64>,
    #[serde(default)]
    pub kill: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Read {
    pub path: String,
    pub offset: Option<u64>,
    pub limit: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Edit {
    pub path: String,
    pub old: String,
    pub new: String,
    #[serde(default)]
    pub all: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Write {
    pub path: String,
    pub content: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Search {
    pub pattern: String,
    pub path: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Ask {
    pub question: String,
    #[serde(default)]
    pub choices: Vec<String>,
    pub default: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Progress {
    pub text: String,
    pub percent: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Finish {
    pub summary: String,
}

/// Reads a model's call. The error is for the model: what is wrong, and what is right.
pub(super) fn parse(name: &str, arguments: &str) -> Result<Call, String> {
    fn read<'de, T: Deserialize<'de>>(arguments: &'de str, call: fn(T) -> Call) -> Result<Call, serde_json::Error> {
        serde_json::from_str(arguments).map(call)
    }
    let call = match name {
        "shell" => read(arguments, Call::Shell),
        "poll" => read(arguments, Call::Poll),
        "read" => read(arguments, Call::Read),
        "edit" => read(arguments, Call::Edit),
        "write" => read(arguments, Call::Write),
        "search" => read(arguments, Call::Search),
        "ask" => read(arguments, Call::Ask),
        "progress" => read(arguments, Call::Progress),
        "finish" => read(arguments, Call::Finish),
        _ => {
            let names: Vec<_> = TABLE.iter().map(|(name, ..)| *name).collect();
            return Err(format!("There is no tool `{name}`. The tools are: {}.", names.join(", ")));
        }
    };
    call.map_err(|error| {
        let schema = TABLE.iter().find(|(tool, ..)| *tool == name).map_or("", |(.., schema)| schema);
        format!(
            "The arguments of `{name}` cannot be used: {error}. They must be one JSON object of this schema: {schema}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_are_small_and_their_schemas_name_every_argument() {
        let size = |spec: &ToolSpec| spec.name.len() + spec.description.len() + spec.schema.len();
        assert!(SPECS.iter().map(size).sum::<usize>() <= 4 * 1024);
        for spec in SPECS.iter() {
            let schema: serde_json::Value = serde_json::from_str(&spec.schema).unwrap();
            let sample: serde_json::Map<_, _> = schema["properties"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, property)| {
                    let value = match property["type"].as_str().unwrap() {
                        "string" => "x".into(),
                        "number" => 1.5.into(),
                        "integer" => 3.into(),
                        "boolean" => true.into(),
                        "array" => serde_json::json!(["a"]),
                        other => panic!("{other}"),
                    };
                    (name.clone(), value)
                })
                .collect();
            let call =
                format!("{:?}", parse(&spec.name, &serde_json::Value::from(sample.clone()).to_string()).unwrap());
            for argument in sample.keys() {
                assert!(call.contains(argument.as_str()), "{call} has no {argument}");
            }
            assert!(parse(&spec.name, "{}").is_err(), "{} needs something", spec.name);
        }
    }

    #[test]
    fn errors_tell_the_model_what_is_right() {
        assert!(parse("bash", "{}").unwrap_err().contains("shell, poll, read"));
        let wrong = parse("read", r#"{"path": 7}"#).unwrap_err();
        assert!(wrong.contains("expected a string") && wrong.contains(r#""required":["path"]"#), "{wrong}");
        assert!(parse("shell", r#"{"command":"ls"#).is_err());
    }
}
