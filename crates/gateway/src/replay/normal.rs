//! What a request says, without what is made anew in each run.

use std::sync::LazyLock;

use regex::Regex;

/// Patterns and what stands for them, applied in this order.
static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let month = "(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)";
    let weekday = "(?:(?:Mon|Tue|Tues|Wed|Wednes|Thu|Thurs|Fri|Sat|Satur|Sun)(?:day)?,? +)?";
    let zone = r"(?:Z|[+-]\d{2}:?\d{2})?";
    let unit = "(?:ns|us|µs|ms|milliseconds?|seconds?|secs?|minutes?|mins?|hours?|s|m|h)";
    let rules = [
        (r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b".to_owned(), "<uuid>"),
        (r"((?:/tmp|/var/tmp|/var/folders/\w+/\w+/T)/)[\w.-]+".to_owned(), "${1}<temp>"),
        (r"\.?\btmp[._-]?[A-Za-z0-9]{6,}\b".to_owned(), "<temp>"),
        (
            format!(r"\b\d{{4}}[-/]\d{{1,2}}[-/]\d{{1,2}}(?:T\d{{2}}:\d{{2}}(?::\d{{2}}(?:[.,]\d+)?)?{zone})?\b"),
            "<date>",
        ),
        (r"\b\d{8}T\d{6}Z?\b|\b\d{1,2}[/.]\d{1,2}[/.]\d{4}\b".to_owned(), "<date>"),
        (
            format!(
                r"\b{weekday}(?:{month}\.? +\d{{1,2}}(?:st|nd|rd|th)?(?:,? +\d{{4}})?|\d{{1,2}} +{month},? +\d{{4}})\b"
            ),
            "<date>",
        ),
        (
            format!(
                r"(^|[^\w:.])\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:[.,]\d+)?)?{zone}(?: ?[AaPp]\.?[Mm]\b\.?)?(?: +[A-Z]{{3,4}}(?: +\d{{4}})?)?\b"
            ),
            "${1}<time>",
        ),
        (r"\b(127\.0\.0\.1|localhost|0\.0\.0\.0|\[::1\]):\d{2,5}\b".to_owned(), "${1}:<port>"),
        (format!(r"\b(?:\d+[hm] ?)*\d+(?:\.\d+)? ?{unit}\b"), "<duration>"),
    ];
    let compile = |(pattern, word): (String, _)| (Regex::new(&pattern).expect("a test compiles every pattern"), word);
    rules.map(compile).into()
});

/// What ids of requests, messages and tool calls begin with.
const PREFIXES: [&str; 10] =
    ["toolu_", "call_", "msg_", "resp_", "req_", "ses_", "prt_", "chatcmpl-", "gen-", "tooluse_"];

/// `request` with one word for every date, time, duration, UUID, hexadecimal or other made-up id, temporary name and port of the
/// loopback. Two runs of the same work say the same in it.
pub(super) fn normal(request: &[u8]) -> String {
    // As JSON writes them, they would be a part of the word that comes after them.
    let text = String::from_utf8_lossy(request).replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\"");
    let text = RULES.iter().fold(text, |text, (pattern, word)| pattern.replace_all(&text, *word).into_owned());
    without_ids(&text)
}

/// Words of letters and digits that nobody has thought of.
fn without_ids(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|char: char| char.is_ascii_alphanumeric()) {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let end = from.find(|char: char| !char.is_ascii_alphanumeric()).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        let is_id = is_id(word, &out);
        out.push_str(if is_id { "<id>" } else { word });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Whether a word is an id, with what comes `before` it. By chance, one of mixed characters can have no digit, or only digits.
fn is_id(word: &str, before: &str) -> bool {
    let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
    let has_letter = word.bytes().any(|byte| byte.is_ascii_alphabetic());
    match (has_digit, has_letter) {
        _ if word.len() >= 6 && PREFIXES.iter().any(|prefix| before.ends_with(prefix)) => true,
        (true, false) => word.len() >= 10,
        (true, true) if word.bytes().all(|byte| byte.is_ascii_hexdigit()) => word.len() >= 7,
        (true, true) => word.len() >= 16 || (word.len() >= 6 && before.ends_with(['_', '-'])),
        (false, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_anew_in_each_run_says_the_same() {
        for (one, other) in [
            ("Today's date is Saturday, November 21, 2026 (local)", "Today's date is Sunday, February 1, 2027 (local)"),
            (r"date\n2026-11-21T04:46:43.123Z end", r"date\n2027-01-02T23:00:00Z end"),
            ("built 2026-11-21 04:46:43 here", "built 2026-12-01 14:06:03.77 here"),
            ("Sat Nov 21 04:46:43 UTC 2026", "Sun Nov  1 14:06:03 CET 2027"),
            ("Fri, 20 Nov 2026 12:00:30 GMT", "Sat, 21 Nov 2026 01:01:01 GMT"),
            (r"-rw-r--r-- 1 root root 5 Nov 21 04:46 a.txt\n", r"-rw-r--r-- 1 root root 5 Dec  2 23:59 a.txt\n"),
            ("at 9:05 PM", "at 11:15 AM"),
            ("test result: ok; finished in 0.35s", "test result: ok; finished in 12.01s"),
            (r"real\t0m0.003s", r"real\t1m2.5s"),
            ("took 12 ms, then 3 seconds", "took 4.5 ms, then 17 seconds"),
            ("id 0190a3c4-7e1b-7c3d-9a55-1b2c3d4e5f60", "id 01A0A3C4-7E1B-7C3D-9A55-1B2C3D4E5F6F"),
            ("[main 3f9a1c2] done", "[main a8b7c6d] done"),
            ("toolu_01A09q90qw90lq917835lq9 call_7Hn2k9", "toolu_01Zz9q90qw90lq917835lXX call_aBcDeF"),
            (
                "ses_5f3a9kQm2x run_shell_command-1763700000000-8f3a2b1c",
                "ses_aa11bb22cc run_shell_command-1763799999999-0a1b2c3d",
            ),
            ("wrote /tmp/tmp.Xy12Ab/out and /tmp/.tmpQ9w8E7", "wrote /tmp/tmp.Zz98Yy/out and /tmp/.tmpA1b2C3"),
            ("http://127.0.0.1:43567/v1 on localhost:80", "http://127.0.0.1:8080/v1 on localhost:34567"),
            (
                "user_9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "user_0a86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00aff",
            ),
        ] {
            assert_eq!(normal(one.as_bytes()), normal(other.as_bytes()));
            assert_ne!(normal(one.as_bytes()), one, "something was found");
        }
    }

    #[test]
    fn what_differs_in_substance_says_something_else() {
        for (one, other) in [
            ("error at src/main.rs:10:15", "error at src/main.rs:12:15"),
            ("3 passed; 1 failed", "4 passed; 0 failed"),
            (r#"{"role":"user","content":"hello"}"#, r#"{"role":"user","content":"hullo"}"#),
            ("exit code 1", "exit code 101"),
            ("claude-sonnet-5-5", "claude-haiku-5-5"),
            ("max_tokens\":16384", "max_tokens\":32000"),
            ("src/a.rs", "src/b.rs"),
            ("utf-8", "utf-16"),
            ("version 1.2.3", "version 1.2.4"),
            ("in March", "in May"),
        ] {
            assert_ne!(normal(one.as_bytes()), normal(other.as_bytes()));
        }
    }

    #[test]
    fn what_has_nothing_of_the_kind_stays_as_it_is() {
        for text in
            ["", "words, Words; größe \u{1f600}", "fn main() { let x86_64 = base64(\"sha256\"); }", "\u{fffd}{}[]"]
        {
            assert_eq!(normal(text.as_bytes()), text);
        }
    }
}
