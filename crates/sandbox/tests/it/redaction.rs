//! What no output and no file shows.

use std::{fs, sync::Arc};

use domain::{
    FaultClass,
    ports::sandbox::{Confinement, Exit, Sandbox, SandboxSpec, Sandboxes as _},
    redact::Redactor,
};

use crate::host::{LONG, Place, exec, printed, run, sandboxes, sh, text};

const VALUE: &str = "hunter2-hunter2-hunter2";

async fn open(place: &Place) -> Arc<dyn Sandbox> {
    let redactor = Arc::new(Redactor::new([("TOKEN", VALUE)]));
    sandboxes().open(SandboxSpec { redactor, ..place.spec(Confinement::Confined) }).await.unwrap()
}

#[tokio::test]
async fn values_are_taken_out_however_they_are_printed() {
    let place = Place::new();
    let sandbox = open(&place).await;
    let script = format!("echo \"a {VALUE} b\"; printf {VALUE} | base64; echo {VALUE} >&2; printf {VALUE}");
    let (exit, printed) = run(&*sandbox, sh(&script)).await;
    let mark = "[TOKEN redacted]";
    assert_eq!(exit, Exit::Code(0));
    assert!(printed.starts_with(&format!("a {mark} b\n{mark}")), "{printed}");
    assert!(printed.ends_with(&format!("\n{mark}\n{mark}")), "{printed}");
}

#[tokio::test]
async fn a_value_in_pieces_is_held_back_until_it_is_whole() {
    let place = Place::new();
    let sandbox = open(&place).await;
    let script = format!(
        "printf 'begin hunter2-'; until test -e one; do sleep 0.01; done; printf 'hunter2-hunter2 middle\\n'; \
         until test -e two; do sleep 0.01; done; for c in $(echo {VALUE} | sed 's/./& /g'); do printf %s $c; done; printf hunter2-"
    );
    let mut process = sandbox.spawn(sh(&script)).await.unwrap();
    printed(&*process, "begin ").await;
    assert_eq!(text(&process.output()), "begin ");
    fs::write(place.root().join("one"), "").unwrap();
    printed(&*process, "middle\n").await;
    assert_eq!(text(&process.output()), "begin [TOKEN redacted] middle\n");
    fs::write(place.root().join("two"), "").unwrap();
    assert_eq!(process.wait(LONG).await, Some(Exit::Code(0)));
    // What only began like one is shown in the end.
    assert_eq!(text(&process.output()), "begin [TOKEN redacted] middle\n[TOKEN redacted]hunter2-");
}

#[tokio::test]
async fn a_long_output_is_redacted_in_its_file_too() {
    let place = Place::new();
    let sandbox = open(&place).await;
    let script = format!("seq -f '%.0f {VALUE}' 20000");
    let mut process = sandbox.spawn(sh(&script)).await.unwrap();
    assert_eq!(process.wait(LONG).await, Some(Exit::Code(0)));
    let output = process.output();
    let expected: String = (1..=20_000).map(|n| format!("{n} [TOKEN redacted]\n")).collect();
    assert_eq!(output.total, expected.len() as u64);
    assert!(fs::read_to_string(output.file.unwrap()).unwrap() == expected);
    assert!(expected.ends_with(std::str::from_utf8(&output.tail).unwrap()));
}

#[tokio::test]
async fn files_are_read_masked_and_not_overwritten_unseen() {
    let place = Place::new();
    let sandbox = open(&place).await;
    let content = format!("one\ntoken={VALUE}\nlast\n");
    fs::write(place.root().join("file"), &content).unwrap();
    let files = sandbox.files().await.unwrap();
    let (masked, length) = files.read("file", 0, 100).unwrap();
    assert_eq!((&masked[..], length), (&b"one\ntoken=[TOKEN redacted]*******\nlast\n"[..], content.len() as u64));
    // A window inside of the value.
    assert_eq!(files.read("file", 12, 4).unwrap().0, masked.slice(12..16));
    let fault = files.write("file", &masked).unwrap_err();
    assert_eq!(fault.class, FaultClass::Input, "{fault}");
    assert_eq!(fs::read_to_string(place.root().join("file")).unwrap(), content);
    run(&*sandbox, exec(&["rm", "file"])).await;
    files.write("file", b"new").unwrap();
    assert_eq!(files.list(".").unwrap().len(), 1);
}
