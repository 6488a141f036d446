//! The tools one by one.

use std::{process::Command, sync::atomic::Ordering};

use domain::ports::sandbox::Exit;
use serde_json::json;

use crate::scene::{Scene, Script, call, finish, shell, use_tools};

#[tokio::test]
async fn a_long_command_yields_and_is_polled_to_its_end() {
    let mut scene = Scene::new(Vec::new());
    let results = use_tools(
        &mut scene,
        &[
            ("shell", json!({"command": "mkfifo gate; echo one; read x <gate; echo two; exit 4", "wait_s": 0.1})),
            ("poll", json!({"id": "1.1.0", "wait_s": 0})),
            ("shell", json!({"command": "until [ -p gate ]; do :; done; echo >gate"})),
            ("poll", json!({"id": "1.1.0"})),
            ("poll", json!({"id": "1.1.0"})),
        ],
    )
    .await;
    assert!(results[..2].iter().all(|(text, failed)| text.ends_with("[still running; its id is 1.1.0]") && !failed));
    assert!(results[3].0.ends_with("two\n[exit code 4]") && results[3].1, "{results:?}");
    let told: String = results[..4].iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!((told.matches("one").count(), told.matches("two").count()), (1, 1), "nothing is said twice: {told}");
    assert!(results[4].1 && results[4].0.contains("No command `1.1.0`"), "{}", results[4].0);
}

#[tokio::test]
async fn a_polled_command_can_be_killed_and_only_so_many_go_on() {
    let mut scene = Scene::new(Vec::new());
    let sleep = ("shell", json!({"command": "echo a; exec sleep 1000", "wait_s": 0.1}));
    let mut used = vec![sleep.clone(); 9];
    used.push(("poll", json!({"id": "1.8.0", "kill": true})));
    used.push(sleep);
    let results = use_tools(&mut scene, &used).await;
    assert!(results[8].1 && results[8].0.contains("1.3.0: echo a; exec sleep 1000"), "{}", results[8].0);
    assert!(results[9].0.ends_with("[killed]") && !results[9].1);
    assert!(results[10].0.contains("still running"));
}

#[tokio::test]
async fn a_command_that_outlives_its_limit_is_killed() {
    let mut scene = Scene::new(Vec::new());
    scene.options.command_timeout = std::time::Duration::from_millis(200);
    let results = use_tools(&mut scene, &[("shell", json!({"command": "echo a; sleep 1000"}))]).await;
    assert!(results[0].1 && results[0].0.contains("[killed: it ran for more than"), "{}", results[0].0);
}

#[tokio::test]
async fn a_full_disk_is_told_in_one_sentence() {
    let mut scene = Scene::new(Vec::new());
    scene.ends = Some(Exit::OverQuota { held: 5 << 30, quota: 4 << 30 });
    let results =
        use_tools(&mut scene, &[("shell", json!({"command": "echo a"})), ("search", json!({"pattern": "x"}))]).await;
    let told =
        "the disk is full: workspace, HOME and /tmp hold 5120 MiB and may hold 4096 MiB; delete what is not needed";
    assert_eq!(results[0], (format!("a\n[killed: {told}]"), true));
    assert_eq!(results[1], (format!("The search was killed: {told}."), true));
}

#[tokio::test]
async fn two_megabytes_of_output_are_shown_as_head_and_tail_and_kept_whole() {
    let mut scene = Scene::new(Vec::new());
    let results = use_tools(
        &mut scene,
        &[
            ("shell", json!({"command": "seq 1 300000"})),
            ("shell", json!({"command": "seq 1 5000"})),
            ("read", json!({"path": ".git/overnight/1.1.0.txt", "offset": 150_000, "limit": 2})),
        ],
    )
    .await;
    let total: usize = (1..=300_000).map(|n: u32| n.to_string().len() + 1).sum();
    let text = &results[0].0;
    assert!(text.len() <= 10 * 1024 + 200, "{} bytes", text.len());
    assert!(text.starts_with("1\n2\n3\n") && text.contains("\n300000\n"), "{text}");
    assert!(text.ends_with(&format!("[all {total} bytes are in .git/overnight/1.1.0.txt]")), "{text}");
    assert!(text.contains(&format!("[… {} bytes elided …]", total - 10 * 1024)), "{text}");
    assert_eq!(scene.got(".git/overnight/1.1.0.txt").lines().count(), 300_000);
    assert_eq!(scene.got(".git/overnight/1.2.0.txt").lines().count(), 5_000);
    assert!(results[2].0.starts_with("150000\n150001\n"), "{}", results[2].0);
}

#[tokio::test]
async fn where_the_output_cannot_be_kept_the_agent_is_told() {
    let mut scene = Scene::new(Vec::new());
    let results = use_tools(&mut scene, &[("shell", json!({"command": "rmdir .git; touch .git; seq 1 5000"}))]).await;
    assert!(results[0].0.contains("the rest was not kept"), "{}", results[0].0);
}

#[tokio::test]
async fn bytes_that_are_not_utf8_are_shown_as_such() {
    let mut scene = Scene::new(Vec::new());
    scene.put("latin", b"caf\xe9\n");
    let used = [
        ("shell", json!({"command": "printf 'a\\377\\376b'"})),
        ("read", json!({"path": "latin"})),
        ("edit", json!({"path": "latin", "old": "caf", "new": "Caf"})),
    ];
    let results = use_tools(&mut scene, &used).await;
    assert_eq!(results[0].0, "a\u{fffd}b");
    assert_eq!(results[1].0, "caf\u{fffd}\n");
    assert_eq!(std::fs::read(scene.path("latin")).unwrap(), b"Caf\xe9\n", "other bytes stay as they are");
}

#[tokio::test]
async fn without_bash_sh_runs_the_commands() {
    let mut scene = Scene::new(Vec::new());
    scene.without_bash = true;
    let echo = ("shell", json!({"command": "echo $0"}));
    let results = use_tools(&mut scene, &[echo.clone(), echo]).await;
    assert_eq!(results, [("sh".to_owned(), false), ("sh".to_owned(), false)]);
    assert_eq!(scene.spawned.load(Ordering::SeqCst), 3, "bash is looked for once");
}

#[tokio::test]
async fn files_are_read_in_pages() {
    let mut scene = Scene::new(Vec::new());
    let long: String = (1..=60_000).map(|n| format!("line {n}\n")).collect();
    scene.put("long", &long);
    scene.put("wide", "x".repeat(20_000) + "\nshort\n");
    scene.put("open", "a\nb");
    scene.put("empty", "");
    scene.put("binary", b"\x7fELF\0\0");
    let used = [
        ("read", json!({"path": "long", "limit": 2})),
        ("read", json!({"path": "/workspace/long", "offset": 59_999})),
        ("read", json!({"path": "long", "offset": 60_001})),
        ("read", json!({"path": "wide"})),
        ("read", json!({"path": "wide", "offset": 2})),
        ("read", json!({"path": "open", "offset": 2})),
        ("read", json!({"path": "open", "offset": 3})),
        ("read", json!({"path": "empty"})),
        ("read", json!({"path": "binary"})),
        ("read", json!({"path": "none"})),
        ("read", json!({"path": "../../etc/passwd"})),
        ("read", json!({"path": "long", "limit": 5000})),
    ];
    let results: Vec<_> = use_tools(&mut scene, &used).await.into_iter().map(|(text, _)| text).collect();
    let left = long.len() - "line 1\nline 2\n".len();
    assert_eq!(
        results[0],
        format!("line 1\nline 2\n[the file goes on at offset 3; {left} of {} bytes left]", long.len())
    );
    assert_eq!(results[1], "line 59999\nline 60000\n");
    assert_eq!(results[2], "long has only 60000 lines.");
    assert!(results[3].contains("too long to show") && results[3].contains("offset 2"), "{}", results[3]);
    assert_eq!(results[4], "short\n");
    assert_eq!(results[5], "b");
    assert_eq!(results[6], "open has only 2 lines.");
    assert_eq!(results[7], "[empty is empty]");
    assert!(results[8].contains("binary file of 6 bytes"));
    assert_eq!(results[9], "there is no file none");
    assert!(results[10].contains("outside of the workspace"));
    assert!(results[11].len() < 11 * 1024 && results[11].contains("[the file goes on at offset "));
}

#[tokio::test]
async fn edits_are_exact_and_say_what_is_wrong() {
    let mut scene = Scene::new(Vec::new());
    scene.put("a", "fn one() {\n    two();\n}\nx\nx\n");
    scene.put("dos", "one\r\ntwo\r\nthree\r\n");
    let used = [
        ("edit", json!({"path": "a", "old": "    two();", "new": "    three();"})),
        ("edit", json!({"path": "a", "old": "x\n", "new": "y\n"})),
        ("edit", json!({"path": "a", "old": "x\n", "new": "y\n", "all": true})),
        ("edit", json!({"path": "a", "old": "  three();", "new": "z\n  more"})),
        ("edit", json!({"path": "a", "old": "\tthree();\n", "new": ""})),
        ("edit", json!({"path": "a", "old": "nowhere", "new": ""})),
        ("edit", json!({"path": "a", "old": "", "new": "q"})),
        ("edit", json!({"path": "a", "old": "y", "new": "y"})),
        ("edit", json!({"path": "none", "old": "y", "new": "z"})),
        ("edit", json!({"path": "dos", "old": "one\ntwo", "new": "1\n2"})),
        ("write", json!({"path": "deep/er/b", "content": "new\n"})),
    ];
    let results = use_tools(&mut scene, &used).await;
    assert_eq!(results[0], ("Replaced at line 2 of a.".to_owned(), false));
    assert_eq!(results[1], ("old is in a 2 times (lines 4, 5): add lines around it, or set all.".to_owned(), true));
    assert_eq!(results[2].0, "Replaced 2 times in a.");
    assert_eq!(results[3].0, "Replaced at line 2 of a.");
    assert!(results[4].1, "{}", results[4].0);
    assert!(results[5].0.contains("Not even its first line"), "{}", results[5].0);
    assert!(results[6].0.contains("old is empty"));
    assert!(results[7].0.contains("the same"));
    assert_eq!(results[8], ("there is no file none".to_owned(), true));
    assert!(!results[9].1, "{}", results[9].0);
    assert_eq!(scene.got("dos"), "1\r\n2\r\nthree\r\n");
    assert_eq!(scene.got("deep/er/b"), "new\n");
}

#[tokio::test]
async fn search_finds_tracked_and_untracked_lines_with_and_without_git() {
    for git in [true, false] {
        let mut scene = Scene::new(Vec::new());
        std::fs::remove_dir(scene.path(".git")).unwrap();
        scene.put("src/a.rs", "let needle = 1;\nlet other = 2;\n");
        scene.put("src/wide", "needle ".repeat(200));
        scene.put("binary", b"needle\0needle");
        if git {
            scene.put(".gitignore", "target\n");
            scene.put("target/out", "needle\n");
            let init = Command::new("git").arg("init").arg("-q").current_dir(scene.path("")).status().unwrap();
            assert!(init.success());
        }
        let used = [
            ("search", json!({"pattern": "needl[e] ="})),
            ("search", json!({"pattern": "needle", "path": "/workspace/src"})),
            ("search", json!({"pattern": "nowhere"})),
            ("search", json!({"pattern": "(", "path": "/workspace"})),
            ("search", json!({"pattern": "-needle", "path": ""})),
        ];
        let results = use_tools(&mut scene, &used).await;
        let found = results[0].0.trim_start_matches("./");
        assert_eq!(found, "src/a.rs:1:let needle = 1;", "git: {git}");
        assert!(results[1].0.lines().all(|line| line.len() <= 300) && results[1].0.contains("src/wide:1:"));
        assert!(!results[1].0.contains("target"), "{}", results[1].0);
        assert_eq!(results[2], ("Nothing matches nowhere.".to_owned(), false));
        assert!(results[3].1 && results[3].0.contains("failed"), "{}", results[3].0);
        assert_eq!(results[4].0, "Nothing matches -needle.");
    }
}

#[tokio::test]
async fn many_matches_are_capped() {
    let mut scene = Scene::new(Vec::new());
    scene.put("many", "needle in the hay\n".repeat(20_000));
    let results = use_tools(&mut scene, &[("search", json!({"pattern": "needle"}))]).await;
    assert!(results[0].0.len() < 11 * 1024 && results[0].0.contains("more bytes of matches"), "{}", results[0].0.len());
}

#[tokio::test]
async fn ids_of_commands_differ_between_turns() {
    let mut scene = Scene::new(vec![shell("true"), finish("done")]);
    scene.finished().await;
    scene.next(domain::ports::agent::Prompt::Comments { comments: Vec::new() });
    scene.model = Script::new(vec![
        shell("true"),
        finish("done"),
        call("shell", json!({"command": "sleep 1000", "wait_s": 0})),
        finish("done"),
    ]);
    scene.finished().await;
    assert!(scene.results().iter().any(|(text, _)| text.contains("its id is 2.1.0")), "{:?}", scene.results());
}
