//! Sandboxes in containers, for those who want an image's tools or whose machine has no user namespaces: a second implementation
//! of the port, over the API of Docker or Podman.
//!
//! One container is one sandbox. The engine makes the namespaces, the root file system (the image, read-only), the control group
//! and the network (a loopback, nothing else); it is asked for nothing more. The container's first process is this program itself
//! as the keeper ([`keeper_main`]), which connects to the daemon by a Unix socket and from there on does what a keeper does: it
//! listens for the bridges, starts an init for every command, and ends everything when the daemon lets go of it or dies. Output,
//! terminals, quotas, files and redaction are therefore the ones of sandboxes in namespaces.
//!
//! The program runs in any image, whatever C library that has, or none: it brings the libraries that it is linked to, and their
//! loader (`program`).
//!
//! What is weaker than in namespaces of our own: the commands of one sandbox see each other's processes, and signal them where
//! the kernel is older than 6.12 (landlock's scopes). A command that kills its own init so outlives that command's kill; it never
//! outlives the sandbox. Layers cannot be handed to an engine: workspaces are copies. Starting takes the engine's time, some
//! tenths of a second. An engine on another machine, or in a virtual one, is not supported: sockets and locks need one kernel.

mod containers;
mod engine;
mod entry;
mod nursery;
mod program;
mod walls;

pub use containers::{Containers, Options};
pub use entry::{KEEPER_ARGUMENT, keeper_main};

/// Where a container shows what is the keeper's.
const INSIDE: &str = "/.overnight";
/// There, the socket to the daemon.
const SOCKET: &str = "/.overnight/keeper";
