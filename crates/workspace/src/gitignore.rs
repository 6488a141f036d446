//! `.gitignore` files as git reads them: `gitignore(5)`, and byte for byte what git's own matching does, odd cases included.
//!
//! Git itself is not asked, as it would have to see the merged view of a workspace, and a process for each reading.

use domain::Fault;

/// The patterns of one `.gitignore` file, first to last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patterns(Vec<Pattern>);

/// What a file's patterns say of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ignored,
    /// By a pattern that begins with `!`.
    Kept,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    glob: Vec<u8>,
    /// How much of `glob` is literal.
    literal: usize,
    negative: bool,
    directories_only: bool,
    /// Has no slash: is compared with the last name of a path only.
    name_only: bool,
}

/// Steps that one path may cost. Some patterns need exponentially many; an agent may write such.
const STEPS: u32 = 1 << 20;

impl Patterns {
    pub fn parse(text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        Self(text.split(|byte| *byte == b'\n').filter_map(Pattern::parse).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the last pattern that matches says. `path` counts from the directory of the file.
    pub fn say(&self, path: &[u8], is_directory: bool) -> Result<Option<Said>, Fault> {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let mut steps = STEPS;
        for pattern in self.0.iter().rev() {
            if pattern.directories_only && !is_directory {
                continue;
            }
            let matches = if pattern.name_only {
                glob(&pattern.glob, name, &mut steps) == Match::Yes
            } else {
                pattern.matches_path(path, &mut steps)
            };
            if steps == 0 {
                return Err(Fault::input(format!(
                    "a pattern in a .gitignore file takes too long to compare with {}",
                    String::from_utf8_lossy(path)
                ))
                .hint("use fewer `**/` in one pattern"));
            }
            if matches {
                return Ok(Some(if pattern.negative { Said::Kept } else { Said::Ignored }));
            }
        }
        Ok(None)
    }
}

impl Pattern {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first() == Some(&b'#') {
            return None;
        }
        let line = trim_spaces(line.split(|byte| *byte == 0).next().unwrap_or(line));
        let negative = line.first() == Some(&b'!');
        let glob = if negative { &line[1..] } else { line };
        let (glob, directories_only) = match glob.strip_suffix(b"/") {
            Some(rest) => (rest, true),
            None => (glob, false),
        };
        let name_only = !glob.contains(&b'/');
        let glob = if name_only { glob } else { glob.strip_prefix(b"/").unwrap_or(glob) };
        let literal = glob.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(glob.len());
        (!glob.is_empty()).then(|| Self { glob: glob.to_owned(), literal, negative, directories_only, name_only })
    }

    fn matches_path(&self, path: &[u8], steps: &mut u32) -> bool {
        // As git does it, what comes after the literal part is a pattern of its own: a `**` at its beginning spans directories.
        let (literal, rest) = self.glob.split_at(self.literal);
        path.strip_prefix(literal).is_some_and(|path| glob(rest, path, steps) == Match::Yes)
    }
}

/// Without the spaces at the end, except those after a backslash.
fn trim_spaces(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut at = 0;
    while at < line.len() {
        match line[at] {
            b'\\' => at += 2,
            b' ' => {
                at += 1;
                continue;
            }
            _ => at += 1,
        }
        end = at.min(line.len());
    }
    &line[..end]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    /// However much of the text an earlier star takes, it will not match.
    Never,
    /// Only an earlier `**` could make it match.
    NotInThisName,
}

/// Compares a path with a pattern in which no star but `**` spans a slash.
fn glob(pattern: &[u8], text: &[u8], steps: &mut u32) -> Match {
    let (mut p, mut t) = (0, 0);
    while p < pattern.len() {
        *steps = steps.saturating_sub(1);
        if *steps == 0 {
            return Match::Never;
        }
        if pattern[p] == b'*' {
            match star(pattern, p, &text[t..], steps) {
                Ok(found) => return found,
                // A star and a slash have taken the rest of a name and its slash.
                Err(taken) => {
                    p = pattern[p..].iter().position(|byte| *byte == b'/').map_or(pattern.len(), |slash| p + slash + 1);
                    t += taken;
                    continue;
                }
            }
        }
        let Some(&byte) = text.get(t) else { return Match::Never };
        match pattern[p] {
            b'?' if byte == b'/' => return Match::No,
            b'?' => {}
            b'[' => match set(&pattern[p + 1..], byte) {
                Some((true, length)) if byte != b'/' => p += length,
                Some(_) => return Match::No,
                None => return Match::Never,
            },
            b'\\' => {
                p += 1;
                if pattern.get(p) != Some(&byte) {
                    return Match::No;
                }
            }
            literal if literal != byte => return Match::No,
            _ => {}
        }
        p += 1;
        t += 1;
    }
    if t == text.len() { Match::Yes } else { Match::No }
}

/// Compares the rest of a path with the rest of a pattern that begins with a star. `Err`: go on behind so much of the text.
fn star(pattern: &[u8], at: usize, text: &[u8], steps: &mut u32) -> Result<Match, usize> {
    let stars = pattern[at..].iter().take_while(|byte| **byte == b'*').count();
    let rest = &pattern[at + stars..];
    let alone = at == 0 || pattern[at - 1] == b'/';
    let spans = stars > 1 && alone && (rest.is_empty() || rest.starts_with(b"/") || rest.starts_with(b"\\/"));
    if spans && rest.first() == Some(&b'/') && glob(&rest[1..], text, steps) == Match::Yes {
        return Ok(Match::Yes);
    }
    let slash = text.iter().position(|byte| *byte == b'/');
    if rest.is_empty() {
        return Ok(if spans || slash.is_none() { Match::Yes } else { Match::NotInThisName });
    }
    if !spans && rest[0] == b'/' {
        return slash.map_or(Ok(Match::NotInThisName), |slash| Err(slash + 1));
    }
    for (taken, byte) in text.iter().enumerate() {
        let found = glob(rest, &text[taken..], steps);
        if found != Match::No && !(spans && found == Match::NotInThisName) {
            return Ok(found);
        }
        if !spans && *byte == b'/' {
            return Ok(Match::NotInThisName);
        }
    }
    Ok(Match::Never)
}

/// Whether a byte is in the set that begins behind a `[`, and how long the set is with its `]`. `None`: it has no end, or names a
/// class that there is not.
fn set(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let (mut found, mut previous, mut first) = (false, 0, true);
    loop {
        let mut next = *pattern.get(at)?;
        if next == b']' && !first {
            return Some((found != negated, at + 1));
        }
        first = false;
        match next {
            b'\\' => {
                at += 1;
                next = *pattern.get(at)?;
                found |= next == byte;
            }
            b'-' if previous != 0 && !matches!(pattern.get(at + 1), None | Some(b']')) => {
                at += 1;
                if pattern[at] == b'\\' {
                    at += 1;
                }
                found |= (previous..=*pattern.get(at)?).contains(&byte);
                next = 0;
            }
            b'[' if pattern.get(at + 1) == Some(&b':') => {
                let name = &pattern[at + 2..];
                let end = name.iter().position(|byte| *byte == b']')?;
                match name[..end].strip_suffix(b":") {
                    Some(class) => {
                        found |= in_class(class, byte)?;
                        at += end + 2;
                        next = 0;
                    }
                    None => found |= byte == b'[',
                }
            }
            _ => found |= next == byte,
        }
        previous = next;
        at += 1;
    }
}

/// Of ASCII only, whatever the locale.
fn in_class(name: &[u8], byte: u8) -> Option<bool> {
    Some(match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        io::Write,
        process::{Command, Stdio},
    };

    use super::*;

    /// What git says of each path of a work tree in which `text` is the `.gitignore` at the top, and whose directories exist.
    fn git_says(directory: &std::path::Path, text: &[u8], paths: &[(Vec<u8>, bool)]) -> Vec<Option<Said>> {
        std::fs::write(directory.join(".gitignore"), text).unwrap();
        let mut child = Command::new("git")
            .current_dir(directory)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(["check-ignore", "--no-index", "--stdin", "-z", "-v", "-n"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for (path, _) in paths {
            stdin.write_all(path).unwrap();
            stdin.write_all(b"\0").unwrap();
        }
        drop(stdin);
        let out = child.wait_with_output().unwrap().stdout;
        // Source, line, pattern, path.
        let fields: Vec<&[u8]> = out.split(|byte| *byte == 0).collect();
        fields
            .chunks_exact(4)
            .map(|fields| match fields[2] {
                b"" => None,
                pattern if pattern.starts_with(b"!") => Some(Said::Kept),
                _ => Some(Said::Ignored),
            })
            .collect()
    }

    /// As a walk asks: a path below an ignored directory is not asked for.
    fn we_say(patterns: &Patterns, path: &[u8], is_directory: bool) -> Option<Said> {
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            if patterns.say(&path[..at], true).unwrap() == Some(Said::Ignored) {
                return Some(Said::Ignored);
            }
        }
        patterns.say(path, is_directory).unwrap()
    }

    #[test]
    fn git_says_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let init = Command::new("git").current_dir(&directory).args(["init", "-q"]).status().unwrap();
        assert!(init.success());
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed >> 33).unwrap() % below
        };
        let pieces: &[&[u8]] = &[
            b"a",
            b"b",
            b"ab",
            b"x.o",
            b"*",
            b"**",
            b"/",
            b"/",
            b"?",
            b"[ab]",
            b"[!a]",
            b"[^b]",
            b"[a-b]",
            b"[]a]",
            b"[[:alpha:]]",
            b"[[:foo:]]",
            b"[a",
            b"\\a",
            b"\\*",
            b"\\",
            b"!",
            b"#",
            b" ",
            b"\\ ",
            b"{a,b}",
            b"\xff",
            b".",
            b"[b-]",
            b"[\\]]",
            b"\t",
            b"**/",
            b"/**",
            b"[a-\\b]",
            b"-",
            b"]",
            b"\r",
        ];
        let names: &[&[u8]] = &[
            b"a", b"b", b"ab", b"x.o", b"*", b"aab", b"!a", b"#", b"a ", b"{a,b}", b"\xff", b"]", b"\\", b"-a", b"[a",
            b".a", b"\t",
        ];
        let (mut paths, mut directories) = (Vec::new(), BTreeSet::new());
        for depth in [1, 1, 2, 2, 2, 3, 3, 3, 3, 4] {
            for _ in 0..12 {
                let path: Vec<&[u8]> = (0..depth).map(|_| names[random(names.len())]).collect();
                for depth in 1..depth + random(2) {
                    directories.insert(path[..depth].join(&b'/'));
                }
                paths.push(path.join(&b'/'));
            }
        }
        for path in &directories {
            std::fs::create_dir_all(directory.path().join(crate::path_of(path))).unwrap();
        }
        let paths: Vec<(Vec<u8>, bool)> =
            paths.into_iter().map(|path| (path.clone(), directories.contains(&path))).collect();
        for round in 0..300 {
            let mut text = Vec::new();
            for _ in 0..=random(4) {
                for _ in 0..=random(6) {
                    text.extend_from_slice(pieces[random(pieces.len())]);
                }
                text.extend_from_slice([&b"\n"[..], b"\n", b"\r\n", b"  \n"][random(4)]);
            }
            let patterns = Patterns::parse(&text);
            let git = git_says(directory.path(), &text, &paths);
            assert_eq!(git.len(), paths.len());
            for ((path, is_directory), git) in paths.iter().zip(git) {
                let ours = we_say(&patterns, path, *is_directory);
                assert_eq!(
                    ours == Some(Said::Ignored),
                    git == Some(Said::Ignored),
                    "round {round}: `{}` of {:?} (directory: {is_directory}): ours {ours:?}, git {git:?}",
                    path.escape_ascii(),
                    text.escape_ascii().to_string()
                );
            }
        }
    }

    #[test]
    fn a_pattern_that_would_take_for_ever_is_told() {
        let patterns = Patterns::parse(format!("{}z", "**/a/".repeat(30)).as_bytes());
        let fault = patterns.say("a/".repeat(60).as_bytes(), false).unwrap_err();
        assert!(fault.what.contains(".gitignore"), "{fault:?}");
    }
}
