//! Secrets of an installation must not stay in its layer: every file that it made is looked into.

use std::{
    fs::{self, File, FileType, OpenOptions},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::Path,
};

use domain::{
    Fault,
    ports::{sandbox::Tree, workspace::Prepared},
    redact::Redactor,
};

/// Files of HOME in which programs keep credentials: they go without a word of blame.
const KEPT_BY_PROGRAMS: [&str; 13] = [
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".netrc",
    ".pypirc",
    ".git-credentials",
    ".gitconfig",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".m2/settings.xml",
    ".config/pip/pip.conf",
    ".docker/",
    ".config/gh/",
];
/// Bytes of a file that are looked into.
const LOOKED_INTO: u64 = 256 << 20;
const PIECE: usize = 1 << 20;
/// Files named in a refusal.
const NAMED: usize = 10;

/// What was found of the secrets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// Credential files of programs, which are removed: paths below HOME.
    pub removed: Vec<String>,
    /// Other files that hold one, or cannot be read: below HOME with `~/`, else below the workspace; at most ten.
    pub found: Vec<String>,
}

/// Looks through the writable sides of `place`, in which no process runs any more. Blocking.
pub(crate) fn sweep(place: &Prepared, redactor: &Redactor) -> Result<Leftovers, Fault> {
    let mut leftovers = Leftovers::default();
    for (tree, seen_as) in [(&place.root, ""), (&place.home, "~/")] {
        let top = match tree {
            Tree::Directory(directory) => directory,
            Tree::Layers(layers) => &layers.upper,
        };
        let mut sweeper = Sweeper { top, seen_as, redactor, piece: Vec::new(), leftovers: &mut leftovers };
        sweeper.sweep().map_err(|error| {
            Fault::environment(format!("what was installed in {} cannot be looked through: {error}", top.display()))
                .hint("secrets may be left in it, so it is not kept; see whether its disk is failing, then build again")
        })?;
    }
    Ok(leftovers)
}

struct Sweeper<'a> {
    top: &'a Path,
    seen_as: &'a str,
    redactor: &'a Redactor,
    piece: Vec<u8>,
    leftovers: &'a mut Leftovers,
}

impl Sweeper<'_> {
    /// Not by recursion: an installation can nest directories deeper than a stack is.
    fn sweep(&mut self) -> io::Result<()> {
        let mut directories = vec![self.top.to_owned()];
        while let Some(directory) = directories.pop() {
            let unreadable =
                |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", directory.display()));
            for entry in fs::read_dir(&directory).map_err(unreadable)? {
                let entry = entry?;
                let (path, kind) = (entry.path(), entry.file_type()?);
                // Left out of every layer.
                if self.seen_as.is_empty() && directory == self.top && entry.file_name() == ".git" {
                    continue;
                }
                let is_named = self.holds(entry.file_name().as_bytes());
                if is_named || self.content(&path, kind)? {
                    self.found(&path, kind)?;
                }
                if kind.is_dir() {
                    directories.push(path);
                }
            }
        }
        Ok(())
    }

    /// Whether what the entry itself holds gives a secret away.
    fn content(&mut self, path: &Path, kind: FileType) -> io::Result<bool> {
        if kind.is_symlink() {
            return Ok(self.holds(fs::read_link(path)?.as_os_str().as_bytes()));
        }
        if kind.is_file() { self.file(path) } else { Ok(false) }
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        self.redactor.redact(bytes).is_some()
    }

    fn file(&mut self, path: &Path) -> io::Result<bool> {
        let file = match open(path) {
            Ok(file) => file,
            // Who works over the layer may give himself the right to read it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(true),
            Err(error) => return Err(error),
        };
        let mut file = file.take(LOOKED_INTO);
        // What may be the beginning of a value at the end of one piece is looked at again with the next.
        let overlap = self.redactor.longest().saturating_sub(1);
        let mut piece = std::mem::take(&mut self.piece);
        piece.clear();
        let found = loop {
            if (&mut file).take(PIECE as u64).read_to_end(&mut piece)? == 0 {
                break false;
            }
            if self.holds(&piece) {
                break true;
            }
            piece.drain(..piece.len().saturating_sub(overlap));
        };
        self.piece = piece;
        Ok(found)
    }

    fn found(&mut self, path: &Path, kind: FileType) -> io::Result<()> {
        let below = path.strip_prefix(self.top).unwrap_or(path).to_string_lossy().into_owned();
        let is_kept = |known: &&str| match known.strip_suffix('/') {
            Some(directory) => Path::new(&below).starts_with(directory),
            None => below == **known,
        };
        if self.seen_as == "~/" && !kind.is_dir() && KEPT_BY_PROGRAMS.iter().any(is_kept) {
            fs::remove_file(path)?;
            self.leftovers.removed.push(format!("~/{below}"));
        } else if self.leftovers.found.len() < NAMED {
            self.leftovers.found.push(format!("{}{below}", self.seen_as));
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const SECRET: &str = "s3cret-of-the-registry";

    fn place(directory: &Path) -> Prepared {
        let below = |name: &str| directory.join(name);
        for name in ["root/.git", "root/out", "home/.config/gh", "elsewhere"] {
            fs::create_dir_all(below(name)).unwrap();
        }
        Prepared {
            root: Tree::Directory(below("root")),
            home: Tree::Directory(below("home")),
            scratch: below("scratch"),
            readable: Vec::new(),
            spill: below("spill"),
            lock: below("lock"),
        }
    }

    #[test]
    fn every_file_that_holds_a_secret_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        let write = |path: &str, content: &[u8]| fs::write(directory.path().join(path), content).unwrap();
        write("root/out/plain", format!("a {SECRET} b").as_bytes());
        // Over the edge of two pieces.
        let mut long = vec![b'x'; PIECE - 5];
        long.extend_from_slice(SECRET.as_bytes());
        write("root/out/long", &long);
        write("root/out/harmless", &long[..PIECE]);
        write(&format!("root/out/{SECRET}"), b"");
        fs::create_dir(directory.path().join("home/.config/gh").join(SECRET)).unwrap();
        symlink(SECRET, directory.path().join("root/out/link")).unwrap();
        write("root/.git/config", SECRET.as_bytes());
        write("home/.npmrc", format!("_authToken={SECRET}").as_bytes());
        write("home/.config/gh/hosts.yml", SECRET.as_bytes());
        write("home/.netrc", b"machine other login me");
        write("home/notes", SECRET.as_bytes());
        // Nothing is looked for, nor removed, behind a link.
        write("elsewhere/.npmrc", SECRET.as_bytes());
        symlink(directory.path().join("elsewhere"), directory.path().join("home/.docker")).unwrap();

        let mut swept = sweep(&place, &Redactor::new([("TOKEN", SECRET)])).unwrap();
        swept.found.sort();
        swept.removed.sort();
        let (named, below) = (format!("out/{SECRET}"), format!("~/.config/gh/{SECRET}"));
        assert_eq!(swept.found, ["out/link", "out/long", "out/plain", &named, &below, "~/notes"]);
        assert_eq!(swept.removed, ["~/.config/gh/hosts.yml", "~/.npmrc"]);
        assert!(!directory.path().join("home/.npmrc").exists() && directory.path().join("home/.netrc").exists());
        assert!(directory.path().join("elsewhere/.npmrc").exists());
    }
}
