//! Runs process trees confined: they see a workspace, a HOME of their own, the system's programs read-only, and nothing else
//! of the host. Implements the port [`domain::ports::sandbox`].
//!
//! Four kinds of process take part. The **daemon** holds [`Sandboxes`]. It executes itself once as the **zygote**
//! ([`zygote_main`]), small and with one thread. The zygote forks, for each sandbox at its first command, a **keeper** in
//! fresh user, mount, PID, IPC and UTS namespaces, which builds the root file system and holds the sandbox's lock. The keeper
//! forks, for each command, an **init** in a PID and mount namespace below its own, which starts the command, reaps, and
//! reports. Every one of them ends, with all below it, when the socket to the daemon closes: that is how a kill, a dropped
//! handle and the daemon's death are one case.
//!
//! Where somebody chose so, a container engine makes what the keeper would, and the keeper is the first process of a container
//! (`container`).
//!
//! Memory, processes and processor time of a sandbox are bounded by control groups (`groups`) where the machine lends them; what
//! it holds on disk by a look now and then at how much that is (`quota`, `usage`). Values of secrets are taken out of what its
//! commands print (`process`) and what is read of its files (`masked`); a person's terminal (`terminal`) shows all. A command that speaks a
//! protocol has its lines read as fast as somebody takes them (`conversation`).
//!
//! The network of a confined sandbox is its own loopback (`network`): sockets made in it are passed to the daemon, which serves
//! and reaches them. A workspace of layers is an overlay that the keeper mounts (`overlay`); the daemon reads and writes it through
//! a descriptor of it.
//!
//! Confined commands cannot make the system calls that no build needs (`syscalls`), and cannot write elsewhere even where a mount
//! would let them (`landlock`).

mod capture;
mod container;
mod conversation;
mod files;
mod groups;
mod init;
mod keeper;
mod landlock;
mod link;
mod lock;
mod masked;
mod network;
mod order;
mod overlay;
mod probe;
mod process;
mod quota;
mod root;
mod running;
mod sandbox;
mod sandboxes;
mod scratch;
mod sys;
mod syscalls;
mod terminal;
mod tree;
mod usage;
mod view;
mod wire;
mod zygote;

pub use container::{Containers, KEEPER_ARGUMENT, Options as ContainerOptions, keeper_main};
pub use sandboxes::{Options, Sandboxes};
pub use zygote::{ZYGOTE_ARGUMENT, zygote_main};
