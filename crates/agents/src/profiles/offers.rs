//! Skills and commands that a repository offers: what they are called and where they stand. Who needs one reads the file.

use bytes::Bytes;
use domain::ports::agent::GUIDANCE_FILES;

use super::front;

/// The longest description, in characters: all of them stand in the first prompt.
const DESCRIPTION: usize = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfferKind {
    /// Instructions for a kind of work, with files beside them.
    Skill,
    /// A prompt that people of the repository use by its name.
    Command,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub kind: OfferKind,
    pub name: String,
    /// When it helps; one line, empty where nothing is said.
    pub description: String,
    /// From the root of the repository.
    pub path: String,
}

/// What the files of [`GUIDANCE_FILES`] offer, in their order; of two of a kind and name the first. A file whose fields cannot be
/// read is offered by its name: nothing depends on them.
pub(crate) fn offers(files: &[(String, Bytes)]) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    for offer in files.iter().filter_map(|(path, content)| offer(path, content)) {
        if !offers.iter().any(|known| (known.kind, &known.name) == (offer.kind, &offer.name)) {
            offers.push(offer);
        }
    }
    offers
}

fn offer(path: &str, content: &[u8]) -> Option<Offer> {
    let (place, end) =
        GUIDANCE_FILES.iter().find(|(place, end)| !end.is_empty() && beneath(path, place, end).is_some())?;
    let name = beneath(path, place, end)?;
    let kind = if end.ends_with("SKILL.md") { OfferKind::Skill } else { OfferKind::Command };
    let paper = front::read(content).ok();
    let fields = paper.as_ref().map(|paper| &paper.fields);
    if fields.is_some_and(|fields| fields.get("disable-model-invocation") == Some(&true.into())) {
        return None;
    }
    let said = |field| fields.and_then(|fields| front::text(fields, field));
    let (given, named) = match kind {
        // The folder's last name, as the skill's own name has to be the same.
        OfferKind::Skill => (name.rsplit('/').next().unwrap_or(name).to_owned(), said("name")),
        OfferKind::Command => (name.replace('/', ":"), None),
    };
    let first = || paper.as_ref().and_then(|paper| paper.body.lines().map(heading).find(|line| !line.is_empty()));
    let description = said("description").or_else(first).unwrap_or_default();
    Some(Offer {
        kind,
        name: named.map_or(given, str::to_owned),
        description: line(description),
        path: path.to_owned(),
    })
}

/// What stands between a place and the end of a path's name.
fn beneath<'a>(path: &'a str, place: &str, end: &str) -> Option<&'a str> {
    let name = path.strip_prefix(place)?.strip_prefix('/')?.strip_suffix(end)?;
    (!name.is_empty()).then_some(name)
}

fn heading(line: &str) -> &str {
    line.trim_start_matches('#').trim()
}

/// On one line, and not too long.
fn line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(DESCRIPTION) {
        line.truncate(at);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skills_and_commands_are_offered_by_name_and_path() {
        let file = |path: &str, content: &str| (path.to_owned(), Bytes::copy_from_slice(content.as_bytes()));
        let files = [
            file(".mcp.json", "{}"),
            file(".claude/skills/pdf/SKILL.md", "---\nname: pdf\ndescription: >\n  Reads\n  PDF files.\n---\nHow to."),
            file(".claude/skills/hidden/SKILL.md", "---\ndisable-model-invocation: true\n---\nFor people."),
            file(".agents/skills/pdf/SKILL.md", "---\nname: pdf\n---\nThe same again."),
            file(".agents/skills/broken/SKILL.md", "---\na: [\n---\n"),
            file(".claude/commands/git/sync.md", "\n# Sync with upstream\n\nFetch …"),
            file(".cursor/commands/review.md", ""),
            file(".cursor/commands/notes.txt", "no command"),
        ];
        let found: Vec<_> =
            offers(&files).into_iter().map(|offer| (offer.kind, offer.name, offer.description)).collect();
        let expected = [
            (OfferKind::Skill, "pdf", "Reads PDF files."),
            (OfferKind::Skill, "broken", ""),
            (OfferKind::Command, "git:sync", "Sync with upstream"),
            (OfferKind::Command, "review", ""),
        ];
        assert_eq!(found, expected.map(|(kind, name, text)| (kind, name.to_owned(), text.to_owned())));
        assert_eq!(offers(&files)[2].path, ".claude/commands/git/sync.md");
    }

    #[test]
    fn a_long_description_is_cut() {
        assert_eq!(line(&"ä ".repeat(400)).chars().count(), DESCRIPTION + 1);
    }
}
