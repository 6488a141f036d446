//! The agent `command`: programs as agents.

use std::{sync::Arc, time::Duration};

use domain::{
    brief::Brief,
    ids::CommentId,
    ports::agent::{EntryBody, Mode, Prompt, TurnConclusion},
};

use crate::scene::{Crash, Scene};

fn output(scene: &Scene) -> String {
    let text = |body| match body {
        EntryBody::Output { text } => Some(text),
        _ => None,
    };
    scene.record.bodies().into_iter().filter_map(text).collect()
}

#[tokio::test]
async fn a_program_is_told_what_is_wanted_and_its_marks_are_understood() {
    let scene = Scene::program(
        r#"grep -qx '# Goal' "$OVERNIGHT_PROMPT_FILE" && head -n1
           echo "$OVERNIGHT_TASK $OVERNIGHT_ATTEMPT $OVERNIGHT_TURN" >env
           echo "[PROGRESS:40] half way"; echo "[RESULT] mended 3 files"; printf '[RESULT] and one more'"#,
    );
    let end = scene.run().await;
    assert_eq!(end.conclusion, TurnConclusion::Finished);
    assert_eq!((end.summary.as_str(), end.rounds), ("mended 3 files\nand one more", 0));
    assert_eq!(scene.got("env"), "T-12 1 1\n");
    assert!(output(&scene).starts_with("# Goal\n"), "{}", output(&scene));
    assert_eq!(*scene.phone.progress.lock().unwrap(), [(Some(40), "half way".to_owned())]);
}

#[tokio::test]
async fn without_a_result_the_last_lines_are_the_summary() {
    assert_eq!(Scene::program("echo one; echo two").finished().await, "one\ntwo");
}

#[tokio::test]
async fn a_failing_program_ends_with_its_last_words_and_waits_for_a_person() {
    let TurnConclusion::DeadEnd { why } =
        Scene::program("seq 1 9000; echo no such file >&2; exit 3").run().await.conclusion
    else {
        panic!("no dead end")
    };
    assert!(
        why.starts_with("`sh -c seq 1 9000; echo no such file >&2; exit 3` ended with exit code 3: ")
            && why.ends_with("no such file"),
        "{why}"
    );
    assert!(why.len() < 3_000);
    let TurnConclusion::DeadEnd { why } = Scene::program("exit 3").run().await.conclusion else {
        panic!("no dead end")
    };
    assert!(why.ends_with("exit code 3: it printed nothing"), "{why}");
}

#[tokio::test]
async fn what_cannot_be_started_is_a_dead_end_that_names_it() {
    for (argv, word) in [(&["no-such-program"][..], "`no-such-program` cannot be started"), (&[], "behind `--`")] {
        let TurnConclusion::DeadEnd { why } = Scene::argv(argv).run().await.conclusion else { panic!("no dead end") };
        assert!(why.contains(word), "{why}");
    }
    let mut scene = Scene::program("touch made");
    scene.turn.mode = Mode::Plan;
    let TurnConclusion::DeadEnd { why } = scene.run().await.conclusion else { panic!("no dead end") };
    assert!(why.contains("plan") && !scene.path("made").exists());
}

#[tokio::test]
async fn a_program_is_never_run_again_by_itself() {
    let mut scene = Scene::program("echo ran >>ran");
    assert_eq!(scene.finished().await, "");
    assert_eq!(scene.finished().await, "", "its end is known");
    assert_eq!(scene.got("ran"), "ran\n");

    let mut cut = Scene::program("echo ran >>ran");
    *cut.record.limit.lock().unwrap() = Some((1, Crash::Fenced));
    cut.try_run().await.unwrap_err();
    cut.record = cut.record.survivor();
    let TurnConclusion::Failed { why } = cut.run().await.conclusion else { panic!("not failed") };
    assert!(why.contains("cut off by a restart"), "{why}");
    assert_eq!(cut.got("ran"), "ran\n");

    scene.next(Prompt::Fix { digest: "red".to_owned(), again: false, comments: Vec::new() });
    scene.finished().await;
    assert_eq!(scene.got("ran"), "ran\nran\n", "the next turn runs it anew");
}

#[tokio::test]
async fn long_output_is_told_as_head_and_tail() {
    let scene = Scene::program("seq 1 300000; echo '[RESULT] counted'");
    assert_eq!(scene.finished().await, "counted");
    let output = output(&scene);
    assert!(output.len() < 200_000, "{} bytes", output.len());
    assert!(output.starts_with("1\n2\n") && output.contains("bytes elided") && output.contains("300000\n"));
}

#[tokio::test]
async fn a_report_is_the_results_or_all_that_was_printed() {
    let mut scene = Scene::program("seq 1 3000");
    scene.turn.mode = Mode::Report;
    let report = scene.finished().await;
    assert!(report.starts_with("1\n2\n") && report.ends_with("2999\n3000"));
}

#[tokio::test]
async fn comments_wait_for_the_next_turn_and_an_interrupt_kills() {
    let mut scene = Scene::program("mkfifo ready; echo $$ >pid; echo begun; echo >ready; sleep 1000");
    scene.turn.prompt = Prompt::Start { plan: None, comments: vec![(CommentId(1), "mind the gap".to_owned())] };
    scene.phone.comment(2, "later");
    let ready = scene.path("ready");
    let (end, ()) = tokio::join!(scene.run(), async {
        while tokio::fs::read(&ready).await.is_err() {
            tokio::task::yield_now().await;
        }
        scene.phone.interrupt.send_replace(true);
    });
    assert_eq!(end.conclusion, TurnConclusion::Interrupted);
    assert!(scene.told()[0].contains("A person comments: mind the gap"));
    assert_eq!(scene.phone.comments.lock().unwrap().len(), 1);
    let pid = rustix::process::Pid::from_raw(scene.got("pid").trim().parse().unwrap()).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_err(), "the program still runs");
    assert_eq!(output(&scene), "begun\n");
}

#[tokio::test]
async fn a_program_may_not_run_for_ever() {
    let mut scene = Scene::program("echo a; sleep 1000");
    scene.options.program_timeout = Duration::from_millis(200);
    let TurnConclusion::DeadEnd { why } = scene.run().await.conclusion else { panic!("no dead end") };
    assert!(why.contains("ran for too long"), "{why}");
    let mut budget = scene.turn.brief.budget;
    budget.wall_s = Some(0);
    scene.turn.brief = Arc::new(Brief { budget, ..(*scene.turn.brief).clone() });
    scene.next(Prompt::Comments { comments: Vec::new() });
    assert!(matches!(scene.run().await.conclusion, TurnConclusion::DeadEnd { .. }));
}
