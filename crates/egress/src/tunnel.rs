//! What follows a CONNECT.
//!
//! On port 443, and wherever requests must be seen, it must be TLS to the very host that was asked for. On port 80 it is plain
//! requests, each looked at. On another port, which an entry names, it may be anything (a database, ssh); if it begins
//! as TLS, it too must be for that host.

use std::{convert::Infallible, sync::Arc};

use bytes::BytesMut;
use hyper::{Method, Request, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    answer::{self, Answer},
    connection,
    entry::Name,
    exchange::{Destination, Exchange, Wire},
    gate::Guard,
    hello::{self, Opening},
    watched::Watched,
};

pub(crate) struct Tunnel {
    pub(crate) to: Destination,
    /// Bytes go there as they are; `None`: requests are taken out and carried one by one.
    pub(crate) upstream: Option<TcpStream>,
}

/// Of each direction of a tunnel.
const BUFFER_BYTES: usize = 32 << 10;

/// A fatal alert "unrecognized name" (RFC 6066, 3): clients tell it to their user.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

impl Tunnel {
    pub(crate) async fn run(self, mut client: Watched, guard: Arc<Guard>) {
        let target = &self.to.target;
        if let Some(upstream) = &self.upstream
            && target.port != 443
        {
            // Where any protocol may be spoken, the server may be the first to speak.
            tokio::select! {
                biased;
                _ = client.begun() => {}
                _ = upstream.readable() => return self.join(client).await,
            }
        }
        let opening = match tokio::time::timeout(guard.limits.head, opening(&mut client)).await {
            Ok(Ok(opening)) => opening,
            // The client left, or says nothing.
            Ok(Err(_)) | Err(_) => return,
        };
        let mut entry = None;
        let refused = match opening {
            Opening::Partial => return,
            Opening::Unfit(why) => why.to_owned(),
            Opening::Named(name) | Opening::Veiled(name) if !target.name.is(&name) => match Name::parse(&name) {
                Ok(name) => format!("its TLS asks for {name}"),
                Err(_) => "its TLS asks for something that is no name".to_owned(),
            },
            // What is veiled is of no use where TLS is ended here.
            Opening::Named(_) | Opening::Veiled(_) if self.to.rule.inspects() => {
                return self.end_tls(client, guard).await;
            }
            Opening::Veiled(_) => {
                entry = Some(format!("{} fetch", target.entry()));
                "its TLS has an encrypted hello, which may name another host".to_owned()
            }
            Opening::Named(_) => match &self.upstream {
                Some(_) => return self.join(client).await,
                None => "TLS on the port of plain requests".to_owned(),
            },
            Opening::NotTls => match &self.upstream {
                _ if target.port == 443 || !self.to.rule.stamps.is_empty() => "not TLS".to_owned(),
                Some(_) => return self.join(client).await,
                None => return self.look_into(client, guard, Wire::Plain).await,
            },
        };
        drop(guard.refuse(target.name.as_str(), target.port, refused, entry));
        // A client that is gone needs no answer.
        let _ = client.write_all(&UNRECOGNIZED_NAME).await;
        let _ = client.shutdown().await;
    }

    /// Passes bytes on as they are until both sides have ended.
    async fn join(self, mut client: Watched) {
        let Some(mut upstream) = self.upstream else { return };
        // Whoever ended it has noticed.
        let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER_BYTES, BUFFER_BYTES).await;
    }

    /// Speaks for the host, and carries what is asked of it.
    async fn end_tls(self, client: Watched, guard: Arc<Guard>) {
        let Some(ends) = &guard.ends else { return };
        let server = match ends.authority.server(&self.to.target.name) {
            Ok(server) => server,
            Err(fault) => {
                tracing::error!(%fault, "a tunnel is closed");
                return;
            }
        };
        match tokio::time::timeout(guard.limits.head, TlsAcceptor::from(server).accept(client)).await {
            Ok(Ok(client)) => self.look_into(client, guard, Wire::Tls).await,
            // Most likely it does not read the variables that tell of the gate's authority.
            Ok(Err(error)) => tracing::debug!(%error, host = %self.to.target.name, "a client ended its TLS"),
            Err(_) => {}
        }
    }

    /// Takes requests out of the tunnel and carries each.
    async fn look_into<T>(mut self, client: T, guard: Arc<Guard>, wire: Wire)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.to.wire = wire;
        let (to, exchange) = (&self.to, &Exchange::new(Arc::clone(&guard)));
        let guard = &guard;
        let service = service_fn(async move |request| {
            Ok::<_, Infallible>(match fits(guard, &request, to) {
                Ok(()) => exchange.carry(request, to).await,
                Err(answer) => *answer,
            })
        });
        // An error here is a client that left.
        let _ = connection::http(guard.limits).serve_connection(TokioIo::new(client), service).await;
    }
}

/// Whether a request is for the host that the tunnel leads to.
fn fits(guard: &Guard, request: &Request<Incoming>, to: &Destination) -> Result<(), Box<Answer>> {
    let bad = |why: &str| Box::new(answer::failed(StatusCode::BAD_REQUEST, why));
    if request.method() == Method::CONNECT {
        return Err(bad("a tunnel leads to one host"));
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match hosts.next().map(|host| host.to_str()) {
        Some(Ok(host)) => Some(host),
        Some(Err(_)) => return Err(bad("its Host cannot be read")),
        None => None,
    };
    if hosts.next().is_some() {
        return Err(bad("it has more than one Host"));
    }
    for named in host.into_iter().chain(request.uri().authority().map(|authority| authority.as_str())) {
        let (name, port) = named.rsplit_once(':').unwrap_or((named, ""));
        if !to.target.name.is(name) || !(port.is_empty() || port.parse() == Ok(to.target.port)) {
            let why = "a request in its tunnel is for another host";
            return Err(Box::new(guard.refuse(to.target.name.as_str(), to.target.port, why, None)));
        }
    }
    Ok(())
}

/// Reads until it is known how the connection begins; what was read will be read again.
async fn opening(client: &mut Watched) -> std::io::Result<Opening> {
    let mut bytes = BytesMut::with_capacity(4096);
    let opening = loop {
        if client.read_buf(&mut bytes).await? == 0 {
            break Opening::Partial;
        }
        match hello::read(&bytes) {
            Opening::Partial => {}
            told => break told,
        }
    };
    client.put_back(bytes.freeze());
    Ok(opening)
}
