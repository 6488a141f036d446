//! Names that git refuses in a tree, on whatever system it may be checked out: a path with one of them is no work.

/// Whether git takes an entry of this name. `is_link`: a link may not pass for `.gitmodules` either.
pub(crate) fn is_kept(name: &[u8], is_link: bool) -> bool {
    let refused = |part: &[u8]| is_dot_git(part) || is_link && is_dot_gitmodules(part);
    // On Windows a backslash parts names.
    !(name.is_empty() || name == b"." || name == b".." || name.split(|byte| *byte == b'\\').any(refused))
}

/// `.git` in any case, its short name on NTFS, and what NTFS takes for one of them.
fn is_dot_git(name: &[u8]) -> bool {
    let rest = without_prefix(name, b".git").or_else(|| without_prefix(name, b"git~1"));
    rest.is_some_and(ends_on_ntfs)
}

/// `.gitmodules` likewise. Its short name has a number to 4, or a hash before the number.
fn is_dot_gitmodules(name: &[u8]) -> bool {
    if without_prefix(name, b".gitmodules").is_some_and(ends_on_ntfs) {
        return true;
    }
    if let Some([b'1'..=b'4', rest @ ..]) = without_prefix(name, b"gitmod~")
        && ends_on_ntfs(rest)
    {
        return true;
    }
    let Some((short, rest)) = name.split_at_checked(8) else { return false };
    let Some(tilde) = short.iter().position(|byte| *byte == b'~').filter(|tilde| *tilde <= 6) else { return false };
    let (letters, number) = (&short[..tilde], &short[tilde + 1..]);
    b"gi7eba"[..].get(..tilde).is_some_and(|wanted| letters.eq_ignore_ascii_case(wanted))
        && number.iter().all(u8::is_ascii_digit)
        && number.first().is_some_and(|digit| *digit != b'0')
        && ends_on_ntfs(rest)
}

fn without_prefix<'a>(name: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Whether NTFS ignores all of it: spaces and dots up to the end, or up to the name of a stream.
fn ends_on_ntfs(rest: &[u8]) -> bool {
    let mut behind = rest.iter().skip_while(|byte| matches!(byte, b' ' | b'.'));
    matches!(behind.next(), None | Some(b':'))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use super::is_kept;

    /// Names that git's own index takes, one process for all: of those it refuses it says so.
    fn kept_by_git(names: &[&[u8]], mode: &str) -> Vec<Vec<u8>> {
        let directory = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command.current_dir(&directory).env("GIT_CONFIG_GLOBAL", "/dev/null").args(args);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            command
        };
        assert!(git(&["init", "-q"]).status().unwrap().success());
        for name in names {
            let mut child = git(&["update-index", "-z", "--index-info"]).spawn().unwrap();
            let entry = [mode.as_bytes(), b" e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\tx/", name, b"\0"].concat();
            child.stdin.take().unwrap().write_all(&entry).unwrap();
            child.wait().unwrap();
        }
        let listed = git(&["ls-files", "-z"]).output().unwrap().stdout;
        crate::git::pieces(&listed).map(|path| path[2..].to_vec()).collect()
    }

    #[test]
    fn git_refuses_the_same_names() {
        let names: &[&[u8]] = &[
            b".git",
            b".GIT",
            b".Git ",
            b".git...",
            b".git:x",
            b".git. .x",
            b".gitx",
            b"git~1",
            b"GIT~1",
            b"git~1 .",
            b"git~2",
            b"git~10",
            b"x\\.git",
            b"x\\.git\\y",
            b".git\\x",
            b"x\\git~1",
            b".gitmodules",
            b".GITMODULES .",
            b".gitmodules:x",
            b".gitmodulesx",
            b"gitmod~1",
            b"GITMOD~4",
            b"gitmod~5",
            b"gitmod~1 ",
            b"gi7eba~1",
            b"gi7eb~12",
            b"gi7e~123",
            b"~1000000",
            b"gi7eba~0",
            b"gi7eba~1.",
            b"gi7eba~1x",
            b"gi7eba~1:x",
            b"gi7ebx~1",
            b"x\\.gitmodules",
            b".gitignore",
            b"a",
            b"...",
            b"..a",
            b"a.",
            b"\xff",
            b"new\nline",
            b"~1",
            b"g~123456",
            b"gi7eba~9",
            b"gi7eba~12",
        ];
        for (mode, is_link) in [("100644", false), ("120000", true)] {
            let mut expected: Vec<Vec<u8>> = kept_by_git(names, mode);
            let mut ours: Vec<Vec<u8>> =
                names.iter().filter(|name| is_kept(name, is_link)).map(|name| name.to_vec()).collect();
            expected.sort();
            ours.sort();
            let show = |names: &[Vec<u8>]| names.iter().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>();
            assert_eq!(show(&ours), show(&expected), "{mode}");
        }
        assert!(!is_kept(b".", false) && !is_kept(b"..", false) && !is_kept(b"", false));
    }
}
