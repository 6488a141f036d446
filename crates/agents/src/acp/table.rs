//! The agents that are known: how each is started, brought to the gateway, and kept from asking what the sandbox settles.

use std::collections::BTreeMap;

use domain::ports::model::Protocol;

use super::spec::{Client, HomeFile, Login, Setting, Spec};

/// Best known first.
pub(super) fn known() -> Vec<Spec> {
    vec![codex(), claude(), opencode(), copilot(), gemini(), qwen()]
}

const CODEX: &str = r#"model = "{model}"
model_provider = "overnight"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false

[model_providers.overnight]
name = "Overnight"
base_url = "{url}/v1"
env_key = "OVERNIGHT_TOKEN"
wire_api = "responses"
supports_websockets = false
request_max_retries = 2
stream_max_retries = 5

[analytics]
enabled = false
"#;

pub(crate) fn codex() -> Spec {
    Spec {
        name: "codex".to_owned(),
        argv: words(["codex-acp"]),
        packages: words(["@agentclientprotocol/codex-acp@2.6.0", "@openai/codex@0.169.0"]),
        env: variables([("NO_BROWSER", "1")]),
        clients: vec![Client {
            protocol: Protocol::Responses,
            env: variables([("OVERNIGHT_TOKEN", "{token}"), ("MODEL_PROVIDER", "overnight")]),
            files: vec![file(".codex/config.toml", CODEX)],
        }],
        work: vec![setting("mode", "agent-full-access")],
        plan: vec![setting("mode", "read-only"), setting("collaboration_mode", "plan")],
        login: Some(Login {
            files: words([".codex/auth.json"]),
            hosts: words(["chatgpt.com", "auth.openai.com", "api.openai.com"]),
        }),
        remarks: words(["Speaks OpenAI's Responses only."]),
        ..Spec::default()
    }
}

pub(crate) fn claude() -> Spec {
    Spec {
        name: "claude".to_owned(),
        argv: words(["claude-agent-acp"]),
        packages: words(["@agentclientprotocol/claude-agent-acp@0.100.0", "@anthropic-ai/claude-code@2.1.329"]),
        // It refuses to leave permissions to others when it is root, unless told that a sandbox does it.
        env: variables([
            ("IS_SANDBOX", "1"),
            ("DISABLE_AUTOUPDATER", "1"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ]),
        clients: vec![Client {
            protocol: Protocol::Messages,
            env: variables([
                ("ANTHROPIC_BASE_URL", "{url}"),
                ("ANTHROPIC_API_KEY", "{token}"),
                ("ANTHROPIC_MODEL", "{model}"),
                ("ANTHROPIC_SMALL_FAST_MODEL", "{model}"),
                ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "{model}"),
                ("ANTHROPIC_DEFAULT_SONNET_MODEL", "{model}"),
                ("ANTHROPIC_DEFAULT_OPUS_MODEL", "{model}"),
            ]),
            files: Vec::new(),
        }],
        work: vec![setting("mode", "bypassPermissions")],
        plan: vec![setting("mode", "plan")],
        login: Some(Login {
            files: words([".claude/.credentials.json"]),
            hosts: words(["api.anthropic.com", "console.anthropic.com", "platform.claude.com"]),
        }),
        ..Spec::default()
    }
}

/// What its configuration says beside its provider.
macro_rules! opencode_config {
    ($package:literal, $url:literal) => {
        concat!(
            r#"{"$schema": "https://opencode.ai/config.json", "autoupdate": false, "share": "disabled",
 "model": "overnight/{model}", "small_model": "overnight/{model}", "enabled_providers": ["overnight"],
 "permission": {"*": "allow", "external_directory": "allow", "doom_loop": "allow"},
 "provider": {"overnight": {"name": "Overnight", "npm": ""#,
            $package,
            r#"", "options": {"baseURL": ""#,
            $url,
            r#"", "apiKey": "{env:OVERNIGHT_TOKEN}"},
  "models": {"{model}": {"name": "{model}", "tool_call": true, "limit": {"context": 200000, "output": 32000}}}}}}
"#
        )
    };
}

fn opencode() -> Spec {
    let client = |protocol, config: &str| Client {
        protocol,
        env: variables([("OVERNIGHT_TOKEN", "{token}")]),
        files: vec![file(".config/opencode/opencode.json", config)],
    };
    Spec {
        name: "opencode".to_owned(),
        argv: words(["opencode", "acp"]),
        packages: words(["opencode-ai@1.18.33"]),
        env: variables([
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
            ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
        ]),
        clients: vec![
            client(Protocol::Messages, opencode_config!("@ai-sdk/anthropic", "{url}/v1")),
            client(Protocol::Responses, opencode_config!("@ai-sdk/openai", "{url}/v1")),
            client(Protocol::ChatCompletions, opencode_config!("@ai-sdk/openai-compatible", "{url}/v1")),
            client(Protocol::GenerateContent, opencode_config!("@ai-sdk/google", "{url}/v1beta")),
        ],
        work: vec![setting("mode", "build")],
        plan: vec![setting("mode", "plan")],
        login: Some(Login {
            files: words([".local/share/opencode/auth.json"]),
            hosts: words(["api.anthropic.com", "api.openai.com", "opencode.ai", "models.dev"]),
        }),
        remarks: words(["Starts in two to four seconds."]),
        ..Spec::default()
    }
}

fn copilot() -> Spec {
    let client = |protocol, kind: &str, url: &str, wire: Option<&str>| {
        let mut env = variables([
            ("COPILOT_OFFLINE", "true"),
            ("COPILOT_PROVIDER_TYPE", kind),
            ("COPILOT_PROVIDER_BASE_URL", url),
            ("COPILOT_PROVIDER_API_KEY", "{token}"),
            ("COPILOT_MODEL", "{model}"),
        ]);
        env.extend(wire.map(|wire| ("COPILOT_PROVIDER_WIRE_API".to_owned(), wire.to_owned())));
        Client { protocol, env, files: Vec::new() }
    };
    Spec {
        name: "copilot".to_owned(),
        argv: words(["copilot", "--acp", "--allow-all-tools", "--allow-all-paths", "--no-auto-update"]),
        packages: words(["@github/copilot@1.0.102"]),
        clients: vec![
            client(Protocol::Messages, "anthropic", "{url}", None),
            client(Protocol::Responses, "openai", "{url}/v1", Some("responses")),
            client(Protocol::ChatCompletions, "openai", "{url}/v1", Some("completions")),
        ],
        work: vec![setting("allow_all", "on")],
        plan: vec![setting("mode", "https://agentclientprotocol.com/protocol/session-modes#plan")],
        login: Some(Login {
            files: words([".copilot/config.json"]),
            hosts: words(["api.github.com", "api.githubcopilot.com", "*.githubcopilot.com", "github.com"]),
        }),
        ..Spec::default()
    }
}

/// Its `session/load` begins the file of the session anew before it reads it, and then finds nothing there. Under another name it is
/// found: so the fullest of the files goes there, without the beginnings, and is alone.
const GEMINI_LOADS: &str = r#"
cd "$HOME/.gemini/tmp" 2>/dev/null || exit 0
of_session() { grep -lF "\"sessionId\":\"$1\"" */chats/session-*.jsonl 2>/dev/null; }
fullest=$(of_session "$1" | while IFS= read -r file; do echo "$(wc -c <"$file") $file"; done | sort -n | tail -n 1)
[ -n "$fullest" ] || exit 0
fullest=${fullest#* } next=aaaaaaaa
case $fullest in *-aaaaaaaa.jsonl) next=bbbbbbbb ;; esac
sed '2,$ { /^{"sessionId"/d; }' "$fullest" >.overnight || exit
of_session "$1" | while IFS= read -r file; do rm -f "$file"; done
mv .overnight "${fullest%-*}-$next.jsonl"
"#;

fn gemini() -> Spec {
    Spec {
        name: "gemini".to_owned(),
        argv: words(["gemini", "--acp", "--skip-trust"]),
        packages: words(["@google/gemini-cli@0.61.0"]),
        clients: vec![Client {
            protocol: Protocol::GenerateContent,
            env: variables([
                ("GOOGLE_GEMINI_BASE_URL", "{url}"),
                ("GEMINI_API_KEY", "{token}"),
                ("GEMINI_MODEL", "{model}"),
            ]),
            files: vec![file(
                ".gemini/settings.json",
                r#"{"security": {"auth": {"selectedType": "gemini-api-key"}}, "general": {"enableAutoUpdate": false},
 "privacy": {"usageStatisticsEnabled": false}, "model": {"name": "{model}"}}
"#,
            )],
        }],
        work: vec![setting("mode", "yolo")],
        plan: vec![setting("mode", "plan")],
        before_loading: Some(GEMINI_LOADS.to_owned()),
        login: Some(Login {
            files: words([".gemini/oauth_creds.json", ".gemini/google_accounts.json", ".gemini/settings.json"]),
            hosts: words(["cloudcode-pa.googleapis.com", "oauth2.googleapis.com", "www.googleapis.com"]),
        }),
        remarks: words(["Speaks Google's generateContent only.", "A cut stream ends its turn: it does not try again."]),
        ..Spec::default()
    }
}

fn qwen() -> Spec {
    Spec {
        name: "qwen".to_owned(),
        argv: words(["qwen", "--acp"]),
        packages: words(["@qwen-code/qwen-code@0.24.4"]),
        clients: vec![Client {
            protocol: Protocol::ChatCompletions,
            env: variables([
                ("OPENAI_BASE_URL", "{url}/v1"),
                ("OPENAI_API_KEY", "{token}"),
                ("OPENAI_MODEL", "{model}"),
            ]),
            files: vec![file(
                ".qwen/settings.json",
                // Each turn would end in calls about what might be said next and be remembered, which nobody hears here.
                r#"{"security": {"auth": {"selectedType": "openai"}}, "general": {"disableAutoUpdate": true, "disableUpdateNag": true},
 "ui": {"enableFollowupSuggestions": false}, "privacy": {"usageStatisticsEnabled": false},
 "memory": {"enableManagedAutoMemory": false, "enableManagedAutoDream": false, "enableAutoSkill": false}}
"#,
            )],
        }],
        work: vec![setting("mode", "yolo")],
        plan: vec![setting("mode", "plan")],
        login: Some(Login {
            files: words([".qwen/oauth_creds.json", ".qwen/settings.json"]),
            hosts: words(["chat.qwen.ai", "portal.qwen.ai", "dashscope.aliyuncs.com"]),
        }),
        ..Spec::default()
    }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

fn variables<const N: usize>(variables: [(&str, &str); N]) -> BTreeMap<String, String> {
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn file(path: &str, content: &str) -> HomeFile {
    HomeFile { path: path.to_owned(), content: content.to_owned() }
}

fn setting(option: &str, value: &str) -> Setting {
    Setting { option: option.to_owned(), value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn sessions_of_gemini_are_found_by_another_name_each_time() {
        let home = tempfile::tempdir().unwrap();
        let chats = home.path().join(".gemini/tmp/workspace/chats");
        fs::create_dir_all(&chats).unwrap();
        let (first, other) = ("session-2026-11-21T05-05-53470d8b.jsonl", "session-2026-11-20T05-05-00000000.jsonl");
        let header = "{\"sessionId\":\"53470d8b-6cb9\",\"kind\":\"main\"}\n";
        fs::write(chats.join(other), "{\"sessionId\":\"00000000-6cb9\"}\n").unwrap();
        fs::write(chats.join(first), format!("{header}one\n")).unwrap();
        let prepare = |id: &str| {
            let script = gemini().before_loading.unwrap();
            let mut command = Command::new("sh");
            assert!(command.args(["-c", &script, "sh", id]).env("HOME", home.path()).status().unwrap().success());
            let files = fs::read_dir(&chats).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut files: Vec<_> = files.filter(|file| file != other).collect();
            files.sort();
            files
        };
        let (one, two) = ("session-2026-11-21T05-05-aaaaaaaa.jsonl", "session-2026-11-21T05-05-bbbbbbbb.jsonl");
        assert_eq!(prepare("53470d8b-6cb9"), [one]);
        // What a load leaves: the file of its name begun anew, and the found one gone on with.
        fs::write(chats.join(first), header).unwrap();
        fs::write(chats.join(one), format!("{header}one\n{header}two\n")).unwrap();
        assert_eq!(prepare("53470d8b-6cb9"), [two]);
        assert_eq!(fs::read_to_string(chats.join(two)).unwrap(), format!("{header}one\ntwo\n"));
        assert_eq!(prepare("of another agent"), [two], "nothing is touched");
    }
}
