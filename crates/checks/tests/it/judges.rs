//! Every rule of the verdict, on real runs.

use domain::{
    Fault, FaultClass,
    check::{CheckEnd, Judgement, Risk, Verdict},
    ports::sandbox::Exit,
};

use crate::world::{World, base, hasty, head, request, tap, tree};

fn script(head: &str) -> World {
    World::new(&[("t.sh", "exit 0\n")], &[("t.sh", head)])
}

fn scripts(base: &str, head: &str) -> World {
    World::new(&[("t.sh", base)], &[("t.sh", head)])
}

#[tokio::test]
async fn a_zero_is_green() {
    let world = script("echo fine; exit 0");
    let run = world.judge("sh t.sh").await;
    assert_eq!((run.verdict, run.end, run.base_end), (Verdict::Green, CheckEnd::Exited(0), CheckEnd::Exited(0)));
    assert_eq!(world.log(&run), b"fine\n");
}

#[tokio::test]
async fn green_has_no_fingerprint_and_a_short_digest() {
    let judgement = script("exit 0").judgement(&["sh t.sh"]).await;
    assert_eq!((judgement.verdict, judgement.fingerprint.as_str()), (Verdict::Green, ""));
    assert_eq!(judgement.digest, "The checks are green: `sh t.sh`.");
}

#[tokio::test]
async fn a_red_that_names_nothing_is_red_on_a_green_base() {
    let world = script("echo 'src/a.c:3:1: error: no such thing'; exit 3");
    let run = world.judge("sh t.sh").await;
    assert_eq!((run.verdict, run.end), (Verdict::Red, CheckEnd::Exited(3)));
    let judgement = world.judgement(&["sh t.sh"]).await;
    assert!(judgement.digest.contains("src/a.c:3: error: no such thing"), "{}", judgement.digest);
    assert!(judgement.digest.contains("exit code 3; the base passes"), "{}", judgement.digest);
}

#[tokio::test]
async fn a_red_that_names_nothing_is_inconclusive_on_a_red_base() {
    let run = scripts("echo broken; exit 1", "echo broken; exit 1").judge("sh t.sh").await;
    assert_eq!(run.verdict, Verdict::Inconclusive, "{}", run.reason);
}

#[tokio::test]
async fn failures_that_the_base_has_too_are_green_and_told() {
    let tests = tap(&[("a", true), ("b", false)]);
    let run = scripts(&tests, &tests).judge("sh t.sh").await;
    assert_eq!((run.verdict, run.end), (Verdict::Green, CheckEnd::Exited(1)));
    assert_eq!((run.known_failures, run.passed, run.failed), (vec!["b".to_owned()], 1, 1));
}

#[tokio::test]
async fn a_known_failure_does_not_excuse_an_error_that_no_test_explains() {
    let tests = tap(&[("a", false)]);
    let also = tests.replace("exit 1", "echo 'lint: error in x.c'; exit 1");
    let run = scripts(&tests, &also).judge("sh t.sh").await;
    assert_eq!(run.verdict, Verdict::Inconclusive, "{}", run.reason);
}

#[tokio::test]
async fn a_known_failure_does_not_excuse_another_exit_code() {
    let tests = tap(&[("a", false)]);
    let run = scripts(&tests, &tests.replace("exit 1", "exit 2")).judge("sh t.sh").await;
    assert_eq!(run.verdict, Verdict::Inconclusive);
}

#[tokio::test]
async fn a_new_failure_is_red_whatever_else_is_known() {
    let before = tap(&[("a", true), ("b", false)]);
    let world = scripts(&before, &tap(&[("a", false), ("b", false), ("c", false)]));
    let run = world.judge("sh t.sh").await;
    assert_eq!(run.verdict, Verdict::Red);
    assert_eq!((run.new_failures, run.known_failures), (vec!["a".to_owned(), "c".to_owned()], vec!["b".to_owned()]));
    let digest = world.judgement(&["sh t.sh"]).await.digest;
    assert!(digest.contains("- a") && digest.contains("1 failure that the base has too is not yours"), "{digest}");
}

#[tokio::test]
async fn a_mended_failure_is_told() {
    let run = scripts(&tap(&[("a", true), ("b", false)]), &tap(&[("a", true), ("b", true)])).judge("sh t.sh").await;
    assert_eq!((run.verdict, run.fixed), (Verdict::Green, vec!["b".to_owned()]));
    assert_eq!(run.reason, "it passes; 1 failure of the base fixed");
}

#[tokio::test]
async fn a_report_that_shows_failures_beats_a_zero() {
    let lies = tap(&[("a", false)]).replace("exit 1", "exit 0");
    let run = scripts(&tap(&[("a", true)]), &lies).judge("sh t.sh").await;
    assert_eq!((run.verdict, run.end), (Verdict::Red, CheckEnd::Exited(0)));
}

#[tokio::test]
async fn a_removed_test_is_red_and_a_risk() {
    let world = scripts(&tap(&[("a", true), ("b", false)]), &tap(&[("a", true)]));
    let judgement = world.judgement(&["sh t.sh"]).await;
    assert_eq!((judgement.verdict, &judgement.runs[0].missing), (Verdict::Red, &vec!["b".to_owned()]));
    assert!(judgement.risks().contains(&Risk::MissingTests));
    assert!(judgement.digest.contains("Ran on the base and not now, bring them back: b"), "{}", judgement.digest);
}

#[tokio::test]
async fn a_skipped_test_is_a_removed_one() {
    let skips = tap(&[("a", true), ("b # SKIP later", true)]);
    let run = scripts(&tap(&[("a", true), ("b", false)]), &skips).judge("sh t.sh").await;
    assert_eq!((run.verdict, run.missing), (Verdict::Red, vec!["b".to_owned()]));
}

#[tokio::test]
async fn fewer_tests_are_noticed_where_a_report_only_counts() {
    let summary = |passed: u32| format!("echo '{passed} passed in 0.10s'; exit 0");
    let run = scripts(&summary(12), &summary(10)).judge("sh t.sh").await;
    assert_eq!((run.verdict, run.missing), (Verdict::Red, vec!["2 tests that the report does not name".to_owned()]));
    assert_eq!(scripts(&summary(12), &summary(13)).judge("sh t.sh").await.verdict, Verdict::Green);
}

#[tokio::test]
async fn an_absent_program_is_the_machines_fault_only_where_the_base_lacks_it_too() {
    let run = script("exit 0").judge("no-such-program --x").await;
    assert_eq!(
        (run.verdict, run.end, run.base_end),
        (Verdict::Inconclusive, CheckEnd::NotStarted, CheckEnd::NotStarted)
    );
    assert_eq!(run.reason, "`no-such-program` was not found on this machine: install it or change the check");
    let run = script("exit 0").judge("true && no-such-program").await;
    assert_eq!(run.end, CheckEnd::NotStarted);
    let run = script("no-such-program").judge("sh t.sh").await;
    assert_eq!((run.verdict, run.end), (Verdict::Red, CheckEnd::NotStarted));
}

#[tokio::test]
async fn a_script_that_only_the_head_has_is_the_changes_own() {
    let world = World::new(&[("a", "")], &[("a", ""), ("new.sh", "exit 4")]);
    let run = world.judge("sh ./new.sh").await;
    assert_eq!((run.verdict, run.end), (Verdict::Red, CheckEnd::Exited(4)), "{}", run.reason);
    let world = World::new(&[("a", "")], &[("a", ""), ("new.sh", "exit 0")]);
    assert_eq!(world.judge("sh ./new.sh").await.verdict, Verdict::Green);
}

#[tokio::test]
async fn a_hang_is_red_where_the_base_ends() {
    let world = scripts("exit 0", "echo going; sleep 1000");
    let mut request = request(&[]);
    request.checks = vec![hasty("sh t.sh")];
    let judgement = world.try_judge(request).await.unwrap();
    let run = &judgement.runs[0];
    assert_eq!((run.verdict, run.end), (Verdict::Red, CheckEnd::TimedOut));
    assert!(
        judgement.digest.contains("did not end in time") && judgement.digest.contains("going"),
        "{}",
        judgement.digest
    );
    world.is_tidy();
}

#[tokio::test]
async fn a_hang_on_both_is_inconclusive() {
    let world = scripts("sleep 1000", "sleep 1000");
    let mut request = request(&[]);
    request.checks = vec![hasty("sh t.sh")];
    assert_eq!(world.try_judge(request).await.unwrap().verdict, Verdict::Inconclusive);
}

#[tokio::test]
async fn a_full_disk_is_red_where_the_base_fits() {
    let world = script("exit 0");
    world.judge("sh t.sh").await;
    *world.sandboxes.ends.lock().unwrap() = Some(Exit::OverQuota { held: 2, quota: 1 });
    let run = world.judge("sh t.sh").await;
    assert_eq!((run.verdict, run.end, run.base_end), (Verdict::Red, CheckEnd::OverQuota, CheckEnd::Exited(0)));
    let run = world.judge("sh ./t.sh").await;
    assert_eq!((run.verdict, run.base_end), (Verdict::Inconclusive, CheckEnd::OverQuota));
}

#[tokio::test]
async fn a_signal_is_told() {
    let run = script("kill -SEGV $$").judge("exec sh t.sh").await;
    assert_eq!((run.verdict, run.end), (Verdict::Red, CheckEnd::Signaled(11)));
}

#[tokio::test]
async fn no_check_is_inconclusive() {
    let judgement = script("exit 0").judgement(&[]).await;
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(judgement.digest.starts_with("No check was run"), "{}", judgement.digest);
}

#[tokio::test]
async fn one_red_check_makes_it_red_and_doubt_beats_green() {
    let world = scripts("exit 1", "exit 1");
    assert_eq!(world.judgement(&["true", "sh t.sh"]).await.verdict, Verdict::Inconclusive);
    let world = scripts("exit 0", "exit 1");
    let judgement = world.judgement(&["true", "no-such-program", "sh t.sh"]).await;
    let verdicts: Vec<_> = judgement.runs.iter().map(|run| run.verdict).collect();
    assert_eq!(verdicts, [Verdict::Green, Verdict::Inconclusive, Verdict::Red]);
    assert_eq!(judgement.verdict, Verdict::Red);
    assert!(judgement.digest.ends_with("Green: `true`."), "{}", judgement.digest);
}

#[tokio::test]
async fn a_path_outside_the_allowed_ones_is_red_by_itself() {
    let world = World::new(&[("src/a", "1")], &[("src/a", "2"), ("docs/b", "new")]);
    let mut request = request(&["true"]);
    request.allowed_paths = vec!["/src/".to_owned()];
    let judgement = world.try_judge(request).await.unwrap();
    assert_eq!((judgement.verdict, &judgement.outside_allowed), (Verdict::Red, &vec!["docs/b".to_owned()]));
    assert!(judgement.digest.contains("take the changes to them back: docs/b"), "{}", judgement.digest);
    assert!(!judgement.fingerprint.is_empty());
}

#[tokio::test]
async fn protected_files_come_from_the_base() {
    let cheats = [("t.sh", "exit 0"), ("extra", ""), (".github/workflows/ci.yml", "none")];
    let world = World::new(&[("t.sh", "test ! -e extra && exit 7"), (".github/workflows/ci.yml", "all")], &cheats);
    let mut request = request(&["sh t.sh", "grep -q all .github/workflows/ci.yml"]);
    request.protected_paths = vec!["t.sh".to_owned(), "extra".to_owned()];
    let judgement = world.try_judge(request).await.unwrap();
    assert_eq!(judgement.runs[0].end, CheckEnd::Exited(7));
    assert_eq!(judgement.runs[1].verdict, Verdict::Green);
    assert_eq!(judgement.protected_touched, [".github/workflows/ci.yml", "extra", "t.sh"]);
    assert!(judgement.risks().contains(&Risk::ProtectedPaths));
}

#[tokio::test]
async fn a_check_finds_its_environment_and_no_input() {
    let world = script("exit 0");
    let mut request = request(&["env; pwd; cat; exit 0"]);
    request.env = vec![("COLOR".to_owned(), "blue".to_owned()), ("CI".to_owned(), "mine".to_owned())];
    let judgement = world.try_judge(request).await.unwrap();
    let log = String::from_utf8(world.log(&judgement.runs[0])).unwrap();
    for line in ["CI=mine", "OVERNIGHT=1", "NO_COLOR=1", "TERM=dumb", "COLOR=blue", "CARGO_TERM_COLOR=never"] {
        assert!(log.lines().any(|one| one == line), "{line} in {log}");
    }
    assert!(!log.contains("CI=true"));
}

#[tokio::test]
async fn junit_files_count_only_where_the_run_wrote_them() {
    let rosy = r#"<testsuite><testcase classname="c" name="committed"/></testsuite>"#;
    let real = r#"<testsuite><testcase classname="c" name="a"/><testcase classname="c" name="b"><failure message="no"/></testcase></testsuite>"#;
    let writes = format!("mkdir -p test-results; echo '{real}' > test-results/r.xml; exit 1");
    let world = World::new(&[("t.sh", "exit 0")], &[("t.sh", &writes), ("junit.xml", rosy)]);
    let run = world.judge("sh t.sh").await;
    assert_eq!((run.passed, run.failed, run.new_failures), (1, 1, vec!["c b".to_owned()]));
}

#[tokio::test]
async fn a_link_in_the_place_of_a_report_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    let report = r#"<testsuite><testcase name="outside"><failure/></testcase></testsuite>"#;
    std::fs::write(outside.path().join("r.xml"), report).unwrap();
    let place = outside.path().display();
    let run =
        script(&format!("ln -s {place} test-results; ln -s {place}/r.xml junit.xml; exit 0")).judge("sh t.sh").await;
    assert_eq!((run.verdict, run.failed), (Verdict::Green, 0));
}

#[tokio::test]
async fn a_link_in_the_workspace_does_not_pass_off_what_was_committed_as_a_report() {
    let rosy = r#"<testsuite><testcase name="committed"/></testsuite>"#;
    let files = [("t.sh", "ln -s kept test-results; ln -s kept/r.xml junit.xml; exit 0"), ("kept/r.xml", rosy)];
    let run = World::new(&[("t.sh", "exit 0")], &files).judge("sh t.sh").await;
    assert_eq!((run.verdict, run.passed), (Verdict::Green, 0));
}

#[tokio::test]
async fn paths_are_told_from_the_root_of_the_repository() {
    let world = script("echo \"$PWD/src/a.c:3:1: error: bad\"; exit 1");
    let digest = world.judgement(&["sh t.sh"]).await.digest;
    assert!(digest.contains("- src/a.c:3: error: bad"), "{digest}");
    assert!(!digest.contains(&*world.trees.home.to_string_lossy()), "{digest}");
}

#[tokio::test]
async fn a_sarif_file_says_where_once_the_run_has_written_it() {
    let file = r#"{"runs":[{"results":[{"ruleId":"R1","level":"error","message":{"text":"bad"},"locations":[{"physicalLocation":
        {"artifactLocation":{"uri":"file://$PWD/src/a.py"},"region":{"startLine":3}}}]}]}]}"#;
    let world = script(&format!("cat > lint.sarif <<END\n{file}\nEND\nexit 1"));
    let judgement = world.judgement(&["sh t.sh"]).await;
    assert_eq!(judgement.verdict, Verdict::Red);
    assert!(judgement.digest.contains("- src/a.py:3: R1 bad"), "{}", judgement.digest);
}

#[tokio::test]
async fn a_large_output_is_kept_whole_and_told_briefly() {
    let noise = "i=0; while [ $i -lt 30000 ]; do echo \"line $i of a talkative check that prints a lot of words each time\"; i=$((i+1)); done";
    let world = script(&format!("{noise}; echo the last words; exit 1"));
    let judgement = world.judgement(&["sh t.sh"]).await;
    let log = world.log(&judgement.runs[0]);
    assert!(log.len() > 2_000_000 && log.ends_with(b"the last words\n"), "{}", log.len());
    let digest = &judgement.digest;
    assert!(digest.len() <= 4096 && digest.len() > 3000, "{}", digest.len());
    assert!(
        digest.contains("line 0 of") && digest.contains("bytes left out") && digest.ends_with("the last words"),
        "{digest}"
    );
}

#[tokio::test]
async fn output_beyond_the_limit_keeps_its_last_words() {
    let noise =
        "i=0; while [ $i -lt 5000 ]; do echo \"line $i of a talkative check\"; i=$((i+1)); done; echo the end; exit 1";
    let files = [("t.sh", noise)];
    let world = World::tuned(&[("t.sh", "exit 0")], &files, |options| options.output_bytes = 80_000);
    let run = world.judge("sh t.sh").await;
    let log = String::from_utf8(world.log(&run)).unwrap();
    assert!(log.contains("bytes were not kept]") && log.ends_with("the end\n"), "{}", &log[log.len() - 200..]);
}

#[tokio::test]
async fn output_that_is_not_text_is_kept_as_it_is() {
    let world = script(r"printf '\377\376 broken \000 bytes\n'; exit 1");
    let judgement = world.judgement(&["sh t.sh"]).await;
    assert_eq!(world.log(&judgement.runs[0]), b"\xff\xfe broken \0 bytes\n");
    assert!(judgement.digest.contains("broken"), "{}", judgement.digest);
}

#[tokio::test]
async fn long_lists_are_capped_and_stand_whole_in_the_log() {
    let names: Vec<String> = (0..120).map(|nth| format!("test {nth:03}")).collect();
    let tests: Vec<(&str, bool)> = names.iter().map(|name| (name.as_str(), false)).collect();
    let world = script(&tap(&tests));
    let judgement = world.judgement(&["sh t.sh"]).await;
    let run = &judgement.runs[0];
    assert_eq!((run.failed, run.new_failures.len()), (120, 50));
    let log = String::from_utf8(world.log(run)).unwrap();
    assert!(log.contains("==== New failures (120) ====\ntest 000\n"), "{log}");
    assert!(judgement.digest.len() <= 4096);
}

#[tokio::test]
async fn the_same_failure_has_the_same_fingerprint() {
    async fn print(head: &str) -> String {
        script(head).judgement(&["sh t.sh"]).await.fingerprint
    }
    let first = print("echo 'error: expected 3 at 0x7f1 after 12ms'; exit 1").await;
    assert_eq!(first, print("echo 'error: expected 4 at 0x9 after 7ms'; exit 1").await);
    assert_ne!(first, print("echo 'error: wanted 3'; exit 1").await);
    let test = print(&tap(&[("a", false)])).await;
    assert_eq!(test, print(&format!("echo noise 7; {}", tap(&[("a", false), ("z", true)]))).await);
    assert_ne!(test, print(&tap(&[("b", false)])).await);
}

#[tokio::test]
async fn a_sandbox_that_cannot_open_is_a_fault_and_leaves_nothing() {
    let world = script("exit 0");
    *world.sandboxes.refuses.lock().unwrap() = Some(Fault::environment("no user namespaces"));
    let fault = world.try_judge(request(&["sh t.sh"])).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Environment);
    let trees = world.trees.clone();
    crate::world::until("the clearing away", || trees.live.lock().unwrap().is_empty()).await;
}

#[tokio::test]
async fn an_unknown_commit_is_a_fault() {
    let world = script("exit 0");
    world.trees.commits.lock().unwrap().remove(head().as_str());
    assert_eq!(world.try_judge(request(&["true"])).await.unwrap_err().class, FaultClass::NotFound);
    world.trees.commits.lock().unwrap().insert(head().as_str().to_owned(), tree(&[]));
    assert_ne!(base(), head());
}

#[tokio::test]
async fn a_judgement_survives_its_own_json() {
    let judgement = scripts(&tap(&[("a", true)]), &tap(&[("a", false)])).judgement(&["sh t.sh"]).await;
    let again: Judgement = serde_json::from_str(&serde_json::to_string(&judgement).unwrap()).unwrap();
    assert_eq!(again, judgement);
}
