//! One command in a sandbox, with all that it printed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{
    Fault,
    ports::{
        environments::Told,
        sandbox::{Exec, Exit, Output, Sandbox},
    },
};

/// How often a person hears that it still runs.
const STILL: Duration = Duration::from_secs(60);
/// Lines of both ends of an output that are shown with a failure.
const FIRST_LINES: usize = 6;
const LAST_LINES: usize = 20;
/// Bytes of one such line, and of all of them.
const WIDEST: usize = 400;
const LARGEST: usize = 4 << 10;

/// What every command of a build finds; the same as in checks, so that what one compiles the other need not.
const ENV: [(&str, &str); 5] =
    [("CI", "true"), ("OVERNIGHT", "1"), ("TERM", "dumb"), ("NO_COLOR", "1"), ("CARGO_TERM_COLOR", "never")];

pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    ENV.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

pub(crate) fn exec(line: &str, timeout: Duration) -> Exec {
    let argv = ["sh", "-c", line].map(str::to_owned).to_vec();
    Exec { argv, cwd: None, env: Vec::new(), stdin: Bytes::new(), timeout }
}

/// An ended command.
#[derive(Debug)]
pub(crate) struct Ended {
    pub exit: Exit,
    pub output: Vec<u8>,
}

/// Runs it to its end, and tells every minute that it still runs.
pub(crate) async fn run(sandbox: &dyn Sandbox, exec: Exec, told: &Told) -> Result<Ended, Fault> {
    let (started, line) = (Instant::now(), exec.argv.last().cloned().unwrap_or_default());
    let mut process = sandbox.spawn(exec).await?;
    let exit = loop {
        if let Some(exit) = process.wait(STILL).await {
            break exit;
        }
        told(&format!("`{}` has run for {} min", first(&line), started.elapsed().as_secs() / 60));
    };
    Ok(Ended { exit, output: whole(process.output()).await })
}

/// The whole of what was kept. What cannot be read of it is said in its place: it is for people.
async fn whole(output: Output) -> Vec<u8> {
    let ends = [&output.head[..], &output.tail[..]];
    let held = ends.iter().map(|end| end.len() as u64).sum::<u64>();
    if output.total <= held {
        return ends.concat();
    }
    if let Some(file) = &output.file
        && let Ok(mut kept) = tokio::fs::read(file).await
    {
        let lost = output.total.saturating_sub(kept.len() as u64);
        if lost > 0 {
            kept.extend_from_slice(format!("\n[{lost} bytes were not kept; these are the last]\n").as_bytes());
            kept.extend_from_slice(&output.tail);
        }
        return kept;
    }
    let gap = format!("\n[{} bytes were not kept]\n", output.total - held);
    [ends[0], gap.as_bytes(), ends[1]].concat()
}

/// How a command ended, as the end of a sentence: `exit code 1`.
pub(crate) fn ending(exit: Exit) -> String {
    match exit {
        Exit::Code(127) => "exit code 127 (a program was not found)".to_owned(),
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(9) => "signal 9 (killed: it may have used up its memory)".to_owned(),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::TimedOut => "no end in time".to_owned(),
        Exit::OverQuota { held, quota } => {
            let mb = |bytes: u64| bytes.div_ceil(1_000_000);
            format!(
                "a full disk: {} MB held, and `disk` in [environment.resources] or config.toml allows {} MB",
                mb(held),
                mb(quota)
            )
        }
        Exit::NotStarted => "a shell that could not be started".to_owned(),
    }
}

/// The first line of a command, and that there are more.
pub(crate) fn first(command: &str) -> String {
    match command.trim_end().split_once('\n') {
        Some((first, _)) => format!("{first} …"),
        None => command.to_owned(),
    }
}

/// The first and the last lines of an output: some programs say what is wrong before they tell how they are used.
pub(crate) fn ends(output: &[u8]) -> String {
    let start = String::from_utf8_lossy(&output[..output.len().min(4 * LARGEST)]);
    let first: Vec<String> = printed(&start).take(FIRST_LINES).collect();
    if output.len() <= 4 * LARGEST && printed(&start).count() <= FIRST_LINES + LAST_LINES {
        return bounded(&printed(&start).collect::<Vec<_>>());
    }
    format!("{}\n…\n{}", first.join("\n"), last_lines(output))
}

/// The last lines of an output; empty where there is none.
pub(crate) fn last_lines(output: &[u8]) -> String {
    let start = output.len().saturating_sub(4 * LARGEST);
    let lines: Vec<String> = printed(&String::from_utf8_lossy(&output[start..])).collect();
    bounded(&lines[lines.len().saturating_sub(LAST_LINES)..])
}

fn printed(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(drawn).filter(|line| !line.trim().is_empty())
}

/// As many of the last lines as are not too much.
fn bounded(lines: &[String]) -> String {
    let mut last = lines;
    while last.iter().map(String::len).sum::<usize>() > LARGEST {
        last = &last[1..];
    }
    last.join("\n")
}

/// A line as a terminal shows it in the end: without colours, and only the last of what was drawn over it.
fn drawn(line: &str) -> String {
    let mut parts = line.trim_end().rsplit('\r').next().unwrap_or_default().split("\u{1b}[");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| ('@'..='~').contains(&c)).map_or(part.len(), |end| end + 1);
        shown.push_str(&part[end..]);
    }
    shown.chars().take(WIDEST).collect()
}

#[cfg(test)]
mod tests {
    use super::{ends, first, last_lines};

    #[test]
    fn a_long_output_is_told_by_its_ends() {
        assert_eq!(ends(b""), "");
        assert_eq!(ends(b"one\ntwo\n"), "one\ntwo");
        let many: String = (0..50).map(|n| format!("{n}\n")).collect();
        let told = ends(many.as_bytes());
        assert!(told.starts_with("0\n1\n2\n3\n4\n5\n…\n30\n31\n") && told.ends_with("\n49"), "{told}");
        assert_eq!([first("a\n"), first("a\nb\n")], ["a\n".to_owned(), "a …".to_owned()]);
    }

    #[test]
    fn the_last_lines_as_a_terminal_shows_them() {
        assert_eq!(last_lines(b"\n \n"), "");
        assert_eq!(last_lines(b"10%\r50%\r100%\n\x1b[0m\x1b[1;31merror\x1b[0m: no \xff\n"), "100%\nerror: no \u{fffd}");
        let many: String = (0..50).map(|n| format!("{n}\n")).collect();
        assert_eq!(last_lines(many.as_bytes()).lines().next(), Some("30"));
        let wide = format!("{}\n", "x".repeat(5000)).repeat(30);
        assert!(last_lines(wide.as_bytes()).len() <= 4200);
    }
}
