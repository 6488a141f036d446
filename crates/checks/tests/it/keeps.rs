//! The base's results: run once, kept where the commit alone decides them, found anew where the machine may be to blame.

use std::sync::{Arc, atomic::Ordering};

use domain::{
    check::{CheckEnd, Verdict},
    ids::{AttemptKey, AttemptNo, TaskId},
    ports::checks::Checks as _,
};

use crate::world::{World, hasty, request, tap, until};

fn opened(world: &World) -> usize {
    world.sandboxes.opened.load(Ordering::SeqCst)
}

#[tokio::test]
async fn the_base_runs_once_for_many_judgements_at_a_time() {
    let world = Arc::new(World::tuned(&[("a", "1")], &[("a", "2")], |options| options.parallel = Some(4)));
    let judge = |task| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let mut request = request(&["true"]);
            request.key = AttemptKey { task: TaskId(task), attempt: AttemptNo(1) };
            world.try_judge(request).await.unwrap().verdict
        })
    };
    let tasks: Vec<_> = (1..=100).map(judge).collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Verdict::Green);
    }
    assert_eq!(opened(&world), 101);
    world.is_tidy();
}

#[tokio::test]
async fn a_kept_result_needs_no_run() {
    let world = World::new(&[("t.sh", &tap(&[("a", false)]))], &[("t.sh", &tap(&[("a", false)]))]);
    assert_eq!(world.judge("sh t.sh").await.verdict, Verdict::Green);
    let again = world.judge("sh t.sh").await;
    assert_eq!((again.verdict, again.base_end, opened(&world)), (Verdict::Green, CheckEnd::Exited(1), 3));
}

#[tokio::test]
async fn another_command_or_environment_is_another_result() {
    let world = World::new(&[("a", "1")], &[("a", "2")]);
    world.judge("true").await;
    world.judge("true ").await;
    let mut with_env = request(&["true"]);
    with_env.env = vec![("A".to_owned(), "b".to_owned())];
    world.try_judge(with_env).await.unwrap();
    assert_eq!((opened(&world), world.memory.kept.lock().unwrap().len()), (6, 3));
}

#[tokio::test]
async fn what_the_machine_may_be_to_blame_for_is_not_kept() {
    for command in ["no-such-program", "kill -KILL $$", "echo 'disk full'; exit 1"] {
        let world = World::new(&[("a", "1")], &[("a", "2")]);
        world.judge(command).await;
        assert!(world.memory.kept.lock().unwrap().is_empty(), "{command}");
        world.judge(command).await;
        assert_eq!(opened(&world), 4, "{command}");
    }
    let world = World::new(&[("a", "1")], &[("a", "2")]);
    let mut slow = request(&[]);
    slow.checks = vec![hasty("sleep 1000")];
    assert_eq!(world.try_judge(slow).await.unwrap().runs[0].base_end, CheckEnd::TimedOut);
    assert!(world.memory.kept.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_cache_that_fails_or_lies_costs_a_run_only() {
    let world = World::new(&[("a", "1")], &[("a", "2")]);
    *world.memory.fails.lock().unwrap() = true;
    assert_eq!(world.judge("true").await.verdict, Verdict::Green);
    *world.memory.fails.lock().unwrap() = false;
    world.judge("true").await;
    world.memory.kept.lock().unwrap().values_mut().for_each(|value| *value = "{garbage".to_owned());
    assert_eq!(world.judge("true").await.verdict, Verdict::Green);
    assert_eq!(opened(&world), 6);
}

#[tokio::test]
async fn a_dropped_judgement_clears_everything_away() {
    let world = Arc::new(World::new(&[("a", "1")], &[("a", "2")]));
    let judging = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.checks.judge(request(&["sleep 1000 & sleep 1000"])).await })
    };
    until("the runs' start", || opened(&world) == 2).await;
    judging.abort();
    until("the clearing away", || world.trees.live.lock().unwrap().is_empty()).await;
    until("the sandboxes' end", || world.sandboxes.open.load(Ordering::SeqCst) == 0).await;
    world.is_tidy();
}

#[tokio::test]
async fn who_waits_for_a_dropped_base_run_takes_it_over() {
    // The base waits for a file that only appears once the first judgement is gone.
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("open");
    let waits = format!("while [ ! -e {} ]; do sleep 0.01; done", gate.display());
    let world = Arc::new(World::tuned(&[("t.sh", &waits)], &[("t.sh", "exit 0")], |options| options.parallel = None));
    let judge = || {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.checks.judge(request(&["sh t.sh"])).await })
    };
    let first = judge();
    until("the first's runs", || opened(&world) == 2).await;
    let second = judge();
    until("the second's run", || opened(&world) == 3).await;
    first.abort();
    until("the second's base run", || opened(&world) == 4).await;
    std::fs::write(&gate, "").unwrap();
    assert_eq!(second.await.unwrap().unwrap().verdict, Verdict::Green);
    until("the clearing away", || world.trees.live.lock().unwrap().is_empty()).await;
}

#[tokio::test]
async fn no_more_runs_at_a_time_than_there_are_slots() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display();
    // Each run notes how many others it sees.
    let command =
        format!("mkdir {place}/run-$$ && ls {place} | grep -c run- >> {place}/seen; sleep 0.02; rmdir {place}/run-$$");
    let world = World::tuned(&[("a", "1")], &[("a", "2")], |options| options.parallel = Some(1));
    let commands: Vec<String> = (0..4).map(|nth| format!("{command} # {nth}")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    assert_eq!(world.judgement(&commands).await.verdict, Verdict::Green);
    let seen = std::fs::read_to_string(directory.path().join("seen")).unwrap();
    assert_eq!(seen.lines().collect::<Vec<_>>(), ["1"; 8]);
}
