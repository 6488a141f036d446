//! This program as containers are given it: a copy of it and of the libraries that it is linked to, kept in the state directory.
//! A copy, because a program that is replaced on disk while the daemon runs would speak another language.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{INSIDE, KEEPER_ARGUMENT};

/// Files of the host that a container shows at a path inside, and what it executes.
#[derive(Clone, Debug)]
pub struct Program {
    pub directory: PathBuf,
    pub argv: Vec<String>,
}

impl Program {
    /// Copies the program, and the libraries of this process, whose program it is. Blocks.
    pub fn copy(program: &Path, state: &Path) -> io::Result<Self> {
        let directory = state.join("container");
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&directory)?,
        }
        fs::copy(program, directory.join("overnight"))?;
        let libraries = libraries(&fs::read_to_string("/proc/self/maps")?);
        for (name, path) in &libraries {
            fs::copy(path, directory.join(name))?;
        }
        let inside = |name: &str| format!("{INSIDE}/program/{name}");
        let mut argv = Vec::new();
        // Without a loader it is linked to nothing.
        if let Some(loader) = libraries.keys().find(|name| name.starts_with("ld-")) {
            argv.extend([inside(loader), "--library-path".to_owned(), format!("{INSIDE}/program")]);
        }
        argv.extend([inside("overnight"), KEEPER_ARGUMENT.to_owned()]);
        Ok(Self { directory, argv })
    }
}

/// The shared objects that a process has mapped to execute, by name, from its table (proc(5)).
fn libraries(maps: &str) -> BTreeMap<String, PathBuf> {
    let mapped = maps.lines().filter_map(|line| {
        let mut fields = line.splitn(6, ' ');
        let rights = fields.nth(1)?;
        let path = Path::new(fields.nth(3)?.trim_start());
        let name = path.file_name()?.to_str()?;
        let is_library = path.is_absolute() && rights.contains('x') && (name.ends_with(".so") || name.contains(".so."));
        is_library.then(|| (name.to_owned(), path.to_owned()))
    });
    mapped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_what_is_mapped_to_execute() {
        let maps = "\
            55d0c0000000-55d0c0100000 r-xp 00000000 fe:00 1 /usr/bin/overnight\n\
            7f0000000000-7f0000100000 r--p 00000000 fe:00 2                          /usr/lib/libc.so.6\n\
            7f0000100000-7f0000200000 r-xp 00100000 fe:00 2                          /usr/lib/libc.so.6\n\
            7f0000300000-7f0000400000 r-xp 00000000 fe:00 3                          /usr/lib/ld-linux-x86-64.so.2\n\
            7f0000500000-7f0000600000 r--p 00000000 fe:00 4                          /usr/lib/locale/C.utf8/LC_CTYPE\n\
            7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0                          [vdso]\n";
        let expected = [("ld-linux-x86-64.so.2", "/usr/lib/ld-linux-x86-64.so.2"), ("libc.so.6", "/usr/lib/libc.so.6")];
        let expected = expected.map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
        assert_eq!(libraries(maps), BTreeMap::from(expected));
        assert!(libraries("").is_empty());
    }
}
