//! Profiles that come with Overnight. Their prompts are files beside this one.

use domain::{brief::Deliverable, profile::Profile};

/// Of the built-in agent's tools, what changes no file.
const LOOKING: [&str; 6] = ["shell", "poll", "read", "search", "plan", "progress"];

/// In the order in which people are likely to need them.
pub(super) fn made() -> Vec<Profile> {
    vec![
        working(
            "implementer",
            "Builds a feature or mends a bug, with its tests, as the smallest change that does all of it.",
            include_str!("ready/implementer.md"),
        ),
        working(
            "test-runner",
            "Runs the tests, finds why they fail, and mends the code (or a test that is wrong).",
            include_str!("ready/test-runner.md"),
        ),
        reporting(
            "code-reviewer",
            "Reviews a change or a part of the code, and reports findings by their weight. Changes nothing.",
            include_str!("ready/code-reviewer.md"),
        ),
        reporting(
            "security-auditor",
            "Looks for what an attacker could use, and reports it with proof. Changes nothing.",
            include_str!("ready/security-auditor.md"),
        ),
        working(
            "dependency-updater",
            "Brings dependencies up to date, one at a time, each with green checks.",
            include_str!("ready/dependency-updater.md"),
        ),
        working(
            "docs-writer",
            "Writes or mends documentation, and tries what it says.",
            include_str!("ready/docs-writer.md"),
        ),
        reporting(
            "bug-triager",
            "Reproduces a reported bug, finds where it comes from, and says how bad it is. Changes nothing.",
            include_str!("ready/bug-triager.md"),
        ),
        Profile {
            report_filter: Some("ALERT".to_owned()),
            ..reporting(
                "monitor",
                "Watches something for a long time, and tells people at once of what matters. Changes nothing.",
                include_str!("ready/monitor.md"),
            )
        },
    ]
}

fn working(name: &str, description: &str, prompt: &str) -> Profile {
    Profile {
        name: name.to_owned(),
        description: description.to_owned(),
        source: "ready-made".to_owned(),
        prompt: prompt.trim_end().to_owned(),
        deliverable: Some(Deliverable::Change),
        ..Profile::default()
    }
}

fn reporting(name: &str, description: &str, prompt: &str) -> Profile {
    Profile {
        tools: Some(LOOKING.map(str::to_owned).to_vec()),
        read_only: true,
        deliverable: Some(Deliverable::Report),
        ..working(name, description, prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profiles::is_name;

    #[test]
    fn each_has_a_name_a_purpose_and_a_short_prompt() {
        for profile in made() {
            assert!(is_name(&profile.name) && profile.description.ends_with('.'), "{}", profile.name);
            assert!((300..2_500).contains(&profile.prompt.len()), "{}: {} bytes", profile.name, profile.prompt.len());
            assert_eq!(profile.read_only, profile.deliverable == Some(Deliverable::Report), "{}", profile.name);
        }
    }
}
