//! Environments of checks: services, the network, tiers, places.

use std::sync::{Arc, atomic::Ordering};

use domain::{
    check::{CheckEnd, CheckSpec, Verdict},
    environment::EnvironmentId,
    ports::{checks::Checks as _, egress::Refusal, environments::Purpose},
};

use crate::world::{World, request, slow, tap, until};

fn scripts(base: &str, head: &str) -> World {
    World::new(&[("t.sh", base)], &[("t.sh", head)])
}

fn refusal(host: &str) -> Refusal {
    let why = "not on the allow-list".to_owned();
    Refusal { host: host.to_owned(), port: 443, why, entry: Some(host.to_owned()), by: None }
}

fn not_ready(world: &World) {
    world
        .environments
        .note(["The service `db` is not ready: nothing listens on port 5432. Its last words:\nno room".to_owned()]);
}

#[tokio::test]
async fn sandboxes_are_furnished_for_checks() {
    let world = scripts("exit 0", "exit 0");
    world.judge("sh t.sh").await;
    assert_eq!(world.environments.purposes(), [Purpose::Check; 2]);
}

#[tokio::test]
async fn what_was_blocked_is_told_where_the_check_fails() {
    let world = scripts("exit 0", "exit 1");
    world.environments.refuse([refusal("pypi.org"), refusal("pypi.org")]);
    let judgement = world.judgement(&["sh t.sh", "true"]).await;
    let (failing, passing) = (&judgement.runs[0], &judgement.runs[1]);
    let told = "blocked: pypi.org — add it to [checks] network in overnight.toml";
    assert_eq!(failing.reason, format!("exit code 1; the base passes; {told}"));
    assert_eq!(
        (failing.blocked.as_slice(), &passing.blocked),
        (["pypi.org:443".to_owned()].as_slice(), &failing.blocked)
    );
    assert_eq!(passing.reason, "it passes");
    assert!(judgement.digest.contains(told), "{}", judgement.digest);
}

#[tokio::test]
async fn a_service_that_is_not_ready_leaves_only_success_to_say_anything() {
    let world = scripts("exit 0", "exit 1");
    not_ready(&world);
    let run = world.judge("sh t.sh").await;
    assert_eq!(run.verdict, Verdict::Inconclusive);
    let why = "exit code 1; the base passes; but the service `db` is not ready: nothing listens on port 5432";
    assert_eq!(run.reason, why);
    let log = String::from_utf8(world.log(&run)).unwrap();
    assert!(log.contains("==== Service ====\nThe service `db` is not ready") && log.ends_with("no room\n"), "{log}");
    assert_eq!(world.judge("true").await.verdict, Verdict::Green);
    assert!(world.memory.kept.lock().unwrap().is_empty(), "what the base did without its service is not kept");
}

#[tokio::test]
async fn a_base_without_its_service_excuses_no_failure() {
    let failing = tap(&[("a", false)]);
    let world = scripts(&failing, &failing);
    not_ready(&world);
    // The base fails for want of its service; were that kept, the head's own failure would be a known one.
    assert_eq!(world.judge("sh t.sh").await.verdict, Verdict::Inconclusive);
    world.environments.note([]);
    assert_eq!(world.judge("sh t.sh").await.verdict, Verdict::Green);
}

#[tokio::test]
async fn another_layer_is_another_base_result() {
    let world = scripts("exit 0", "exit 0");
    world.judge("sh t.sh").await;
    let mut request = request(&["sh t.sh"]);
    request.surroundings.environment = EnvironmentId::parse(&"a".repeat(16));
    world.try_judge(request).await.unwrap();
    assert_eq!(world.memory.kept.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn slow_checks_wait_for_the_fast_ones() {
    let world = scripts("exit 0", "exit 0");
    let mut asked = request(&[]);
    asked.checks = vec![slow("echo slow"), CheckSpec::from_command("sh t.sh")];
    let judgement = world.try_judge(asked.clone()).await.unwrap();
    assert_eq!(judgement.verdict, Verdict::Green);
    assert_eq!(world.log(&judgement.runs[0]), b"slow\n");

    for (base, head, verdict) in [("exit 0", "exit 1", Verdict::Red), ("exit 1", "exit 1", Verdict::Inconclusive)] {
        let world = scripts(base, head);
        let judgement = world.try_judge(asked.clone()).await.unwrap();
        let slow = &judgement.runs[0];
        assert_eq!((judgement.verdict, slow.verdict, slow.end), (verdict, Verdict::Inconclusive, CheckEnd::NotRun));
        assert_eq!(world.sandboxes.opened.load(Ordering::SeqCst), 2, "neither head nor base ran it");
        assert!(
            judgement.digest.ends_with("Not run, as a fast check is not green: `echo slow`."),
            "{}",
            judgement.digest
        );
    }
}

#[tokio::test]
async fn slow_checks_alone_run() {
    let world = scripts("exit 0", "exit 1");
    let mut asked = request(&[]);
    asked.checks = vec![slow("sh t.sh")];
    assert_eq!(world.try_judge(asked).await.unwrap().runs[0].end, CheckEnd::Exited(1));
}

#[tokio::test]
async fn a_check_that_hangs_makes_room_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("open");
    let waits = format!("while [ ! -e {} ]; do sleep 0.01; done", gate.display());
    let world = Arc::new(World::tuned(&[("t.sh", "exit 0")], &[("t.sh", &waits)], |options| {
        options.parallel = Some(1);
        options.late_after = std::time::Duration::from_millis(1);
    }));
    let hanging = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.checks.judge(request(&["sh t.sh"])).await })
    };
    until("its runs", || world.sandboxes.opened.load(Ordering::SeqCst) == 2).await;
    assert_eq!(world.judgement(&["true"]).await.verdict, Verdict::Green);
    std::fs::write(&gate, "").unwrap();
    assert_eq!(hanging.await.unwrap().unwrap().verdict, Verdict::Green);
    world.is_tidy();
}
