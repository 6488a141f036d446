//! What keepers and inits are told, and how it is written down in a memory file: parts one after the other, each text after its
//! length. Paths and arguments may be any bytes.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use domain::ports::sandbox::Layers;

/// What one sandbox's keeper is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperSpec {
    /// With the mounts of the sandbox, ancestors first, where the keeper makes them.
    pub ground: Ground,
    /// What is listened on for the daemon, in a network of the sandbox's own; plain processes have none.
    pub ports: Vec<u16>,
    pub limits: ProcessLimits,
}

/// Where a keeper and its commands are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ground {
    /// On the host, as plain processes that see it.
    Host,
    /// In namespaces of the sandbox's own, where the keeper makes this file system.
    Own(View),
    /// In a container, which its engine has furnished and whose first process the keeper is.
    Container,
}

/// The file system of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The sandbox's own directory on the host: its `/tmp`, and what overlays over shared caches need.
    pub scratch: PathBuf,
    pub mounts: Vec<Mount>,
}

/// One thing put into a sandbox's root, at a path inside that starts with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// A host path with everything below it.
    Bind {
        source: PathBuf,
        target: PathBuf,
        access: Access,
    },
    /// Host directories, read-only, the topmost first, with a writable one over them.
    Layers {
        layers: Layers,
        target: PathBuf,
    },
    /// A cache of the host, read-only, below what HOME itself has at the same place. What overlayfs needs besides is kept in the
    /// scratch directory under this name.
    Cache {
        lower: PathBuf,
        target: PathBuf,
        name: String,
    },
    /// A directory of the scratch directory.
    Scratch {
        name: String,
        target: PathBuf,
    },
    /// Something empty over what must not be seen.
    Hide {
        target: PathBuf,
        what: Hidden,
    },
    Symlink {
        target: PathBuf,
        to: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
    /// A device node.
    Device,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    Directory,
    File,
}

impl Mount {
    pub fn target(&self) -> &Path {
        match self {
            Self::Bind { target, .. }
            | Self::Layers { target, .. }
            | Self::Cache { target, .. }
            | Self::Scratch { target, .. }
            | Self::Hide { target, .. }
            | Self::Symlink { target, .. } => target,
        }
    }
}

/// Resource limits, set before a command is executed; `None` leaves the daemon's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessLimits {
    pub memory_bytes: Option<u64>,
    pub processes: Option<u64>,
    pub open_files: Option<u64>,
    pub file_bytes: Option<u64>,
}

/// A command as its init is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    pub cwd: PathBuf,
}

/// Writes the parts of a message one after the other.
#[derive(Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn path(&mut self, path: &Path) {
        self.text(path.as_os_str().as_bytes());
    }

    fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        items.iter().for_each(|item| each(self, item));
    }

    /// A number that may be absent.
    fn option(&mut self, value: Option<u64>) {
        self.number(u64::from(value.is_some()));
        self.number(value.unwrap_or(0));
    }
}

/// Reads them back; `None` where the message is not what was written.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*value))
    }

    fn text(&mut self) -> Option<OsString> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(OsString::from_vec(text.to_vec()))
    }

    fn path(&mut self) -> Option<PathBuf> {
        self.text().map(PathBuf::from)
    }

    fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        (0..self.number()?).map(|_| each(self)).collect()
    }

    fn option(&mut self) -> Option<Option<u64>> {
        let there = self.number()? == 1;
        let value = self.number()?;
        Some(there.then_some(value))
    }
}

impl KeeperSpec {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.option(self.limits.memory_bytes);
        out.option(self.limits.processes);
        out.option(self.limits.open_files);
        out.option(self.limits.file_bytes);
        out.list(&self.ports, |out, port| out.number((*port).into()));
        match &self.ground {
            Ground::Host => out.number(0),
            Ground::Own(view) => {
                out.number(1);
                out.path(&view.scratch);
                out.list(&view.mounts, |out, mount| mount.encode(out));
            }
            Ground::Container => out.number(2),
        }
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let limits = ProcessLimits {
            memory_bytes: from.option()?,
            processes: from.option()?,
            open_files: from.option()?,
            file_bytes: from.option()?,
        };
        let ports = from.list(|from| from.number()?.try_into().ok())?;
        let ground = match from.number()? {
            0 => Ground::Host,
            1 => Ground::Own(View { scratch: from.path()?, mounts: from.list(Mount::decode)? }),
            2 => Ground::Container,
            _ => return None,
        };
        Some(Self { ground, ports, limits })
    }
}

impl Mount {
    fn encode(&self, out: &mut Writer) {
        out.path(self.target());
        match self {
            Self::Bind { source, access, .. } => {
                out.number(match access {
                    Access::ReadOnly => 0,
                    Access::ReadWrite => 1,
                    Access::Device => 2,
                });
                out.path(source);
            }
            Self::Cache { lower, name, .. } => {
                out.number(3);
                out.path(lower);
                out.text(name.as_bytes());
            }
            Self::Scratch { name, .. } => {
                out.number(4);
                out.text(name.as_bytes());
            }
            Self::Hide { what, .. } => out.number(match what {
                Hidden::Directory => 5,
                Hidden::File => 6,
            }),
            Self::Symlink { to, .. } => {
                out.number(7);
                out.path(to);
            }
            Self::Layers { layers: Layers { lower, upper, work }, .. } => {
                out.number(8);
                out.list(lower, |out, layer| out.path(layer));
                out.path(upper);
                out.path(work);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let target = from.path()?;
        Some(match from.number()? {
            0 => Self::Bind { source: from.path()?, target, access: Access::ReadOnly },
            1 => Self::Bind { source: from.path()?, target, access: Access::ReadWrite },
            2 => Self::Bind { source: from.path()?, target, access: Access::Device },
            3 => Self::Cache { lower: from.path()?, target, name: from.text()?.into_string().ok()? },
            4 => Self::Scratch { name: from.text()?.into_string().ok()?, target },
            5 => Self::Hide { target, what: Hidden::Directory },
            6 => Self::Hide { target, what: Hidden::File },
            7 => Self::Symlink { target, to: from.path()? },
            8 => {
                let layers = Layers { lower: from.list(Reader::path)?, upper: from.path()?, work: from.path()? };
                Self::Layers { layers, target }
            }
            _ => return None,
        })
    }
}

impl Command {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.path(&self.cwd);
        out.list(&self.argv, |out, argument| out.text(argument.as_bytes()));
        out.list(&self.env, |out, (name, value)| {
            out.text(name.as_bytes());
            out.text(value.as_bytes());
        });
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let cwd = from.path()?;
        let argv = from.list(Reader::text)?;
        let env = from.list(|from| Some((from.text()?, from.text()?)))?;
        Some(Self { argv, env, cwd })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let mount = |target: &str| PathBuf::from(target);
        let spec = KeeperSpec {
            ground: Ground::Own(View {
                scratch: OsString::from_vec(vec![b'/', 0xff]).into(),
                mounts: vec![
                    Mount::Bind { source: mount("/a"), target: mount("/b"), access: Access::Device },
                    Mount::Cache { lower: mount("/c"), target: mount("/d"), name: "u".into() },
                    Mount::Layers {
                        layers: Layers { lower: vec![mount("/f"), mount("/g")], upper: mount("/h"), work: mount("/i") },
                        target: mount("/workspace"),
                    },
                    Mount::Scratch { name: "tmp".into(), target: mount("/tmp") },
                    Mount::Hide { target: mount("/e"), what: Hidden::File },
                    Mount::Symlink { target: mount("/bin"), to: mount("usr/bin") },
                ],
            }),
            ports: vec![80, 65_535],
            limits: ProcessLimits {
                memory_bytes: Some(1 << 30),
                processes: Some(7),
                open_files: None,
                file_bytes: Some(u64::MAX),
            },
        };
        assert_eq!(KeeperSpec::decode(&spec.encode()), Some(spec.clone()));
        for ground in [Ground::Host, Ground::Container] {
            let spec = KeeperSpec { ground, ..spec.clone() };
            assert_eq!(KeeperSpec::decode(&spec.encode()), Some(spec));
        }

        let command = Command {
            argv: vec!["sh".into(), String::new().into()],
            env: vec![("A".into(), "b=c".into())],
            cwd: "/workspace".into(),
        };
        assert_eq!(Command::decode(&command.encode()), Some(command.clone()));
        assert_eq!(Command::decode(&command.encode()[1..]), None);
    }
}
