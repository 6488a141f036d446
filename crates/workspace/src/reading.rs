//! What a layered workspace holds that its base does not: read from the upper directory alone, so it costs what the change costs.
//!
//! Files that are ignored are left out unless the base tracks them; an ignored directory in which it tracks nothing is not even
//! opened. Rules count as a command in the workspace would see them: `.gitignore` of the upper, else of the layers.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    rc::Rc,
};

use domain::Fault;
use rustix::io::Errno;

use crate::{
    gitignore::{Patterns, Said},
    given::Given,
    names::is_kept,
    upper::{Kind, Open, Side},
};

/// The longest path that git can check out, in bytes.
const LONGEST_PATH: usize = 4095;
/// Of a `.gitignore` or `.gitattributes` file. Git takes no larger one of the latter.
const RULES_BYTES: u64 = 1 << 20;

/// What one snapshot may hold. What is beyond is told as a fault, never left out silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Entries of directories that are looked at.
    pub entries: usize,
    /// Of all changed files.
    pub total_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: 1_000_000, total_bytes: 8 << 30 }
    }
}

/// A directory that lies under the upper one.
#[derive(Clone, Debug)]
pub(crate) struct Lower {
    pub tree: PathBuf,
    pub of: LayerOf,
}

/// What is known of a workspace besides what its directories hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// Paths at which the base has a commit of another repository.
    pub submodules: &'a [PathBuf],
    pub given: &'a Given,
}

/// Whether what a layer holds is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerOf {
    Base,
    Environment,
}

/// One path that may differ from the base. Gone ones come before what is below them.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub path: Vec<u8>,
    pub what: What,
    pub rules: Rc<Rules>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// With all below it.
    Gone,
    File,
    Link,
}

/// The rules that hold in a directory, from it up to the root.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    parent: Option<Rc<Rules>>,
    /// Of the directory they stand in, with a slash at the end unless it is the root.
    directory: Vec<u8>,
    ignored: Patterns,
    attributes: Option<Vec<u8>>,
}

impl Rules {
    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |rules| rules.parent.as_deref())
    }

    /// Directories (with a slash at the end, or empty) with the content of their `.gitattributes`.
    pub fn attributes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.chain().filter_map(|rules| Some((rules.directory.as_slice(), rules.attributes.as_deref()?)))
    }

    fn is_ignored(&self, path: &[u8], is_directory: bool) -> Result<bool, Fault> {
        for rules in self.chain() {
            if let Some(said) = rules.ignored.say(&path[rules.directory.len()..], is_directory)? {
                return Ok(said == Said::Ignored);
            }
        }
        Ok(false)
    }
}

/// A directory of the upper one that is still to be read.
#[derive(Debug)]
struct Pending {
    path: Vec<u8>,
    rules: Rc<Rules>,
    /// Only what the base tracks counts in it.
    ignored: bool,
    /// Lower directories that are seen through it, topmost first.
    seen: Vec<usize>,
    /// Those with what the base has at its path, whether it is still seen or not.
    base: Vec<usize>,
}

/// Reads an upper directory.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    upper: Side,
    lower: Vec<(Side, LayerOf)>,
    /// Paths at which the base has a commit of another repository: empty directories in its layer.
    submodules: HashSet<&'a [u8]>,
    given: &'a Given,
    entries_left: usize,
    bounds: Bounds,
    found: Vec<Found>,
    pending: Vec<Pending>,
}

impl<'a> Reader<'a> {
    pub fn new(upper: Side, lower: &[Lower], known: Known<'a>, bounds: Bounds) -> Result<Self, Fault> {
        let sides = lower.iter().map(|lower| Ok((Side::open(&lower.tree)?, lower.of)));
        Ok(Self {
            upper,
            lower: sides.collect::<Result<_, Fault>>()?,
            submodules: known.submodules.iter().map(|path| path.as_os_str().as_bytes()).collect(),
            given: known.given,
            entries_left: bounds.entries,
            bounds,
            found: Vec::new(),
            pending: Vec::new(),
        })
    }

    /// All that may differ from the base, and the upper directory to read it from.
    pub fn read(mut self) -> Result<(Side, Vec<Found>), Fault> {
        let all = 0..self.lower.len();
        let base = all.clone().filter(|side| self.lower[*side].1 == LayerOf::Base).collect();
        let rules = Rc::new(Rules::default());
        self.pending.push(Pending { path: Vec::new(), rules, ignored: false, seen: all.collect(), base });
        while let Some(next) = self.pending.pop() {
            if let Some(open) = self.upper.directory(&next.path)? {
                self.read_directory(next, &open)?;
            }
        }
        Ok((self.upper, self.found))
    }

    fn read_directory(&mut self, mut here: Pending, open: &Open) -> Result<(), Fault> {
        let mut names = Vec::new();
        let left = self.entries_left;
        self.upper.entries(&here.path, open, &mut |name, kind| {
            if names.len() == left {
                return Err(self.too_many(&here.path));
            }
            if is_kept(name, kind == Kind::Link) {
                names.push((name.to_owned(), kind));
            }
            Ok(())
        })?;
        self.entries_left -= names.len();
        if open.is_opaque() {
            here.seen.clear();
        }
        let under = Under::open(self, &here)?;
        here.rules = self.rules_of(&here, open, &under)?;
        for (name, kind) in names {
            let mut path = here.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            if path.len() > LONGEST_PATH {
                return Err(Fault::input(format!(
                    "a path in the workspace is longer than {LONGEST_PATH} bytes: {}…",
                    String::from_utf8_lossy(&path[..200])
                ))
                .hint("remove it, or have git ignore it"));
            }
            self.entry(&here, &under, path, kind)?;
        }
        Ok(())
    }

    fn entry(&mut self, here: &Pending, under: &Under, path: Vec<u8>, kind: Kind) -> Result<(), Fault> {
        let name = c_string(path.rsplit(|byte| *byte == b'/').next().unwrap_or(&path))?;
        let rules = &here.rules;
        let found = |what| Found { path: path.clone(), what, rules: Rc::clone(rules) };
        match kind {
            Kind::Nothing => {}
            // Where the base has nothing of the name, there is nothing to take away.
            Kind::Whiteout | Kind::Other => self.found.push(found(What::Gone)),
            Kind::File | Kind::Link => {
                let what = if kind == Kind::File { What::File } else { What::Link };
                let ignored = here.ignored || rules.is_ignored(&path, false)?;
                let tells = ignored || !self.given.is_empty();
                let base = if tells { under.base(self, &name)?.there } else { Kind::File };
                match base {
                    Kind::Nothing if ignored || self.is_given(&path, what)? => {}
                    // It has taken the place of a directory, and so is not tracked itself.
                    Kind::Directory if ignored && !self.submodules.contains(path.as_slice()) => {
                        self.found.push(found(What::Gone));
                    }
                    _ => self.found.push(found(what)),
                }
            }
            Kind::Directory => {
                let (base, seen) = (under.base(self, &name)?, under.seen(self, &name)?);
                let is_submodule = self.submodules.contains(path.as_slice());
                let ignored = here.ignored || rules.is_ignored(&path, true)?;
                if base.there == Kind::File {
                    self.found.push(found(What::Gone));
                }
                if ignored && (base.there != Kind::Directory || is_submodule) {
                    return Ok(());
                }
                let tracked = base.there == Kind::Directory && !is_submodule;
                let pending =
                    Pending { rules: Rc::clone(rules), ignored, seen: seen.directories, base: base.directories, path };
                if tracked && self.upper.directory(&pending.path)?.is_some_and(|open| open.is_opaque()) {
                    self.found.push(Found { path: pending.path.clone(), what: What::Gone, rules: Rc::clone(rules) });
                }
                self.pending.push(pending);
            }
        }
        Ok(())
    }

    /// Whether a file or link is as the environment has it.
    fn is_given(&self, path: &[u8], what: What) -> Result<bool, Fault> {
        match what {
            What::Gone => Ok(false),
            What::File => self.upper.file(path)?.map_or(Ok(false), |file| self.given.has_file(path, &file)),
            What::Link => self.upper.link(path)?.map_or(Ok(false), |target| self.given.has_link(path, &target)),
        }
    }

    /// The rules of a directory's own files, before those of its parents.
    fn rules_of(&self, here: &Pending, open: &Open, under: &Under) -> Result<Rc<Rules>, Fault> {
        let ignored = self.seen_file(here, open, under, c".gitignore")?;
        let attributes = self.seen_file(here, open, under, c".gitattributes")?;
        let ignored = ignored.map(|text| Patterns::parse(&text)).unwrap_or_default();
        if ignored.is_empty() && attributes.is_none() {
            return Ok(Rc::clone(&here.rules));
        }
        let mut directory = here.path.clone();
        if !directory.is_empty() {
            directory.push(b'/');
        }
        Ok(Rc::new(Rules { parent: Some(Rc::clone(&here.rules)), directory, ignored, attributes }))
    }

    /// The content of a file of rules as the workspace shows it. Git follows no link to it.
    fn seen_file(&self, here: &Pending, open: &Open, under: &Under, name: &CStr) -> Result<Option<Vec<u8>>, Fault> {
        let sides = std::iter::once((&self.upper, open));
        let lower = under.seen.iter().filter_map(|side| Some((&self.lower[*side].0, under.opened[*side].as_ref()?)));
        for (side, open) in sides.chain(lower) {
            let mut path = here.path.clone();
            path.extend_from_slice(b"/");
            path.extend_from_slice(name.to_bytes());
            let fault = |errno| side.fault("read", &path, errno);
            match open.kind(name).map_err(fault)? {
                Kind::Nothing => {}
                Kind::File => return open.file(name).map_err(fault)?.map(|file| rules_text(file, &path)).transpose(),
                Kind::Whiteout | Kind::Link | Kind::Directory | Kind::Other => return Ok(None),
            }
        }
        Ok(None)
    }

    fn too_many(&self, path: &[u8]) -> Fault {
        Fault::input(format!(
            "the workspace holds more than {} changed entries; the last were in `{}`",
            self.bounds.entries,
            String::from_utf8_lossy(path)
        ))
        .hint("remove what is not work, or have git ignore it by a line in .gitignore")
    }
}

/// Directories under the one that is read, of the same path.
#[derive(Debug)]
struct Under {
    /// By the number of the side; `None` where it is of no use here.
    opened: Vec<Option<Open>>,
    seen: Vec<usize>,
    base: Vec<usize>,
}

/// What a stack of lower directories has at a name.
#[derive(Debug)]
struct Below {
    /// [`Kind::Nothing`], [`Kind::File`] for anything but a directory, or [`Kind::Directory`].
    there: Kind,
    directories: Vec<usize>,
}

impl Under {
    fn open(reader: &Reader<'_>, here: &Pending) -> Result<Self, Fault> {
        let mut opened: Vec<Option<Open>> = reader.lower.iter().map(|_| None).collect();
        for side in here.seen.iter().chain(&here.base) {
            if opened[*side].is_none() {
                opened[*side] = reader.lower[*side].0.directory(&here.path)?;
            }
        }
        // What lies under a directory that hides it does not count.
        let visible = |sides: &[usize]| {
            let hides = |side: &&usize| opened[**side].as_ref().is_some_and(Open::is_opaque);
            let end = sides.iter().position(|side| hides(&side)).map_or(sides.len(), |last| last + 1);
            sides[..end].to_vec()
        };
        let (seen, base) = (visible(&here.seen), visible(&here.base));
        Ok(Self { opened, seen, base })
    }

    fn seen(&self, reader: &Reader<'_>, name: &CStr) -> Result<Below, Fault> {
        self.look(reader, &self.seen, name)
    }

    fn base(&self, reader: &Reader<'_>, name: &CStr) -> Result<Below, Fault> {
        self.look(reader, &self.base, name)
    }

    fn look(&self, reader: &Reader<'_>, sides: &[usize], name: &CStr) -> Result<Below, Fault> {
        let mut below = Below { there: Kind::Nothing, directories: Vec::new() };
        for side in sides {
            let Some(open) = &self.opened[*side] else { continue };
            let fault = |errno: Errno| reader.lower[*side].0.fault("look at", name.to_bytes(), errno);
            match open.kind(name).map_err(fault)? {
                Kind::Nothing => {}
                Kind::Directory => {
                    below.there = Kind::Directory;
                    below.directories.push(*side);
                }
                Kind::Whiteout => break,
                Kind::File | Kind::Link | Kind::Other => {
                    if below.directories.is_empty() {
                        below.there = Kind::File;
                    }
                    break;
                }
            }
        }
        Ok(below)
    }
}

fn rules_text(file: File, path: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut text = Vec::new();
    let path = String::from_utf8_lossy(path);
    file.take(RULES_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| Fault::environment(format!("cannot read {path}: {error}")))?;
    if text.len() as u64 > RULES_BYTES {
        return Err(Fault::input(format!("`{path}` is larger than {RULES_BYTES} bytes")).hint("make it smaller"));
    }
    Ok(text)
}

fn c_string(name: &[u8]) -> Result<CString, Fault> {
    CString::new(name).map_err(|error| Fault::bug(format!("a name of a directory entry: {error}")))
}
