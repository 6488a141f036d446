//! Taking connections, for whoever answers on them.

use std::{convert::Infallible, future::Future, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{Request, StatusCode, body::Incoming, header::HeaderMap, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(crate) type Response = hyper::Response<Body>;

/// Answers requests.
pub(crate) trait Host: Send + Sync + 'static {
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response> + Send;
}

/// Takes connections until it is aborted or its listener is shut, and they end with it. No more than `most` at a time; others wait.
pub(crate) async fn accept(listener: TcpListener, host: Arc<impl Host>, most: usize) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < most => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let connection = match accepted {
            Ok((connection, _)) => connection,
            // What a listener says that was shut.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                // Out of descriptors, most likely: others will be given back.
                tracing::warn!(%error, "the gateway cannot take a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // What is sent is small and waited for.
        let _ = connection.set_nodelay(true);
        let host = Arc::clone(&host);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let host = Arc::clone(&host);
                async move { Ok::<_, Infallible>(host.answer(request).await) }
            });
            // An error here is a client that left; each call has settled itself.
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

pub(crate) fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = hyper::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
