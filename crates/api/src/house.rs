//! The daemon and the installation.

use axum::{Json, extract::State, http::StatusCode};
use domain::{
    Fault,
    ports::{agent::AgentInfo, sandbox::Probe, store::SummaryQuery, workspace::DiskUse},
    summary::Phase,
};

use crate::{
    App,
    extract::{Answer, Body},
    wire::{self, Finding},
};

/// Below this, in bytes, a disk is as good as full.
const LITTLE_SPACE: u64 = 1 << 30;

pub(crate) async fn status(State(app): State<App>) -> Answer<wire::Status> {
    let now = app.ports().clock.now();
    Ok(Json(wire::Status {
        version: app.version.to_owned(),
        pid: std::process::id(),
        home: app.home.to_string_lossy().into_owned(),
        epoch: app.ports().store.epoch(),
        started_at: app.started_at,
        uptime_s: now.duration_since(app.started_at).as_secs().unsigned_abs(),
        tasks: counts(&app).await?,
    }))
}

async fn counts(app: &App) -> Result<wire::TaskCounts, Fault> {
    let phases = vec![Phase::Working, Phase::NeedsYou, Phase::Landing, Phase::Closing];
    let query = SummaryQuery { phases, limit: u32::MAX, ..SummaryQuery::default() };
    let mut counts = wire::TaskCounts::default();
    for summary in app.ports().store.summaries(query).await? {
        match summary.phase {
            Phase::Working => counts.working += 1,
            Phase::NeedsYou => counts.needs_you += 1,
            Phase::Landing => counts.landing += 1,
            Phase::Closing => counts.closing += 1,
            Phase::Ended => {}
        }
    }
    Ok(counts)
}

pub(crate) async fn shutdown(
    State(app): State<App>,
    Body(wire::Empty {}): Body<wire::Empty>,
) -> (StatusCode, Json<wire::Stopping>) {
    // This answer still goes out: open requests are let finish.
    app.stop.ask();
    (StatusCode::ACCEPTED, Json(wire::Stopping { pid: std::process::id() }))
}

pub(crate) async fn doctor(State(app): State<App>) -> Answer<wire::Doctor> {
    let walls = walls(&app).await?;
    let sandbox = if walls.confined {
        well("sandbox", "agents and checks are confined")
    } else {
        ill("sandbox", "this machine cannot confine agents", Some("see the walls below; or say `--unconfined`"))
    };
    let mut findings = vec![store(&app).await];
    findings.extend(disk(&app).await?);
    findings.push(sandbox);
    let layers = match app.handle.disk_use().await {
        Ok(DiskUse { layers, layer_bytes, budget_bytes, workspaces }) => {
            let rung = app.rung.to_owned();
            Some(wire::house::Layers { layers, bytes: layer_bytes, budget_bytes, workspaces, rung })
        }
        Err(fault) => {
            findings.push(ill("layers", &fault.what, fault.hint.as_deref()));
            None
        }
    };
    let presets = app.handle.egress().presets();
    let presets = presets.into_iter().map(|(name, hosts)| wire::house::Preset { name, hosts }).collect();
    let kept = app.ports().secrets.get(crate::keys::SCOPE.to_owned()).await;
    let keys = match kept {
        Ok(kept) => kept.0.into_keys().collect(),
        Err(fault) => {
            findings.push(ill("keys", &fault.what, fault.hint.as_deref()));
            Vec::new()
        }
    };
    let healthy = findings.iter().all(|finding| finding.ok);
    let (there, missing): (Vec<_>, Vec<_>) =
        app.ports().agents.list().into_iter().partition(|agent| agent.missing.is_none());
    let names = |agents: Vec<AgentInfo>| agents.into_iter().map(|agent| agent.name).collect();
    let (agents, agents_missing) = (names(there), names(missing));
    Ok(Json(wire::Doctor { healthy, findings, walls, layers, presets, keys, agents, agents_missing }))
}

/// The first probe starts processes, so it must not hold up other requests.
async fn walls(app: &App) -> Result<wire::Walls, Fault> {
    let sandboxes = app.ports().sandboxes.clone();
    let Probe { confined, walls, .. } = blocking(move || sandboxes.probe()).await?;
    let walls = walls.into_iter().map(|wall| wire::Wall { name: wall.name, stands: wall.stands, note: wall.note });
    Ok(wire::Walls { confined, walls: walls.collect() })
}

async fn store(app: &App) -> Finding {
    match app.ports().store.summaries(SummaryQuery { limit: 1, ..SummaryQuery::default() }).await {
        Ok(_) => well("store", &format!("epoch {}", app.ports().store.epoch())),
        Err(fault) => ill("store", &fault.what, fault.hint.as_deref()),
    }
}

/// Whether the home can be written, and how much room is left.
async fn disk(app: &App) -> Result<[Finding; 2], Fault> {
    let home = app.home.clone();
    blocking(move || {
        let trial = home.join(format!(".doctor-{}", std::process::id()));
        let wrote = std::fs::write(&trial, b"well").and_then(|()| std::fs::remove_file(&trial));
        let writable = match wrote {
            Ok(()) => well("home", &format!("{} can be written", home.display())),
            Err(error) => {
                let hint = "make room, or mend the permissions; nothing is lost meanwhile";
                ill("home", &format!("{} cannot be written: {error}", home.display()), Some(hint))
            }
        };
        let space = match rustix::fs::statvfs(&home) {
            Ok(stat) => {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                let note = format!("{:.1} GB free at {}", free as f64 / 1e9, home.display());
                if free >= LITTLE_SPACE { well("disk", &note) } else { ill("disk", &note, Some("make room")) }
            }
            Err(error) => ill("disk", &format!("cannot tell the room left at {}: {error}", home.display()), None),
        };
        [writable, space]
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Fault::bug(format!("an examination did not finish: {error}")))
}

fn well(name: &str, note: &str) -> Finding {
    Finding { name: name.to_owned(), ok: true, note: note.to_owned(), hint: None }
}

fn ill(name: &str, note: &str, hint: Option<&str>) -> Finding {
    Finding { name: name.to_owned(), ok: false, note: note.to_owned(), hint: hint.map(str::to_owned) }
}
