//! Servers on this machine's loopback with names of their own, and the proxy that finds them.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use domain::ports::BoxFuture;
use egress::{Options, Proxy, Resolver, Roots};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// What plain and secure servers answer, so that an attack that arrives is seen to.
pub const ARRIVED: &str = "arrived-upstream";

/// Two servers, one of them with TLS. Names lead to them unless told otherwise; those below `site.test` may.
pub struct Upstreams {
    pub plain: SocketAddr,
    pub secure: SocketAddr,
    names: Arc<Names>,
    /// Heads of all requests that arrived.
    seen: Arc<Mutex<Vec<String>>>,
    authority: CertificateDer<'static>,
}

#[derive(Default)]
struct Names {
    /// Answers one after the other, the last one for ever.
    answers: Mutex<HashMap<String, VecDeque<SocketAddr>>>,
    usual: Mutex<HashMap<u16, SocketAddr>>,
    asked: Mutex<Vec<String>>,
}

impl Resolver for Names {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.asked.lock().unwrap().push(host.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let told = answers.get_mut(host).and_then(|left| match left.len() {
            1 => left.front().copied(),
            _ => left.pop_front(),
        });
        let answer = told.or_else(|| self.usual.lock().unwrap().get(&port).copied());
        Box::pin(async move { answer.map(|one| vec![one]).ok_or_else(|| io::Error::other("no such name")) })
    }
}

impl Upstreams {
    pub async fn open() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let plain = listen(None, Arc::clone(&seen)).await;
        let secure = listen(Some(acceptor(&issuer)), Arc::clone(&seen)).await;
        let names = Arc::new(Names::default());
        *names.usual.lock().unwrap() = [(80, plain), (443, secure)].into();
        Self { plain, secure, names, seen, authority }
    }

    pub fn proxy(&self, directory: &Path) -> Proxy {
        let options = Options {
            private: vec!["*.site.test".to_owned()],
            resolver: Arc::clone(&self.names) as Arc<dyn Resolver>,
            roots: Roots::These(vec![self.authority.clone()]),
            ..Options::new(directory.to_owned())
        };
        Proxy::new(options).unwrap()
    }

    pub fn lead(&self, name: &str, to: &[SocketAddr]) {
        self.names.answers.lock().unwrap().insert(name.to_owned(), to.iter().copied().collect());
    }

    pub fn asked(&self) -> Vec<String> {
        self.names.asked.lock().unwrap().clone()
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn acceptor(issuer: &Issuer<'static, KeyPair>) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let names = ["*.site.test".to_owned(), "*.public.test".to_owned()];
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into());
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

async fn listen(tls: Option<TlsAcceptor>, seen: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (tls, seen) = (tls.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                match tls {
                    None => serve(socket, &seen).await,
                    Some(tls) => {
                        if let Ok(socket) = tls.accept(socket).await {
                            serve(socket, &seen).await;
                        }
                    }
                }
            });
        }
    });
    address
}

/// Answers with what it was asked, heads and all; redirects where the path says so. One request for each connection.
async fn serve(mut socket: impl AsyncRead + AsyncWrite + Unpin, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = socket.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let to = head.split(' ').nth(1).and_then(|path| path.split_once("to=")).map(|(_, to)| to.to_owned());
    seen.lock().unwrap().push(head.clone());
    let body = format!("{ARRIVED}\n{head}");
    let (status, location) = match to {
        Some(to) => ("302 Found", format!("location: {to}\r\n")),
        None => ("200 OK", String::new()),
    };
    let answer =
        format!("HTTP/1.1 {status}\r\n{location}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    // A client that has gone is no matter.
    let _ = socket.write_all(answer.as_bytes()).await;
    let _ = socket.shutdown().await;
}
