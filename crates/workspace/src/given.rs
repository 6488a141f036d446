//! What an environment put into a workspace: as long as it is as it was put there, it is no work, whether git ignores it or not.

use std::{
    cell::RefCell,
    ffi::CString,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
};

use domain::Fault;
use rustix::fs::Stat;

use crate::{
    git::io_fault,
    layer::LayerName,
    path_of,
    place::{Place, Ready},
    store::Store,
    upper::{Kind, Open, Side},
};

const PIECE: usize = 64 << 10;

/// The environment's layers of one workspace.
#[derive(Debug)]
pub(crate) struct Given {
    /// Topmost first.
    sides: Vec<Side>,
    /// When the last copy of them had been made, where the workspace holds copies: seconds and nanoseconds.
    copied_at: (i64, i64),
    /// The directory looked at last, by the sides that show it: paths come mostly by directories.
    last: RefCell<Option<(Vec<u8>, Shown)>>,
}

/// A directory as each of some sides has it, with the number of the side.
type Shown = Vec<(usize, Open)>;

impl Given {
    pub fn to(store: &Store<'_>, place: &Place, ready: &Ready) -> Result<Self, Fault> {
        let mut given = Self { sides: Vec::new(), copied_at: (0, 0), last: RefCell::default() };
        let Some(id) = &ready.environment else { return Ok(given) };
        let names: Vec<LayerName> = store.environment_names(id)?;
        for tree in store.stack(&names)?.trees {
            given.sides.push(Side::open(&tree)?);
        }
        let file = place.ready_file();
        let made = fs::metadata(&file).map_err(|error| io_fault("look at", &file, &error))?;
        given.copied_at = (made.mtime(), made.mtime_nsec());
        Ok(given)
    }

    pub fn is_empty(&self) -> bool {
        self.sides.is_empty()
    }

    /// Whether something has been done to an entry since the last copy was made, as far as only the kernel writes it down.
    pub fn is_touched(&self, stat: &Stat) -> bool {
        (stat.st_ctime, stat.st_ctime_nsec as i64) >= self.copied_at
    }

    /// Whether a file that is not touched, in directories that are not, is as it was put there.
    pub fn has_copy(&self, path: &[u8], stat: &Stat) -> Result<bool, Fault> {
        let Some(file) = self.file(path)? else { return Ok(false) };
        let was = file.metadata().map_err(|error| io_fault("look at", &path_of(path), &error))?;
        let (now, then) = ((stat.st_mtime, stat.st_mtime_nsec as i64), (was.mtime(), was.mtime_nsec()));
        Ok(stat.st_size.cast_unsigned() == was.len() && now == then)
    }

    /// Whether the environment has just this at a path: content, and whether it is a program. Leaves the file at its beginning.
    pub fn has_file(&self, path: &[u8], file: &File) -> Result<bool, Fault> {
        let Some(was) = self.file(path)? else { return Ok(false) };
        is_same(file, &was).map_err(|error| io_fault("compare", &path_of(path), &error))
    }

    /// Whether the environment has a link to this target at a path.
    pub fn has_link(&self, path: &[u8], target: &[u8]) -> Result<bool, Fault> {
        match self.look(path)? {
            Some((side, Kind::Link)) => Ok(self.sides[side].link(path)?.is_some_and(|was| was == target)),
            _ => Ok(false),
        }
    }

    fn file(&self, path: &[u8]) -> Result<Option<File>, Fault> {
        match self.look(path)? {
            Some((side, Kind::File)) => self.sides[side].file(path),
            _ => Ok(None),
        }
    }

    /// What the layers show at a path, and which of them.
    fn look(&self, path: &[u8]) -> Result<Option<(usize, Kind)>, Fault> {
        if self.is_empty() {
            return Ok(None);
        }
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = slash.map_or((&b""[..], path), |slash| (&path[..slash], &path[slash + 1..]));
        let name = c_string(name)?;
        let mut last = self.last.borrow_mut();
        let (_, shown) = match last.take() {
            Some(known) if known.0 == parent => last.insert(known),
            _ => last.insert((parent.to_owned(), self.shown(parent)?)),
        };
        for (side, open) in shown {
            match open.kind(&name).map_err(|errno| self.sides[*side].fault("look at", path, errno))? {
                Kind::Nothing => {}
                kind => return Ok(Some((*side, kind))),
            }
        }
        Ok(None)
    }

    /// A directory in each layer in which it is seen.
    fn shown(&self, directory: &[u8]) -> Result<Shown, Fault> {
        let mut shown = Vec::new();
        'sides: for (number, side) in self.sides.iter().enumerate() {
            let Some(mut open) = side.directory(b"")? else { continue };
            let mut hides = open.is_opaque();
            let mut start = 0;
            for name in directory.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
                let here = &directory[..start + name.len()];
                start = here.len() + 1;
                match open.kind(&c_string(name)?).map_err(|errno| side.fault("look at", here, errno))? {
                    Kind::Directory => {}
                    Kind::Nothing if !hides => continue 'sides,
                    _ => break 'sides,
                }
                let Some(next) = side.directory(here)? else { continue 'sides };
                open = next;
                hides |= open.is_opaque();
            }
            shown.push((number, open));
            if hides {
                break;
            }
        }
        Ok(shown)
    }
}

fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (a, b) = (one.metadata()?, other.metadata()?);
    if a.len() != b.len() || (a.mode() ^ b.mode()) & 0o100 != 0 {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    loop {
        let read = one.read_at(&mut a, at)?;
        if read == 0 {
            return Ok(other.read_at(&mut b, at)? == 0);
        }
        match other.read_exact_at(&mut b[..read], at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            compared => compared?,
        }
        if a[..read] != b[..read] {
            return Ok(false);
        }
        at += read as u64;
    }
}

fn c_string(name: &[u8]) -> Result<CString, Fault> {
    CString::new(name).map_err(|error| Fault::bug(format!("a name of a directory entry: {error}")))
}
