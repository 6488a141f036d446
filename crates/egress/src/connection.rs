//! One connection of a client: plain requests, or a CONNECT and what follows it.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    http::uri::{Authority, Scheme},
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::{
    answer::{self, Answer},
    entry::{Name, NotAName},
    exchange::{Destination, Exchange, Wire},
    gate::Guard,
    policy::{Rule, Target},
    proxy::Limits,
    tunnel::Tunnel,
    watched::Watched,
};

/// The longest head of a request or an answer.
pub(crate) const HEAD_BYTES: usize = 64 << 10;

/// Serves until either side has ended, or nothing moves for too long.
pub(crate) async fn serve(socket: TcpStream, guard: Arc<Guard>) {
    let client = Watched::new(socket);
    let moves = client.moves();
    let limit = guard.limits.quiet;
    tokio::select! {
        () = converse(client, guard) => {}
        () = moves.ceased(limit) => {}
    }
}

/// How requests are read, of the proxy and inside of tunnels.
pub(crate) fn http(limits: Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_BYTES);
    // Simple clients end their side once they have asked.
    http.half_close(true);
    http
}

async fn converse(client: Watched, guard: Arc<Guard>) {
    let exchange = Exchange::new(Arc::clone(&guard));
    let opened: Mutex<Option<(Tunnel, OnUpgrade)>> = Mutex::default();
    let service = service_fn(async |mut request: Request<Incoming>| {
        let answer = if request.method() == Method::CONNECT {
            match connect(&guard, &request).await {
                Ok(tunnel) => {
                    let upgrade = hyper::upgrade::on(&mut request);
                    *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some((tunnel, upgrade));
                    Response::new(answer::body(String::new()))
                }
                Err(mut answer) => {
                    // What a client sends behind it was for the tunnel.
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    *answer
                }
            }
        } else {
            match plain(&guard, &request) {
                Ok(to) => exchange.carry(request, &to).await,
                Err(answer) => *answer,
            }
        };
        Ok::<_, Infallible>(answer)
    });
    let served = http(guard.limits).serve_connection(TokioIo::new(client), service).with_upgrades().await;
    let opened = opened.into_inner().unwrap_or_else(PoisonError::into_inner);
    // An error here is a client that left, or one that does not speak HTTP.
    if let (Ok(()), Some((tunnel, upgrade))) = (served, opened)
        && let Ok(upgraded) = upgrade.await
        && let Ok(parts) = upgraded.downcast::<TokioIo<Watched>>()
    {
        let mut client = parts.io.into_inner();
        client.put_back(parts.read_buf);
        tunnel.run(client, guard).await;
    }
}

/// Opens a tunnel. `Err` is the answer.
async fn connect(guard: &Guard, request: &Request<Incoming>) -> Result<Tunnel, Box<Answer>> {
    let headers = request.headers();
    if headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(bad("a CONNECT has no body"));
    }
    let Some(authority) = request.uri().authority() else { return Err(bad("a CONNECT names a host and a port")) };
    let Some(port) = authority.port_u16() else { return Err(bad("a CONNECT names a port")) };
    let (target, rule) = allowed(guard, authority, port)?;
    let unreached = |why| Box::new(guard.unreached(&target, why));
    let addresses = guard.reach.look_up(&target).await.map_err(unreached)?;
    let upstream = match rule.inspects() || port == 80 {
        true => None,
        false => Some(guard.reach.connect(&addresses).await.map_err(unreached)?),
    };
    let to = Destination { target, wire: Wire::Tls, rule, addresses: Some(addresses) };
    Ok(Tunnel { to, upstream })
}

/// Where a plain request goes. `Err` is the answer.
fn plain(guard: &Guard, request: &Request<Incoming>) -> Result<Destination, Box<Answer>> {
    let uri = request.uri();
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(bad("this is a proxy: set HTTP_PROXY and HTTPS_PROXY to it"));
    };
    if *scheme != Scheme::HTTP {
        return Err(bad("what is not plain http goes through a CONNECT"));
    }
    let port = authority.port_u16().unwrap_or(80);
    let (target, rule) = allowed(guard, authority, port)?;
    if port == 443 || !rule.stamps.is_empty() {
        return Err(Box::new(guard.refuse(target.name.as_str(), port, "not TLS", None)));
    }
    Ok(Destination { target, wire: Wire::Plain, rule, addresses: None })
}

/// What the policy says of an authority. `Err` is the answer.
fn allowed(guard: &Guard, authority: &Authority, port: u16) -> Result<(Target, Rule), Box<Answer>> {
    if authority.as_str().contains('@') {
        return Err(bad("a host has no user here"));
    }
    let host = authority.host();
    let name = Name::parse(host).map_err(|why| {
        let why = match why {
            NotAName::Address => "an address: hosts are allowed by their names",
            NotAName::Malformed => "not the name of a host",
        };
        Box::new(guard.refuse(host, port, why, None))
    })?;
    let target = Target { name, port };
    match guard.policy.rule(&target) {
        Some(rule) => Ok((target, rule)),
        None => {
            let entry = Some(target.entry());
            Err(Box::new(guard.refuse(target.name.as_str(), port, "not on the allow-list", entry)))
        }
    }
}

fn bad(why: &str) -> Box<Answer> {
    Box::new(answer::failed(StatusCode::BAD_REQUEST, why))
}
