//! Whose certificates are believed: the system's authorities, for the proxy itself and, beside its own, for the sandbox.

use std::{path::PathBuf, sync::Arc};

use base64::Engine as _;
use domain::Fault;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// The authorities that upstream servers are checked against.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// Those of this machine; where it has none, those that Mozilla believes.
    #[default]
    System,
    These(Vec<CertificateDer<'static>>),
}

#[derive(Debug)]
pub(crate) struct Trust {
    /// All authorities, as programs read them.
    bundle: String,
    /// For connections to upstream servers.
    pub(crate) client: Arc<ClientConfig>,
}

impl Trust {
    /// `more`: believed besides.
    pub(crate) fn load(roots: &Roots, more: &[CertificateDer<'static>]) -> Result<Self, Fault> {
        let mut certificates = match roots {
            Roots::These(these) => these.clone(),
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                for error in &found.errors {
                    tracing::warn!(%error, "some of this machine's certificate authorities cannot be read");
                }
                match found.certs.is_empty() {
                    true => webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec(),
                    false => found.certs,
                }
            }
        };
        certificates.extend_from_slice(more);
        let mut store = RootCertStore::empty();
        let bundle = certificates.iter().map(text).collect();
        store.add_parsable_certificates(certificates);
        let mut client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault::bug(format!("TLS for upstream servers cannot be set up: {error}")))?
            .with_root_certificates(store)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { bundle, client: Arc::new(client) })
    }

    /// All of them and that of a gate that ends TLS, as programs read them (RFC 7468).
    pub(crate) fn bundle(&self, authority: Option<&CertificateDer<'_>>) -> String {
        self.bundle.clone() + &authority.map(text).unwrap_or_default()
    }
}

/// The certificates in the files of an operator (PEM), each of which has to hold one at least.
///
/// Errors: `Input` that names the file.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let mut all = Vec::new();
    for file in files {
        let wrong = |why: &dyn std::fmt::Display| {
            Fault::input(format!("the certificate authorities in {} cannot be read: {why}", file.display()))
                .hint("name a file that holds certificates in PEM form: `-----BEGIN CERTIFICATE-----`")
        };
        let found = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
        let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
        if found.is_empty() {
            return Err(wrong(&"there is no certificate in it"));
        }
        for certificate in &found {
            RootCertStore::empty().add(certificate.clone()).map_err(|error| wrong(&error))?;
        }
        all.extend(found);
    }
    Ok(all)
}

fn text(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::with_capacity(2 * certificate.len());
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
