//! How long a person waits for the id, and the task for its first model request.

use std::{path::Path, time::Instant};

use anyhow::Result;
use jiff::Timestamp;

use super::{Section, session, stats::Samples};
use crate::scene::{Scene, wait};

const TASKS: usize = 60;
/// Not counted: caches fill.
const WARM_UP: usize = 5;

pub(super) fn measure(binary: &Path) -> Result<Section> {
    let mut scene = Scene::new(binary, &session::script(0))?;
    let repository = session::repository(&scene)?;
    scene.start()?;
    let (mut answered, mut reached) = (Vec::new(), Vec::new());
    for number in 0..TASKS + WARM_UP {
        let before = scene.requests()?.len();
        let (start, started) = (Instant::now(), Timestamp::now());
        session::submit(&scene, &repository, number)?;
        let elapsed = start.elapsed();
        let first = wait("the first model request", || Ok(scene.requests()?.get(before).cloned()))?;
        scene.settle()?;
        if number >= WARM_UP {
            answered.push(elapsed.as_secs_f64() * 1e3);
            reached.push(first.at.duration_since(started).as_secs_f64() * 1e3);
        }
    }
    let mut section = Section::new(
        "Latency",
        "Tasks handed over one after the other to a warm daemon: wall time of the whole `overnight run` process, and from its \
         start until the first model request has arrived at the provider (a small repository, base store warm). Milliseconds.",
    );
    section.row("`run` → id answered", Samples::new(answered), "≤ 15");
    section.row("submit → first model request", Samples::new(reached), "≤ 50");
    Ok(section)
}
