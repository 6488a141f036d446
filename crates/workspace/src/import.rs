//! A change on a base becomes a commit: one `git fast-import`, which reads no more trees than lie on the way to the changed paths.
//!
//! Its objects go to a directory of their own first, as one pack. So nothing of an import that is broken off stays, and one that
//! only asks for the name of a tree leaves nothing either.

use std::{
    fs,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout},
};

use domain::{Fault, ids::CommitId};

use crate::{
    git::{Done, Identity, io_fault},
    home::{Chore, make_dir, read_dir, remove_tree},
    redaction::Content,
    store::Store,
};

/// The branch of an import. It is reset before the end, and so never written.
const BRANCH: &str = "refs/overnight/import";
/// Larger blobs are not held in memory.
const STREAMED: &str = "8m";

/// What an import makes.
#[derive(Debug)]
pub(crate) struct Imported {
    pub commit: CommitId,
    pub tree: CommitId,
}

/// The commit to be.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    pub base: &'a CommitId,
    pub message: &'a str,
    pub at: jiff::Timestamp,
}

/// An import under way.
#[derive(Debug)]
pub(crate) struct Import<'a> {
    store: &'a Store<'a>,
    scratch: PathBuf,
    child: Child,
    /// Taken only by the end.
    input: Option<BufWriter<ChildStdin>>,
    output: BufReader<ChildStdout>,
}

impl<'a> Import<'a> {
    pub fn start(store: &'a Store<'a>, planned: &Planned<'_>) -> Result<Self, Fault> {
        let scratch = store.home.unique(store.root());
        make_dir(&scratch.join("pack"))?;
        let own = store.objects();
        let started = store
            .git()
            .objects(&scratch)
            .also_objects(&[&own])
            // One object is a pack too: loose ones would go with the directory.
            .config("fastimport.unpackLimit", "0".as_ref())
            .config("core.bigFileThreshold", STREAMED.as_ref())
            .args(["fast-import", "--quiet", "--done", "--date-format=raw"])
            .start();
        let mut child = started.inspect_err(|_| drop(remove_tree(&scratch)))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Fault::bug("git fast-import was started without pipes"));
        };
        let (input, output) = (Some(BufWriter::with_capacity(64 << 10, input)), BufReader::new(output));
        let mut import = Self { store, scratch, child, input, output };
        let (base, seconds) = (planned.base, planned.at.as_second());
        let Identity { name, email } = Identity::overnight();
        let message = planned.message.trim_end();
        import.say(format!("commit {BRANCH}\nmark :1\n").as_bytes())?;
        for role in ["author", "committer"] {
            import.say(format!("{role} {name} <{email}> {seconds} +0000\n").as_bytes())?;
        }
        import.say(format!("data {}\n{message}\n\nfrom {base}\n", message.len() + 1).as_bytes())?;
        Ok(import)
    }

    /// Takes a path away, with all below it. Where there is none, nothing happens.
    pub fn delete(&mut self, path: &[u8]) -> Result<(), Fault> {
        self.say(b"D ")?;
        self.say_path(path)?;
        self.say(b"\n")
    }

    /// Puts an object at a path, in place of whatever is there.
    pub fn put(&mut self, mode: &[u8], object: &[u8], path: &[u8]) -> Result<(), Fault> {
        for part in [b"M ", mode, b" ", object, b" "] {
            self.say(part)?;
        }
        self.say_path(path)?;
        self.say(b"\n")
    }

    /// Puts a file or link with this content at a path, in place of whatever is there.
    pub fn write(&mut self, mode: &[u8], content: Content, path: &[u8]) -> Result<(), Fault> {
        self.put(mode, b"inline", path)?;
        match content {
            Content::Bytes(bytes) => {
                self.say(format!("data {}\n", bytes.len()).as_bytes())?;
                self.say(&bytes)?;
            }
            Content::Spool(file, length) => {
                self.say(format!("data {length}\n").as_bytes())?;
                let copied = self.input.as_mut().map(|input| io::copy(&mut file.take(length), input));
                if !matches!(copied, Some(Ok(copied)) if copied == length) {
                    return Err(self.broken());
                }
            }
        }
        self.say(b"\n")
    }

    /// The tree as it is now. Nothing of the import stays.
    pub fn tree(mut self) -> Result<CommitId, Fault> {
        Ok(self.ask()?.tree)
    }

    /// Makes the commit, durably.
    pub fn commit(mut self) -> Result<Imported, Fault> {
        let imported = self.ask()?;
        self.say(format!("reset {BRANCH}\ndone\n").as_bytes())?;
        self.flush()?;
        self.input = None;
        let ended = self.child.wait().map_err(|error| Fault::environment(format!("cannot run git: {error}")))?;
        if !ended.success() {
            return Err(self.broken());
        }
        let packs = self.store.objects().join("pack");
        let mut files = read_dir(&self.scratch.join("pack"))?;
        // A pack is found by its index: that comes last.
        files.sort_by_key(|file| file.extension().is_some_and(|kind| kind == "idx"));
        for file in files {
            let to = packs.join(file.file_name().unwrap_or_default());
            fs::rename(&file, &to).map_err(|error| io_fault("write", &to, &error))?;
        }
        self.store.home.later(Chore::RollUp(self.store.id()));
        Ok(imported)
    }

    fn ask(&mut self) -> Result<Imported, Fault> {
        self.say(b"get-mark :1\nls :1 \"\"\n")?;
        self.flush()?;
        let commit = self.hear()?;
        let tree = self.hear()?;
        // `040000 tree <object><TAB>`
        let tree = tree.split([' ', '\t']).nth(2).and_then(CommitId::parse);
        match (CommitId::parse(commit.trim_end()), tree) {
            (Some(commit), Some(tree)) => Ok(Imported { commit, tree }),
            _ => Err(self.broken()),
        }
    }

    fn hear(&mut self) -> Result<String, Fault> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(1..) => Ok(line),
            _ => Err(self.broken()),
        }
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match self.input.as_mut().map(|input| input.write_all(bytes)) {
            Some(Ok(())) => Ok(()),
            _ => Err(self.broken()),
        }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        match self.input.as_mut().map(Write::flush) {
            Some(Ok(())) => Ok(()),
            _ => Err(self.broken()),
        }
    }

    /// In quotes, with what ends them or a line escaped.
    fn say_path(&mut self, path: &[u8]) -> Result<(), Fault> {
        let mut quoted = Vec::with_capacity(path.len() + 2);
        quoted.push(b'"');
        for byte in path {
            match byte {
                b'"' | b'\\' => quoted.extend([b'\\', *byte]),
                b'\n' => quoted.extend(b"\\n"),
                _ => quoted.push(*byte),
            }
        }
        quoted.push(b'"');
        self.say(&quoted)
    }

    /// Why git ended, as far as it said.
    fn broken(&mut self) -> Fault {
        // By the end of its input, so that it can say its own cause if that was another.
        drop(self.input.take().map(BufWriter::into_parts));
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // What it said is for the message only.
            let _ = stderr.read_to_string(&mut said);
        }
        let code = self.child.wait().ok().and_then(|status| status.code());
        Done { code, out: Vec::new(), err: said.trim_end().to_owned() }.fault("fast-import")
    }

    /// Ends it, where it has not ended by itself.
    fn close(&mut self) {
        if let Some(input) = self.input.take() {
            // Not by the end of its input: it would take that for a broken file, and write a report of it.
            let _ = self.child.kill();
            drop(input.into_parts());
        }
        let _ = self.child.wait();
    }
}

impl Drop for Import<'_> {
    fn drop(&mut self) {
        self.close();
        // What stays is swept at the next start.
        let _ = remove_tree(&self.scratch);
        let _ = fs::remove_file(self.store.git_dir().join(format!("fast_import_crash_{}", self.child.id())));
    }
}
