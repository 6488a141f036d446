//! A conversation that grows too long: it is summed up, the brief and what people said stay, and a restart changes nothing.

use std::sync::Arc;

use domain::ports::{
    agent::{EntryBody, Prompt},
    model::{ModelFault, Part},
};
use serde_json::json;

use crate::scene::{Crash, Scene, Script, Step, call, calls, finish, shell, text};

/// Commands that print 4 KB each, and the end. One conversation holds three of them.
fn long(rounds: usize) -> Scene {
    let mut steps: Vec<Step> = (0..rounds).map(|n| shell(&format!("head -c 4000 /dev/zero | tr '\\0' {n}"))).collect();
    steps.push(finish("done"));
    let mut scene = Scene::new(Vec::new());
    scene.model = Script::in_order(steps);
    scene.side_model =
        Some(Script::in_order((0..rounds).map(|n| text(&format!("Decided: keep number {n}."))).collect()));
    scene.options.max_conversation = 16_000;
    scene
}

fn asked(script: &Script) -> Vec<String> {
    script.asked.lock().unwrap().iter().map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap()).collect()
}

fn side(scene: &Scene) -> Arc<Script> {
    Arc::clone(scene.side_model.as_ref().unwrap())
}

#[tokio::test]
async fn the_older_part_is_summed_up_by_the_side_model_and_the_prefix_starts_anew_once() {
    let scene = long(8);
    scene.phone.comment(1, "never touch the lexer");
    scene.finished().await;
    let (asked, summed) = (asked(&scene.model), asked(&side(&scene)));
    assert!((1..=3).contains(&summed.len()), "{} summaries", summed.len());
    assert!(summed[0].contains("# Goal") && summed[0].contains("never touch the lexer"), "{}", summed[0]);
    let breaks = asked.windows(2).filter(|pair| !pair[1].starts_with(&pair[0])).count();
    assert_eq!(breaks, summed.len(), "each summary breaks the prefix once");
    let last = asked.last().unwrap();
    assert!(last.contains("# Goal") && last.contains("Decided: keep number") && last.contains("never touch the lexer"));
    assert!(!last.contains(&"0".repeat(4000)) && last.contains(&"7".repeat(4000)), "the last result is whole");
    assert!(asked.iter().all(|request| request.len() < 20_000), "every request is bounded");
    if summed.len() > 1 {
        assert!(summed[1].contains("Decided: keep number 0."), "the next summary is made from the one before");
    }
}

#[tokio::test]
async fn a_summary_is_paid_once_wherever_the_turn_is_cut() {
    let whole = long(5);
    whole.finished().await;
    let expected = asked(&whole.model);
    let entries = whole.record.entries.lock().unwrap().len();
    for cut in 1..entries {
        let mut scene = long(5);
        *scene.record.limit.lock().unwrap() = Some((cut, Crash::Fenced));
        scene.try_run().await.unwrap_err();
        scene.record = scene.record.survivor();
        let kept = |body: &EntryBody| matches!(body, EntryBody::Note { text } if text.contains("Decided:"));
        let recorded = scene.record.bodies().iter().filter(|body| kept(body)).count();
        let before = asked(&side(&scene)).len();
        // A script in order goes on where it is; a lost call's result changes what follows, so only the first request is compared.
        let first = asked(&scene.model).len();
        let replies = scene.record.bodies().iter().filter(|body| matches!(body, EntryBody::Reply { .. })).count();
        scene.model.rewind(replies);
        side(&scene).rewind(recorded);
        scene.finished().await;
        let again = asked(&scene.model);
        if let Some(request) = again.get(first).filter(|request| !request.contains("Overnight was restarted")) {
            assert!(expected.contains(request), "cut at {cut}: the request is one of the uncut run");
        }
        assert!(before <= recorded + 1, "cut at {cut}: {before} summaries were paid, {recorded} are kept");
    }
}

#[tokio::test]
async fn too_long_for_the_provider_is_met_by_a_summary() {
    let scene = long(3);
    scene.model.fault(3, [ModelFault::Rejected("prompt is too long: 210000 tokens > 200000 maximum".to_owned())]);
    scene.finished().await;
    assert_eq!(asked(&side(&scene)).len(), 1);
    assert!(asked(&scene.model).last().unwrap().contains("Decided: keep number 0."));
}

#[tokio::test]
async fn without_a_side_model_the_model_itself_sums_up() {
    let mut scene = long(4);
    scene.side_model = None;
    let shells = (0..3).map(|n| shell(&format!("head -c 4000 /dev/zero | tr '\\0' {n}")));
    let steps: Vec<_> = shells.chain([shell("seq 1200"), text("Decided: all."), finish("done")]).collect();
    scene.model = Script::in_order(steps);
    scene.finished().await;
    let asked = asked(&scene.model);
    assert!(asked[4].contains("Now write the memory.") && asked[5].contains("Decided: all."), "{}", asked[4]);
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

fn images(scene: &Scene) -> usize {
    asked(&scene.model).last().unwrap().matches("image/png").count()
}

#[tokio::test]
async fn an_image_is_shown_after_the_results_and_only_so_many() {
    let read = ("read", json!({"path": "a.png"}));
    let scene = Scene::new(vec![
        calls(&[read.clone(), ("read", json!({"path": "large.png"}))]),
        calls(&vec![read; 6]),
        finish(""),
    ]);
    scene.put("a.png", PNG);
    scene.put("large.png", [PNG, &[0; 1 << 20]].concat());
    scene.finished().await;
    assert_eq!(images(&scene), 6);
    let results = scene.results();
    assert!(
        results[0].0.contains("shown after these results") && results[1].0.contains("at most 1 MiB"),
        "{results:?}"
    );
    assert!(results[7].1 && results[7].0.contains("room for 6"), "{results:?}");
    scene.model.assert_prefixes();
}

#[tokio::test]
async fn a_model_that_takes_no_images_goes_on_without_them() {
    let read = || call("read", json!({"path": "a.png"}));
    let mut scene = Scene::new(vec![read(), read(), finish("done")]);
    scene.put("a.png", PNG);
    scene.model.fault(1, [ModelFault::Rejected("this model does not support image input".to_owned())]);
    assert_eq!(scene.finished().await, "done");
    assert_eq!(images(&scene), 0);
    assert!(scene.results()[1].0.contains("takes none"));
    let last = asked(&scene.model).pop().unwrap();
    let reply = scene.record.bodies().iter().rposition(|body| matches!(body, EntryBody::Reply { .. })).unwrap();
    scene.record.entries.lock().unwrap().truncate(reply);
    scene.record = scene.record.survivor();
    scene.finished().await;
    assert_eq!(asked(&scene.model).pop().unwrap(), last, "a restart remembers it");
}

#[tokio::test]
async fn images_that_a_restart_lost_are_told_of() {
    let mut scene = Scene::new(vec![call("read", json!({"path": "a.png"})), finish("done")]);
    scene.put("a.png", PNG);
    // The mark, prompt, reply, result.
    *scene.record.limit.lock().unwrap() = Some((4, Crash::Fenced));
    scene.try_run().await.unwrap_err();
    scene.record = scene.record.survivor();
    scene.finished().await;
    assert!(scene.told().iter().any(|text| text.contains("ask again for the images")), "{:?}", scene.told());
}

#[tokio::test]
async fn the_same_call_with_the_same_result_is_pointed_out() {
    let mut steps: Vec<_> = (0..6).map(|_| shell("echo same")).collect();
    steps.push(finish("done"));
    let mut scene = Scene::new(steps);
    scene.finished().await;
    let told = scene.told();
    let count = |words: &str| told.iter().filter(|text| text.contains(words)).count();
    assert_eq!((count("3 times in a row. Read"), count("Stop: the same call had the same result 5 times")), (1, 1));
    scene.model.assert_prefixes();

    // Waiting for a command is none, nor is what has other results.
    scene = Scene::new(vec![
        call("shell", json!({"command": "mkfifo gate; read x <gate", "wait_s": 0})),
        call("poll", json!({"id": "1.1.0", "wait_s": 0})),
        call("poll", json!({"id": "1.1.0", "wait_s": 0})),
        call("poll", json!({"id": "1.1.0", "wait_s": 0})),
        shell("echo >>n; wc -l <n"),
        shell("echo >>n; wc -l <n"),
        shell("echo >>n; wc -l <n"),
        finish("done"),
    ]);
    scene.finished().await;
    assert!(!scene.told().iter().any(|text| text.contains("in a row")), "{:?}", scene.told());
}

#[tokio::test]
async fn reads_and_searches_of_a_reply_come_back_in_order() {
    let scene = Scene::new(vec![
        calls(&[
            ("search", json!({"pattern": "needle"})),
            ("read", json!({"path": "a"})),
            ("read", json!({"path": "."})),
            ("shell", json!({"command": "echo changed >a"})),
            ("read", json!({"path": "a"})),
        ]),
        finish("done"),
    ]);
    scene.put("a", "needle\n");
    scene.put("sub/b", "");
    scene.finished().await;
    let results = scene.results();
    assert_eq!(results[0].0.trim_start_matches("./"), "a:1:needle");
    assert_eq!(results[1].0, "needle\n");
    assert!(results[2].0.ends_with("a (7 bytes)\nsub/"), "{}", results[2].0);
    assert_eq!(results[4].0, "changed\n");
}

#[tokio::test]
async fn a_fresh_turn_begins_anew_with_an_account_and_later_ones_go_on_with_it() {
    let mut scene = Scene::new(Vec::new());
    scene.model =
        Script::in_order(vec![shell("echo one >made"), text("Half of it is done."), finish("all"), finish("more")]);
    scene.phone.comment(3, "use a map");
    scene.finished().await;
    scene.next(Prompt::Continue { why: "it got nowhere".to_owned(), comments: Vec::new() });
    scene.turn.fresh = true;
    scene.finished().await;
    let third = asked(&scene.model)[2].clone();
    for words in
        ["# Goal", "What was done so far", "use a map", "echo one >made", "Half of it is done.", "it got nowhere"]
    {
        assert!(third.contains(words), "{words} is not in {third}");
    }
    assert!(!third.contains("tool_result"), "the old messages are gone");
    scene.turn.fresh = false;
    scene.next(Prompt::Comments { comments: Vec::new() });
    scene.finished().await;
    assert!(asked(&scene.model)[3].starts_with(&third), "the next turn goes on with the new conversation");
}

#[tokio::test]
async fn another_agents_transcript_becomes_an_account() {
    let mut scene = Scene::new(vec![finish("done")]);
    let message =
        |part| domain::ports::model::Message { role: domain::ports::model::Role::Assistant, parts: vec![part] };
    let part =
        Part::ToolCall { id: "x".to_owned(), name: "Bash".to_owned(), arguments: "{\"command\":\"make\"}".to_owned() };
    for body in [
        EntryBody::Prompt { message: message(Part::Text { text: "the brief".to_owned() }) },
        EntryBody::Reply { message: message(part), usage: domain::budget::Usage::default() },
        EntryBody::Result { id: "x".to_owned(), text: "built".to_owned(), is_error: false },
    ] {
        let entry = domain::ports::agent::Entry { turn: scene.turn.turn, round: 0, body };
        scene.record.entries.lock().unwrap().push(entry);
    }
    scene.next(Prompt::Comments { comments: Vec::new() });
    scene.finished().await;
    let first = asked(&scene.model).remove(0);
    assert!(first.contains("# Goal") && first.contains("- Bash") && first.contains("It was cut off."), "{first}");
}

#[tokio::test]
async fn void_turns_are_forgotten_and_notices_are_told() {
    let mut scene = Scene::new(Vec::new());
    scene.model = Script::in_order(vec![finish("one"), finish("a wrong way"), finish("three")]);
    scene.finished().await;
    scene.next(Prompt::Comments { comments: Vec::new() });
    scene.finished().await;
    scene.turn.void = vec![(scene.turn.turn, scene.turn.turn)];
    scene.next(Prompt::Comments { comments: Vec::new() });
    scene.phone.notice("Your budget nears its end.");
    scene.finished().await;
    let last = asked(&scene.model).pop().unwrap();
    assert!(last.contains("one") && !last.contains("a wrong way") && last.contains("nears its end"), "{last}");
    assert!(scene.phone.delivered.lock().unwrap().is_empty(), "a notice is not acknowledged");
}

#[tokio::test]
async fn a_plan_is_kept_and_shown() {
    let steps = json!({"steps": [{"text": "look", "state": "done"}, {"text": "mend", "state": "doing"}]});
    let scene = Scene::new(vec![call("plan", steps), finish("done")]);
    scene.finished().await;
    assert!(scene.record.bodies().iter().any(|body| matches!(body, EntryBody::Plan { steps } if steps.len() == 2)));
    assert_eq!(*scene.phone.progress.lock().unwrap(), [(Some(50), "mend".to_owned())]);
}
