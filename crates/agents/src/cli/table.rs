//! The agents that are known by their command lines: how each is started, brought to the gateway, and understood.

use std::collections::BTreeMap;

use domain::ports::model::Protocol;

use super::recipe::{Events, Recipe, Success};
use crate::acp::{Client, HomeFile, table};

pub(super) fn known() -> Vec<Recipe> {
    vec![codex(), claude(), pi(), aider(), mini()]
}

/// Its own sandbox is off, as ours is around it: nested, it fails without a word.
fn codex() -> Recipe {
    let driven = table::codex();
    Recipe {
        name: "codex-exec".to_owned(),
        argv: words("codex exec --json --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check -"),
        resume: words(
            "codex exec resume --json --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check {session} -",
        ),
        names_sessions: true,
        events: Events::CodexJsonl,
        packages: each(["@openai/codex@0.169.0"]),
        clients: driven.clients,
        login: driven.login,
        remarks: each(["Speaks OpenAI's Responses only.", BY_ITS_WORD]),
        ..Recipe::default()
    }
}

fn claude() -> Recipe {
    let driven = table::claude();
    Recipe {
        name: "claude-p".to_owned(),
        argv: words("claude -p --output-format stream-json --verbose {mode} --session-id {session}"),
        resume: words("claude -p --output-format stream-json --verbose {mode} --resume {session}"),
        work: words("--dangerously-skip-permissions"),
        plan: words("--dangerously-skip-permissions --disallowedTools Bash,Edit,Write,NotebookEdit"),
        events: Events::ClaudeStreamJson,
        packages: each(["@anthropic-ai/claude-code@2.1.329"]),
        env: driven.env,
        clients: driven.clients,
        login: driven.login,
        ..Recipe::default()
    }
}

/// The provider of `pi`'s own configuration. The key is a variable's name there.
macro_rules! pi_models {
    ($api:literal, $url:literal) => {
        concat!(
            r#"{"providers": {"overnight": {"baseUrl": ""#,
            $url,
            r#"", "apiKey": "OVERNIGHT_TOKEN", "api": ""#,
            $api,
            r#"", "models": [{"id": "{model}", "name": "{model}", "reasoning": false, "input": ["text"], "contextWindow": 200000,
 "maxTokens": 32000, "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}}]}}}
"#
        )
    };
}

fn pi() -> Recipe {
    let argv = words(
        "pi --mode json --offline --provider overnight --model {model} {mode} --session {home}/.overnight/{session}.jsonl -p {prompt}",
    );
    let client = |protocol, models: &str| Client {
        protocol,
        env: variables([("OVERNIGHT_TOKEN", "{token}")]),
        files: vec![HomeFile { path: ".pi/agent/models.json".to_owned(), content: models.to_owned() }],
    };
    Recipe {
        name: "pi".to_owned(),
        resume: argv.clone(),
        argv,
        plan: words("--tools read,grep,find,ls"),
        events: Events::PiJson,
        packages: each(["@mariozechner/pi-coding-agent@0.73.1"]),
        clients: vec![
            client(Protocol::Messages, pi_models!("anthropic-messages", "{url}")),
            client(Protocol::Responses, pi_models!("openai-responses", "{url}/v1")),
            client(Protocol::ChatCompletions, pi_models!("openai-completions", "{url}/v1")),
            client(Protocol::GenerateContent, pi_models!("google-generative-ai", "{url}/v1beta")),
        ],
        ..Recipe::default()
    }
}

/// Its map of the repository is off: it keeps it in the repository, and so in the change.
fn aider() -> Recipe {
    let argv = words(
        "aider --yes-always --no-check-update --no-analytics --no-auto-commits --no-dirty-commits --no-gitignore --no-pretty --no-stream \
         --no-show-model-warnings --no-show-release-notes --no-detect-urls --no-suggest-shell-commands --map-tokens 0 \
         {mode} --input-history-file /dev/null --chat-history-file {home}/.overnight/{session}.md --message-file {prompt_file}",
    );
    let mut resume = argv.clone();
    resume.push("--restore-chat-history".to_owned());
    Recipe {
        name: "aider".to_owned(),
        argv,
        resume,
        plan: words("--chat-mode ask"),
        events: Events::Text,
        // It ends with code 0 whatever came of its calls.
        success: Some(Success::Line("Tokens:".to_owned())),
        failure: vec!["litellm.".to_owned()],
        install: Some("pipx install aider-chat==0.86.2".to_owned()),
        tried: Some("0.86.2".to_owned()),
        env: variables([("LITELLM_LOCAL_MODEL_COST_MAP", "True")]),
        // Else it asks the network for prices.
        files: vec![HomeFile {
            path: ".aider/caches/model_prices_and_context_window.json".to_owned(),
            content: r#"{"none": {}}"#.to_owned(),
        }],
        clients: litellm("AIDER_MODEL"),
        remarks: each(["Answers once and runs no tools: it edits the files that its prompt names."]),
        ..Recipe::default()
    }
}

fn mini() -> Recipe {
    Recipe {
        name: "mini".to_owned(),
        argv: words("mini -y --exit-immediately --cost-limit 0 -o {home}/.overnight/mini.json -t {prompt}"),
        events: Events::Text,
        // It ends with code 0 whatever its end was.
        success: Some(Success::File {
            path: ".overnight/mini.json".to_owned(),
            field: "info.exit_status".to_owned(),
            is: "Submitted".to_owned(),
            summary: Some("info.submission".to_owned()),
        }),
        install: Some("pipx install mini-swe-agent==2.4.6 && pipx inject mini-swe-agent mcp".to_owned()),
        tried: Some("2.4.6".to_owned()),
        env: variables([
            ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
            ("MSWEA_CONFIGURED", "true"),
            ("MSWEA_COST_TRACKING", "ignore_errors"),
        ]),
        clients: litellm("MSWEA_MODEL_NAME"),
        remarks: each(["Has no sessions: each turn is told what was done so far.", BY_ITS_WORD]),
        ..Recipe::default()
    }
}

const BY_ITS_WORD: &str = "Nothing but its prompt keeps it from writing while it plans.";

/// What the library `litellm` wants to know, under which many Python agents call their models. `model`: where it is named.
fn litellm(model: &str) -> Vec<Client> {
    let client = |protocol, variables: [(&str, &str); 3]| Client {
        protocol,
        env: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        files: Vec::new(),
    };
    vec![
        client(
            Protocol::Messages,
            [(model, "anthropic/{model}"), ("ANTHROPIC_API_BASE", "{url}"), ("ANTHROPIC_API_KEY", "{token}")],
        ),
        client(
            Protocol::ChatCompletions,
            [(model, "openai/{model}"), ("OPENAI_API_BASE", "{url}/v1"), ("OPENAI_API_KEY", "{token}")],
        ),
    ]
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn each<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

fn variables<const N: usize>(variables: [(&str, &str); N]) -> BTreeMap<String, String> {
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}
