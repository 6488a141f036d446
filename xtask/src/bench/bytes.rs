//! What is sent to the provider: how much, and how well its cache can be used.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Result;

use super::{Section, session, stats::Samples};
use crate::scene::Scene;

const TASKS: usize = 5;

#[expect(clippy::cast_precision_loss, reason = "kilobytes")]
pub(super) fn measure(binary: &Path) -> Result<Section> {
    let mut scene = Scene::new(binary, &session::script(0))?;
    let repository = session::repository(&scene)?;
    scene.start()?;
    for number in 0..TASKS {
        session::submit(&scene, &repository, number)?;
    }
    scene.settle()?;
    let requests = scene.requests()?;
    let mut sent: BTreeMap<&str, u64> = BTreeMap::new();
    for request in &requests {
        *sent.entry(&request.conversation).or_default() += request.bytes;
    }
    let later: Vec<bool> = requests.iter().filter_map(|request| request.keeps_prefix).collect();
    let kept = later.iter().filter(|kept| **kept).count() as f64 / later.len().max(1) as f64;
    let heads: BTreeSet<&str> = requests.iter().map(|request| request.head.as_str()).collect();
    let mut section = Section::new("Bytes sent", "Bodies of all model requests of the ten-round session.");
    let kilobytes = sent.values().map(|bytes| *bytes as f64 / 1e3).collect();
    section.row("sum per session, KB", Samples::new(kilobytes), "≤ 100");
    section.row("requests that begin with the one before", format!("{kept:.2}"), "1.0");
    let identical = if heads.len() == 1 { "yes" } else { "no" };
    section.row("tools and system prompt identical between attempts", identical, "yes");
    Ok(section)
}
