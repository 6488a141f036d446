//! Servers with names of their own, a gate before them, and what clients and servers saw.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use domain::ports::{
    BoxFuture,
    egress::{Egress, Gate, PROXY_PORT, Pass, Refusal, Stamp},
    sandbox::Door,
};
use egress::{Limits, Options, Proxy, Resolver, Roots};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    http::request::Parts,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// Answers of the resolver: for each name the answers to give one after the other, the last one for ever.
#[derive(Default)]
pub struct Names {
    answers: Mutex<HashMap<String, VecDeque<Vec<SocketAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    pub fn set(&self, name: &str, answers: &[&[SocketAddr]]) {
        let answers = answers.iter().map(|answer| answer.to_vec()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), answers);
    }

    /// How often `name` was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == name).count()
    }
}

impl Resolver for Names {
    fn resolve<'a>(&'a self, host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.asked.lock().unwrap().push(host.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let answer = answers.get_mut(host).and_then(|left| match left.len() {
            1 => left.front().cloned(),
            _ => left.pop_front(),
        });
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

/// What a server answers: the pieces of the body are sent one by one.
pub type Play = Arc<dyn Fn(&Parts, &Bytes) -> Response<Vec<Bytes>> + Send + Sync>;

/// A server, and every request that it saw.
pub struct Server {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Parts>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub fn seen(&self) -> Vec<Parts> {
        self.seen.lock().unwrap().clone()
    }

    /// The value of a header in the last request.
    pub fn header(&self, name: &str) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        seen.last()?.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

/// An authority of the world outside.
pub struct World {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl World {
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

pub fn text(text: &str) -> Response<Vec<Bytes>> {
    Response::new(vec![Bytes::copy_from_slice(text.as_bytes())])
}

/// A gate, served on this machine's loopback as it would be on a sandbox's.
pub struct Stage {
    pub world: World,
    pub names: Arc<Names>,
    pub directory: tempfile::TempDir,
    pub proxy: Proxy,
    refusals: Arc<Mutex<Vec<Refusal>>>,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    /// Names below `test` may lead to the loopback; those below `public` may not.
    pub fn with(limits: Limits) -> Self {
        let (world, names) = (World::new(), Arc::new(Names::default()));
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            private: vec!["*.site.test".to_owned()],
            resolver: Arc::clone(&names) as Arc<dyn Resolver>,
            roots: Roots::These(vec![world.certificate.clone()]),
            limits,
            ..Options::new(directory.path().join("certificates"))
        };
        let proxy = Proxy::new(options).unwrap();
        Self { world, names, directory, proxy, refusals: Arc::default() }
    }

    pub fn certificates(&self) -> PathBuf {
        self.directory.path().join("certificates")
    }

    pub async fn plain(
        &self,
        name: &str,
        play: impl Fn(&Parts, &Bytes) -> Response<Vec<Bytes>> + Send + Sync + 'static,
    ) -> Server {
        self.server(name, None, Arc::new(play)).await
    }

    pub async fn secure(
        &self,
        name: &str,
        play: impl Fn(&Parts, &Bytes) -> Response<Vec<Bytes>> + Send + Sync + 'static,
    ) -> Server {
        self.server(name, Some(self.world.acceptor(name)), Arc::new(play)).await
    }

    async fn server(&self, name: &str, tls: Option<TlsAcceptor>, play: Play) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.names.set(name, &[&[address]]);
        let seen: Arc<Mutex<Vec<Parts>>> = Arc::default();
        let (kept, mut tasks) = (Arc::clone(&seen), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (tls, play, seen) = (tls.clone(), Arc::clone(&play), Arc::clone(&kept));
                connections.spawn(async move {
                    match tls {
                        None => serve(socket, play, seen).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, play, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Server { address, seen, _tasks: tasks }
    }

    pub fn gate(&self, allow: &[&str], stamps: &[(&str, &str, &str)]) -> Opened {
        let stamps = stamps.iter().map(|(host, header, value)| Stamp {
            host: (*host).to_owned(),
            header: (*header).to_owned(),
            value: (*value).to_owned(),
        });
        let refusals = Arc::clone(&self.refusals);
        let pass = Pass {
            allow: allow.iter().map(|entry| (*entry).to_owned()).collect(),
            stamps: stamps.collect(),
            refused: Arc::new(move |refusal| refusals.lock().unwrap().push(refusal)),
        };
        Opened::new(self.proxy.open(pass).unwrap())
    }

    /// Every refusal so far: `host:port why`, and the entry.
    pub fn refusals(&self) -> Vec<(String, Option<String>)> {
        let told = self.refusals.lock().unwrap();
        told.iter().map(|one| (format!("{}:{} {}", one.host, one.port, one.why), one.entry.clone())).collect()
    }

    pub fn last_refusal(&self) -> String {
        self.refusals().pop().map(|(told, _)| told).unwrap_or_default()
    }
}

async fn serve<T>(socket: T, play: Play, seen: Arc<Mutex<Vec<Parts>>>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(async |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        seen.lock().unwrap().push(parts.clone());
        let answer = tokio::task::block_in_place(|| play(&parts, &body));
        Ok::<_, Infallible>(answer.map(|pieces| {
            let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
            StreamBody::new(stream(frames))
        }))
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

/// One item at a time, with a turn for others between them, so that each is sent on its own.
fn stream<T>(mut items: impl Iterator<Item = T> + Unpin) -> impl futures::Stream<Item = T> + Unpin {
    Box::pin(futures::stream::poll_fn(move |_| std::task::Poll::Ready(items.next())))
}

/// A gate that is served.
pub struct Opened {
    pub gate: Gate,
    pub address: SocketAddr,
}

impl Opened {
    fn new(gate: Gate) -> Self {
        let address = serve_on_loopback(&*gate.door);
        Self { gate, address }
    }

    pub async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes, and reads until the proxy closes the connection.
    pub async fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut socket = self.dial().await;
        socket.write_all(bytes.as_ref()).await.unwrap();
        let mut told = Vec::new();
        let _ = socket.read_to_end(&mut told).await;
        String::from_utf8_lossy(&told).into_owned()
    }

    /// Asks for a plain address, as a client of a proxy does.
    pub async fn get(&self, url: &str) -> String {
        self.say(format!("GET {url} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host_of(url))).await
    }

    /// Opens a tunnel. `Err` is the whole answer.
    pub async fn tunnel(&self, to: &str) -> Result<TcpStream, String> {
        let mut socket = self.dial().await;
        socket.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).await.unwrap();
        let head = head(&mut socket).await;
        if head.starts_with("HTTP/1.1 200") {
            return Ok(socket);
        }
        let mut rest = String::new();
        let _ = socket.read_to_string(&mut rest).await;
        Err(head + &rest)
    }

    /// TLS through a tunnel to `to`, for the server `name`, with the authorities of `roots`.
    pub async fn secured(&self, to: &str, name: &str, roots: &ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        let socket = self.tunnel(to).await.map_err(io::Error::other)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(roots.clone())).connect(name, socket).await
    }

    /// A request through a tunnel, and the whole answer.
    pub async fn fetch(&self, host: &str, request: &str) -> String {
        let mut client = self.secured(&format!("{host}:443"), host, &self.trusting()).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut told = Vec::new();
        let _ = client.read_to_end(&mut told).await;
        String::from_utf8_lossy(&told).into_owned()
    }

    /// Believes what the gate's own file says is to be believed.
    pub fn trusting(&self) -> ClientConfig {
        client(self.roots())
    }

    pub fn roots(&self) -> RootCertStore {
        let bundle = &self.gate.readable[0];
        store(CertificateDer::pem_file_iter(bundle).unwrap().map(Result::unwrap))
    }

    /// The gate's variables, with the port that it is served on here.
    pub fn env(&self) -> Vec<(String, String)> {
        let (there, here) = (format!(":{PROXY_PORT}"), format!(":{}", self.address.port()));
        self.gate.env.iter().map(|(name, value)| (name.clone(), value.replace(&there, &here))).collect()
    }
}

pub fn serve_on_loopback(door: &dyn Door) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    door.serve(listener);
    address
}

impl World {
    /// Believes the world's authority only.
    pub fn trusting(&self) -> ClientConfig {
        client(self.roots())
    }

    pub fn roots(&self) -> RootCertStore {
        store([self.certificate.clone()])
    }
}

fn store(authorities: impl IntoIterator<Item = CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    roots
}

fn client(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub async fn head(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn host_of(url: &str) -> &str {
    url.split('/').nth(2).unwrap_or_default()
}
