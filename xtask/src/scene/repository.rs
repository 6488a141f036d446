//! A git repository that a scene's tasks work on, as a developer would have it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::Scene;
use crate::house;

#[derive(Debug)]
pub struct Repository(PathBuf);

impl Repository {
    /// Makes one in the scene from files (path, content), with everything committed on `main`.
    pub fn of_files(scene: &Scene, name: &str, files: &[(&str, &str)]) -> Result<Self> {
        let path = scene.directory().join(name);
        for (file, content) in files {
            let file = path.join(file);
            fs::create_dir_all(file.parent().unwrap_or(&path))?;
            fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Self::of_directory(path)
    }

    /// Makes a repository of what is in a directory.
    pub fn of_directory(path: PathBuf) -> Result<Self> {
        let repository = Self(path);
        repository.git(&["init", "--quiet", "--initial-branch=main"])?;
        repository.commit("as it was published")?;
        Ok(repository)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Commits everything, ignored files too.
    pub fn commit(&self, message: &str) -> Result<()> {
        self.git(&["add", "--all", "--force"])?;
        self.git(&["commit", "--quiet", "--message", message]).map(drop)
    }

    /// Runs git in it, with nobody's configuration; its standard output.
    pub fn git(&self, arguments: &[&str]) -> Result<String> {
        let mut git = Command::new("git");
        git.current_dir(&self.0).args(["-c", "gc.auto=0"]).args(arguments);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "A Developer")
                .env(format!("GIT_{role}_EMAIL"), "developer@example.com");
        }
        house::output(&mut git)
    }
}
