//! Finding the programs of agents that nobody here wrote: in the directories of the configuration, then on the daemon's PATH.
//! Reads directories and one `package.json`; runs nothing.

use std::{
    ffi::OsString,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use domain::Fault;
use serde::Deserialize;

/// Where people are told to install agents.
const SUGGESTED: &str = "~/.local/share/overnight-agents";
/// What every sandbox sees anyway.
const SEEN: [&str; 5] = ["/usr", "/bin", "/lib", "/opt", "/nix"];
/// The part of an installation that holds npm packages.
const PACKAGES: &str = "node_modules";

/// Where programs are looked for.
#[derive(Debug)]
pub(crate) struct Programs {
    /// Each with programs in its `bin` and `node_modules/.bin`.
    directories: Vec<PathBuf>,
    path: OsString,
}

/// A program that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// To be started by this path, which is the same inside a sandbox.
    pub program: PathBuf,
    /// The Node that was installed with it, where it is a script for one: its sandbox's PATH is the repository's, and may lead to another.
    pub node: Option<PathBuf>,
    /// What a sandbox must be shown for it.
    pub exposed: Vec<PathBuf>,
    /// Of the package it belongs to.
    pub version: Option<String>,
}

impl Found {
    /// How it is started.
    pub fn argv(&self) -> Vec<String> {
        let words = self.node.iter().chain([&self.program]);
        words.map(|path| path.to_string_lossy().into_owned()).collect()
    }
}

impl Programs {
    /// `directories`: of the configuration, in the order in which they are searched.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, path: std::env::var_os("PATH").unwrap_or_default() }
    }

    /// Looks each time, as people install while a daemon runs.
    pub fn find(&self, name: &str) -> Option<Found> {
        self.in_directories(name).or_else(|| self.on_path(name))
    }

    fn in_directories(&self, name: &str) -> Option<Found> {
        self.directories.iter().find_map(|directory| {
            // Sandboxes show it under its real path.
            let directory = directory.canonicalize().ok()?;
            let places = [directory.join("bin").join(name), directory.join(PACKAGES).join(".bin").join(name)];
            let program = places.into_iter().find(|place| is_program(place))?;
            let real = program.canonicalize().ok()?;
            let node = node(&real, &directory);
            let exposed = with_interpreter(&real, vec![directory]);
            Some(Found { program, node, exposed, version: version(&real) })
        })
    }

    fn on_path(&self, name: &str) -> Option<Found> {
        let place = std::env::split_paths(&self.path)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(name))
            .find(|place| is_program(place))?;
        let program = place.canonicalize().ok()?;
        let exposed = exposed(&program);
        let node = exposed.as_ref().and_then(|root| node(&program, root));
        let exposed = with_interpreter(&program, exposed.into_iter().collect());
        Some(Found { version: version(&program), program, node, exposed })
    }
}

/// The least that shows a program with all that belongs to it, where a sandbox would not see it: of an installation of npm's the
/// whole, with Node where that is a part of it.
fn exposed(program: &Path) -> Option<PathBuf> {
    if SEEN.iter().any(|seen| program.starts_with(seen)) {
        return None;
    }
    let Some(packages) = program.ancestors().filter(|path| path.ends_with(PACKAGES)).last() else {
        return program.parent().map(Path::to_owned);
    };
    let root = packages.parent()?;
    let node = root.parent().filter(|above| root.ends_with("lib") && is_program(&above.join("bin/node")));
    // The parent of a `lib` in a person's HOME holds much else.
    Some(node.filter(|above| !above.ends_with(".local")).unwrap_or(root).to_owned())
}

/// Shows as well what a script names as its interpreter, where that lies elsewhere: of an environment of Python's the whole, and the
/// installation that it was made from.
fn with_interpreter(program: &Path, mut shown: Vec<PathBuf>) -> Vec<PathBuf> {
    let named = words_of_first_line(program).into_iter().next().map(PathBuf::from);
    let Some((named, real)) = named.and_then(|named| named.canonicalize().ok().map(|real| (named, real))) else {
        return shown;
    };
    let environment = above_bin(&named).filter(|above| above.join("pyvenv.cfg").is_file());
    // The parent of a `bin` in a person's HOME holds much else.
    let installation = above_bin(&real).filter(|above| above.join("lib").is_dir() && !above.ends_with(".local"));
    for path in environment.into_iter().chain(installation.or_else(|| real.parent())) {
        let is_shown =
            shown.iter().map(PathBuf::as_path).chain(SEEN.map(Path::new)).any(|other| path.starts_with(other));
        if !is_shown {
            shown.push(path.to_owned());
        }
    }
    shown
}

fn above_bin(program: &Path) -> Option<&Path> {
    program.parent().filter(|bin| bin.ends_with("bin"))?.parent()
}

/// The Node of an installation, for a program of it that is a script.
fn node(program: &Path, root: &Path) -> Option<PathBuf> {
    let words = words_of_first_line(program);
    let is_script = words.iter().flat_map(|word| word.split('/')).any(|word| word == "node");
    let places = [root.join("bin/node"), root.join(PACKAGES).join(".bin/node")];
    is_script.then_some(places)?.into_iter().find(|place| is_program(place))
}

/// What follows `#!`; nothing where the program is no script.
fn words_of_first_line(program: &Path) -> Vec<String> {
    let mut line = [0; 256];
    let Ok(read) = std::fs::File::open(program).and_then(|mut file| file.read(&mut line)) else { return Vec::new() };
    let first = line[..read].split(|byte| *byte == b'\n').next().and_then(|line| line.strip_prefix(b"#!"));
    let words = String::from_utf8_lossy(first.unwrap_or_default()).into_owned();
    words.split_whitespace().map(str::to_owned).collect()
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

/// What the nearest `package.json` above a program says.
fn version(program: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Package {
        name: Option<String>,
        version: Option<String>,
    }
    program.ancestors().skip(1).take_while(|path| !path.ends_with(PACKAGES)).find_map(|path| {
        let text = std::fs::read(path.join("package.json")).ok()?;
        let package: Package = serde_json::from_slice(&text).ok()?;
        // Without a name it only tells Node what kind of modules lie below.
        package.name.and(package.version)
    })
}

/// That a program is missing; `install` is the command line that brings it.
pub(crate) fn missing(agent: &str, program: &str, install: &str) -> Fault {
    Fault::not_found(format!("the agent `{agent}` is not installed: there is no program `{program}`"))
        .hint(format!("install it: {install}"))
}

/// The command line that installs npm packages, given as `NAME@VERSION`, with the Node that they were tried with.
pub(crate) fn npm_install(packages: &[String]) -> String {
    format!(
        "npm install --prefix {SUGGESTED} node@24 {}; then name that directory in config.toml, as `directories` of `[agents]`",
        packages.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn program(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// An installation of npm's with one package and the link to its program.
    fn install(prefix: &Path, bin: &str, version: &str) {
        let package = prefix.join("node_modules/@some/agent");
        program(&package.join("dist/index.js"));
        fs::write(package.join("dist/package.json"), r#"{"type": "module"}"#).unwrap();
        fs::write(package.join("package.json"), format!(r#"{{"name": "agent", "version": "{version}"}}"#)).unwrap();
        let link = prefix.join(bin).join("agent");
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(package.join("dist/index.js"), link).unwrap();
    }

    #[test]
    fn directories_come_before_the_path_and_are_shown_whole() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let (own, other) = (home.join("own"), home.join("other"));
        install(&own, "node_modules/.bin", "1.2.3");
        install(&other, "bin", "2.0.0");
        let mut programs =
            Programs { directories: vec![home.join("none"), own.clone()], path: other.join("bin").into_os_string() };

        let found = programs.find("agent").unwrap();
        assert_eq!(found.program, own.join("node_modules/.bin/agent"));
        assert_eq!((found.exposed, found.version.as_deref()), (vec![own], Some("1.2.3")));
        assert_eq!(programs.find("other"), None);

        programs.directories.clear();
        let found = programs.find("agent").unwrap();
        assert_eq!(found.program, other.join("node_modules/@some/agent/dist/index.js"), "the link may not be seen");
        assert_eq!((found.exposed, found.version.as_deref()), (vec![other], Some("2.0.0")));
    }

    #[test]
    fn a_script_for_node_is_started_by_the_node_beside_it() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        install(&home, "node_modules/.bin", "1.0.0");
        let script = home.join("node_modules/@some/agent/dist/index.js");
        let programs = Programs { directories: vec![home.clone()], path: OsString::new() };
        let path = |path: &Path| path.display().to_string();
        let link = path(&home.join("node_modules/.bin/agent"));
        assert_eq!(programs.find("agent").unwrap().argv(), std::slice::from_ref(&link), "no script for Node");
        fs::write(&script, "#!/usr/bin/env -S node --no-warnings\n").unwrap();
        assert_eq!(programs.find("agent").unwrap().argv(), std::slice::from_ref(&link), "there is no Node beside it");
        program(&home.join("node_modules/.bin/node"));
        assert_eq!(programs.find("agent").unwrap().argv(), [path(&home.join("node_modules/.bin/node")), link]);
    }

    #[test]
    fn a_script_is_shown_with_its_environment_and_the_language_that_this_was_made_from() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let (language, environment) = (home.join("languages/3.11"), home.join("environments/mini"));
        program(&language.join("bin/python3.11"));
        fs::create_dir_all(language.join("lib")).unwrap();
        program(&environment.join("bin/mini"));
        fs::write(environment.join("pyvenv.cfg"), "").unwrap();
        let python = environment.join("bin/python");
        symlink(language.join("bin/python3.11"), &python).unwrap();
        fs::write(environment.join("bin/mini"), format!("#!{}\nimport sys\n", python.display())).unwrap();
        let own = home.join("own");
        fs::create_dir_all(own.join("bin")).unwrap();
        symlink(environment.join("bin/mini"), own.join("bin/mini")).unwrap();

        let mut programs = Programs { directories: vec![own.clone()], path: own.join("bin").into_os_string() };
        assert_eq!(programs.find("mini").unwrap().exposed, [own, environment.clone(), language.clone()]);
        programs.directories.clear();
        let exposed = programs.find("mini").unwrap().exposed;
        assert_eq!(exposed, [environment.join("bin"), environment, language]);
        assert!(with_interpreter(Path::new("/bin/sh"), Vec::new()).is_empty(), "no script");
    }

    #[test]
    fn no_more_is_shown_than_the_program_needs() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let nvm = home.join("nvm/v24");
        program(&nvm.join("bin/node"));
        assert_eq!(exposed(&nvm.join("lib/node_modules/a/index.js")), Some(nvm));
        let local = home.join(".local");
        program(&local.join("bin/node"));
        assert_eq!(exposed(&local.join("lib/node_modules/a/index.js")), Some(local.join("lib")));
        assert_eq!(exposed(&home.join("share/claude/2.1/claude")), Some(home.join("share/claude/2.1")));
        assert_eq!(exposed(Path::new("/usr/lib/node_modules/a/index.js")), None);
    }
}
