//! A gate's own certificate authority: it lives in memory, is believed in one sandbox, and speaks for the hosts whose TLS is
//! ended here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use domain::Fault;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::entry::Name;

const DAY: Duration = Duration::from_secs(86_400);
/// Certificates of servers that are kept; wildcards can ask for any number.
const KEPT: usize = 256;

pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// Of every server that is spoken for.
    key: KeyPair,
    issued: Mutex<Issued>,
}

#[derive(Default)]
struct Issued {
    /// In all: numbers the certificates, as no two of one authority may have the same number.
    count: u64,
    servers: HashMap<Name, Arc<ServerConfig>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    pub(crate) fn new() -> Result<Self, Fault> {
        Self::make().map_err(|error| Fault::bug(format!("a gate's certificate authority cannot be made: {error}")))
    }

    fn make() -> Result<Self, rcgen::Error> {
        let mut params = dated(CertificateParams::new([])?);
        params.distinguished_name = called("Overnight, for this sandbox only");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        let issuer = Issuer::new(params, key);
        Ok(Self { certificate, issuer, key: KeyPair::generate()?, issued: Mutex::default() })
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What speaks for `name`.
    pub(crate) fn server(&self, name: &Name) -> Result<Arc<ServerConfig>, Fault> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = issued.servers.get(name) {
            return Ok(Arc::clone(server));
        }
        let fault = |error: &dyn std::fmt::Display| Fault::bug(format!("{name} cannot be spoken for: {error}"));
        issued.count += 1;
        let leaf = self.sign(name, issued.count).map_err(|error| fault(&error))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![leaf], key))
            .map_err(|error| fault(&error))?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let server = Arc::new(server);
        if issued.servers.len() >= KEPT {
            issued.servers.clear();
        }
        issued.servers.insert(name.clone(), Arc::clone(&server));
        Ok(server)
    }

    fn sign(&self, name: &Name, number: u64) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = dated(CertificateParams::new([name.to_string()])?);
        params.serial_number = Some(number.into());
        // Not the host's name: a common name holds 64 characters at most.
        params.distinguished_name = called("Overnight");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&self.key, &self.issuer)?.der().clone())
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

/// Good from yesterday, for clocks that differ, and for less than the 398 days that clients allow.
fn dated(mut params: CertificateParams) -> CertificateParams {
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + 365 * DAY).into();
    params
}
