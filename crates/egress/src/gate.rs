//! A gate: what every connection through it consults, and the door that its sandbox serves.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::ports::{egress::Refusal, sandbox};
use hyper::StatusCode;
use rustls::ClientConfig;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

use crate::{
    answer::{self, Answer},
    authority::Authority,
    connection,
    policy::{Policy, Target},
    proxy::Limits,
    reach::{Reach, Unreached},
};

/// What every connection of a gate consults.
pub(crate) struct Guard {
    pub(crate) policy: Arc<Policy>,
    /// Where any host's TLS is ended here.
    pub(crate) ends: Option<Ends>,
    pub(crate) reach: Arc<Reach>,
    pub(crate) limits: Limits,
    /// Connections of all gates.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) refused: Arc<dyn Fn(Refusal) + Send + Sync>,
}

/// Both sides of a TLS connection that is ended here.
pub(crate) struct Ends {
    pub(crate) authority: Authority,
    pub(crate) client: Arc<ClientConfig>,
}

/// The longest host that is told of.
const HOST_BYTES: usize = 255;

impl Guard {
    /// Tells of a refusal, and makes the client's answer.
    pub(crate) fn refuse(&self, host: &str, port: u16, why: impl Into<String>, entry: Option<String>) -> Answer {
        let refusal = refusal(host, port, why.into(), entry);
        let answer = answer::refused(&refusal);
        (self.refused)(refusal);
        answer
    }

    /// Answers for a target that cannot be had, and tells of it: few programs show what a proxy answers.
    pub(crate) fn unreached(&self, target: &Target, why: Unreached) -> Answer {
        let (host, port) = (target.name.as_str(), target.port);
        match why {
            Unreached::Refused(why) => self.refuse(host, port, why, None),
            Unreached::Failed(why) => {
                let answer = answer::failed(StatusCode::BAD_GATEWAY, &format!("{host}:{port} {why}"));
                (self.refused)(refusal(host, port, why, None));
                answer
            }
            Unreached::Silent(why) => answer::failed(StatusCode::BAD_GATEWAY, &format!("{host}:{port} {why}")),
        }
    }
}

fn refusal(host: &str, port: u16, why: String, entry: Option<String>) -> Refusal {
    let host = host.chars().filter(|c| !c.is_control()).collect::<String>();
    let host = host[..host.floor_char_boundary(HOST_BYTES)].to_owned();
    Refusal { host, port, why, entry, by: None }
}

/// Serves a gate. What it started ends with it.
pub(crate) struct Door {
    guard: Arc<Guard>,
    /// The listener of the sandbox's present namespace and its connections; one before it leads nowhere any more.
    serving: Mutex<JoinSet<()>>,
    /// Removed at the end.
    bundle: Option<PathBuf>,
}

impl Door {
    pub(crate) fn new(guard: Guard, bundle: Option<PathBuf>) -> Self {
        Self { guard: Arc::new(guard), serving: Mutex::default(), bundle }
    }
}

impl sandbox::Door for Door {
    fn serve(&self, listener: std::net::TcpListener) {
        let listener = match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the egress proxy cannot serve a sandbox: nothing is reached from it");
                return;
            }
        };
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&self.guard)));
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = serving;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(bundle) = &self.bundle
            && let Err(error) = std::fs::remove_file(bundle)
        {
            // The next start removes it.
            tracing::debug!(%error, path = %bundle.display(), "a gate's certificates are left behind");
        }
    }
}

/// Takes connections until it is aborted or its listener is shut; they end with it.
async fn accept(listener: TcpListener, guard: Arc<Guard>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < guard.limits.per_gate.max(1) => match accepted {
                Ok((socket, _)) => {
                    // Where all gates together have too many, this one's sandbox is told by a closed connection.
                    if let Ok(place) = Arc::clone(&guard.places).try_acquire_owned() {
                        // What is small is waited for.
                        let _ = socket.set_nodelay(true);
                        let guard = Arc::clone(&guard);
                        connections.spawn(async move {
                            connection::serve(socket, guard).await;
                            drop(place);
                        });
                    }
                }
                // What a listener says that was shut: its sandbox was killed.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                Err(error) => {
                    // Out of descriptors, most likely: others will be given back.
                    tracing::warn!(%error, "the egress proxy cannot take a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
