//! Servers of tools that the repository brings along.

use std::{sync::Arc, time::Duration};

use domain::{
    ports::agent::{EntryBody, Mode, Prompt},
    profile::Profile,
};
use serde_json::{Value, json};

use crate::scene::{Scene, Script, Step, call, calls, finish};

/// A scene whose base configures servers: names and modes.
fn scene(steps: Vec<Step>, servers: &[(&str, &str)]) -> Scene {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tool_server.py");
    let entry = |mode: &str| json!({"command": "python3", "args": [program, mode], "env": {"GREETING": "hello"}});
    let servers: Value = servers.iter().map(|(name, mode)| ((*name).to_owned(), entry(mode))).collect();
    configured(steps, &json!({ "mcpServers": servers }))
}

fn configured(steps: Vec<Step>, file: &Value) -> Scene {
    let mut scene = Scene::new(steps);
    scene.turn.guidance = Arc::new(vec![(".mcp.json".to_owned(), file.to_string().into())]);
    scene
}

fn opening(scene: &Scene) -> String {
    scene.told().remove(0)
}

fn tools(scene: &Scene) -> Vec<String> {
    scene.model.tools.lock().unwrap().last().unwrap().clone()
}

#[tokio::test]
async fn a_servers_tools_are_tools_of_the_agent() {
    let mut scene = scene(
        vec![
            calls(&[
                ("mcp_a_echo", json!({"text": "one"})),
                ("mcp_a_write", json!({"text": "two"})),
                ("mcp_a_echo", json!({"text": "wrong"})),
                ("mcp_a_echo", json!({"text": "picture"})),
                ("mcp_a_echo", json!({"text": "long"})),
                ("mcp_a_none", json!({})),
            ]),
            finish("done"),
        ],
        &[("a", "noise")],
    );
    scene.finished().await;
    assert!(tools(&scene).ends_with(&["mcp_a_echo".to_owned(), "mcp_a_write".to_owned()]), "{:?}", tools(&scene));
    let results = scene.results();
    assert_eq!(results[0], ("echo: one hello".to_owned(), false));
    assert_eq!(scene.got("written"), "two");
    assert_eq!(results[2], ("no such thing".to_owned(), true));
    assert!(results[3].0.contains("shown after these results"), "{results:?}");
    assert!(results[4].0.len() < 11 * 1024 && results[4].0.contains(".git/overnight/1.1.4.txt"), "{}", results[4].0);
    assert!(results[5].1 && results[5].0.contains("no tool `mcp_a_none`"));

    // The next turn has the same tools, and starts the server only once it is called.
    let before = scene.spawned.load(std::sync::atomic::Ordering::SeqCst);
    scene.next(Prompt::Comments { comments: Vec::new() });
    scene.model = Script::in_order(vec![finish("again")]);
    scene.finished().await;
    assert!(tools(&scene).contains(&"mcp_a_write".to_owned()));
    assert_eq!(scene.spawned.load(std::sync::atomic::Ordering::SeqCst), before);
}

#[tokio::test]
async fn a_server_that_cannot_be_started_is_told_of_and_nothing_else_fails() {
    let file = json!({"mcpServers": {
        "dead": {"command": "python3", "args": [concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tool_server.py"), "die"]},
        "gone": {"command": "no-such-program"},
        "far": {"type": "http", "url": "https://example.com/mcp"},
    }});
    let scene = configured(vec![finish("done")], &file);
    scene.finished().await;
    let told = opening(&scene);
    assert!(told.contains("`dead` could not be started") && told.contains("cannot find my database"), "{told}");
    assert!(told.contains("`gone` could not be started") && told.contains("`far` is left out"), "{told}");
    assert!(!tools(&scene).iter().any(|tool| tool.starts_with("mcp")));
    let broken = configured(vec![finish("done")], &json!("none"));
    broken.finished().await;
    assert!(opening(&broken).contains(".mcp.json cannot be read"), "{}", opening(&broken));
}

#[tokio::test]
async fn a_server_that_dies_is_started_anew_and_not_for_ever() {
    let echo = |text: &str| call("mcp_a_echo", json!({ "text": text }));
    let steps = vec![echo("die"), echo("one"), echo("die"), echo("die"), echo("one"), finish("done")];
    let scene = scene(steps, &[("a", "well")]);
    scene.finished().await;
    let results = scene.results();
    assert!(results[0].1 && results[0].0.contains("out of memory") && results[0].0.contains("unknown"), "{results:?}");
    assert_eq!(results[1].0, "echo: one hello");
    assert!(results[4].0.contains("failed 3 times"), "{results:?}");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let steps = vec![call("mcp_a_echo", json!({"text": "hang"})), finish("done")];
    let scene = scene(steps, &[("a", "well")]);
    let hanging = scene.path("hanging");
    tokio::join!(scene.finished(), async {
        while !hanging.exists() {
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(121)).await;
        tokio::time::resume();
    });
    assert!(scene.results()[0].0.contains("did not answer within 120 s"), "{:?}", scene.results());
}

#[tokio::test]
async fn an_interrupt_does_not_wait_for_a_server() {
    let scene = scene(vec![call("mcp_a_echo", json!({"text": "hang"}))], &[("a", "well")]);
    let hanging = scene.path("hanging");
    let (end, ()) = tokio::join!(scene.run(), async {
        while !hanging.exists() {
            tokio::task::yield_now().await;
        }
        scene.phone.interrupt.send_replace(true);
    });
    assert_eq!(end.conclusion, domain::ports::agent::TurnConclusion::Interrupted);
}

#[tokio::test]
async fn tools_beyond_the_bounds_are_reached_by_name() {
    let steps = vec![
        call("mcp", json!({"server": "a", "tool": "tool49"})),
        call("mcp", json!({"server": "a", "tool": "tool49", "arguments": {"text": "hi"}})),
        call("mcp", json!({"server": "b", "tool": "x", "arguments": {}})),
        call("mcp", json!({"server": "a", "tool": "x"})),
        finish("done"),
    ];
    let scene = scene(steps, &[("a", "many")]);
    scene.finished().await;
    assert_eq!(tools(&scene).iter().filter(|tool| tool.starts_with("mcp_")).count(), 40);
    assert!(opening(&scene).contains("tool49"), "{}", opening(&scene));
    let results = scene.results();
    assert!(results[0].0.starts_with("Number 49.\nSchema of its arguments: {"), "{results:?}");
    assert_eq!(results[1].0, "tool49: hi hello");
    assert!(results[2].0.contains("no server `b`") && results[3].0.contains("no tool `x`"), "{results:?}");
}

#[tokio::test]
async fn a_planning_turn_calls_only_what_reads() {
    let steps = vec![
        call("mcp_a_echo", json!({"text": "one"})),
        call("mcp_a_write", json!({"text": "two"})),
        finish("1. Do it."),
    ];
    let mut scene = scene(steps, &[("a", "well")]);
    scene.turn.mode = Mode::Plan;
    scene.finished().await;
    let results = scene.results();
    assert_eq!(results[0].0, "echo: one hello");
    assert!(results[1].1 && !scene.path("written").exists(), "{results:?}");
}

#[tokio::test]
async fn a_profile_without_servers_starts_none() {
    let mut scene = scene(vec![finish("done")], &[("a", "well")]);
    let tools = Some(vec!["read".to_owned()]);
    scene.turn.profile = Some(Arc::new(Profile { prompt: "Only read.".to_owned(), tools, ..Profile::default() }));
    scene.finished().await;
    assert_eq!(self::tools(&scene).join(" "), "read ask finish");
    assert!(!opening(&scene).contains("Servers"), "{}", opening(&scene));
}

#[tokio::test]
async fn a_restart_asks_with_the_same_tools() {
    let steps = || vec![call("mcp_a_echo", json!({"text": "one"})), finish("done")];
    let mut scene = scene(steps(), &[("a", "well")]);
    scene.finished().await;
    let asked = scene.model.asked.lock().unwrap().last().cloned();
    let whole = tools(&scene);
    let reply = scene.record.bodies().iter().rposition(|body| matches!(body, EntryBody::Reply { .. })).unwrap();
    scene.record.entries.lock().unwrap().truncate(reply);
    scene.record = scene.record.survivor();
    // The server is gone meanwhile: what it lent is in the transcript.
    scene.turn.guidance = Arc::default();
    scene.finished().await;
    assert_eq!((scene.model.asked.lock().unwrap().last().cloned(), tools(&scene)), (asked, whole));
}

/// With `OVERNIGHT_MCP_SERVER`, the path of the npm package `@modelcontextprotocol/server-everything`.
#[tokio::test]
async fn a_server_of_other_people_is_understood() {
    let Some(package) = std::env::var_os("OVERNIGHT_MCP_SERVER") else { return };
    let program = std::path::Path::new(&package).join("dist/index.js");
    let file = json!({"mcpServers": {"everything": {"command": "node", "args": [program]}}});
    let steps = vec![
        call("mcp_everything_echo", json!({"message": "hi"})),
        call("mcp_everything_get-tiny-image", json!({})),
        finish("done"),
    ];
    let scene = configured(steps, &file);
    scene.finished().await;
    let results = scene.results();
    assert_eq!(results[0], ("Echo: hi".to_owned(), false), "{:?}", tools(&scene));
    assert!(results[1].0.contains("shown after these results"), "{results:?}");
}
