//! Subagents of other products, one Markdown file each: `.claude/agents`, `.github/agents`, `.opencode/agent`. What has an equivalent
//! here is taken; the rest of their fields means nothing outside of them.

use domain::{Fault, profile::Profile};
use serde_json::{Map, Value};

use super::{MAX_PROMPT, MAX_TEXT, front};
use crate::clip;

/// What a bare name of a model family stands for.
const FAMILIES: [(&str, &str); 3] =
    [("haiku", "claude-haiku-5-5"), ("sonnet", "claude-sonnet-5-5"), ("opus", "claude-opus-5-5")];

/// Our tools, and whose work each does, by all the names it has elsewhere (lower case).
const TOOLS: [(&str, &[&str]); 7] = [
    ("shell", &["bash", "execute", "shell", "powershell", "runcommands", "runtests", "runtasks"]),
    ("poll", &["bash", "execute", "shell", "powershell", "runcommands", "bashoutput"]),
    ("read", &["read", "notebookread", "readfile"]),
    ("edit", &["edit", "multiedit", "notebookedit", "editfiles", "patch", "apply_patch"]),
    ("write", &["write", "edit", "editfiles", "new", "patch"]),
    ("search", &["grep", "glob", "ls", "list", "search", "codebase", "usages", "findtestfiles"]),
    ("plan", &["todowrite", "todo", "todos"]),
];
/// With these, files are changed.
const CHANGING: [&str; 3] = ["shell", "edit", "write"];
/// Of no use to anybody but the one who works.
const ALWAYS: [&str; 2] = ["plan", "progress"];

/// `None`: it is no profile (a README beside them, or one that is switched off).
pub(super) fn profile(path: &str, content: &[u8]) -> Result<Option<Profile>, Fault> {
    let paper = front::read(content).map_err(|why| {
        Fault::input(format!("{path} cannot be read as a profile: {why}"))
            .hint("mend the YAML between its lines of `---`, or remove the file")
    })?;
    let fields = &paper.fields;
    if fields.is_empty() || fields.get("disable") == Some(&Value::Bool(true)) {
        return Ok(None);
    }
    let file = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".md").trim_end_matches(".agent");
    let name = slug(front::text(fields, "name").unwrap_or(file));
    if name.is_empty() {
        return Err(Fault::input(format!("{path}: its name has no letter from a to z"))
            .hint("give it a `name` of lower case letters, digits and `-`"));
    }
    let tools = tools(fields);
    let changes = tools.as_ref().is_none_or(|tools| tools.iter().any(|tool| CHANGING.contains(&tool.as_str())));
    let prompt = front::text(fields, "prompt").filter(|_| paper.body.is_empty()).unwrap_or(&paper.body);
    let rounds = ["maxTurns", "steps", "maxSteps"].iter().find_map(|field| fields.get(*field)?.as_u64());
    Ok(Some(Profile {
        name,
        description: clip::head(front::text(fields, "description").unwrap_or_default(), MAX_TEXT),
        source: path.to_owned(),
        model: model(fields),
        prompt: clip::head(prompt, MAX_PROMPT),
        tools,
        read_only: !changes || fields.get("permissionMode") == Some(&"plan".into()) || is_denied(fields, "edit"),
        max_rounds: rounds.and_then(|rounds| u32::try_from(rounds).ok()),
        ..Profile::default()
    }))
}

fn slug(name: &str) -> String {
    let name = name.to_lowercase();
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut slug = words.collect::<Vec<_>>().join("-");
    slug.truncate(super::MAX_NAME);
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

/// The model, or the first of a list. What is a name for people only says nothing here.
fn model(fields: &Map<String, Value>) -> Option<String> {
    let names = front::words(fields, "model")?;
    let name = names.first()?.trim();
    if name.is_empty() || name == "inherit" || name.contains(char::is_whitespace) {
        return None;
    }
    let family = FAMILIES.iter().find(|(family, _)| *family == name);
    Some(family.map_or(name, |(_, name)| name).to_owned())
}

/// `None`: all. A list allows what it names; a table, and a list of what is disallowed, forbid.
fn tools(fields: &Map<String, Value>) -> Option<Vec<String>> {
    let forbidden: Vec<&str> = match fields.get("tools") {
        Some(Value::Object(table)) => {
            table.iter().filter(|(_, on)| **on == Value::Bool(false)).flat_map(|(name, _)| ours(name)).collect()
        }
        _ => Vec::new(),
    };
    let disallowed = front::words(fields, "disallowedTools").unwrap_or_default();
    let denied = ["bash", "edit"].into_iter().filter(|name| is_denied(fields, name)).flat_map(ours);
    let forbidden: Vec<&str> = forbidden
        .into_iter()
        .chain(disallowed.iter().flat_map(|name| if name.contains('(') { Vec::new() } else { ours(name) }))
        .chain(denied)
        .collect();
    let allowed = front::words(fields, "tools").filter(|names| !names.iter().any(|name| name == "*"));
    if allowed.is_none() && forbidden.is_empty() {
        return None;
    }
    let allowed: Option<Vec<&str>> = allowed.map(|names| names.iter().flat_map(|name| ours(name)).collect());
    let is_kept = |tool: &&str| {
        ALWAYS.contains(tool)
            || (allowed.as_ref().is_none_or(|names| names.contains(tool)) && !forbidden.contains(tool))
    };
    let all = TOOLS.iter().map(|(tool, _)| *tool).chain(["progress"]);
    Some(all.filter(is_kept).map(str::to_owned).collect())
}

/// What a tool of theirs can do here. Of `Bash(git log:*)` the shell is ours, and the pattern nobody's.
fn ours(name: &str) -> Vec<&'static str> {
    let name = name.split('(').next().unwrap_or(name).trim().to_lowercase();
    TOOLS.iter().filter(|(_, names)| names.contains(&name.as_str())).map(|(tool, _)| *tool).collect()
}

/// Whether `permission` denies this altogether.
fn is_denied(fields: &Map<String, Value>, name: &str) -> bool {
    match fields.get("permission") {
        Some(Value::String(all)) => all == "deny",
        Some(Value::Object(table)) => match table.get(name).or_else(|| table.get("*")) {
            Some(Value::Object(patterns)) => !patterns.is_empty() && patterns.values().all(|value| value == "deny"),
            Some(value) => value == "deny",
            None => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, text: &str) -> Profile {
        profile(path, text.as_bytes()).unwrap().unwrap()
    }

    fn tools_of(profile: &Profile) -> Vec<&str> {
        profile.tools.iter().flatten().map(String::as_str).collect()
    }

    #[test]
    fn claudes_subagents_keep_their_model_tools_and_bounds() {
        let reviewer = read(
            ".claude/agents/review/rev.md",
            "---\nname: Code Reviewer\ndescription: Use after changes: always\ntools: Read, Grep, mcp__x__y, Bash(git log:*)\n\
             model: sonnet\nmaxTurns: 7\ncolor: red\n---\n\nYou review.",
        );
        assert_eq!((reviewer.name.as_str(), reviewer.prompt.as_str()), ("code-reviewer", "You review."));
        assert_eq!(reviewer.description, "Use after changes: always");
        assert_eq!(reviewer.model.as_deref(), Some("claude-sonnet-5-5"));
        assert_eq!(tools_of(&reviewer), ["shell", "poll", "read", "search", "plan", "progress"]);
        assert_eq!((reviewer.read_only, reviewer.max_rounds), (false, Some(7)), "what has a shell can write");
        let reader = read(".claude/agents/a.md", "---\ntools: [Read, Glob]\nmodel: inherit\n---\nx");
        assert_eq!((reader.name.as_str(), reader.read_only, reader.model), ("a", true, None));
        assert!(read(".claude/agents/a.md", "---\nname: a\npermissionMode: plan\n---\nx").read_only);
        let without = read(".claude/agents/a.md", "---\nname: a\ndisallowedTools: Write, Edit\n---\nx");
        assert_eq!(tools_of(&without), ["shell", "poll", "read", "search", "plan", "progress"]);
    }

    #[test]
    fn githubs_and_opencodes_agents_are_profiles_too() {
        let github = read(
            ".github/agents/docs.agent.md",
            "---\ndescription: d\ntools: ['edit', 'search']\nmodel: GPT-5 (copilot)\n---\nx",
        );
        assert_eq!((github.name.as_str(), github.model.clone()), ("docs", None));
        assert_eq!(tools_of(&github), ["edit", "write", "search", "plan", "progress"]);
        assert_eq!(read(".github/agents/a.md", "---\ndescription: d\ntools: ['*']\n---\nx").tools, None);
        let text = "---\ndescription: d\nmode: subagent\nmodel: anthropic/claude-opus-5\npermission:\n  edit: deny\n  bash:\n    \"*\": deny\n---\nx";
        let opencode = read(".opencode/agent/plan.md", text);
        assert_eq!((opencode.read_only, opencode.model.as_deref()), (true, Some("anthropic/claude-opus-5")));
        assert_eq!(tools_of(&opencode), ["read", "search", "plan", "progress"]);
        let off = read(".opencode/agent/a.md", "---\ntools:\n  bash: false\n  webfetch: false\n---\nx");
        assert_eq!(tools_of(&off), ["read", "edit", "write", "search", "plan", "progress"]);
    }

    #[test]
    fn what_is_no_profile_is_left_out_and_what_is_broken_is_named() {
        assert_eq!(profile(".claude/agents/README.md", b"# About our agents").unwrap(), None);
        assert_eq!(profile(".opencode/agent/a.md", b"---\ndisable: true\n---\nx").unwrap(), None);
        for broken in ["---\nname: [\n---\n", "---\nname: \"Ä\"\n---\n"] {
            let told = profile(".claude/agents/a.md", broken.as_bytes()).unwrap_err().to_string();
            assert!(told.contains(".claude/agents/a.md"), "{told}");
        }
    }
}
