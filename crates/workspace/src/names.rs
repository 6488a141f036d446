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
