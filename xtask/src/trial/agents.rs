//! The agents that nobody here wrote, in the versions their drivers were tried with, and the official clients of model providers:
//! installed once through the registries' own clients into a cache outside the repository.
//!
//! In the place of an installation are `node_modules`, with programs in its `.bin`; `python/NAME`, a virtual environment for each
//! Python package, as what they need differs; and `bin`, with Node and the programs of the Python packages.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Error, Result};
use sha2::{Digest, Sha256};

use crate::house;

/// Tells tests where the agents are. One that could not be installed is missing there.
pub(super) const VARIABLE: &str = "OVERNIGHT_AGENTS";

/// Rises when what is kept changes its form.
const FORM: &str = "agents-1";
/// Lists what an installation holds whole, a package a line.
const INSTALLED: &str = "installed";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Package {
    name: &'static str,
    version: &'static str,
    registry: Registry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registry {
    Npm,
    Python {
        program: &'static str,
        /// What it needs and does not say.
        with: Option<&'static str>,
    },
}

const fn npm(name: &'static str, version: &'static str) -> Package {
    Package { name, version, registry: Registry::Npm }
}

const PACKAGES: [Package; 15] = [
    npm("node", "24.21.0"),
    npm("@openai/codex", "0.169.0"),
    npm("@agentclientprotocol/codex-acp", "2.6.0"),
    npm("@anthropic-ai/claude-code", "2.1.329"),
    npm("@agentclientprotocol/claude-agent-acp", "0.100.0"),
    npm("@github/copilot", "1.0.102"),
    npm("@google/gemini-cli", "0.61.0"),
    npm("opencode-ai", "1.18.33"),
    npm("@qwen-code/qwen-code", "0.24.4"),
    npm("@mariozechner/pi-coding-agent", "0.73.1"),
    npm("openai", "6.49.0"),
    npm("@anthropic-ai/sdk", "1.11.0"),
    npm("@google/genai", "2.32.0"),
    Package {
        name: "mini-swe-agent",
        version: "2.4.6",
        registry: Registry::Python { program: "mini", with: Some("mcp==2.3.0") },
    },
    Package { name: "aider-chat", version: "0.86.2", registry: Registry::Python { program: "aider", with: None } },
];

/// Installs what is not there yet, and says where all is. Without the network where nothing lacks. What cannot be installed is
/// told on standard error, and tried again the next time.
pub fn install() -> Result<PathBuf> {
    let place = place()?;
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    // Nobody else installs in it meanwhile; its own descriptor keeps it, and the kernel gives it back.
    let lock = File::open(&place).with_context(|| format!("cannot open {}", place.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", place.display()))?;
    let list = place.join(INSTALLED);
    let mut there = match fs::read_to_string(&list) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", list.display())),
    };
    let lacking: Vec<&Package> = PACKAGES.iter().filter(|package| !there.contains(&package.key())).collect();
    if lacking.is_empty() {
        return Ok(place);
    }
    if there.is_empty() {
        empty(&place)?;
    } else {
        // Until all is whole again.
        fs::remove_file(&list).with_context(|| format!("cannot remove {}", list.display()))?;
    }
    for (package, outcome) in get(&lacking, &place) {
        match outcome {
            Ok(()) => there.push(package.key()),
            Err(error) => {
                eprintln!("NOT INSTALLED: {}: {error:#}\nThe tests that need it are skipped.", package.key());
            }
        }
    }
    let written = place.join(".installed");
    fs::write(&written, there.join("\n"))
        .and_then(|()| fs::rename(&written, &list))
        .with_context(|| format!("cannot write {}", list.display()))?;
    Ok(place)
}

/// Of this set of packages and versions: another checkout's tests may need others.
fn place() -> Result<PathBuf> {
    let keys: Vec<String> = PACKAGES.iter().map(Package::key).collect();
    let digest = Sha256::digest(keys.join("\n"));
    let set: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Ok(house::cache()?.join(format!("{FORM}-{set}")))
}

/// Removes what an installation left that was cut short.
fn empty(place: &Path) -> Result<()> {
    for entry in fs::read_dir(place).with_context(|| format!("cannot read {}", place.display()))? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
            .with_context(|| format!("cannot remove {}", path.display()))?;
    }
    fs::create_dir(place.join("bin"))?;
    fs::write(place.join("package.json"), "{}")?;
    Ok(())
}

type Outcome<'a> = (&'a Package, Result<()>);

fn get<'a>(lacking: &[&'a Package], place: &Path) -> Vec<Outcome<'a>> {
    let (from_npm, from_python): (Vec<&Package>, Vec<&Package>) =
        lacking.iter().partition(|package| package.registry == Registry::Npm);
    let mut outcomes = get_from_npm(&from_npm, place);
    outcomes.extend(from_python.into_iter().map(|package| (package, package.get_from_python(place))));
    outcomes
}

/// All at once, which is quick; one by one where that fails.
fn get_from_npm<'a>(packages: &[&'a Package], place: &Path) -> Vec<Outcome<'a>> {
    if packages.is_empty() {
        return Vec::new();
    }
    eprintln!("installing {} packages from npm", packages.len());
    match npm_install(packages, place) {
        Ok(()) => packages.iter().map(|package| (*package, Ok(()))).collect(),
        Err(error) if packages.len() == 1 => vec![(packages[0], Err(error))],
        Err(_) => packages.iter().map(|package| (*package, npm_install(&[package], place))).collect(),
    }
}

fn npm_install(packages: &[&Package], place: &Path) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.current_dir(place).args(["install", "--save-exact", "--no-audit", "--no-fund", "--loglevel=error"]);
    // They bring what belongs to the machine by scripts; the agents ask for the Node that comes with them.
    npm.args(["--ignore-scripts=false", "--engine-strict=false"]);
    house::output(npm.args(packages.iter().map(|package| package.key())))?;
    if packages.iter().any(|package| package.name == "node") {
        link(&place.join("bin/node"), Path::new("../node_modules/node/bin/node"))?;
    }
    Ok(())
}

impl Package {
    /// As npm wants it asked for.
    fn key(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    fn get_from_python(&self, place: &Path) -> Result<()> {
        let Registry::Python { program, with } = self.registry else {
            return Err(Error::msg("it is not a Python package"));
        };
        eprintln!("installing {}", self.key());
        let own = place.join("python").join(self.name);
        house::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&own))?;
        let mut pip = Command::new(own.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        house::output(pip.arg(format!("{}=={}", self.name, self.version)).args(with))?;
        link(&place.join("bin").join(program), &Path::new("../python").join(self.name).join("bin").join(program))
    }
}

/// Links `at` to a program, which must be there.
fn link(at: &Path, to: &Path) -> Result<()> {
    match fs::remove_file(at) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => symlink(to, at),
    }
    .with_context(|| format!("cannot link {}", at.display()))?;
    fs::metadata(at).with_context(|| format!("{} was installed without its program", at.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_name_the_versions_that_are_installed() {
        for path in house::files().unwrap().iter().filter(|path| path.starts_with("crates/agents/src")) {
            let text = fs::read_to_string(house::root().join(path)).unwrap();
            for package in &PACKAGES {
                let naming = match package.registry {
                    Registry::Npm => format!("\"{}@", package.name),
                    Registry::Python { .. } => format!("\"{}==", package.name),
                };
                for rest in text.split(&naming).skip(1) {
                    let version = rest.split('"').next().unwrap();
                    assert_eq!(version, package.version, "{} in {}", package.name, path.display());
                }
            }
        }
    }
}
