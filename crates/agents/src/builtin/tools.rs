//! The tools as the model sees them, and its calls as we understand them.

use domain::{
    ports::{agent::PlanStep, model::ToolSpec},
    profile::Profile,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// In one fixed order with fixed bytes: they are the head of every request. At most 4 KB together.
fn specs() -> impl Iterator<Item = ToolSpec> {
    TABLE.iter().map(|&(name, description, schema)| spec(name, description, schema))
}

const TABLE: [(&str, &str, &str); 10] = [
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
        "Read a text file: limit lines (default 400) from line offset (default 1). Shows a PNG or JPEG image; lists a directory.",
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
        "plan",
        "Keep your plan of a longer task where the person sees it. Give all steps, each time one changes.",
        r#"{"type":"object","properties":{"steps":{"type":"array","items":{"type":"object","properties":{"text":{"type":"string"},"state":{"type":"string","enum":["pending","doing","done"]}},"required":["text","state"]}}},"required":["steps"]}"#,
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

/// Reaches the servers' tools that are not in the list themselves.
const MORE: (&str, &str, &str) = (
    "mcp",
    "Call a tool of a server that is not among these. Without arguments, get its description and schema instead.",
    r#"{"type":"object","properties":{"server":{"type":"string"},"tool":{"type":"string"},"arguments":{"type":"object"}},"required":["server","tool"]}"#,
);

/// Names of the built-in agent's tools, as profiles give them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, ..)| *name).chain([MORE.0])
}

/// Tools that every profile has: without them no turn ends well.
const ALWAYS: [&str; 2] = ["finish", "ask"];

fn spec(name: &str, description: &str, schema: &str) -> ToolSpec {
    ToolSpec { name: name.to_owned(), description: description.to_owned(), schema: schema.to_owned() }
}

/// The tools of one conversation.
#[derive(Debug)]
pub(super) struct Toolbox {
    pub specs: Vec<ToolSpec>,
    own: usize,
    lent: Vec<Lent>,
}

/// What the repository's servers lend to a conversation, as its transcript keeps it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lending {
    pub tools: Vec<Lent>,
    /// Whether there are more, behind the tool `mcp`.
    pub more: bool,
}

/// A server's tool.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lent {
    /// As the model calls it.
    pub name: String,
    pub server: String,
    pub tool: String,
    pub description: String,
    pub schema: String,
    /// Whether it says of itself that it changes nothing.
    pub reads: bool,
}

impl Toolbox {
    /// Our own tools, as far as the profile has them.
    pub fn new(profile: Option<&Profile>) -> Self {
        let specs: Vec<_> = specs().filter(|spec| is_given(profile, &spec.name)).collect();
        Self { own: specs.len(), specs, lent: Vec::new() }
    }

    /// Puts the servers' tools behind our own.
    pub fn lend(&mut self, lending: Lending) {
        self.specs.truncate(self.own);
        self.specs.extend(lending.tools.iter().map(|lent| spec(&lent.name, &lent.description, &lent.schema)));
        self.lent = lending.tools;
        if lending.more {
            self.specs.push(spec(MORE.0, MORE.1, MORE.2));
        }
    }

    /// Reads a model's call. The error is for the model: what is wrong, and what is right.
    pub fn parse(&self, name: &str, arguments: &str) -> Result<Call, String> {
        let Some(spec) = self.specs.iter().find(|spec| spec.name == name) else {
            let names: Vec<_> = self.specs.iter().map(|spec| spec.name.as_str()).collect();
            return Err(format!("There is no tool `{name}`. The tools are: {}.", names.join(", ")));
        };
        let call = match self.lent.iter().find(|lent| lent.name == name) {
            Some(Lent { server, tool, reads, .. }) => serde_json::from_str(arguments).map(|arguments| {
                let (server, tool) = (server.clone(), tool.clone());
                Call::Server(Server { server, tool, arguments: Some(arguments), reads: *reads })
            }),
            None => own(name, arguments),
        };
        call.map_err(|error| {
            let schema = &spec.schema;
            format!(
                "The arguments of `{name}` cannot be used: {error}. They must be one JSON object of this schema: {schema}"
            )
        })
    }
}

/// Whether a profile gives its agent this tool. Whoever may start commands may wait for them; `mcp` stands for all tools of servers.
pub(super) fn is_given(profile: Option<&Profile>, tool: &str) -> bool {
    let Some(tools) = profile.and_then(|profile| profile.tools.as_ref()) else { return true };
    let has = |name: &str| tools.iter().any(|known| known == name);
    ALWAYS.contains(&tool) || has(tool) || (tool == "poll" && has("shell")) || (tool.starts_with("mcp_") && has("mcp"))
}

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
    Plan(Plan),
    Progress(Progress),
    Finish(Finish),
    Server(Server),
}

impl Call {
    /// Whether it can change files; such a call is refused in a planning turn.
    pub fn changes(&self) -> bool {
        match self {
            Self::Shell(_) | Self::Poll(_) | Self::Edit(_) | Self::Write(_) => true,
            Self::Server(call) => !call.reads && call.arguments.is_some(),
            Self::Read(_) | Self::Search(_) | Self::Ask(_) | Self::Plan(_) | Self::Progress(_) | Self::Finish(_) => {
                false
            }
        }
    }

    /// Whether it only looks at files: such calls of one reply that follow each other run side by side.
    pub fn looks(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Search(_))
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
pub(super) struct Plan {
    pub steps: Vec<PlanStep>,
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

/// A call of a server's tool.
#[derive(Debug, Deserialize)]
pub(super) struct Server {
    pub server: String,
    pub tool: String,
    /// `None`: what the tool says of itself is asked for.
    pub arguments: Option<Map<String, Value>>,
    #[serde(skip)]
    pub reads: bool,
}

/// A call of one of our own tools.
fn own(name: &str, arguments: &str) -> Result<Call, serde_json::Error> {
    fn read<'de, T: Deserialize<'de>>(arguments: &'de str, call: fn(T) -> Call) -> Result<Call, serde_json::Error> {
        serde_json::from_str(arguments).map(call)
    }
    match name {
        "shell" => read(arguments, Call::Shell),
        "poll" => read(arguments, Call::Poll),
        "read" => read(arguments, Call::Read),
        "edit" => read(arguments, Call::Edit),
        "write" => read(arguments, Call::Write),
        "search" => read(arguments, Call::Search),
        "ask" => read(arguments, Call::Ask),
        "plan" => read(arguments, Call::Plan),
        "progress" => read(arguments, Call::Progress),
        "finish" => read(arguments, Call::Finish),
        // The last one there is: names were looked up before.
        _ => read(arguments, Call::Server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_are_small_and_their_schemas_name_every_argument() {
        let size = |spec: &ToolSpec| spec.name.len() + spec.description.len() + spec.schema.len();
        let tools = Toolbox::new(None);
        assert!(tools.specs.iter().map(size).sum::<usize>() <= 4 * 1024);
        for spec in &tools.specs {
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
                        "array" if name == "steps" => serde_json::json!([{"text": "a", "state": "doing"}]),
                        "array" => serde_json::json!(["a"]),
                        other => panic!("{other}"),
                    };
                    (name.clone(), value)
                })
                .collect();
            let call =
                format!("{:?}", tools.parse(&spec.name, &serde_json::Value::from(sample.clone()).to_string()).unwrap());
            for argument in sample.keys() {
                assert!(call.contains(argument.as_str()), "{call} has no {argument}");
            }
            assert!(tools.parse(&spec.name, "{}").is_err(), "{} needs something", spec.name);
        }
    }

    #[test]
    fn errors_tell_the_model_what_is_right() {
        let tools = Toolbox::new(None);
        assert!(tools.parse("bash", "{}").unwrap_err().contains("shell, poll, read"));
        let wrong = tools.parse("read", r#"{"path": 7}"#).unwrap_err();
        assert!(wrong.contains("expected a string") && wrong.contains(r#""required":["path"]"#), "{wrong}");
        assert!(tools.parse("shell", r#"{"command":"ls"#).is_err());
    }

    #[test]
    fn a_profile_leaves_out_tools_but_none_that_end_a_turn() {
        let tools = |tools: &[&str]| Profile {
            tools: Some(tools.iter().map(|&tool| tool.to_owned()).collect()),
            ..Profile::default()
        };
        let names = |profile: &Profile| {
            Toolbox::new(Some(profile)).specs.into_iter().map(|spec| spec.name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&tools(&["read", "nonsense"])), "read ask finish");
        assert_eq!(names(&tools(&["shell"])), "shell poll ask finish");
        assert!(is_given(Some(&tools(&["mcp"])), "mcp_a_b") && !is_given(Some(&tools(&["read"])), "mcp_a_b"));
    }

    #[test]
    fn lent_tools_stand_behind_our_own_and_know_their_server() {
        let mut tools = Toolbox::new(None);
        let lent = |name: &str| Lent {
            name: name.to_owned(),
            server: "a".to_owned(),
            tool: "b".to_owned(),
            description: String::new(),
            schema: r#"{"type":"object"}"#.to_owned(),
            reads: false,
        };
        tools.lend(Lending { tools: vec![lent("mcp_a_b")], more: true });
        let Ok(Call::Server(call)) = tools.parse("mcp_a_b", r#"{"x":1}"#) else { panic!("no call of a server") };
        assert_eq!((call.server.as_str(), call.tool.as_str(), call.arguments.unwrap().len()), ("a", "b", 1));
        assert!(tools.parse("mcp_a_b", "[]").unwrap_err().contains("one JSON object"));
        assert!(tools.parse("mcp", r#"{"server":"a","tool":"c"}"#).is_ok_and(|call| !call.changes()));
        tools.lend(Lending::default());
        assert!(tools.parse("mcp", r#"{"server":"a","tool":"c"}"#).is_err());
    }
}
