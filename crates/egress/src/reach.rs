//! From a name to a connection: one look-up, every address looked at, and a connection to one of just these.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use domain::ports::BoxFuture;
use tokio::net::TcpStream;

use crate::{
    address::{self, Place},
    entry::Hosts,
    policy::Target,
};

/// Finds the addresses of a name.
pub trait Resolver: Send + Sync {
    /// The addresses to try, in order, each with the port to connect to.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// The system's own resolver.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Resolver for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// Not let through: why, in one clause.
    Refused(String),
    /// There is no connection: why, in one clause. Its user has to hear of it.
    Failed(String),
    /// A server that did not answer one request; the next may fare better.
    Silent(String),
}

pub(crate) struct Reach {
    pub(crate) resolver: Arc<dyn Resolver>,
    /// Names that may lead to private addresses.
    pub(crate) private: Vec<Hosts>,
    /// For a look-up, and for each address.
    pub(crate) patience: Duration,
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reach").field("private", &self.private).finish_non_exhaustive()
    }
}

/// What the operator alone can let be reached.
fn unlisted(what: &str) -> Unreached {
    Unreached::Refused(format!(
        "resolves to {what}, and `[network] private` in the home's config.toml does not name it"
    ))
}

impl Reach {
    /// The addresses of an allowed target. One that may not be reached spoils all of them.
    pub(crate) async fn look_up(&self, target: &Target) -> Result<Vec<SocketAddr>, Unreached> {
        let failed = |why: String| Unreached::Failed(format!("cannot be resolved: {why}"));
        let found = tokio::time::timeout(self.patience, self.resolver.resolve(target.name.as_str(), target.port));
        let addresses = found
            .await
            .map_err(|_| failed(format!("no answer within {:?}", self.patience)))?
            .map_err(|error| failed(error.to_string()))?;
        if addresses.is_empty() {
            return Err(failed("it has no address".to_owned()));
        }
        let private = self.private.iter().any(|hosts| hosts.hold(&target.name));
        for found in &addresses {
            let what = match address::place(found.ip()) {
                Place::Barred(what) => what,
                Place::Private(_) if private => continue,
                Place::Private(what) => return Err(unlisted(what)),
                Place::Public if !private && address::is_own(found.ip()) => {
                    return Err(unlisted("an address of this machine"));
                }
                Place::Public => continue,
            };
            return Err(Unreached::Refused(format!("resolves to {what}")));
        }
        Ok(addresses)
    }

    /// Connects to the first of `addresses` that answers.
    pub(crate) async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Unreached> {
        let mut last = String::new();
        for address in addresses {
            match tokio::time::timeout(self.patience, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => {
                    // What is small is waited for.
                    let _ = socket.set_nodelay(true);
                    return Ok(socket);
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = format!("no answer within {:?}", self.patience),
            }
        }
        Err(Unreached::Failed(format!("cannot be reached: {last}")))
    }
}
