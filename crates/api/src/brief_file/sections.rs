//! The Markdown of a brief file, sorted by headings.

/// What stands under the known headings; texts are trimmed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sections {
    pub goal: String,
    pub non_goals: Vec<String>,
    pub requirements: Vec<String>,
    pub acceptance: Vec<String>,
    pub evidence: Vec<String>,
    pub allowed_paths: Vec<String>,
    pub protected_paths: Vec<String>,
    pub approval_boundary: Vec<String>,
    pub checks: Vec<String>,
    /// Also what stands under unknown headings, those included.
    pub notes: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Goal,
    NonGoals,
    Requirements,
    Acceptance,
    Evidence,
    AllowedPaths,
    ProtectedPaths,
    ApprovalBoundary,
    Checks,
    Notes,
}

impl Section {
    fn of(heading: &str) -> Option<Self> {
        let name = heading.trim_end_matches(':').to_lowercase().replace(['-', '_'], " ");
        Some(match name.as_str() {
            "goal" => Self::Goal,
            "non goals" | "non goal" | "nongoals" | "out of scope" => Self::NonGoals,
            "requirements" => Self::Requirements,
            "acceptance criteria" | "acceptance" => Self::Acceptance,
            "evidence" => Self::Evidence,
            "allowed paths" => Self::AllowedPaths,
            "protected paths" => Self::ProtectedPaths,
            "approval boundary" => Self::ApprovalBoundary,
            "checks" => Self::Checks,
            "notes" => Self::Notes,
            _ => return None,
        })
    }
}

impl Sections {
    pub(super) fn read(body: &str) -> Self {
        let mut sections = Self::default();
        let mut section = Section::Goal;
        let mut titled = false;
        let mut text = String::new();
        let mut code: Option<&str> = None;
        for line in body.lines() {
            let heading = if code.is_none() { heading(line) } else { None };
            code = fence_after(line, code);
            let Some((level, name)) = heading else {
                text.push_str(line);
                text.push('\n');
                continue;
            };
            sections.take(section, &std::mem::take(&mut text));
            section = match Section::of(name) {
                Some(known) => known,
                None if level == 1 && !titled => {
                    sections.take(Section::Goal, name);
                    Section::Goal
                }
                None => {
                    text = format!("{line}\n");
                    Section::Notes
                }
            };
            titled |= level == 1;
        }
        sections.take(section, &text);
        sections
    }

    fn take(&mut self, section: Section, text: &str) {
        let list = match section {
            Section::Goal => return join(&mut self.goal, text),
            Section::Notes => return join(&mut self.notes, text),
            Section::NonGoals => &mut self.non_goals,
            Section::Requirements => &mut self.requirements,
            Section::Acceptance => &mut self.acceptance,
            Section::Evidence => &mut self.evidence,
            Section::AllowedPaths => &mut self.allowed_paths,
            Section::ProtectedPaths => &mut self.protected_paths,
            Section::ApprovalBoundary => &mut self.approval_boundary,
            Section::Checks => &mut self.checks,
        };
        let literal = matches!(section, Section::AllowedPaths | Section::ProtectedPaths | Section::Checks);
        list.extend(items(text).into_iter().map(|item| if literal { unquoted(&item) } else { item }));
    }
}

/// Paragraphs of one text that came in pieces.
fn join(whole: &mut String, text: &str) {
    let text = text.trim();
    if !whole.is_empty() && !text.is_empty() {
        whole.push_str("\n\n");
    }
    whole.push_str(text);
}

/// Level 1 or 2 and the name. Deeper headings belong to their section's text.
fn heading(line: &str) -> Option<(usize, &str)> {
    let level = line.bytes().take_while(|byte| *byte == b'#').count();
    let name = line[level..].strip_prefix([' ', '\t'])?.trim().trim_end_matches('#').trim_end();
    ((1..=2).contains(&level) && !name.is_empty()).then_some((level, name))
}

/// The code fence that is open after this line: nothing in it is a heading.
fn fence_after<'a>(line: &'a str, open: Option<&'a str>) -> Option<&'a str> {
    let line = line.trim();
    let run = |mark: char| &line[..line.len() - line.trim_start_matches(mark).len()];
    let fence = [run('`'), run('~')].into_iter().find(|run| run.len() >= 3);
    match (open, fence) {
        (None, fence) => fence,
        (Some(open), Some(fence)) if line == fence && fence.starts_with(open) => None,
        (open, _) => open,
    }
}

/// The items of a list; a paragraph is an item too. Lines that go on an item keep their line breaks, not their indentation.
fn items(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let mut after_blank = true;
    for line in text.lines() {
        if line.trim().is_empty() {
            after_blank = true;
            continue;
        }
        let indented = line.starts_with([' ', '\t']);
        match (bullet(line), items.last_mut()) {
            (Some(item), _) => items.push(item.to_owned()),
            (None, Some(item)) if indented || !after_blank => {
                item.push_str(if after_blank { "\n\n" } else { "\n" });
                item.push_str(line.trim());
            }
            (None, _) => items.push(line.trim().to_owned()),
        }
        after_blank = false;
    }
    items
}

/// The text after `-`, `*`, `+` or `1.` at the line's start, its checkbox removed.
fn bullet(line: &str) -> Option<&str> {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let rest = match digits {
        0 => line.strip_prefix(['-', '*', '+'])?,
        _ => line[digits..].strip_prefix(['.', ')'])?,
    };
    let item = rest.strip_prefix([' ', '\t'])?.trim();
    let unboxed = ["[ ] ", "[x] ", "[X] "].iter().find_map(|checkbox| item.strip_prefix(checkbox));
    Some(unboxed.map_or(item, str::trim_start)).filter(|item| !item.is_empty())
}

/// Commands and paths are often written as code.
fn unquoted(item: &str) -> String {
    let inner = item.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')).filter(|inner| !inner.contains('`'));
    inner.unwrap_or(item).trim().to_owned()
}
