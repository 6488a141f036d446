//! What the model sees of a command's output, and where the rest of it is kept.

use std::{io::Read, sync::Arc};

use domain::ports::sandbox::{Output, Sandbox};
use tokio::sync::Semaphore;

use crate::clip::{self, Clip, Room};

/// The longest text of one tool result, in bytes, but for a line or two of ours.
pub(super) const MAX_TEXT: usize = ROOM.head + ROOM.tail;
/// Errors stand at the end more often than at the start.
const ROOM: Room = Room { head: 4 * 1024, tail: 6 * 1024 };
/// Bytes of a long output that are kept for the agent.
const MAX_KEPT: usize = 8 * 1024 * 1024;
/// So many are copied at once, as each is in memory for a moment.
static COPYING: Semaphore = Semaphore::const_new(4);

/// The part of an output that was not seen yet.
pub(super) fn news(output: &Output, seen: u64) -> Clip {
    clip::since(output, seen, ROOM)
}

/// Puts a long output into the workspace, below `.git`, where no snapshot sees it; says in a line where it is.
pub(super) async fn keep(sandbox: &Arc<dyn Sandbox>, output: Output, id: &str) -> String {
    let path = format!(".git/overnight/{id}.txt");
    let total = output.total;
    let _place = COPYING.acquire().await;
    match copy(sandbox, output, path.clone()).await {
        Some(kept) if kept == total => format!("[all {total} bytes are in {path}]"),
        Some(kept) => format!("[the first {kept} of {total} bytes are in {path}]"),
        // Without a place to keep it (no repository, full disk) the agent can still ask for less.
        None => "[the rest was not kept: run it again with a filter if you need it]".to_owned(),
    }
}

/// The bytes that were kept; `None`: it could not be done.
async fn copy(sandbox: &Arc<dyn Sandbox>, output: Output, path: String) -> Option<u64> {
    let files = sandbox.files().await.ok()?;
    let kept = tokio::task::spawn_blocking(move || {
        let bytes = whole(&output).ok()?;
        files.write(&path, &bytes).ok()?;
        Some(bytes.len() as u64)
    });
    kept.await.ok().flatten()
}

/// All of an output, up to [`MAX_KEPT`]: from its file where it was spilled, else from memory.
fn whole(output: &Output) -> std::io::Result<Vec<u8>> {
    let Some(file) = &output.file else { return Ok([&output.head[..], &output.tail[..]].concat()) };
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_KEPT as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
