//! A registry of packages that counts who comes, and the names by which a proxy finds it.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use domain::ports::BoxFuture;
use egress::Resolver;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// The name that leads to the registry.
pub const HOST: &str = "registry.test";

#[derive(Clone)]
pub struct Registry {
    pub address: SocketAddr,
    /// Heads of the requests.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&registry.asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    head.push(byte);
                }
                asked.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\npackage\n";
                // A client that has gone is no matter.
                let _ = stream.write_all(answer).await;
            }
        });
        registry
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Every name leads to the registry.
impl Resolver for Registry {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Ok(vec![self.address]) })
    }
}
