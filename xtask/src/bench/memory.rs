//! What the daemon weighs when idle, and what each further running attempt adds.

use std::{path::Path, thread, time::Duration};

use anyhow::Result;

use super::{Section, session, stats::Samples};
use crate::scene::{Scene, wait};

/// Long enough to weigh all attempts while each waits for its model.
const LATENCY_MS: u64 = 8_000;
const ATTEMPTS: usize = 50;
const LOOKS: usize = 10;

#[expect(clippy::cast_precision_loss, reason = "megabytes")]
pub(super) fn measure(binary: &Path) -> Result<Section> {
    let mut scene = Scene::new(binary, &session::script(LATENCY_MS))?;
    let repository = session::repository(&scene)?;
    scene.weigh()?;
    scene.start()?;
    let weigh = |scene: &Scene| -> Result<f64> { Ok(scene.group()?.memory(scene.daemon_pid()?) as f64 / 1e6) };
    let looks = |scene: &Scene| -> Result<Samples> {
        let mut samples = Vec::new();
        for _ in 0..LOOKS {
            samples.push(weigh(scene)?);
            thread::sleep(Duration::from_millis(100));
        }
        Ok(Samples::new(samples))
    };
    let fresh = looks(&scene)?;
    let mut held = Vec::new();
    for number in 0..ATTEMPTS {
        held.push(session::submit(&scene, &repository, number)?);
    }
    // A record is written when its reply is over: from then on the attempt has had a conversation, and soon its sandbox.
    wait("all attempts to have had their first reply", || {
        let replied = scene.requests()?.iter().filter(|request| request.index == 0).count();
        Ok((replied >= ATTEMPTS).then_some(()))
    })?;
    let full = looks(&scene)?;
    for id in &held {
        scene.ask(scene.directory(), &["cancel", id])?;
    }
    scene.settle()?;
    let after = looks(&scene)?;
    let mut section = Section::new(
        "Memory",
        "Proportional set size of the daemon and everything it started, in MB. Attempts of the built-in agent are weighed while \
         each waits for its second model reply.",
    );
    section.row("daemon, freshly started", &fresh, "≤ 40");
    section.row(&format!("with {ATTEMPTS} running attempts"), &full, "");
    let each = (full.median() - fresh.median()) / ATTEMPTS as f64;
    section.row("each further running attempt", format!("{each:.2}"), "≤ 2");
    section.row("daemon, idle again", &after, "");
    Ok(section)
}
