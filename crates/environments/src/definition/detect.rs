//! What a base's own files suggest installing, by the lock files and manifests that each ecosystem has.

use domain::{
    Fault,
    environment::{Definition, Source},
    ports::sandbox::WORKSPACE_DIR,
};

use super::Base;

/// Directories below the root looked into where the root says nothing.
const DIRECTORIES: usize = 16;

/// What one ecosystem's files ask for.
struct Found {
    /// The file that says it.
    by: &'static str,
    install: Vec<String>,
    /// The name of the registry's preset.
    network: &'static str,
    locks: Vec<&'static str>,
    /// A directory of programs, to be found first.
    programs: Option<&'static str>,
}

impl Found {
    fn new(by: &'static str, network: &'static str, install: &[&str], locks: &[&'static str]) -> Self {
        let install = install.iter().map(|line| (*line).to_owned()).collect();
        Self { by, install, network, locks: locks.to_vec(), programs: None }
    }
}

/// The root's own ecosystems; where it has none, those of the directories below it.
pub(super) async fn detect(base: &Base<'_>) -> Result<Definition, Fault> {
    let names = base.list("").await?;
    let mut definition = Definition::default();
    let mut detected = Vec::new();
    for found in ecosystems(&names) {
        add(&mut definition, &mut detected, "", found);
    }
    if detected.is_empty() {
        // A name with a dot is a file, or hidden: looking into it would be in vain.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        for name in names.iter().filter(|name| name.bytes().all(is_plain)).take(DIRECTORIES) {
            for found in ecosystems(&base.list(name).await?) {
                add(&mut definition, &mut detected, name, found);
            }
        }
    }
    if !detected.is_empty() {
        // Nothing is installed until a person asks for it; until then tasks must be able to install what they need.
        definition.network = definition.install_network.clone();
        definition.checks_network = definition.install_network.clone();
        definition.source = Source::Detected(detected);
    }
    Ok(definition)
}

fn add(definition: &mut Definition, detected: &mut Vec<String>, directory: &str, found: Found) {
    let at = |name: &str| if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
    let line = |line: String| if directory.is_empty() { line } else { format!("cd {directory} && {line}") };
    detected.push(at(found.by));
    definition.install.extend(found.install.into_iter().map(line));
    if !definition.install_network.iter().any(|known| known == found.network) {
        definition.install_network.push(found.network.to_owned());
    }
    definition.locks.extend(found.locks.into_iter().map(at));
    if let Some(programs) = found.programs {
        let programs = format!("{WORKSPACE_DIR}/{}", at(programs));
        let path = definition.variables.entry("PATH".to_owned()).or_default();
        *path = if path.is_empty() { programs } else { format!("{path}:{programs}") };
    }
}

fn ecosystems(names: &[String]) -> Vec<Found> {
    let has = |name: &str| names.iter().any(|one| one == name);
    [cargo(&has), node(&has), python(&has), go(&has), maven(&has), gradle(&has)].into_iter().flatten().collect()
}

type Has<'a> = &'a dyn Fn(&str) -> bool;

/// What only warms caches may fail: a base that does not build is unhealthy, which its checks will say.
fn cargo(has: Has<'_>) -> Option<Found> {
    let warm = ["cargo check --offline --all-targets || true", "cargo test --offline --no-run || true"];
    match (has("Cargo.toml"), has("Cargo.lock")) {
        (false, _) => None,
        (true, true) => {
            let lines = ["cargo fetch --locked", warm[0], warm[1]];
            Some(Found::new("Cargo.lock", "crates", &lines, &["Cargo.lock", "Cargo.toml", "rust-toolchain.toml"]))
        }
        (true, false) => {
            let lines = ["cargo fetch", warm[0], warm[1]];
            Some(Found::new("Cargo.toml", "crates", &lines, &["Cargo.toml", "rust-toolchain.toml"]))
        }
    }
}

fn node(has: Has<'_>) -> Option<Found> {
    let found = |by, line: &str| Some(Found::new(by, "npm", &[line], &[by, "package.json"]));
    if !has("package.json") {
        None
    } else if has("pnpm-lock.yaml") {
        found("pnpm-lock.yaml", "pnpm install --frozen-lockfile")
    } else if has("yarn.lock") && has(".yarnrc.yml") {
        found("yarn.lock", "yarn install --immutable")
    } else if has("yarn.lock") {
        found("yarn.lock", "yarn install --frozen-lockfile --non-interactive")
    } else if has("bun.lock") {
        found("bun.lock", "bun install --frozen-lockfile")
    } else if has("npm-shrinkwrap.json") {
        found("npm-shrinkwrap.json", "npm ci --no-audit --no-fund")
    } else if has("package-lock.json") {
        found("package-lock.json", "npm ci --no-audit --no-fund")
    } else {
        // A lock file that the base does not have would show in every change.
        found("package.json", "npm install --no-package-lock --no-audit --no-fund")
    }
}

fn python(has: Has<'_>) -> Option<Found> {
    // Git need not be told of it in every workspace.
    const VENV: &str = "python3 -m venv .venv && printf '*\\n' > .venv/.gitignore";
    let mut found = if has("uv.lock") {
        Found::new("uv.lock", "pypi", &["uv sync --locked"], &["uv.lock", "pyproject.toml", ".python-version"])
    } else if has("poetry.lock") {
        let line = "POETRY_VIRTUALENVS_IN_PROJECT=true poetry install --no-interaction";
        Found::new("poetry.lock", "pypi", &[line], &["poetry.lock", "pyproject.toml"])
    } else if let Some(by) = ["requirements.txt", "requirements-dev.txt"].into_iter().find(|name| has(name)) {
        let mut found = Found::new(by, "pypi", &[VENV], &[]);
        found.locks.extend(["requirements.txt", "requirements-dev.txt"].into_iter().filter(|name| has(name)));
        let files: Vec<String> = found.locks.iter().map(|name| format!("-r {name}")).collect();
        found.install.push(format!(".venv/bin/pip install --disable-pip-version-check {}", files.join(" ")));
        found
    } else if has("pyproject.toml") || has("setup.py") {
        let by = if has("pyproject.toml") { "pyproject.toml" } else { "setup.py" };
        let lines = [VENV, ".venv/bin/pip install --disable-pip-version-check --editable ."];
        Found::new(by, "pypi", &lines, &["pyproject.toml", "setup.cfg", "setup.py"])
    } else {
        return None;
    };
    found.programs = Some(".venv/bin");
    Some(found)
}

fn go(has: Has<'_>) -> Option<Found> {
    let lines = ["go mod download", "go build ./... || true", "go vet ./... || true"];
    has("go.mod").then(|| Found::new("go.mod", "go", &lines, &["go.mod", "go.sum"]))
}

fn maven(has: Has<'_>) -> Option<Found> {
    let program = if has("mvnw") { "sh ./mvnw" } else { "mvn" };
    has("pom.xml").then(|| {
        let mut found = Found::new("pom.xml", "maven", &[], &["pom.xml"]);
        found.install.push(format!("{program} --batch-mode --no-transfer-progress dependency:go-offline"));
        found.install.push(format!("{program} --batch-mode --no-transfer-progress test-compile || true"));
        found
    })
}

fn gradle(has: Has<'_>) -> Option<Found> {
    let by = ["build.gradle", "build.gradle.kts"].into_iter().find(|name| has(name))?;
    let program = if has("gradlew") { "sh ./gradlew" } else { "gradle" };
    let mut found = Found::new(by, "maven", &[], &["gradle.lockfile", "settings.gradle", "settings.gradle.kts"]);
    found.locks.push(by);
    found.install.push(format!("{program} --no-daemon --console=plain testClasses"));
    Some(found)
}
