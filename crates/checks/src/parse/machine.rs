//! What tools write for programs, a JSON object a line, turned back into what they write for people: `go test -json`, libtest's
//! `--format json` (nextest's as well), Cargo's `--message-format json`. The readers of the text then do the rest, and a test has
//! the same name in both.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use serde::Deserialize;

/// The output with such lines translated; untouched where there are none.
pub(crate) fn translated(output: &str) -> Cow<'_, str> {
    let marks = [r#""Action":""#, r#"{"reason":""#, r#""event":"#, r#""event": "#];
    if !marks.iter().any(|mark| output.contains(mark)) {
        return Cow::Borrowed(output);
    }
    let mut page = Page { is_nextest: output.contains(" Nextest run ID "), ..Page::default() };
    for line in output.lines() {
        if !page.take(line) {
            page.end_packages();
            page.line(line);
        }
    }
    page.end_packages();
    Cow::Owned(page.text)
}

#[derive(Default)]
struct Page {
    text: String,
    /// What Go's packages printed, each by itself: they print at the same time.
    packages: BTreeMap<String, String>,
    suite: Suite,
    /// nextest prints for people besides.
    is_nextest: bool,
}

/// What libtest prints at a suite's end.
#[derive(Default)]
struct Suite {
    output: String,
    failures: Vec<String>,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Whether the line was such an object.
    fn take(&mut self, line: &str) -> bool {
        let line = line.trim();
        if !line.starts_with('{') || !line.ends_with('}') {
            return false;
        }
        if line.contains(r#""Action":""#) {
            return serde_json::from_str(line).is_ok_and(|event| self.go(event));
        }
        if line.contains(r#""event""#) {
            return serde_json::from_str(line).is_ok_and(|event| self.libtest(event));
        }
        line.starts_with(r#"{"reason":""#) && serde_json::from_str(line).is_ok_and(|message| self.cargo(message))
    }

    fn go(&mut self, event: Go<'_>) -> bool {
        let Some(output) = event.output else { return true };
        match event.package {
            Some(package) if event.action == "output" => {
                let text = self.packages.entry(package.into_owned()).or_default();
                text.push_str(&output);
                // A package that has ended is complete.
                let is_end = |line: &str| line.starts_with("ok  \t") || line.starts_with("FAIL\t");
                if is_end(&output) {
                    self.text.push_str(text);
                    text.clear();
                }
            }
            // What the compiler says.
            _ => self.text.push_str(&output),
        }
        true
    }

    /// What packages printed that never ended.
    fn end_packages(&mut self) {
        std::mem::take(&mut self.packages).values().for_each(|text| self.text.push_str(text));
    }

    fn libtest(&mut self, event: Libtest<'_>) -> bool {
        if self.is_nextest {
            return true;
        }
        let name = event.name.as_deref().unwrap_or_default();
        // nextest says the binary in front.
        let name = name.split_once('$').map_or(name, |(_, own)| own);
        let word = match (&*event.kind, &*event.event) {
            ("suite", "started") => {
                self.suite = Suite::default();
                if let Some(Nextest { package, binary, kind }) = event.nextest {
                    let id = if kind == "lib" { package.into_owned() } else { format!("{package}::{binary}") };
                    self.line(&format!("     Running . ({id})"));
                }
                self.line(&format!("running {} tests", event.test_count.unwrap_or(0)));
                return true;
            }
            ("suite", end) => {
                let end = if end == "ok" { "ok" } else { "FAILED" };
                self.end_suite(&event, end);
                return true;
            }
            ("test", "ok") => "ok",
            ("test", "ignored") => "ignored",
            ("test", "failed" | "timeout") => "FAILED",
            _ => return true,
        };
        self.line(&format!("test {name} ... {word}"));
        if word == "FAILED" {
            self.suite.failures.push(name.to_owned());
            let said = event.stdout.as_deref().or(event.message.as_deref()).unwrap_or_default();
            let _ = writeln!(self.suite.output, "---- {name} stdout ----\n{}\n", said.trim_end());
        }
        true
    }

    fn end_suite(&mut self, event: &Libtest<'_>, end: &str) {
        let Suite { output, failures } = std::mem::take(&mut self.suite);
        if !failures.is_empty() {
            self.line(&format!("\nfailures:\n\n{output}\nfailures:"));
            failures.iter().for_each(|name| self.line(&format!("    {name}")));
            self.line("");
        }
        let (passed, failed, ignored) = (event.passed, event.failed, event.ignored);
        self.line(&format!(
            "test result: {end}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out"
        ));
    }

    fn cargo(&mut self, message: Cargo<'_>) -> bool {
        if let Some(rendered) = message.message.and_then(|message| message.rendered) {
            self.line(rendered.trim_end());
        }
        true
    }
}

/// <https://pkg.go.dev/cmd/test2json>
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Go<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    package: Option<Cow<'a, str>>,
    #[serde(borrow)]
    output: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Libtest<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stdout: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    test_count: Option<u32>,
    #[serde(default)]
    passed: u32,
    #[serde(default)]
    failed: u32,
    #[serde(default)]
    ignored: u32,
    #[serde(borrow)]
    nextest: Option<Nextest<'a>>,
}

#[derive(Deserialize)]
struct Nextest<'a> {
    #[serde(rename = "crate", borrow)]
    package: Cow<'a, str>,
    #[serde(rename = "test_binary", borrow)]
    binary: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

/// <https://doc.rust-lang.org/cargo/reference/external-tools.html#json-messages>
#[derive(Deserialize)]
struct Cargo<'a> {
    #[serde(borrow)]
    message: Option<Rustc<'a>>,
}

#[derive(Deserialize)]
struct Rustc<'a> {
    #[serde(borrow)]
    rendered: Option<Cow<'a, str>>,
}
