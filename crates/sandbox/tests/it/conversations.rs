//! Commands that are talked with, line by line.

use std::{fs, sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{
    FaultClass,
    ports::sandbox::{
        Confinement, Conversation, Exec, Exit, Input, LINE_BYTES, Lines, Sandbox, SandboxSpec, Sandboxes as _,
    },
    redact::Redactor,
};
use futures::{FutureExt, join};

use crate::host::{BOTH, LONG, Place, alive, exec, mark, sandboxes, sh, text};

async fn talk(sandbox: &dyn Sandbox, script: &str) -> Conversation {
    sandbox.converse(sh(script)).await.unwrap()
}

async fn line(lines: &mut Box<dyn Lines>) -> Bytes {
    lines.next().await.unwrap().expect("a further line")
}

async fn ended(lines: &mut Box<dyn Lines>) -> bool {
    lines.next().await.unwrap().is_none()
}

async fn say(input: &mut Box<dyn Input>, words: &'static str) {
    input.write(Bytes::from_static(words.as_bytes())).await.unwrap();
}

#[tokio::test]
async fn words_go_in_and_lines_come_out() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let script = "while read word; do echo got $word; echo heard $word >&2; done; echo over; exit 3";
        let Conversation { mut process, mut input, mut lines } = talk(&*sandbox, script).await;
        assert_eq!(sandbox.running().len(), 1);
        say(&mut input, "one\ntw").await;
        assert_eq!(line(&mut lines).await, "got one");
        say(&mut input, "o\n").await;
        assert_eq!(line(&mut lines).await, "got two");
        drop(input);
        assert_eq!(line(&mut lines).await, "over");
        assert!(ended(&mut lines).await && ended(&mut lines).await);
        assert_eq!(process.wait(LONG).await, Some(Exit::Code(3)));
        assert_eq!(text(&process.output()), "heard one\nheard two\n");
    }
}

#[tokio::test]
async fn lines_may_be_any_bytes_and_the_last_needs_no_end() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let mut told = talk(&*sandbox, "printf '\\377\\000\\n\\n\\r\\nlast'").await;
    for expected in [&b"\xff\0"[..], b"", b"\r", b"last"] {
        assert_eq!(line(&mut told.lines).await, expected);
    }
    assert!(ended(&mut told.lines).await);
}

#[tokio::test]
async fn a_line_that_is_too_long_is_told_once_and_skipped() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let script = format!(
        "line() {{ head -c $1 /dev/zero; echo; }}; line {LINE_BYTES}; line $(({LINE_BYTES} + 1)); line 40000000; \
         echo after; head -c 40000000 /dev/zero"
    );
    let mut told = talk(&*sandbox, &script).await;
    assert_eq!(line(&mut told.lines).await.len(), LINE_BYTES);
    for _ in 0..2 {
        assert_eq!(told.lines.next().await.unwrap_err().class, FaultClass::Input);
    }
    assert_eq!(line(&mut told.lines).await, "after");
    assert_eq!(told.lines.next().await.unwrap_err().class, FaultClass::Input);
    assert!(ended(&mut told.lines).await);
    assert_eq!(told.process.wait(LONG).await, Some(Exit::Code(0)));
}

#[tokio::test]
async fn what_is_not_read_holds_the_command_up() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    // A write that would wait fails.
    let mut told = talk(&*sandbox, "dd if=/dev/zero bs=4096 count=1000 oflag=nonblock").await;
    assert_eq!(told.process.wait(LONG).await, Some(Exit::Code(1)));
    assert!(text(&told.process.output()).contains("unavailable"), "{}", text(&told.process.output()));
    let read = line(&mut told.lines).await.len();
    assert!((1..=64 << 10).contains(&read), "{read}");
}

#[tokio::test]
async fn a_flood_is_read_to_its_end_by_who_cannot_get_a_word_in() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let ninety_nine = "x".repeat(99);
    let mut told = talk(&*sandbox, &format!("yes {ninety_nine} | head -n 1000000; echo over; wc -c >&2")).await;
    let (mut input, words) = (told.input, Bytes::from(vec![b'w'; 1 << 20]));
    let speaking = async {
        input.write(words).await.unwrap();
        drop(input);
    };
    let listening = async {
        for _ in 0..1_000_000 {
            assert_eq!(line(&mut told.lines).await, ninety_nine);
        }
        line(&mut told.lines).await
    };
    assert_eq!(join!(speaking, listening).1, "over");
    assert_eq!(told.process.wait(LONG).await, Some(Exit::Code(0)));
    assert_eq!(text(&told.process.output()), "1048576\n");
}

#[tokio::test]
async fn who_does_not_listen_blocks_nobody_else() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let mark = mark();
        let mut told = talk(&*sandbox, &format!("echo here; exec sleep {mark}")).await;
        let mut writing = told.input.write(Bytes::from(vec![0; 1 << 20]));
        assert!(writing.as_mut().now_or_never().is_none());
        assert_eq!(line(&mut told.lines).await, "here");
        let (written, ()) = join!(writing, told.process.kill());
        assert_eq!(written.unwrap_err().class, FaultClass::Transient);
        assert!(ended(&mut told.lines).await);
        assert_eq!(alive(&mark), 0);
        assert_eq!(told.input.write(Bytes::from_static(b"x")).await.unwrap_err().class, FaultClass::Transient);
    }
}

#[tokio::test]
async fn a_command_may_close_either_end_and_live_on() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let mark = mark();
    let mut deaf = talk(&*sandbox, &format!("exec <&-; echo deaf; exec sleep {mark}")).await;
    assert_eq!(line(&mut deaf.lines).await, "deaf");
    assert_eq!(deaf.input.write(Bytes::from_static(b"x")).await.unwrap_err().class, FaultClass::Transient);
    assert_eq!(deaf.process.wait(Duration::ZERO).await, None);

    let mut mute = talk(&*sandbox, "exec >&-; read word; exit 5").await;
    assert!(ended(&mut mute.lines).await);
    assert_eq!(mute.process.wait(Duration::ZERO).await, None);
    say(&mut mute.input, "go\n").await;
    assert_eq!(mute.process.wait(LONG).await, Some(Exit::Code(5)));
}

#[tokio::test]
async fn a_child_may_speak_on_when_the_command_has_ended() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let script = "(until test -e go; do sleep 0.01; done; echo late) & echo early; exit 3";
        let mut told = talk(&*sandbox, script).await;
        assert_eq!(told.process.wait(LONG).await, Some(Exit::Code(3)));
        assert_eq!(line(&mut told.lines).await, "early");
        assert!(told.lines.next().now_or_never().is_none());
        fs::write(place.root().join("go"), "").unwrap();
        assert_eq!(line(&mut told.lines).await, "late");
        assert!(ended(&mut told.lines).await);

        let mark = mark();
        let mut told = talk(&*sandbox, &format!("trap '' HUP; setsid sleep {mark} & exit 0")).await;
        assert_eq!(told.process.wait(LONG).await, Some(Exit::Code(0)));
        let (ended, ()) = join!(ended(&mut told.lines), told.process.kill());
        assert!(ended);
        assert_eq!(alive(&mark), 0);
    }
}

#[tokio::test]
async fn nothing_is_lost_by_looking_in_vain() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let mut told = talk(&*sandbox, "printf 'half '; read word; echo whole $word").await;
    for _ in 0..100 {
        assert!(told.lines.next().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    say(&mut told.input, "now\n").await;
    assert_eq!(line(&mut told.lines).await, "half whole now");
}

#[tokio::test]
async fn lines_end_with_the_time_and_the_handle() {
    let place = Place::new();
    let sandbox = place.open(Confinement::Confined).await;
    let mark = mark();
    let timeout = Duration::from_millis(50);
    let mut late = sandbox.converse(Exec { timeout, ..exec(&["sleep", &mark]) }).await.unwrap();
    assert!(ended(&mut late.lines).await);
    assert_eq!(late.process.wait(LONG).await, Some(Exit::TimedOut));
    let mut dropped = sandbox.converse(exec(&["sleep", &mark])).await.unwrap();
    drop(dropped.process);
    assert!(ended(&mut dropped.lines).await);
    assert_eq!(alive(&mark), 0);
}

#[tokio::test]
async fn values_are_taken_out_of_lines() {
    const VALUE: &str = "hunter2-hunter2-hunter2";
    let place = Place::new();
    let redactor = Arc::new(Redactor::new([("TOKEN", VALUE)]));
    let sandbox = sandboxes().open(SandboxSpec { redactor, ..place.spec(Confinement::Confined) }).await.unwrap();
    let script = format!("printf 'a hunter2-'; read go; echo 'hunter2-hunter2 b'; echo plain; echo {VALUE} >&2");
    let mut told = talk(&*sandbox, &script).await;
    say(&mut told.input, "\n").await;
    assert_eq!(line(&mut told.lines).await, "a [TOKEN redacted] b");
    assert_eq!(line(&mut told.lines).await, "plain");
    assert_eq!(told.process.wait(LONG).await, Some(Exit::Code(0)));
    assert_eq!(text(&told.process.output()), "[TOKEN redacted]\n");
}

#[tokio::test]
async fn what_cannot_be_talked_with_is_told() {
    for confinement in BOTH {
        let place = Place::new();
        let sandbox = place.open(confinement).await;
        let given = Exec { stdin: Bytes::from_static(b"x"), ..sh("cat") };
        for exec in [given, exec(&[]), Exec { cwd: Some("no/where".into()), ..sh("true") }] {
            assert_eq!(sandbox.converse(exec).await.unwrap_err().class, FaultClass::Input);
        }
        let mut missing = sandbox.converse(exec(&["no-such-program"])).await.unwrap();
        assert_eq!(missing.process.wait(LONG).await, Some(Exit::NotStarted));
        assert!(ended(&mut missing.lines).await);
        assert_eq!(missing.input.write(Bytes::from_static(b"x")).await.unwrap_err().class, FaultClass::Transient);
    }
}
