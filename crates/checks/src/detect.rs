//! The checks a base suggests when nobody named any. Reads the commit through the port; runs nothing.

use domain::{
    Fault,
    check::CheckSpec,
    ids::CommitId,
    ports::workspace::{Repository, Workspaces},
};

/// Bytes of a file looked at.
const LONGEST: usize = 256 << 10;
/// Directories below the root looked into where the root says nothing.
const DIRECTORIES: usize = 16;

/// A commit to look at.
pub(crate) struct Base<'a> {
    workspaces: &'a dyn Workspaces,
    repository: Repository,
    commit: CommitId,
}

impl<'a> Base<'a> {
    pub fn new(workspaces: &'a dyn Workspaces, repository: Repository, commit: CommitId) -> Self {
        Self { workspaces, repository, commit }
    }

    /// The root's own checks; where it has none, those of the directories below it.
    pub async fn checks(&self) -> Result<Vec<CheckSpec>, Fault> {
        let names = self.list("").await?;
        let found = self.suggested("", &names).await?;
        if !found.is_empty() {
            return Ok(found.into_iter().map(CheckSpec::from_command).collect());
        }
        let mut below = Vec::new();
        // A name with a dot is a file, or hidden: looking into it would be in vain.
        let plain =
            |name: &&String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        for name in names.iter().filter(plain).take(DIRECTORIES) {
            let inner = self.list(name).await?;
            let found = self.suggested(name, &inner).await?;
            below.extend(found.into_iter().map(|command| CheckSpec::from_command(format!("cd {name} && {command}"))));
        }
        Ok(below)
    }

    /// Commands for one directory: each ecosystem's own, else what a task runner offers.
    async fn suggested(&self, directory: &str, names: &[String]) -> Result<Vec<String>, Fault> {
        let has = |name: &str| names.iter().any(|one| one == name);
        let mut found = Vec::new();
        if has("Cargo.toml") {
            found.push("cargo test".to_owned());
        }
        if has("go.mod") {
            found.push("go test ./...".to_owned());
        }
        if has("package.json") {
            let manifest = self.read(directory, "package.json").await?;
            found.extend(script(&manifest, names));
        }
        found.extend(self.python(directory, names).await?);
        if !found.is_empty() {
            return Ok(found);
        }
        if let Some(name) = ["GNUmakefile", "makefile", "Makefile"].into_iter().find(|name| has(name)) {
            let rules = self.read(directory, name).await?;
            found.extend(rule(&rules).map(|target| format!("make {target}")));
        }
        if found.is_empty()
            && let Some(name) = ["justfile", "Justfile", ".justfile"].into_iter().find(|name| has(name))
        {
            let rules = self.read(directory, name).await?;
            found.extend(rule(&rules).map(|target| format!("just {target}")));
        }
        Ok(found)
    }

    async fn python(&self, directory: &str, names: &[String]) -> Result<Option<String>, Fault> {
        let pytest = Some("python3 -m pytest -q".to_owned());
        let has = |name: &str| names.iter().any(|one| one == name);
        if has("pytest.ini") || has("conftest.py") {
            return Ok(pytest);
        }
        let tests = ["tests", "test"].into_iter().find(|name| has(name));
        let inner = match tests {
            Some(tests) => self.list(&join(directory, tests)).await?,
            None => Vec::new(),
        };
        let here = names.iter().find(|name| is_python_test(name));
        let below = inner.iter().find(|name| is_python_test(name));
        let files = ["pyproject.toml", "setup.cfg", "tox.ini", "setup.py", "requirements-dev.txt", "requirements.txt"];
        let mut mentions = inner.iter().any(|name| name == "conftest.py");
        for name in files.into_iter().filter(|name| has(name)) {
            mentions = mentions || self.read(directory, name).await?.contains("pytest");
        }
        if mentions && (tests.is_some() || here.is_some()) {
            return Ok(pytest);
        }
        let sample = match (here, below, tests) {
            (Some(name), _, _) => self.read(directory, name).await?,
            (None, Some(name), Some(tests)) => self.read(directory, &format!("{tests}/{name}")).await?,
            _ => return Ok(None),
        };
        if sample.contains("import pytest") || sample.contains("from pytest") || !sample.contains("unittest") {
            return Ok(pytest);
        }
        // Discovery from the root only descends into packages.
        let is_package = inner.iter().any(|name| name == "__init__.py");
        Ok(Some(match (here, tests) {
            (None, Some(tests)) if !is_package => format!("python3 -m unittest discover -v -s {tests}"),
            _ => "python3 -m unittest -v".to_owned(),
        }))
    }

    async fn list(&self, directory: &str) -> Result<Vec<String>, Fault> {
        self.workspaces.list(self.repository.clone(), self.commit.clone(), directory.to_owned()).await
    }

    /// The text of a file; empty where there is none.
    async fn read(&self, directory: &str, name: &str) -> Result<String, Fault> {
        let path = join(directory, name);
        let content = self.workspaces.read(self.repository.clone(), self.commit.clone(), path, LONGEST).await?;
        Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned()).unwrap_or_default())
    }
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

fn is_python_test(name: &str) -> bool {
    name.ends_with(".py")
        && (name.starts_with("test_") || name.ends_with("_test.py") || name == "tests.py" || name == "test.py")
}

/// The package manager's test command, unless the script is the one `npm init` writes.
fn script(manifest: &str, names: &[String]) -> Option<String> {
    let manifest: serde_json::Value = serde_json::from_str(manifest).ok()?;
    let script = manifest.get("scripts")?.get("test")?.as_str()?.trim();
    if script.is_empty() || script.contains("no test specified") {
        return None;
    }
    let has = |name: &str| names.iter().any(|one| one == name);
    let manager = if has("pnpm-lock.yaml") {
        "pnpm"
    } else if has("yarn.lock") {
        "yarn"
    } else if has("bun.lock") || has("bun.lockb") {
        "bun run"
    } else {
        "npm"
    };
    Some(format!("{manager} test"))
}

/// The target of a Makefile or justfile that tests: `test`, else `check`.
fn rule(rules: &str) -> Option<&'static str> {
    // `test: deps`, `test other: deps`, `test arg='':`; not `test := value`, `test = a:b`, `tests:`, nor a recipe's line.
    let is_head = |rest: &str| {
        rest.starts_with([' ', '\t', ':'])
            && rest.contains(':')
            && !rest.contains(":=")
            && !rest.trim_start().starts_with(['=', '?', '+'])
    };
    let line_defines =
        |line: &str, target: &str| line.trim_start_matches('@').strip_prefix(target).is_some_and(is_head);
    let defines = |target: &str| rules.lines().any(|line| line_defines(line, target));
    ["test", "check"].into_iter().find(|target| defines(target))
}
