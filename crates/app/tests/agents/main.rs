//! Every agent, as its makers ship it, through the whole program: the same brief, a scripted model, and what came of it, read off the
//! workspace and the gateway's record. What an agent says of itself counts for nothing.
//!
//! `OVERNIGHT_AGENTS` names the directory into which `cargo xtask agents` has installed them; without it these tests say so and pass.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail here")]

#[path = "../it/harness.rs"]
#[expect(dead_code, reason = "shared with the other tests")]
mod harness;
mod provider;
mod scenes;

/// An agent, and what of it is tried.
macro_rules! tried {
    ($($agent:ident: $name:literal $model:literal [$($scene:ident),*] [$($long:ident),*];)*) => {
        $(mod $agent {
            $(#[test]
            fn $scene() {
                crate::scenes::play($name, $model, stringify!($scene), crate::scenes::$scene);
            })*
            $(#[test]
            #[ignore = "long: runs with --full"]
            fn $long() {
                crate::scenes::play($name, $model, stringify!($long), crate::scenes::$long);
            })*
        })*
    };
}

tried! {
    builtin: "builtin" "anthropic/scripted"
        [smoke, follow_up, reload, cancel, dead_key, busy, cut, budget_end, question] [];
    codex: "codex" "openai/scripted"
        [smoke, follow_up, reload, cancel, dead_key, busy, cut, budget_end, question] [];
    claude: "claude" "anthropic/scripted"
        [smoke, follow_up, reload, cancel, dead_key, busy, cut, budget_end, question] [];
    opencode: "opencode" "anthropic/scripted"
        [smoke, follow_up, reload, cancel, dead_key, busy, cut, budget_end, question] [];
    copilot: "copilot" "openai/scripted"
        [smoke] [follow_up, reload, cancel, dead_key, busy, cut, budget_end, question];
    gemini: "gemini" "gemini/scripted"
        [smoke] [follow_up, reload, cancel, dead_key, busy, cut, budget_end, question];
    qwen: "qwen" "openai/scripted"
        [smoke] [follow_up, reload, cancel, dead_key, busy, cut, budget_end, question];
    codex_exec: "codex-exec" "openai/scripted" [smoke] [follow_up, reload, cancel, dead_key, busy, cut, budget_end];
    claude_p: "claude-p" "anthropic/scripted" [smoke] [follow_up, reload, cancel, dead_key, busy, cut, budget_end];
    pi: "pi" "anthropic/scripted" [smoke] [follow_up, cancel, dead_key, busy, budget_end];
    mini: "mini" "anthropic/scripted" [smoke] [cancel, dead_key, budget_end];
    aider: "aider" "anthropic/scripted" [] [edits];
}
