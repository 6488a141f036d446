//! Which model is meant, and what a person is told when none is.

use std::sync::Arc;

use domain::{
    FaultClass,
    budget::{Budget, MicroUsd},
    ports::model::{Credentials, Gateways, ModelAsk, ResolvedModel},
};
use gateway::{Gateway, Options};

use crate::{ledger::MemoryLedger, stage::SystemClock};

const ANTHROPIC: (&str, &str) = ("ANTHROPIC_API_KEY", "a");
const OPENAI: (&str, &str) = ("OPENAI_API_KEY", "o");
const GEMINI: (&str, &str) = ("GOOGLE_API_KEY", "g");
const LOCAL: (&str, &str) = ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1");

fn resolve(name: Option<&str>, set: &[(&str, &str)], budget: Budget) -> Result<ResolvedModel, domain::Fault> {
    let gateway = Gateway::new(Options::new(Arc::new(MemoryLedger::default()), Arc::new(SystemClock))).unwrap();
    let credentials = Credentials(set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
    gateway.resolve(ModelAsk { name, credentials: &credentials, budget: &budget, protocols: &[] })
}

#[test]
fn a_name_or_a_key_leads_to_a_model() {
    for (name, set, full, priced) in [
        (None, &[ANTHROPIC][..], "claude-sonnet-5-5", true),
        (None, &[OPENAI], "gpt-6.1-sol", true),
        (None, &[OPENAI, ANTHROPIC], "claude-sonnet-5-5", true),
        (None, &[GEMINI], "gemini-3.8-flash", true),
        (None, &[GEMINI, OPENAI], "gpt-6.1-sol", true),
        (Some("gemini-2.5-pro"), &[GEMINI], "gemini-2.5-pro", true),
        (Some("gemini/tuned"), &[("GEMINI_BASE_URL", "http://127.0.0.1:1")], "gemini/tuned", false),
        (Some("claude-opus-5-5"), &[ANTHROPIC], "claude-opus-5-5", true),
        (Some("claude-opus-99"), &[ANTHROPIC], "claude-opus-99", false),
        (Some("o3-2025-04-16"), &[OPENAI], "o3-2025-04-16", true),
        (Some("openai/qwen3"), &[LOCAL], "openai/qwen3", false),
        (Some("openai/gpt-6-sol"), &[OPENAI], "openai/gpt-6-sol", true),
        (Some("anthropic/local"), &[ANTHROPIC], "anthropic/local", false),
    ] {
        let resolved = resolve(name, set, Budget::default()).unwrap();
        assert_eq!((resolved.name.as_str(), resolved.priced), (full, priced));
    }
}

#[test]
fn what_leads_nowhere_is_told_with_a_way_out() {
    let money = Budget { cost: Some(MicroUsd(1)), ..Budget::default() };
    let none = Budget::default();
    for (name, set, budget, words) in [
        (None, &[][..], none, &["ANTHROPIC_API_KEY", "overnight key set anthropic", "overnight demo"][..]),
        (None, &[("ANTHROPIC_API_KEY", "")], none, &["no provider's key"]),
        (None, &[LOCAL], none, &["--model openai/"]),
        (Some("gpt-6-sol"), &[ANTHROPIC], none, &["OPENAI_API_KEY", "overnight demo"]),
        (Some("llama-9"), &[ANTHROPIC], none, &["llama-9", "claude-", "openai/NAME"]),
        (Some("gemini-9"), &[ANTHROPIC], none, &["GEMINI_API_KEY", "overnight demo"]),
        (Some("gemini/../files"), &[GEMINI], none, &["gemini/../files"]),
        (Some("openai/"), &[OPENAI], none, &["openai/"]),
        (Some("openai/qwen3"), &[LOCAL], money, &["price", "qwen3", "ktok"]),
        (Some("openai/x"), &[("OPENAI_BASE_URL", "localhost:8000")], none, &["OPENAI_BASE_URL", "https://"]),
        (Some("claude-opus-5"), &[("ANTHROPIC_API_KEY", "a\nb")], none, &["ANTHROPIC_API_KEY", "line breaks"]),
    ] {
        let fault = resolve(name, set, budget).unwrap_err();
        assert_eq!(fault.class, FaultClass::Input);
        let told = fault.to_string();
        for word in words {
            assert!(told.contains(word), "`{word}` is missing in: {told}");
        }
    }
}
