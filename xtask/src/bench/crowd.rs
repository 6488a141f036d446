//! Many tasks at once.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use super::{Section, session};
use crate::scene::{Repository, Scene};

const LATENCY_MS: u64 = 200;
/// Command lines that hand over at the same time.
const HANDS: usize = 8;
const WEIGH_EVERY: Duration = Duration::from_secs(1);

pub(super) fn measure(binary: &Path, tasks: usize) -> Result<Section> {
    let mut scene = Scene::new(binary, &session::script(LATENCY_MS))?;
    let repository = session::repository(&scene)?;
    scene.configure("[limits]\nturns = \"none\"\n")?;
    scene.weigh()?;
    scene.start()?;
    let pid = scene.daemon_pid()?;
    let processor_before = scene.group()?.processor_time(pid);
    let (start, done) = (Instant::now(), AtomicBool::new(false));
    let (handed, peak) = thread::scope(|scope| -> Result<(Duration, u64)> {
        let scale = scope.spawn(|| -> Result<u64> {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(scene.group()?.memory(pid));
                thread::sleep(WEIGH_EVERY);
            }
            Ok(peak)
        });
        let played = hand_over(&scene, &repository, tasks).map(|()| start.elapsed());
        let settled = played.and_then(|handed| scene.settle().map(|()| handed));
        done.store(true, Ordering::Relaxed);
        let peak = scale.join().map_err(|_| anyhow!("the scale broke"))??;
        Ok((settled?, peak))
    })?;
    let elapsed = start.elapsed();
    let processor = scene.group()?.processor_time(pid).saturating_sub(processor_before);
    report(&scene, tasks, &Run { handed, elapsed, processor, peak })
}

struct Run {
    handed: Duration,
    elapsed: Duration,
    processor: Duration,
    peak: u64,
}

fn hand_over(scene: &Scene, repository: &Repository, tasks: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= tasks {
                            return Ok(());
                        }
                        session::submit(scene, repository, number)?;
                    }
                })
            })
            .collect();
        hands.into_iter().try_for_each(|hand| hand.join().map_err(|_| anyhow!("a hand broke"))?)
    })
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report(scene: &Scene, tasks: usize, run: &Run) -> Result<Section> {
    let listed = scene.tasks()?;
    let is_green = |task: &&Value| task.get("verdict").and_then(Value::as_str) == Some("green");
    let green = listed.iter().filter(is_green).count();
    let mut calls: BTreeMap<(String, u64), u64> = BTreeMap::new();
    for request in scene.requests()? {
        *calls.entry((request.conversation, request.index)).or_default() += 1;
    }
    let rounds: u64 = calls.values().sum();
    let repeated = calls.values().filter(|count| **count > 1).count();
    let (memory_bar, exact) = match tasks {
        ..=100 => ("≤ 200", scene.group()?.is_exact()),
        _ => ("≤ 1,500", scene.group()?.is_exact()),
    };
    let mut section = Section::new(
        &format!("{tasks} tasks at once"),
        &format!(
            "Handed over by {HANDS} command lines as fast as they are answered, with no limit on turns at the same time; a scripted model with {LATENCY_MS} ms latency, \
             {} rounds each, then a check on head and base. Processor time is of the daemon and everything it started, \
             preparation and checks included ({}).",
            session::ROUNDS,
            if exact { "counted by a control group" } else { "of processes that were waited for" },
        ),
    );
    section.row("finished green", format!("{green} of {tasks}"), "all");
    section.row("model calls", rounds, &format!("{}", tasks as u64 * session::ROUNDS));
    section.row("model calls made twice", repeated, "0");
    section.row("peak of summed PSS, MB", format!("{:.0}", run.peak as f64 / 1e6), memory_bar);
    let per_round = run.processor.as_secs_f64() * 1e3 / rounds.max(1) as f64;
    section.row("processor time per round, ms", format!("{per_round:.2}"), "≤ 8");
    section.row("all handed over after, s", format!("{:.1}", run.handed.as_secs_f64()), "");
    section.row("all finished after, s", format!("{:.1}", run.elapsed.as_secs_f64()), "");
    let _ = listed.first().context("no task is listed")?;
    Ok(section)
}
