//! A stage for a scripted model: a home, a daemon and a repository of their own, which nobody else's work is near.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use domain::Fault;

use crate::home::Home;

/// What is put on a stage.
#[derive(Clone, Copy, Debug)]
pub struct Play<'a> {
    /// In the name of its directory.
    pub name: &'a str,
    /// The repository's directory.
    pub repository: &'a str,
    /// Of the repository's only commit.
    pub files: &'a [(&'a str, &'a str)],
    /// What the model says.
    pub script: &'a str,
}

#[derive(Debug)]
pub struct Stage {
    pub directory: PathBuf,
    pub home: Home,
    pub repository: PathBuf,
}

impl Stage {
    pub fn build(play: &Play) -> Result<Self, Fault> {
        let unusable = |error: std::io::Error| {
            Fault::environment(format!(
                "a directory for the {} cannot be made in {}: {error}",
                play.name,
                env::temp_dir().display()
            ))
            .hint("set TMPDIR to a directory that can be written")
        };
        let prefix = format!("overnight-{}-", play.name);
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir().map_err(unusable)?.keep();
        let home = Home::at(&directory.join("home"))?;
        let repository = directory.join(play.repository);
        fs::create_dir(&repository).map_err(unusable)?;
        for (name, content) in play.files {
            fs::write(repository.join(name), content).map_err(unusable)?;
        }
        let stage = Self { directory, home, repository };
        fs::write(stage.script(), play.script).map_err(unusable)?;
        stage.git(&["init", "-q", "-b", "main"])?;
        stage.git(&["add", "."])?;
        let person = ["-c", "user.name=Overnight", "-c", "user.email=overnight@localhost"];
        stage.git(&[&person[..], &["commit", "-q", "-m", "Begin"]].concat())?;
        Ok(stage)
    }

    fn script(&self) -> PathBuf {
        self.directory.join("script.json")
    }

    /// A JSON line for each request that the model got.
    pub fn requests(&self) -> PathBuf {
        self.directory.join("model.jsonl")
    }

    /// As the person who owns the repository would, but without that person's configuration.
    fn git(&self, arguments: &[&str]) -> Result<(), Fault> {
        let mut git = Command::new("git");
        git.arg("-C").arg(&self.repository).args(arguments);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").stdin(Stdio::null());
        let ended = git.output().map_err(|error| {
            Fault::environment(format!("git cannot be run: {error}"))
                .hint("install git (Debian: `apt-get install git`)")
        })?;
        if ended.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        Err(Fault::environment(format!("`git {}` failed: {}", arguments.join(" "), said.trim())))
    }

    /// Starts the script as a process of its own, which ends with the stage's daemon. Returns its address.
    pub fn start_model(&self) -> Result<String, Fault> {
        let failed = |why: String| Fault::environment(format!("the scripted model cannot be started: {why}"));
        let mut model = Command::new("/proc/self/exe");
        model.arg("scripted-model").arg("--script").arg(self.script());
        model.arg("--log").arg(self.requests()).arg("--until-daemon-ends").arg(self.home.path());
        model.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut model = model.spawn().map_err(|error| failed(error.to_string()))?;
        let mut line = String::new();
        if let Some(said) = model.stdout.take() {
            BufReader::new(said).read_line(&mut line).map_err(|error| failed(error.to_string()))?;
        }
        let url =
            line.trim().strip_prefix("listening on ").ok_or_else(|| failed(format!("it says `{}`", line.trim())))?;
        Ok(url.to_owned())
    }
}

/// A path as a shell reads it back.
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+,".contains(&byte));
    if plain { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
