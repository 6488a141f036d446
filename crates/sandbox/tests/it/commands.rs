//! A command's life: how it ends, what it prints, what it is given.

use std::{fs, sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{
    FaultClass,
    ports::sandbox::{Confinement, Exec, Exit, Limits, Sandboxes as _},
};

use crate::host::{BOTH, LONG, Place, exec, printed, run, sandboxes, sh, text};

#[tokio::test]
async fn ends_are_told_apart() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        assert_eq!(run(&*sandbox, exec(&["true"])).await.0, Exit::Code(0));
        assert_eq!(run(&*sandbox, sh("exit 7")).await.0, Exit::Code(7));
        assert_eq!(run(&*sandbox, sh("kill -SEGV $$")).await.0, Exit::Signal(libc::SIGSEGV));
        // A shell's own words about a missing program are an ordinary end.
        assert_eq!(run(&*sandbox, sh("no-such-program")).await.0, Exit::Code(127));
        for missing in ["no-such-program", "./no-such-file", "/workspace", ""] {
            assert_eq!(run(&*sandbox, exec(&[missing])).await.0, Exit::NotStarted, "{missing}");
        }
        fs::write(place.root().join("plain"), "text").unwrap();
        assert_eq!(run(&*sandbox, exec(&["./plain"])).await.0, Exit::NotStarted);
    }
}

#[tokio::test]
async fn an_end_stays_an_end() {
    let sandbox = Place::new();
    let sandbox = sandbox.open(Confinement::Confined).await;
    let mut process = sandbox.spawn(sh("exit 3")).await.unwrap();
    assert_eq!(process.wait(LONG).await, Some(Exit::Code(3)));
    assert_eq!(process.wait(Duration::ZERO).await, Some(Exit::Code(3)));
    process.kill().await;
    assert_eq!(process.wait(Duration::ZERO).await, Some(Exit::Code(3)));
}

#[tokio::test]
async fn impatience_leaves_it_running() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let mut process = sandbox.spawn(sh("echo begun; until test -e go; do sleep 0.01; done; echo done")).await.unwrap();
    printed(&*process, "begun").await;
    assert_eq!(process.wait(Duration::from_millis(1)).await, None);
    fs::write(place.root().join("go"), "").unwrap();
    assert_eq!(process.wait(LONG).await, Some(Exit::Code(0)));
    assert_eq!(text(&process.output()), "begun\ndone\n");
}

#[tokio::test]
async fn a_timeout_kills_the_whole_tree() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let mark = crate::host::mark();
        let timeout = Duration::from_millis(200);
        let script = format!("setsid sleep {mark} & trap '' TERM INT HUP; sleep {mark}");
        let mut process = sandbox.spawn(Exec { timeout, ..sh(&script) }).await.unwrap();
        assert_eq!(process.wait(LONG).await, Some(Exit::TimedOut));
        assert_eq!(crate::host::alive(&mark), 0);
    }
}

#[tokio::test]
async fn standard_input_is_given_and_closed() {
    for confinement in BOTH {
        let sandbox = Place::new();
        let sandbox = sandbox.open(confinement).await;
        let long = "line\n".repeat(100_000);
        let stdin = Bytes::from(long.clone());
        assert_eq!(run(&*sandbox, Exec { stdin, ..exec(&["wc", "-c"]) }).await.1.trim(), long.len().to_string());
        assert_eq!(run(&*sandbox, exec(&["wc", "-c"])).await.1.trim(), "0");
    }
}

#[tokio::test]
async fn output_is_in_order_and_may_be_any_bytes() {
    let sandbox = Place::new();
    let sandbox = sandbox.open(Confinement::Confined).await;
    let script = "for n in 1 2 3; do echo out $n; echo err $n >&2; done; printf '\\377\\000\\376'";
    let mut process = sandbox.spawn(sh(script)).await.unwrap();
    process.wait(LONG).await.unwrap();
    let output = process.output();
    assert_eq!(&output.head[..], b"out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n\xff\0\xfe");
    assert_eq!((output.total, output.tail.len(), output.file), (39, 0, None));
}

#[tokio::test]
async fn a_long_output_is_kept_in_a_file() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let mut process = sandbox.spawn(sh("seq 1 100000")).await.unwrap();
    assert_eq!(process.wait(LONG).await, Some(Exit::Code(0)));
    let output = process.output();
    let all = fs::read(output.file.unwrap()).unwrap();
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(output.total, expected.len() as u64);
    assert!(all == expected.as_bytes());
    assert_eq!(&output.head[..], &all[..32 << 10]);
    assert_eq!(&output.tail[..], &all[all.len() - (32 << 10)..]);
}

#[tokio::test]
async fn a_flood_is_counted_and_cut() {
    let place = Place::new();
    let mut spec = place.spec(Confinement::Confined);
    spec.limits = Limits { output_bytes: 1 << 20, ..Limits::default() };
    let sandbox = sandboxes().open(spec).await.unwrap();
    let mut process = sandbox.spawn(sh("head -c 1000000000 /dev/zero; echo end")).await.unwrap();
    assert_eq!(process.wait(LONG).await, Some(Exit::Code(0)));
    let output = process.output();
    assert_eq!(output.total, 1_000_000_004);
    assert!(output.tail.ends_with(b"\0end\n"));
    assert_eq!(fs::metadata(output.file.unwrap()).unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn output_that_cannot_be_kept_is_still_read() {
    let place = Place::new();
    // A file where the directory for output should be.
    fs::write(place.path().join("spill"), "").unwrap();
    let sandbox = place.open(Confinement::Confined).await;
    let mut process = sandbox.spawn(sh("seq 1 100000")).await.unwrap();
    assert_eq!(process.wait(LONG).await, Some(Exit::Code(0)));
    let output = process.output();
    assert_eq!((output.total, output.file), (588_895, None));
    assert!(output.tail.ends_with(b"100000\n"));
}

#[tokio::test]
async fn the_environment_is_cleared_and_the_last_word_wins() {
    for confinement in BOTH {
        let place = Place::new();
        let mut spec = place.spec(confinement);
        spec.env = vec![("ONE".into(), "spec".into()), ("TWO".into(), "spec".into())];
        let sandbox = sandboxes().open(spec).await.unwrap();
        let env = vec![("TWO".to_owned(), "exec".to_owned())];
        let (_, printed) = run(&*sandbox, Exec { env, ..exec(&["env"]) }).await;
        let lines: Vec<&str> = printed.lines().collect();
        assert!(
            lines.contains(&"ONE=spec") && lines.contains(&"TWO=exec") && !lines.contains(&"TWO=spec"),
            "{printed}"
        );
        assert!(!printed.contains("CARGO_PKG") && !printed.contains("CARGO_MANIFEST"), "{printed}");
        if confinement == Confinement::Confined {
            assert!(
                lines.contains(&"HOME=/home/agent") && lines.contains(&"OVERNIGHT_WORKSPACE=/workspace"),
                "{printed}"
            );
        }
    }
}

#[tokio::test]
async fn the_working_directory_is_the_workspace_or_below() {
    for confinement in BOTH {
        let place = Place::new();
        fs::create_dir_all(place.root().join("a/b")).unwrap();
        let sandbox = place.open(confinement).await;
        let root = match confinement {
            Confinement::Confined => "/workspace".into(),
            Confinement::Unconfined => fs::canonicalize(place.root()).unwrap(),
        };
        for (cwd, expected) in
            [(None, root.clone()), (Some("/workspace/a"), root.join("a")), (Some("a/b"), root.join("a/b"))]
        {
            let cwd = cwd.map(str::to_owned);
            let (_, printed) = run(&*sandbox, Exec { cwd, ..exec(&["/bin/pwd"]) }).await;
            assert_eq!(printed.trim(), expected.to_str().unwrap());
        }
        let Err(fault) = sandbox.spawn(Exec { cwd: Some("no/where".into()), ..exec(&["pwd"]) }).await else { panic!() };
        assert_eq!(fault.class, FaultClass::Input);
        assert!(fault.what.contains("no/where"), "{fault}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_command_is_refused() {
    let sandbox = Place::new();
    let sandbox = sandbox.open(Confinement::Confined).await;
    let long = "x".repeat(200_000);
    for argv in [&[][..], &["echo", "nul\0"], &["echo", &long]] {
        let Err(fault) = sandbox.spawn(exec(argv)).await else { panic!("{argv:?}") };
        assert_eq!(fault.class, FaultClass::Input, "{fault}");
    }
    // Not too long: every single argument is within the system's limit.
    let many = vec![&long[..100_000]; 10];
    let argv: Vec<&str> = std::iter::once("true").chain(many).collect();
    assert_eq!(run(&*sandbox, exec(&argv)).await.0, Exit::Code(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let sandbox = Arc::clone(&sandbox);
        tasks.spawn(async move {
            let (exit, printed) = run(&*sandbox, sh(&format!("echo {number}; exit {}", number % 100))).await;
            assert_eq!((exit, printed), (Exit::Code(number % 100), format!("{number}\n")));
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn signals_and_descriptors_are_as_for_a_fresh_login() {
    for confinement in BOTH {
        let sandbox = Place::new();
        let sandbox = sandbox.open(confinement).await;
        let (_, printed) = run(&*sandbox, sh("grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd")).await;
        let words: Vec<&str> = printed.split_whitespace().collect();
        let [blocked, ignored] = [words[1], words[3]].map(|mask| u64::from_str_radix(mask, 16).unwrap());
        // Two real-time signals belong to the C library, which nobody can set.
        assert_eq!((blocked, ignored & !0x1_8000_0000), (0, 0));
        // Without a shell in between, which would mend it.
        let (_, own) = run(&*sandbox, exec(&["grep", "SigBlk", "/proc/self/status"])).await;
        assert_eq!(own, "SigBlk:\t0000000000000000\n");
        // The last is the directory that `ls` reads.
        assert_eq!(words[4..], ["0", "1", "2", "3"]);
        // A broken pipe ends its writer.
        assert_eq!(run(&*sandbox, sh("yes | head -n 1")).await, (Exit::Code(0), "y\n".to_owned()));
    }
}
