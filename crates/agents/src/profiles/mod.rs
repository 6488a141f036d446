//! Profiles (subagent types): those of a base's files, of the configuration, and the ready-made; and what else a repository offers.

mod foreign;
mod front;
mod offers;
mod ready;
mod section;

use bytes::Bytes;
use domain::{Fault, ports::agent::PROFILE_FILES, profile::Profile};

pub(crate) use self::offers::{Offer, OfferKind, offers};
pub use self::section::{Limits, Other, Section};

/// In bytes.
const MAX_PROMPT: usize = 32 * 1024;
const MAX_TEXT: usize = 2 * 1024;
const MAX_NAME: usize = 64;

/// Each name once: what a base says goes before the configuration, and that before the ready-made.
pub(crate) fn profiles(files: &[(String, Bytes)], configured: &[Profile]) -> Result<Vec<Profile>, Fault> {
    let mut all: Vec<Profile> = Vec::new();
    for rank in [of_files(files)?, configured.to_vec(), ready::made()] {
        if let Some((one, other)) = twins(&rank) {
            return Err(Fault::input(format!(
                "two profiles are called `{}`: one in {}, one in {}",
                one.name, one.source, other.source
            ))
            .hint("give one of them another name"));
        }
        let news: Vec<_> =
            rank.into_iter().filter(|profile| all.iter().all(|known| known.name != profile.name)).collect();
        all.extend(news);
    }
    Ok(all)
}

fn of_files(files: &[(String, Bytes)]) -> Result<Vec<Profile>, Fault> {
    let mut profiles = Vec::new();
    for (path, content) in files {
        if PROFILE_FILES.iter().any(|(place, end)| end.is_empty() && place == path) {
            profiles.extend(section::overnight(path, content)?);
        } else {
            profiles.extend(foreign::profile(path, content)?);
        }
    }
    Ok(profiles)
}

/// Two of one name.
fn twins(profiles: &[Profile]) -> Option<(&Profile, &Profile)> {
    let twin = |(at, one): (usize, &Profile)| {
        profiles[at + 1..].iter().find(|other| other.name == one.name).map(|other| (at, other))
    };
    profiles.iter().enumerate().find_map(twin).map(|(at, other)| (&profiles[at], other))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> (String, Bytes) {
        (path.to_owned(), Bytes::copy_from_slice(content.as_bytes()))
    }

    #[test]
    fn the_base_goes_before_the_configuration_and_that_before_the_ready_made() {
        let configured =
            |name: &str| Profile { name: name.to_owned(), source: "configuration".to_owned(), ..Profile::default() };
        let files = [
            file("overnight.toml", "[profiles.monitor]\nprompt = \"Ours.\"\n"),
            file(".claude/agents/own.md", "---\nname: own\n---\nDo."),
        ];
        let all = profiles(&files, &[configured("own"), configured("docs-writer")]).unwrap();
        let sources: Vec<_> = all.iter().map(|profile| (profile.name.as_str(), profile.source.as_str())).collect();
        assert!(sources.starts_with(&[
            ("monitor", "overnight.toml"),
            ("own", ".claude/agents/own.md"),
            ("docs-writer", "configuration"),
        ]));
        for name in ["monitor", "own", "docs-writer", "code-reviewer"] {
            assert_eq!(sources.iter().filter(|(known, _)| *known == name).count(), 1, "{name}");
        }
        assert_eq!(sources.last().map(|(_, source)| *source), Some("ready-made"));
    }

    #[test]
    fn two_of_one_name_are_refused_naming_both() {
        let files = [
            file(".claude/agents/one.md", "---\nname: same\n---\na"),
            file(".opencode/agent/same.md", "---\ndescription: d\n---\nb"),
        ];
        let told = profiles(&files, &[]).unwrap_err().to_string();
        assert!(
            told.contains("`same`")
                && told.contains(".claude/agents/one.md")
                && told.contains(".opencode/agent/same.md")
        );
    }
}
