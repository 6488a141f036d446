//! What the harness and its tools add to a round.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{Section, session, stats::Samples};
use crate::scene::Scene;

const TASKS: usize = 40;
const WARM_UP: usize = 3;

pub(super) fn measure(binary: &Path) -> Result<Section> {
    let mut scene = Scene::new(binary, &session::script(0))?;
    let repository = session::repository(&scene)?;
    scene.start()?;
    let mut samples = Vec::new();
    for number in 0..TASKS + WARM_UP {
        let before = scene.requests()?.len();
        session::submit(&scene, &repository, number)?;
        scene.settle()?;
        let requests = scene.requests()?.split_off(before);
        ensure!(requests.len() as u64 == session::ROUNDS, "a session made {} model calls", requests.len());
        let times = || requests.iter().map(|request| request.at);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { continue };
        #[expect(clippy::cast_precision_loss, reason = "a handful of rounds")]
        let per_round = last.duration_since(first).as_secs_f64() * 1e3 / (session::ROUNDS - 1) as f64;
        if number >= WARM_UP {
            samples.push(per_round);
        }
    }
    let mut section = Section::new(
        "Harness time per round",
        "A session of ten rounds (3 shell, 2 read, 2 edit, search, write, finish) with a scripted model that answers at once: time from the \
         first to the last model request, over nine. Tool execution in the sandbox, durable transcript, reservation and \
         settlement, HTTP and the provider's own work are included. Milliseconds.",
    );
    section.row("per round", Samples::new(samples), "≤ 5");
    Ok(section)
}
