//! People at work in a task's sandbox, and looking at what runs in it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use crate::harness::{Place, read_until, spawn};

/// Waits until the task stands before its person again.
fn review(place: &Place, id: &str) -> serde_json::Value {
    let (mut logs, mut out) = spawn(&mut place.command(&["logs", id, "-f"]));
    read_until(&mut out, "worked by hand");
    read_until(&mut out, "checks: ");
    logs.kill().unwrap();
    logs.wait().unwrap();
    place.show(id)
}

#[test]
fn a_script_changes_the_head_and_its_checks_run() {
    let place = Place::new();
    let id = place.run_shell(
        "grep -q two file.txt || echo two >> file.txt",
        &["--check", "! grep -q two file.txt || grep -q three file.txt"],
    );
    assert_eq!(place.show(&id)["verdict"], "red");
    let head = place.show(&id)["head"].clone();

    let ran = place.on_with_input(&["attach", &id], "pwd\necho three >> file.txt\necho done; exit 7");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.stdout, "/workspace\ndone\n", "only what the script prints");
    assert!(ran.stderr.contains("M file.txt  +1") && ran.stderr.contains("checks run"), "{ran:?}");
    let task = review(&place, &id);
    assert_eq!(task["verdict"], "green");
    assert_ne!(task["head"], head);
    assert!(place.on(&["diff", &id]).ok().contains("+three"));

    let ran = place.on_with_input(&["attach", &id, "--json", "--", "cat"], "");
    assert_eq!(ran.json()["said"], "nothing changed");
    assert!(place.on(&["attach", &id, "--", "no-such-program"]).refused().contains("no-such-program"));
    assert!(place.on(&["attach", &id, "--attempt", "9"]).refused().contains("attempt 9"));
    place.on(&["approve", &id]).ok();
    assert_eq!(place.read("file.txt"), "one\ntwo\nthree\n");
    assert!(place.on(&["attach", &id]).refused().contains("taken over"));
}

#[test]
fn the_agent_of_a_running_turn_is_joined_and_told() {
    let place = Place::new();
    let waits = "echo '[PROGRESS] waiting'; until grep -q hand file.txt; do sleep 0.05; done; echo seen >> file.txt";
    let (mut run, mut out) =
        spawn(&mut place.command(&["run", "Wait", "--check", "true", "--wait", "--", "sh", "-c", waits]));
    read_until(&mut out, "waiting");
    let ran = place.on_with_input(&["attach", "1"], "echo hand >> file.txt\n");
    assert!(ran.stderr.contains("the agent is at work") && ran.stderr.contains("noted"), "{ran:?}");
    read_until(&mut out, "review");
    run.wait().unwrap();
    let logs = place.on(&["logs", "1"]).ok();
    assert!(logs.contains("A person changed files by hand: file.txt"), "{logs}");
    assert!(place.on(&["diff", "1"]).ok().contains("+hand\n+seen"));
}

#[test]
fn whoever_decides_meanwhile_ends_the_shell_and_what_it_did_is_kept() {
    let place = Place::new();
    for decision in ["approve", "reject", "cancel"] {
        let id = place.run_shell("echo two >> file.txt", &["--check", "true"]);
        let busy = "echo hand > hand.txt; echo there; exec sleep 1000";
        let (mut shell, mut out) = spawn(&mut place.command(&["attach", &id, "--", "sh", "-c", busy]));
        read_until(&mut out, "there");
        place.show(&id);
        place.on(&[decision, &id]).ok();
        assert!(!shell.wait().unwrap().success());
        let mut said = String::new();
        shell.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let kept = said.split("your work is kept as ").nth(1).unwrap_or_else(|| panic!("{decision}: {said}"));
        let kept: String = kept.chars().take_while(char::is_ascii_hexdigit).collect();
        let stores = std::fs::read_dir(place.home.join("repositories")).unwrap();
        let store = stores.flatten().map(|entry| entry.path().join("private.git")).find(|path| path.is_dir()).unwrap();
        assert_eq!(place.git_in(&store, &["show", &format!("{kept}:hand.txt")]), "hand", "{decision}");
        let workspaces = std::fs::read_dir(place.home.join("workspaces")).unwrap();
        assert_eq!(workspaces.count(), 0, "{decision}");
    }
}

/// Holds the other side of a terminal: waits for what the program shows, types, and looks at the terminal afterwards.
const PERSON: &str = r##"
import os, pty, select, signal, sys, termios, fcntl, struct
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], [sys.argv[1], "attach", sys.argv[3]])
def size(rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
shown = b""
def until(needle):
    global shown
    while needle not in shown:
        if not select.select([terminal], [], [], 60)[0]:
            sys.exit("%r never came: %r" % (needle, shown))
        shown += os.read(terminal, 4096)
    shown = shown.split(needle, 1)[1]
before = termios.tcgetattr(terminal)
until(b"$ " if os.getuid() else b"# ")
os.write(terminal, b"echo it-is-$((20 + 3))\r")
until(b"it-is-23")
during = termios.tcgetattr(terminal)
size(44, 111)
os.kill(child, signal.SIGWINCH)
os.write(terminal, b"until [ \"$(stty size)\" = '44 111' ]; do sleep 0.05; done; sh -c 'echo size-is-$((1 + 1)); exec sleep 1000'\r")
until(b"size-is-2")
os.write(terminal, b"\x03")
if sys.argv[2] == "kill":
    os.kill(child, signal.SIGTERM)
else:
    os.write(terminal, b"echo hand > hand.txt\rexit 3\r")
    until(b"A hand.txt")
    until(b"checks run")
_, status = os.waitpid(child, 0)
after = termios.tcgetattr(terminal)
print("raw" if during[3] != before[3] else "never raw", "restored" if after == before else "left raw", os.waitstatus_to_exitcode(status))
"##;

#[test]
fn a_shell_is_a_real_terminal_and_is_given_back() {
    let place = Place::new();
    let id = place.run_shell("echo two >> file.txt", &["--check", "true"]);
    let attach = |word: &str| {
        let mut python = place.program("/usr/bin/python3");
        python.args(["-c", PERSON, env!("CARGO_BIN_EXE_overnight"), word, &id]).env("TERM", "dumb");
        let output = python.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(attach("leave"), "raw restored 0\n", "how a shell ended is nobody's failure");
    review(&place, &id);
    assert!(place.on(&["diff", &id]).ok().contains("+hand"));
    assert_eq!(attach("kill"), "raw restored 130\n");
}

#[test]
fn a_service_is_looked_at_on_this_machine() {
    let place = Place::new();
    place.write(
        "overnight.toml",
        "[environment]\ninstall = []\n[[environment.service]]\nname = \"web\"\ncommand = \"/usr/bin/python3 -m http.server 3000\"\n\
         ready = { port = 3000 }\n",
    );
    place.commit("A service");
    let id = place.run_shell("echo two >> file.txt", &["--check", "true"]);
    let (mut preview, mut out) = spawn(&mut place.command(&["preview", &id, "--listen", "0"]));
    let line = read_until(&mut out, "http://127.0.0.1:");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap().to_owned();
    for _ in 0..2 {
        let mut page = TcpStream::connect(&address).unwrap();
        page.write_all(b"GET /file.txt HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        page.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("one\ntwo\n"), "the head's file, not the base's: {text}");
    }
    preview.kill().unwrap();
    let mut said = String::new();
    BufReader::new(preview.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("web: /usr/bin/python3 -m http.server 3000 · port 3000"), "{said}");
    preview.wait().unwrap();
    let refused = place.on(&["preview", &id, "3999"]).refused();
    assert!(refused.contains("3999"), "{refused}");
    let none = Place::new();
    let id = none.run_shell("echo two >> file.txt", &["--check", "true"]);
    assert!(none.on(&["preview", &id]).refused().contains("no service"));
}
