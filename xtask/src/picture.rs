//! `docs/task.mmd`: the picture of a task's life, drawn from the code.

use std::fs;

use anyhow::{Context, Result};

use crate::house;

/// Relative to the root.
pub const PATH: &str = "docs/task.mmd";

pub fn write() -> Result<()> {
    let path = house::root().join(PATH);
    fs::write(&path, domain::picture::render()).with_context(|| format!("cannot write {}", path.display()))
}
