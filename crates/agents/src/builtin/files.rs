//! The tools on files: read, edit, write. All of them go through the sandbox's host-side file access, without a process.

use domain::{
    Fault, FaultClass,
    ports::sandbox::{EntryKind, Files},
};
use memchr::{memchr, memchr_iter, memmem, memrchr};

use super::{
    conversation::Done,
    images,
    output::MAX_TEXT,
    tools::{Edit, Read, Write},
};

/// Read at once from a file.
const CHUNK: usize = 256 * 1024;
/// The largest file that `edit` works on.
const MAX_EDIT: usize = 8 * 1024 * 1024;
const DEFAULT_LINES: u64 = 400;
/// How far into a file lines are counted: one with holes can be of any length, and without a line end.
const MAX_SKIPPED: u64 = 256 * 1024 * 1024;

pub(super) fn read(files: &dyn Files, call: &Read) -> Done {
    let from = call.offset.unwrap_or(1).max(1);
    let limit = call.limit.unwrap_or(DEFAULT_LINES).max(1);
    match page(files, &call.path, from, limit) {
        Ok(done) => done,
        // Perhaps a directory, which is no file.
        Err(fault) if fault.class == FaultClass::Input => listing(files, &call.path).unwrap_or_else(|| failed(&fault)),
        Err(fault) => failed(&fault),
    }
}

/// The entries of a directory, a line each; `None` where there is none, or nothing in it.
fn listing(files: &dyn Files, path: &str) -> Option<Done> {
    let mut entries = files.list(path).ok()?;
    if entries.is_empty() {
        return None;
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let (mut text, mut shown) = (String::new(), 0);
    for entry in &entries {
        let line = match entry.kind {
            EntryKind::Directory => format!("{}/\n", entry.name),
            EntryKind::File => format!("{} ({} bytes)\n", entry.name, entry.bytes),
            EntryKind::Other => format!("{} (no file)\n", entry.name),
        };
        if text.len() + line.len() > MAX_TEXT {
            break;
        }
        text.push_str(&line);
        shown += 1;
    }
    if shown < entries.len() {
        text.push_str(&format!("[and {} more]", entries.len() - shown));
    }
    Some(Done::ok(text.trim_end()))
}

/// Lines `from` to `from + limit`, as far as they fit into [`MAX_TEXT`].
fn page(files: &dyn Files, path: &str, from: u64, limit: u64) -> Result<Done, Fault> {
    let (start, skipped) = start_of(files, path, from - 1)?;
    let (bytes, total) = files.read(path, start, MAX_TEXT)?;
    if bytes.is_empty() {
        return Ok(match total {
            0 => Done::ok(format!("[{path} is empty]")),
            _ => Done::error(format!("{path} has only {skipped} lines.")),
        });
    }
    if let Some(media) = images::media(&bytes).filter(|_| start == 0) {
        return picture(files, path, media, total);
    }
    if memchr(0, &bytes).is_some() {
        return Ok(Done::error(format!("{path} is a binary file of {total} bytes; look at it with a command.")));
    }

    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let end = match memchr_iter(b'\n', &bytes).nth(limit - 1) {
        Some(end) => end + 1,
        None if start + bytes.len() as u64 >= total => bytes.len(),
        // Full: ends with the last whole line, or inside of one that is longer than a page.
        None => memrchr(b'\n', &bytes).map_or(bytes.len(), |end| end + 1),
    };
    let mut text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let left = total - start - end as u64;
    if left > 0 {
        if !text.ends_with('\n') {
            text.push_str("[… this line is too long to show]\n");
        }
        let next = from + (memchr_iter(b'\n', &bytes[..end]).count() as u64).max(1);
        text.push_str(&format!("[the file goes on at offset {next}; {left} of {total} bytes left]"));
    }
    Ok(Done::ok(text))
}

fn picture(files: &dyn Files, path: &str, media: &str, total: u64) -> Result<Done, Fault> {
    if total > images::MAX_BYTES as u64 {
        let most = images::MAX_BYTES >> 20;
        return Ok(Done::error(format!("{path} is an image of {total} bytes, and at most {most} MiB can be shown.")));
    }
    let (bytes, _) = files.read(path, 0, images::MAX_BYTES)?;
    Ok(Done { images: vec![images::image(media, &bytes)], ..Done::ok(images::FOLLOWS) })
}

/// The byte after the first `skip` lines, or the end; and how many lines were skipped.
fn start_of(files: &dyn Files, path: &str, skip: u64) -> Result<(u64, u64), Fault> {
    let (mut at, mut left, mut broken) = (0, skip, false);
    while left > 0 {
        if at >= MAX_SKIPPED {
            let what = format!("line {} of {path} is more than {} MiB into it", skip + 1, MAX_SKIPPED >> 20);
            return Err(Fault::input(what).hint("look at it with a command"));
        }
        let (chunk, _) = files.read(path, at, CHUNK)?;
        let Some(last) = chunk.last() else { break };
        broken = *last != b'\n';
        let nth = usize::try_from(left - 1).unwrap_or(usize::MAX);
        if let Some(end) = memchr_iter(b'\n', &chunk).nth(nth) {
            return Ok((at + end as u64 + 1, skip));
        }
        left -= memchr_iter(b'\n', &chunk).count() as u64;
        at += chunk.len() as u64;
    }
    Ok((at, skip - left + u64::from(broken)))
}

pub(super) fn write(files: &dyn Files, call: &Write) -> Done {
    match files.write(&call.path, call.content.as_bytes()) {
        Ok(()) => Done::ok(format!("Wrote {} bytes to {}.", call.content.len(), call.path)),
        Err(fault) => failed(&fault),
    }
}

pub(super) fn edit(files: &dyn Files, call: &Edit) -> Done {
    let Edit { path, old, new, all } = call;
    if old.is_empty() {
        return Done::error("old is empty: name the text to replace, or use write for a new file.");
    }
    if old == new {
        return Done::error("old and new are the same: nothing to do.");
    }
    let content = match files.read(path, 0, MAX_EDIT) {
        Ok((_, total)) if total > MAX_EDIT as u64 => {
            return Done::error(format!("{path} has {total} bytes, too many to edit; change it with a command."));
        }
        Ok((content, _)) => content,
        Err(fault) => return failed(&fault),
    };

    let (mut old, mut new) = (old.clone(), new.clone());
    let mut places: Vec<usize> = memmem::find_iter(&content, &old).collect();
    if places.is_empty() && !old.contains('\r') && memmem::find(&content, b"\r\n").is_some() {
        // A file with CRLF line ends, which models do not see.
        (old, new) = (old.replace('\n', "\r\n"), new.replace("\r\n", "\n").replace('\n', "\r\n"));
        places = memmem::find_iter(&content, &old).collect();
    }
    let line = |at: usize| memchr_iter(b'\n', &content[..at]).count() + 1;
    match places[..] {
        [] => return Done::error(format!("old is not in {path}. {}", nearest(&content, &old))),
        [_] => {}
        _ if *all => {}
        [..] => {
            let lines: Vec<_> = places.iter().take(10).map(|at| line(*at).to_string()).collect();
            return Done::error(format!(
                "old is in {path} {} times (lines {}): add lines around it, or set all.",
                places.len(),
                lines.join(", ")
            ));
        }
    }

    let mut changed = Vec::with_capacity(content.len() + places.len() * new.len());
    let mut copied = 0;
    for at in &places {
        changed.extend_from_slice(&content[copied..*at]);
        changed.extend_from_slice(new.as_bytes());
        copied = at + old.len();
    }
    changed.extend_from_slice(&content[copied..]);
    match files.write(path, &changed) {
        Ok(()) if places.len() == 1 => Done::ok(format!("Replaced at line {} of {path}.", line(places[0]))),
        Ok(()) => Done::ok(format!("Replaced {} times in {path}.", places.len())),
        Err(fault) => failed(&fault),
    }
}

/// Where a text that is not there nearly is: lines that equal its first one but for white space.
fn nearest(content: &[u8], old: &str) -> String {
    let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let first = old.lines().map(squeeze).find(|line| !line.is_empty());
    let content = String::from_utf8_lossy(content);
    let near: Vec<_> = content
        .lines()
        .enumerate()
        .filter(|(_, line)| first.as_ref().is_some_and(|first| squeeze(line) == *first))
        .map(|(at, _)| (at + 1).to_string())
        .take(5)
        .collect();
    if near.is_empty() {
        return "Not even its first line is: read the file again.".to_owned();
    }
    format!(
        "Its first line is at line {}, but white space or what follows differs: read that part again.",
        near.join(", ")
    )
}

pub(super) fn failed(fault: &Fault) -> Done {
    Done::error(fault.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use domain::ports::sandbox::Entry;

    use super::*;

    /// A hole of a terabyte, and how much of it was read.
    #[derive(Default)]
    struct Hole(AtomicU64);

    impl Files for Hole {
        fn read(&self, _: &str, _: u64, max: usize) -> Result<(Bytes, u64), Fault> {
            self.0.fetch_add(max as u64, Ordering::Relaxed);
            Ok((vec![0; max].into(), 1 << 40))
        }

        fn write(&self, path: &str, _: &[u8]) -> Result<(), Fault> {
            Err(Fault::input(path))
        }

        fn list(&self, _: &str) -> Result<Vec<Entry>, Fault> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn a_hole_is_not_read_to_its_end() {
        let hole = Hole::default();
        let told = failed(&page(&hole, "hole", 2, 1).err().unwrap());
        assert!(told.text.starts_with("line 2 of hole is more than 256 MiB into it"), "{}", told.text);
        assert_eq!(hole.0.into_inner(), MAX_SKIPPED);
    }
}
