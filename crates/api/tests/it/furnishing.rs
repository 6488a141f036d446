//! Environments as a test wants them: what a base says, how a build goes, and nothing installed.

use std::sync::{Arc, Mutex};

use domain::{
    Fault,
    check::CheckSpec,
    environment::{
        Definition, EnvironmentId, EnvironmentUse, Health, Readiness, SecretPurpose, SecretUse, Service, Source,
    },
    ids::CommitId,
    ports::{
        BoxFuture,
        egress::{Egress, Gate, Pass, Refusal},
        environments::{BuildRequest, Built, Environments, Layer, OpenRequest, Opened, Start},
        sandbox::Sandbox,
        workspace::{EnvironmentLayer, Repository},
    },
    redact::Redactor,
};
use tokio::sync::Semaphore;

use crate::{
    boxes::Boxes,
    stands_in::{base, done},
};

pub struct Furnishing {
    boxes: Boxes,
    /// A build goes on once it is let.
    pub pace: Semaphore,
    /// How the next build ends, where not well.
    pub fails: Mutex<Option<Fault>>,
    pub used: Mutex<EnvironmentUse>,
    pub built: Mutex<Vec<Start>>,
    pub port: Mutex<Option<u16>>,
}

pub fn layer() -> EnvironmentId {
    EnvironmentId::parse(&"1a".repeat(16)).unwrap()
}

pub fn refusal() -> Refusal {
    Refusal {
        host: "pypi.example".to_owned(),
        port: 443,
        why: "not on the allow-list".to_owned(),
        entry: Some("pypi.example".to_owned()),
        by: Some("pip install x".to_owned()),
    }
}

impl Furnishing {
    pub fn new(boxes: Boxes) -> Self {
        let used = EnvironmentUse { layer: Some(layer()), health: Health::Healthy, note: None };
        Self {
            boxes,
            pace: Semaphore::new(0),
            fails: Mutex::default(),
            used: Mutex::new(used),
            built: Mutex::default(),
            port: Mutex::new(Some(3000)),
        }
    }

    fn used(&self) -> EnvironmentUse {
        self.used.lock().unwrap().clone()
    }
}

impl Environments for Furnishing {
    fn definition(&self, _: Repository, _: CommitId) -> BoxFuture<'_, Result<Arc<Definition>, Fault>> {
        let port = *self.port.lock().unwrap();
        let web = Service {
            name: "web".to_owned(),
            command: "npm run dev".to_owned(),
            ready: port.map(Readiness::Port),
            ready_within: std::time::Duration::from_secs(60),
            port,
        };
        let secret = |name: &str, to| SecretUse { name: name.to_owned(), to };
        let to = SecretPurpose::Proxy {
            host: "api.example".to_owned(),
            header: "Authorization".to_owned(),
            value: "Bearer {}".to_owned(),
        };
        done(Ok(Arc::new(Definition {
            source: Source::File("overnight.toml".to_owned()),
            install: vec!["npm ci".to_owned()],
            services: vec![web],
            secrets: vec![secret("NPM_TOKEN", SecretPurpose::Install), secret("API_TOKEN", to)],
            checks: vec![CheckSpec::from_command("npm test")],
            ..Definition::default()
        })))
    }

    fn provide(&self, _: BuildRequest) -> BoxFuture<'_, Result<EnvironmentUse, Fault>> {
        done(Ok(self.used()))
    }

    fn build(&self, request: BuildRequest, start: Start) -> BoxFuture<'_, Result<Built, Fault>> {
        Box::pin(async move {
            self.built.lock().unwrap().push(start);
            (request.told)("installing\u{1b}[1m");
            self.pace.acquire().await.unwrap().forget();
            (request.told)("installed");
            if let Some(fault) = self.fails.lock().unwrap().take() {
                return Err(fault);
            }
            let left_out = vec!["package-lock.json".to_owned()];
            Ok(Built { used: self.used(), seconds: 7, log: None, left_out, refused: vec![refusal()] })
        })
    }

    fn check(&self, request: BuildRequest) -> BoxFuture<'_, Result<EnvironmentUse, Fault>> {
        (request.told)(&request.checks[0].command);
        done(Ok(self.used()))
    }

    fn layers(&self, _: Repository) -> BoxFuture<'_, Result<Vec<Layer>, Fault>> {
        let layer = EnvironmentLayer {
            id: layer(),
            base: base(),
            frozen_at: jiff::Timestamp::UNIX_EPOCH,
            bytes: 5_000,
            about: String::new(),
            users: 1,
        };
        let source = "overnight.toml".to_owned();
        done(Ok(vec![Layer { layer, health: Health::Healthy, source, seconds: 7, log: None }]))
    }

    fn open(&self, _: OpenRequest) -> BoxFuture<'_, Result<Opened, Fault>> {
        let sandbox: Arc<dyn Sandbox> = Arc::new(self.boxes.clone());
        done(Ok(Opened { sandbox, notes: vec!["the service web is not ready".to_owned()] }))
    }

    fn redactor(&self, _: Repository) -> BoxFuture<'_, Result<Arc<Redactor>, Fault>> {
        done(Ok(Arc::default()))
    }
}

pub struct Presets;

impl Egress for Presets {
    fn examine(&self, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    fn presets(&self) -> Vec<(String, Vec<String>)> {
        vec![("npm".to_owned(), vec!["npm.example".to_owned()])]
    }

    fn open(&self, _: Pass) -> Result<Gate, Fault> {
        Err(Fault::bug("no gate was to be asked for"))
    }
}
