//! `doctor`: what this machine has and lacks. The daemon says what it sees; this adds what only the caller sees.

use std::process::Command;

use api::wire::{Doctor, Finding, Walls};
use domain::Fault;

use super::{Context, console, run};
use crate::{
    Exit,
    client::read_json,
    terminal::{self, Form, Paint, clean},
};

/// `merge-tree --write-tree` came with it.
const OLDEST_GIT: (u32, u32) = (2, 38);

pub fn doctor(context: &Context) -> Result<Exit, Fault> {
    let asked = context.client.get("doctor").and_then(|answer| context.client.body(answer));
    let mut doctor: Doctor = match asked.and_then(|body| read_json(&body)) {
        Ok(doctor) => doctor,
        Err(fault) => Doctor {
            healthy: false,
            findings: vec![Finding { name: "daemon".to_owned(), ok: false, note: fault.what, hint: fault.hint }],
            walls: Walls { confined: false, walls: Vec::new() },
            layers: None,
            presets: Vec::new(),
            keys: Vec::new(),
            agents: Vec::new(),
            agents_missing: Vec::new(),
        },
    };
    for finding in [git(), keys(&doctor.keys)] {
        if doctor.findings.iter().all(|known| known.name != finding.name) {
            doctor.healthy &= finding.ok;
            doctor.findings.push(finding);
        }
    }
    match context.form {
        Form::Json => terminal::print(&format!("{}\n", serde_json::json!(doctor))),
        Form::Text => terminal::print(&text(context, &doctor)),
    }
    Ok(if doctor.healthy { Exit::Well } else { Exit::Badly })
}

fn text(context: &Context, doctor: &Doctor) -> String {
    let screen = context.screen;
    let row = |(paint, mark): (Paint, &str), name: &str, note: &str| {
        let note = clean(note).replace('\n', "\n                        ");
        format!("{}  {name:<19} {note}\n", screen.paint(paint, mark))
    };
    let (good, lacking, broken) = ((Paint::Green, "ok"), (Paint::Yellow, "--"), (Paint::Red, "!!"));
    let mut text = String::new();
    for finding in &doctor.findings {
        text.push_str(&row(if finding.ok { good } else { broken }, &finding.name, &finding.note));
        if let Some(hint) = &finding.hint {
            text.push_str(&row((Paint::Dim, "  "), "", &format!("→ {hint}")));
        }
    }
    let mut last = "";
    for wall in &doctor.walls.walls {
        // A wall that this version does not build anywhere is no defect of the machine.
        let mark = match (wall.stands, doctor.walls.confined) {
            (true, _) => good,
            (false, true) => lacking,
            (false, false) => broken,
        };
        // One cause fells many walls: it is told once.
        let note = if wall.note == last { "as above" } else { &wall.note };
        text.push_str(&row(mark, &format!("wall: {}", wall.name), note));
        last = &wall.note;
    }
    if let Some(layers) = &doctor.layers {
        let held = format!(
            "{} in {}, of {} at most; {}",
            console::bytes(layers.bytes),
            console::counted(layers.layers, "layer"),
            console::bytes(layers.budget_bytes),
            console::counted(layers.workspaces, "workspace")
        );
        text.push_str(&row(good, "layers", &held));
        text.push_str(&row(if layers.rung == "overlay" { good } else { lacking }, "workspaces", rung(&layers.rung)));
    }
    if !doctor.presets.is_empty() {
        let names: Vec<&str> = doctor.presets.iter().map(|preset| preset.name.as_str()).collect();
        text.push_str(&row(good, "network presets", &names.join(", ")));
    }
    if !doctor.agents.is_empty() {
        text.push_str(&row(good, "agents", &doctor.agents.join(", ")));
    }
    if !doctor.agents_missing.is_empty() {
        let missing = doctor.agents_missing.join(", ");
        text.push_str(&row(
            lacking,
            "agents not here",
            &format!("{missing}\n→ `overnight agents` says how to install them"),
        ));
    }
    text
}

/// What it means that workspaces get their files in this way.
fn rung(rung: &str) -> &str {
    match rung {
        "overlay" => "overlays: made at once, whatever the size of the repository",
        "reflink" => "copies that share their blocks with the layers: made in about a second",
        "copy" => "whole copies, which take time and room; put the home on ext4, xfs or btrfs of this machine",
        other => other,
    }
}

fn git() -> Finding {
    let hint = || Some("install git 2.38 or newer (Debian: `apt-get install git`)".to_owned());
    let finding = |ok, note| Finding { name: "git".to_owned(), ok, note, hint: if ok { None } else { hint() } };
    let output = match Command::new("git").arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => return finding(false, format!("git cannot be run: {error}")),
    };
    let mut numbers = output.trim_start_matches("git version ").split('.').map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => finding((major, minor) >= OLDEST_GIT, output),
        _ => finding(false, format!("`{output}` is not a version of git")),
    }
}

/// Names only, never values.
fn keys(kept: &[String]) -> Finding {
    let here = run::credentials();
    let here: Vec<&str> = here.0.keys().map(String::as_str).collect();
    let name = "keys".to_owned();
    if here.is_empty() && kept.is_empty() {
        let hint =
            "`export ANTHROPIC_API_KEY=…` before `run`, or `overnight key set anthropic`; `overnight demo` needs none";
        return Finding {
            name,
            ok: true,
            note: "no provider's key here or kept".to_owned(),
            hint: Some(hint.to_owned()),
        };
    }
    let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    Finding { name, ok: true, note: format!("in this environment: {}; kept: {}", list(&here), list(&kept)), hint: None }
}
