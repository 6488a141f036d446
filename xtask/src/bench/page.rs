//! `docs/benchmarks.md`: a section per measure, each replaced as a whole when it is taken anew.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use crate::house;

const PAGE: &str = "docs/benchmarks.md";

#[derive(Clone, Debug)]
pub struct Section {
    /// Heading, and its key in the page.
    pub title: String,
    /// What is measured and how, in a sentence or two.
    pub how: String,
    /// Measure, figure, bar.
    pub rows: Vec<(String, String, String)>,
}

impl Section {
    pub(super) fn new(title: &str, how: &str) -> Self {
        Self { title: title.to_owned(), how: how.to_owned(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, measure: &str, figure: impl ToString, bar: &str) {
        self.rows.push((measure.to_owned(), figure.to_string(), bar.to_owned()));
    }

    pub fn render(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n| measure | figure | bar |\n|---|---|---|\n", self.title, self.how);
        for (measure, figure, bar) in &self.rows {
            text.push_str(&format!("| {measure} | {figure} | {bar} |\n"));
        }
        text + "\n" + &machine() + "\n"
    }

    /// Puts it into the page, in place of the one with the same title.
    pub(super) fn write(&self) -> Result<()> {
        let path = house::root().join(PAGE);
        let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(&path, put(&page, &self.title, &self.render()))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn put(page: &str, title: &str, section: &str) -> String {
    let heading = format!("\n## {title}\n");
    let Some(start) = page.find(&heading) else { return format!("{}\n\n{section}", page.trim_end()) };
    let after = start + heading.len();
    let rest = page[after..].find("\n## ").map_or("", |next| &page[after + next..]);
    format!("{}\n\n{}\n{rest}", page[..start].trim_end(), section.trim_end())
}

/// Processor, cores, memory, kernel, load, date and commit, in one line.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let ask = |program: &str, arguments: &[&str]| {
        house::output(Command::new(program).current_dir(house::root()).args(arguments))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
    format!(
        "{} × {}, {} GB, Linux {}, load before {}, {}, commit {}.",
        std::thread::available_parallelism().map_or(0, usize::from),
        field(&read("/proc/cpuinfo"), "model name"),
        (memory + (1 << 19)) >> 20,
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
        ask("date", &["-u", "+%Y-%m-%d"]),
        ask("git", &["rev-parse", "--short", "HEAD"]),
    )
}

#[cfg(test)]
mod tests {
    use super::put;

    #[test]
    fn a_section_replaces_its_older_self_and_nothing_else() {
        let page = put("# Benchmarks\n\nText.\n", "One", "## One\n\nfirst\n");
        let page = put(&page, "Two", "## Two\n\nsecond\n");
        let page = put(&page, "One", "## One\n\nagain\n");
        assert_eq!(page, "# Benchmarks\n\nText.\n\n## One\n\nagain\n\n## Two\n\nsecond\n");
    }
}
