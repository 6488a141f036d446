//! A model provider on the loopback, for agents that bring their own client: on the host's own for plain processes, and behind
//! a door of each attempt on the loopback of its sandbox.
//!
//! Requests and answers pass byte for byte, but for what invariably must change: the key (the agent's token goes, the
//! person's key comes), the address, `accept-encoding` (usage is read from the answer as it passes), and, each counted:
//! `stream_options.include_usage` where it is missing, a missing output cap, and the model's name where a fallback is asked.

pub(crate) mod door;
mod gemini;
pub(crate) mod listen;
mod meter;
mod rewrite;
pub(crate) mod server;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use domain::{Fault, budget::Usage, ports::model::Endpoint};
use tokio::{net::TcpListener, task::AbortHandle};

use self::door::Door;
use crate::{payment::Payer, record::Recorder, route::Chain, upstream::Upstream};

/// How often requests were changed in more than key and address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrites {
    /// An output cap was added.
    pub caps_added: u64,
    /// The provider was asked to report the usage of a stream.
    pub usage_asked: u64,
    /// Another model was asked, as the one that was named could not be.
    pub models_renamed: u64,
}

/// A token, as random as a key.
pub(crate) fn token() -> String {
    format!("overnight-{}", uuid::Uuid::new_v4().simple())
}

/// An attempt that may call.
struct Seat {
    payer: Arc<Payer>,
    recorder: Arc<Recorder>,
    chain: Chain,
    /// Why no further call is allowed, once the budget has refused one.
    over: OnceLock<String>,
    kept: Mutex<Kept>,
}

/// What the provider keeps of an attempt's responses, in tokens: a request can name it instead of sending it.
#[derive(Default)]
struct Kept {
    /// By the response's name: its input and output.
    responses: HashMap<String, u64>,
    /// The outputs of all.
    outputs: u64,
}

impl Seat {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, response: String, usage: Usage) {
        let mut kept = self.kept();
        kept.responses.insert(response, usage.total());
        kept.outputs = kept.outputs.saturating_add(usage.output);
    }
}

/// What all calls share.
struct Desk {
    upstream: Arc<Upstream>,
    output_cap: u32,
    seats: Mutex<HashMap<String, Arc<Seat>>>,
    caps_added: AtomicU64,
    usage_asked: AtomicU64,
    models_renamed: AtomicU64,
}

/// A place where calls come in.
struct Entrance {
    desk: Arc<Desk>,
    /// The one token that is taken here; `None`: anybody's.
    only: Option<String>,
}

impl Entrance {
    fn seat(&self, token: &str) -> Option<Arc<Seat>> {
        let is_taken = self.only.as_deref().is_none_or(|only| only == token);
        is_taken.then(|| self.desk.seats().get(token).cloned()).flatten()
    }
}

impl Desk {
    fn seats(&self) -> MutexGuard<'_, HashMap<String, Arc<Seat>>> {
        // Nobody panics while holding it, and a map is whole between two calls.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Proxy {
    desk: Arc<Desk>,
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Proxy {
    /// Opens a port on the loopback and serves it until this is dropped.
    pub async fn open(upstream: Arc<Upstream>, output_cap: u32) -> Result<Self, Fault> {
        let no_port = |err| Fault::environment(format!("the gateway cannot open a port on 127.0.0.1: {err}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(no_port)?;
        let address = listener.local_addr().map_err(no_port)?;
        let desk = Arc::new(Desk {
            upstream,
            output_cap,
            seats: Mutex::default(),
            caps_added: AtomicU64::new(0),
            usage_asked: AtomicU64::new(0),
            models_renamed: AtomicU64::new(0),
        });
        let entrance = Entrance { desk: Arc::clone(&desk), only: None };
        let accepting = tokio::spawn(listen::accept(listener, Arc::new(entrance), usize::MAX)).abort_handle();
        Ok(Self { desk, address, accepting })
    }

    /// Lets in whoever has the token.
    pub fn admit(&self, token: String, payer: Arc<Payer>, recorder: Arc<Recorder>, chain: Chain) -> Endpoint {
        let (model, protocols) = (chain.first().model.clone(), chain.first().account.protocols.clone());
        let seat = Seat { payer, recorder, chain, over: OnceLock::new(), kept: Mutex::default() };
        self.desk.seats().insert(token.clone(), Arc::new(seat));
        let entrance = Entrance { desk: Arc::clone(&self.desk), only: Some(token.clone()) };
        let door = Arc::new(Door::new(Arc::new(entrance)));
        let guard = Guard { desk: Arc::clone(&self.desk), token: token.clone(), door: Arc::clone(&door) };
        Endpoint { url: format!("http://{}", self.address), door, token, model, protocols, guard: Box::new(guard) }
    }

    pub fn rewrites(&self) -> Rewrites {
        Rewrites {
            caps_added: self.desk.caps_added.load(Ordering::Relaxed),
            usage_asked: self.desk.usage_asked.load(Ordering::Relaxed),
            models_renamed: self.desk.models_renamed.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Guard {
    desk: Arc<Desk>,
    token: String,
    door: Arc<Door<Entrance>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.desk.seats().remove(&self.token);
        self.door.close();
    }
}
