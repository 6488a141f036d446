//! Where the house stands, and the files in it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// The repository's root.
pub fn root() -> &'static Path {
    // `xtask/` is one level below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Every file that is, or could be, committed: paths relative to the root, sorted.
pub fn files() -> Result<Vec<PathBuf>> {
    let listed = output(Command::new("git").current_dir(root()).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let mut files: Vec<PathBuf> =
        listed.split('\0').filter(|path| !path.is_empty() && root().join(path).is_file()).map(PathBuf::from).collect();
    files.sort();
    Ok(files)
}

/// Standard output of a command that must succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let told = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {told}"))?;
    ensure!(
        output.status.success(),
        "{told} ended with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    String::from_utf8(output.stdout).with_context(|| format!("{told} printed something that is not UTF-8"))
}

/// Where test material and tools are kept between runs, outside the repository: `$OVERNIGHT_TEST_CACHE`, or
/// `overnight-tests` in the user's cache directory.
pub fn cache() -> Result<PathBuf> {
    if let Some(cache) = std::env::var_os("OVERNIGHT_TEST_CACHE").filter(|cache| !cache.is_empty()) {
        return Ok(cache.into());
    }
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|base| !base.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(base.context("neither HOME nor OVERNIGHT_TEST_CACHE is set: set one of them")?.join("overnight-tests"))
}
