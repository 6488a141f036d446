//! The port [`Secrets`]: values sealed with XChaCha20-Poly1305 under the home's own key, each bound to its scope and name.
//!
//! A forgotten value is overwritten in the database; its sealed form stays in the write-ahead log until that is used again.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};

use chacha20poly1305::{
    AeadCore, Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, OsRng, Payload},
};
use domain::{
    Fault,
    ports::{BoxFuture, model::Credentials, store::Secrets},
};
use rusqlite::params;
use zeroize::Zeroizing;

use crate::{Store, error};

const KEY_BYTES: usize = 32;

impl Secrets for Store {
    /// Replaces all that the scope held.
    fn put(&self, scope: String, values: Credentials) -> BoxFuture<'_, Result<(), Fault>> {
        let sealed: Result<Vec<_>, Fault> = values
            .0
            .into_iter()
            .map(|(name, value)| {
                let value = Zeroizing::new(value);
                let (nonce, sealed) = self.seal.close(&scope, &name, value.as_bytes())?;
                Ok((name, nonce, sealed))
            })
            .collect();
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(fault) => return Box::pin(async { Err(fault) }),
        };
        self.writer.write(move |request| {
            request.tx.prepare_cached("DELETE FROM secrets WHERE scope = ?1")?.execute([&scope])?;
            for (name, nonce, sealed) in &sealed {
                request
                    .tx
                    .prepare_cached("INSERT INTO secrets (scope, name, nonce, sealed) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![scope, name, nonce, sealed])?;
            }
            Ok(())
        })
    }

    fn get(&self, scope: String) -> BoxFuture<'_, Result<Credentials, Fault>> {
        let seal = Arc::clone(&self.seal);
        self.readers.read(move |tx| {
            let mut select = tx.prepare_cached("SELECT name, nonce, sealed FROM secrets WHERE scope = ?1")?;
            let mut rows = select.query([&scope])?;
            let mut values = Credentials::default();
            while let Some(row) = rows.next()? {
                let name: String = row.get("name")?;
                let value = seal.open_value(
                    &scope,
                    &name,
                    &row.get::<_, Vec<u8>>("nonce")?,
                    &row.get::<_, Vec<u8>>("sealed")?,
                )?;
                values.0.insert(name, value);
            }
            Ok(values)
        })
    }

    fn forget(&self, scope: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.writer.write(move |request| {
            request.tx.prepare_cached("DELETE FROM secrets WHERE scope = ?1")?.execute([&scope])?;
            Ok(())
        })
    }
}

/// The home's sealing key, in `secret.key`.
pub(crate) struct Seal {
    cipher: XChaCha20Poly1305,
}

impl Seal {
    /// Reads the key, or makes it. The caller sees to it that one process at a time does this.
    pub fn open(home: &Path) -> Result<Self, Fault> {
        let path = home.join("secret.key");
        let key = match fs::read(&path) {
            Ok(key) => Zeroizing::new(key),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                make_key(home, &path).map_err(|error| error::file("write", &path, &error))?
            }
            Err(error) => return Err(error::file("read", &path, &error)),
        };
        if key.len() != KEY_BYTES {
            return Err(Fault::environment(format!(
                "{} is damaged: it holds {} bytes, not {KEY_BYTES}",
                path.display(),
                key.len()
            ))
            .hint("put it back from a backup; or remove it, and what was sealed with it must be given again"));
        }
        Ok(Self { cipher: XChaCha20Poly1305::new(Key::from_slice(&key)) })
    }

    /// Nonce and sealed value.
    fn close(&self, scope: &str, name: &str, value: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Fault> {
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let sealed = self
            .cipher
            .encrypt(&nonce, Payload { msg: value, aad: &place(scope, name) })
            .map_err(|_| Fault::bug(format!("cannot seal {name} of {scope}")))?;
        Ok((nonce.to_vec(), sealed))
    }

    fn open_value(&self, scope: &str, name: &str, nonce: &[u8], sealed: &[u8]) -> Result<String, Fault> {
        let closed = || {
            Fault::environment(format!("the sealed {name} of {scope} does not open with this home's secret.key"))
                .hint("put the old secret.key back, or give the keys again")
        };
        if nonce.len() != size_of::<XNonce>() {
            return Err(closed());
        }
        let place = place(scope, name);
        let value = self
            .cipher
            .decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: &place })
            .map_err(|_| closed())?;
        String::from_utf8(value).map_err(|_| closed())
    }
}

/// What a value is bound to, without ambiguity: moved to another row, it does not open.
fn place(scope: &str, name: &str) -> Vec<u8> {
    format!("{}:{scope}{name}", scope.len()).into_bytes()
}

/// Never half there: written beside, then renamed.
fn make_key(home: &Path, path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let key = Zeroizing::new(XChaCha20Poly1305::generate_key(&mut OsRng).to_vec());
    let beside = home.join("secret.key.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(home)?.sync_all()?;
    Ok(key)
}
