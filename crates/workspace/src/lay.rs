//! Laying a commit over the layer of another: an upper directory that shows, over the files of `base`, the files of `commit`.
//!
//! Contents are written as the store has them, except where attributes say that a file is checked out otherwise than it is stored:
//! then git writes them all, by an index of just these paths.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::OsStr,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    process::ChildStdout,
};

use domain::{Fault, ids::CommitId};
use rustix::{
    fs::{
        CWD, FileType, Mode, OFlags, ResolveFlags, XattrFlags, fsetxattr, mkdirat, mknodat, openat, openat2, symlinkat,
    },
    io::Errno,
};

use crate::{
    git::{Done, io_fault, pieces},
    home::remove_tree,
    names::is_kept,
    store::Store,
    upper::OPAQUE,
};

/// One path that differs, as `git diff-tree --raw` tells it.
#[derive(Clone, Copy, Debug)]
struct Change<'a> {
    old_mode: &'a [u8],
    mode: &'a [u8],
    object: &'a [u8],
    path: &'a [u8],
}

const TREE: &[u8] = b"040000";
const SUBMODULE: &[u8] = b"160000";
const LINK: &[u8] = b"120000";
const ABSENT: &[u8] = b"000000";

impl Store<'_> {
    /// Writes what `commit` has otherwise than `base` below `upper`, where nothing of these names is yet. Another commit of a
    /// submodule changes nothing: its directory stays empty.
    pub fn lay(&self, upper: &Path, base: &CommitId, commit: &CommitId) -> Result<(), Fault> {
        let names = ["diff-tree", "-r", "-t", "-z", "--no-renames", base.as_str(), commit.as_str()];
        let listed = self.git().args(names).run()?;
        let changes = parse(&listed).ok_or_else(|| Fault::bug("git diff-tree printed what cannot be read"))?;
        let mut writer = Writer::open(upper)?;
        take_away(&changes, &mut writer)?;
        let came: Vec<Change<'_>> =
            changes.into_iter().filter(|change| ![TREE, SUBMODULE, ABSENT].contains(&change.mode)).collect();
        if came.is_empty() {
            return Ok(());
        }
        match self.write_contents(commit, &came, &mut writer)? {
            Written::All => Ok(()),
            Written::NotYet(attributes) => self.check_out(upper, &came, &attributes),
        }
    }

    /// Writes files and links as they are stored; none where attributes may have them checked out otherwise.
    fn write_contents(&self, commit: &CommitId, came: &[Change<'_>], writer: &mut Writer) -> Result<Written, Fault> {
        let directories: BTreeSet<&[u8]> = came.iter().flat_map(|change| ancestors(change.path)).collect();
        let rules: Vec<Vec<u8>> =
            directories.into_iter().map(|directory| [directory, b".gitattributes"].concat()).collect();
        let mut wanted = Vec::new();
        for path in &rules {
            wanted.extend_from_slice(format!("{commit}:").as_bytes());
            wanted.extend_from_slice(path);
            wanted.push(0);
        }
        for change in came {
            wanted.extend_from_slice(change.object);
            wanted.push(0);
        }
        let mut child = self.git().args(["cat-file", "--batch", "-z", "--buffer"]).start()?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Fault::bug("git cat-file was started without pipes"));
        };
        let written = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A git that ends early closes its end; what it then does not print tells.
                let _ = stdin.write_all(&wanted);
            });
            let mut batch = Batch { output: BufReader::with_capacity(64 << 10, stdout) };
            let written = batch.write_all(&rules, came, writer);
            drop(batch);
            written
        });
        let written = match written {
            Ok(written) => written,
            Err(fault) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(fault);
            }
        };
        let ended = child.wait_with_output().map_err(|error| Fault::environment(format!("cannot run git: {error}")))?;
        // It was cut off where not all was wanted of it.
        if matches!(written, Written::All) && !ended.status.success() {
            let err = String::from_utf8_lossy(&ended.stderr).trim_end().to_owned();
            return Err(Done { code: ended.status.code(), out: Vec::new(), err }.fault("cat-file"));
        }
        Ok(written)
    }

    /// Has git write files and links. Only the host can write `upper` as yet.
    fn check_out(&self, upper: &Path, came: &[Change<'_>], attributes: &Attributes) -> Result<(), Fault> {
        let index = self.home.unique(self.root());
        let call = || self.git().index(&index);
        let changed: HashSet<&[u8]> = came.iter().map(|change| change.path).collect();
        let mut entries = Vec::new();
        let rules = attributes.iter().filter(|(path, _)| !changed.contains(path.as_slice()));
        let rules = rules.map(|(path, object)| (&b"100644"[..], object.as_slice(), path.as_slice()));
        for (mode, object, path) in came.iter().map(|change| (change.mode, change.object, change.path)).chain(rules) {
            for part in [mode, b" ", object, b" 0\t", path, b"\0"] {
                entries.extend_from_slice(part);
            }
        }
        let mut paths = came.iter().map(|change| change.path).collect::<Vec<_>>().join(&0);
        paths.push(0);
        let done = call().args(["update-index", "-z", "--index-info"]).input(entries).run().and_then(|_| {
            call().work_tree(upper).args(["checkout-index", "-q", "-z", "--stdin"]).input(paths).run().map(drop)
        });
        remove_tree(&index)?;
        done
    }
}

/// Paths of `.gitattributes` files with their objects.
type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug)]
enum Written {
    All,
    /// Nothing, as these may have files checked out otherwise than they are stored.
    NotYet(Attributes),
}

/// Whiteouts for what is gone, and directories for submodules that have come.
fn take_away(changes: &[Change<'_>], writer: &mut Writer) -> Result<(), Fault> {
    let mut came: HashSet<&[u8]> = HashSet::new();
    for change in changes.iter().filter(|change| change.mode != ABSENT) {
        came.insert(change.path);
        came.extend(ancestors(change.path).filter_map(|directory| directory.strip_suffix(b"/")));
    }
    let mut gone_directory: Option<&[u8]> = None;
    let mut was_directory: HashSet<&[u8]> = HashSet::new();
    for change in changes.iter().filter(|change| change.mode == ABSENT) {
        let inside = |directory: &[u8]| change.path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"));
        if gone_directory.is_some_and(inside) {
            continue;
        }
        if change.old_mode == TREE {
            gone_directory = Some(change.path);
            was_directory.insert(change.path);
        }
        // What has come in its place hides it.
        if !came.contains(change.path) {
            writer.whiteout(change.path)?;
        }
    }
    for change in changes.iter().filter(|change| change.mode == SUBMODULE && change.old_mode != SUBMODULE) {
        writer.directory(change.path, was_directory.contains(change.path))?;
    }
    Ok(())
}

/// The answers of `git cat-file --batch`.
struct Batch {
    output: BufReader<ChildStdout>,
}

impl Batch {
    fn write_all(&mut self, rules: &[Vec<u8>], came: &[Change<'_>], writer: &mut Writer) -> Result<Written, Fault> {
        let mut attributes = Attributes::new();
        let mut is_stored_otherwise = false;
        for path in rules {
            let Some((object, size)) = self.header(path)? else { continue };
            let mut text = Vec::new();
            self.content(size, &mut text)?;
            let has = |word: &[u8]| text.windows(word.len()).any(|part| part == word);
            is_stored_otherwise |= [&b"eol"[..], b"ident", b"working-tree-encoding"].into_iter().any(has);
            attributes.insert(path.clone(), object.into_bytes());
        }
        if is_stored_otherwise {
            return Ok(Written::NotYet(attributes));
        }
        for change in came {
            let size = self.header(b"")?.map(|(_, size)| size).ok_or_else(|| {
                Fault::environment(format!("the store has no object {}", String::from_utf8_lossy(change.object)))
                    .hint("restore the home directory from a backup")
            })?;
            if change.mode == LINK {
                let mut target = Vec::new();
                self.content(size, &mut target)?;
                writer.link(change.path, &target)?;
            } else {
                self.content(size, &mut writer.file(change.path, change.mode == b"100755")?)?;
            }
        }
        Ok(Written::All)
    }

    /// The object and size of the next answer; `None`: there is no such object. `asked` is the path that it was asked by.
    fn header(&mut self, asked: &[u8]) -> Result<Option<(String, u64)>, Fault> {
        let line = self.line()?;
        let mut words = line.split(' ');
        let (object, kind, size) = (words.next(), words.next(), words.next());
        if let (Some(object), Some("blob"), Some(size)) = (object, kind, size.and_then(|size| size.parse().ok()))
            && CommitId::parse(object).is_some()
        {
            return Ok(Some((object.to_owned(), size)));
        }
        if CommitId::parse(object.unwrap_or_default()).is_some() && kind != Some("missing") {
            // Something that is no file has the name.
            let size = size.and_then(|size| size.parse().ok()).unwrap_or(0);
            self.content(size, &mut io::sink())?;
            return Ok(None);
        }
        // It repeats what was asked, with all line ends in it.
        for _ in asked.iter().filter(|byte| **byte == b'\n') {
            self.line()?;
        }
        Ok(None)
    }

    fn line(&mut self) -> Result<String, Fault> {
        let mut line = Vec::new();
        let read = self.output.read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            return Err(Fault::transient("git cat-file ended early"));
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Content and the line end behind it.
    fn content(&mut self, size: u64, to: &mut impl Write) -> Result<(), Fault> {
        let copied = io::copy(&mut (&mut self.output).take(size), to)
            .map_err(|error| Fault::environment(format!("cannot write a file: {error}")))?;
        if copied != size || self.output.read_exact(&mut [0]).is_err() {
            return Err(Fault::transient("git cat-file ended early"));
        }
        Ok(())
    }
}

/// Writes below a directory, following no link there.
#[derive(Debug)]
struct Writer {
    path: PathBuf,
    root: OwnedFd,
    /// The directory written to last.
    parent: Option<(Vec<u8>, OwnedFd)>,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

impl Writer {
    fn open(path: &Path) -> Result<Self, Fault> {
        let root =
            openat(CWD, path, DIRECTORY, Mode::empty()).map_err(|errno| io_fault("open", path, &errno.into()))?;
        Ok(Self { path: path.to_owned(), root, parent: None })
    }

    fn file(&mut self, path: &[u8], is_program: bool) -> Result<File, Fault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // As git gives them, less what the user's mask takes away.
        let mode = Mode::from_raw_mode(if is_program { 0o777 } else { 0o666 });
        self.at(path, |parent, name| openat(parent, name, flags, mode)).map(File::from)
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Fault> {
        self.at(path, |parent, name| symlinkat(OsStr::from_bytes(target), parent, name))
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), Fault> {
        self.at(path, |parent, name| mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0))
    }

    fn directory(&mut self, path: &[u8], hides: bool) -> Result<(), Fault> {
        self.at(path, |parent, name| {
            mkdirat(parent, name, Mode::from_raw_mode(0o777))?;
            if hides {
                let made = openat2(parent, name, DIRECTORY, Mode::empty(), BENEATH)?;
                fsetxattr(made, OPAQUE, b"y", XattrFlags::empty())?;
            }
            Ok(())
        })
    }

    fn at<T>(&mut self, path: &[u8], make: impl FnOnce(&OwnedFd, &OsStr) -> Result<T, Errno>) -> Result<T, Fault> {
        if !path.split(|byte| *byte == b'/').all(|name| is_kept(name, false)) {
            return Err(Fault::input(format!("the commit has a path that git refuses: {}", path.escape_ascii())));
        }
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = slash.map_or((&b""[..], path), |slash| (&path[..slash], &path[slash + 1..]));
        let fault = |errno: Errno| io_fault("write", &self.path.join(OsStr::from_bytes(path)), &errno.into());
        if self.parent.as_ref().is_none_or(|(last, _)| last != parent) {
            self.parent = Some((parent.to_owned(), self.make_parent(parent).map_err(fault)?));
        }
        let Some((_, directory)) = &self.parent else { return Err(Fault::bug("a directory was not opened")) };
        make(directory, OsStr::from_bytes(name)).map_err(fault)
    }

    fn make_parent(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut open = openat(&self.root, c".", DIRECTORY, Mode::empty())?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(OsStr::from_bytes) {
            match mkdirat(&open, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            open = openat2(&open, name, DIRECTORY, Mode::empty(), BENEATH)?;
        }
        Ok(open)
    }
}

/// The directories above a path, with a slash at the end; the root is empty.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1);
    std::iter::once(0).chain(slashes).map(|end| &path[..end])
}

/// Reads `:<old mode> <mode> <old object> <object> <letter>`, `<path>`, and so on.
fn parse(listed: &[u8]) -> Option<Vec<Change<'_>>> {
    let mut parts = pieces(listed);
    let mut changes = Vec::new();
    while let Some(change) = parts.next() {
        let mut words = change.strip_prefix(b":")?.split(|byte| *byte == b' ');
        let (old_mode, mode, _, object) = (words.next()?, words.next()?, words.next()?, words.next()?);
        changes.push(Change { old_mode, mode, object, path: parts.next()? });
    }
    Some(changes)
}
