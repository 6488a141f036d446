//! Brief files: Markdown with TOML front matter. Read into [`Brief`], and written back so that reading gives the same.
//!
//! ```text
//! +++
//! checks = ["cargo test"]
//! budget = "2usd"
//! +++
//! # Handle the overflow in insert_many
//!
//! ## Requirements
//! - No new dependency
//! ```
//!
//! The front matter stands between two equal lines of three or more `+` or `-`, on top of the file. It may be left out.

mod front_matter;
mod render;
mod sections;

use domain::Fault;
pub use render::render;

use crate::wire::{Brief, brief::Check};
use sections::Sections;

/// Reads a brief file. Lists of the front matter come before those of the sections.
///
/// Errors: `Input` that names the line, shows it, and suggests the nearest known name. The brief is not judged yet:
/// [`Brief::accept`] does that.
pub fn parse(text: &str) -> Result<Brief, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let (mut brief, body) = front_matter::split(&text)?;
    let sections = Sections::read(body);
    if !brief.goal.is_empty() && !sections.goal.is_empty() {
        let first = sections.goal.lines().next().unwrap_or_default();
        return Err(Fault::input(format!(
            "the goal is given twice: as `goal` in the front matter, and as `{first}` below it"
        ))
        .hint("keep one of them; other text belongs under `## Notes`"));
    }
    if brief.goal.is_empty() {
        brief.goal = sections.goal;
    }
    brief.non_goals.extend(sections.non_goals);
    brief.requirements.extend(sections.requirements);
    brief.acceptance.extend(sections.acceptance);
    brief.evidence.extend(sections.evidence);
    brief.allowed_paths.extend(sections.allowed_paths);
    brief.protected_paths.extend(sections.protected_paths);
    brief.approval_boundary.extend(sections.approval_boundary);
    brief
        .checks
        .extend(sections.checks.into_iter().map(|command| Check(domain::check::CheckSpec::from_command(command))));
    if !sections.notes.is_empty() {
        if !brief.notes.is_empty() {
            brief.notes.push_str("\n\n");
        }
        brief.notes.push_str(&sections.notes);
    }
    Ok(brief)
}

#[cfg(test)]
mod tests;
