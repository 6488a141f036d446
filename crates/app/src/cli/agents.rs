//! What is typed about agents, models, keys and budgets.

use clap::{Args, Subcommand};

pub(super) const AGENTS_EXAMPLES: &str = "\
A test runs the real agent on a small repository with a scripted model: no key, no network.

Examples:
  overnight agents
  overnight agents test codex";

pub(super) const MODELS_EXAMPLES: &str = "\
Models of config.toml, and those of the keys in this environment and of kept ones. A test makes one real call of a few tokens.

Examples:
  overnight models
  overnight models test claude-sonnet-5-5
  overnight models test ollama/qwen3";

pub(super) const PROFILES_EXAMPLES: &str = "\
Profiles stand in overnight.toml, .claude/agents, .github/agents or .opencode/agent of the base, in config.toml, or are ready-made.

Examples:
  overnight profiles
  overnight profiles --base v1.2
  overnight run \"Look for injections\" --profile security-auditor";

pub(super) const BUDGET_EXAMPLES: &str = "\
They stand in config.toml, as [[budgets]].

Examples:
  overnight budget
  overnight budget --json";

pub(super) const KEY_EXAMPLES: &str = "\
Keys are read from standard input, never from the command line. A key in the environment of `run` goes before a kept one. Several \
accounts with one provider stand in for each other when one is out of quota.

Examples:
  overnight key set anthropic
  overnight key set anthropic --account work
  overnight key set openai --base-url http://127.0.0.1:8080/v1 < key.txt
  overnight key list
  overnight key rm openai";

#[derive(Debug, Subcommand)]
pub enum Agents {
    /// Let an agent do a scripted task and hear a comment, and say what works
    Test(Test),
}

#[derive(Debug, Subcommand)]
pub enum Models {
    /// Make one real call of a few tokens
    Test(Test),
}

#[derive(Debug, Args)]
pub struct Test {
    /// As the list names it
    pub name: String,
}

#[derive(Debug, Subcommand)]
pub enum Key {
    /// Keep a provider's key, read from standard input
    Set {
        #[command(flatten)]
        of: OfAccount,
        /// Also keep this address of the provider
        #[arg(long, value_name = "URL")]
        base_url: Option<String>,
    },
    /// Which keys are kept (never their values)
    List,
    /// Forget a provider's key and address
    Rm(OfAccount),
}

#[derive(Debug, Args)]
pub struct OfAccount {
    /// anthropic, openai, gemini, azure, bedrock, openrouter, ollama, vllm, llamacpp, or one of config.toml
    pub provider: String,
    /// Of this account with it, where there are several
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
}
