//! A user's repository, an Overnight home, and the rooms that stand on it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{
    Fault,
    check::{BlobId, CheckSpec},
    environment::{EnvironmentId, Stage},
    ids::CommitId,
    ports::{
        Clock,
        egress::Refusal,
        environments::{BuildRequest, Built, Environments as _, OpenRequest, Opened, Purpose, Start, Told},
        model::Credentials,
        sandbox::{Confinement, Exec, Exit, Sandbox, Sandboxes as _},
        store::{Blobs, Secrets},
        workspace::{CheckoutRequest, Prepared, Repository, ResolveRequest, Surroundings, Workspaces as _},
    },
};
use environments::{Environments, Options, Rooms};
use store::Store;
use tempfile::TempDir;
use workspace::{Rung, Workspaces};

use crate::registry::{HOST, Registry};

/// Longer than anything here takes; nothing waits for it to pass.
pub const LONG: Duration = Duration::from_secs(60);

pub struct World {
    pub environments: Arc<Environments>,
    pub workspaces: Arc<Workspaces>,
    pub sandboxes: Arc<sandbox::Sandboxes>,
    pub store: Arc<Store>,
    pub registry: Registry,
    pub confinement: Confinement,
    told: Arc<Mutex<Vec<String>>>,
    checkouts: Mutex<u32>,
    directory: TempDir,
}

struct Now;

impl Clock for Now {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

impl World {
    pub async fn new() -> Self {
        Self::tuned(|_| {}).await
    }

    pub async fn tuned(tune: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::Builder::new().prefix("overnight-environments-").tempdir().unwrap();
        let home = directory.path().join("home");
        let user = directory.path().join("user");
        std::fs::create_dir(&user).unwrap();
        git(&user, &["init", "-q", "-b", "main"]);
        git(&user, &["config", "user.name", "Ada"]);
        git(&user, &["config", "user.email", "ada@example.org"]);
        let zygote = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/zygote");
        let sandboxes = sandbox::Sandboxes::start(sandbox::Options {
            zygote: vec![zygote.into(), sandbox::ZYGOTE_ARGUMENT.into()],
            ..sandbox::Options::from_env(home.clone())
        });
        let sandboxes = sandboxes.unwrap();
        let probe = sandboxes.probe();
        let rung = if probe.layers { Rung::Overlay } else { Rung::Copy };
        let workspaces = Workspaces::open(workspace::Options { home: home.clone(), rung, layers_bytes: None }).unwrap();
        let store = Store::open(store::Options { home: home.clone(), clock: Arc::new(Now) }).unwrap();
        let registry = Registry::open().await;
        let proxy = egress::Proxy::new(egress::Options {
            private: [HOST, "other.test", "checks.test"].map(str::to_owned).to_vec(),
            resolver: Arc::new(registry.clone()),
            ..egress::Options::new(home.join("certificates"))
        });
        let mut options = Options::new(Rooms {
            workspaces: workspaces.clone(),
            sandboxes: sandboxes.clone(),
            egress: Arc::new(proxy.unwrap()),
            secrets: store.clone(),
            blobs: store.clone(),
            cache: store.clone(),
        });
        tune(&mut options);
        let (told, checkouts) = Default::default();
        let confinement = if probe.confined { Confinement::Confined } else { Confinement::Unconfined };
        let environments = Environments::new(options);
        Self { environments, workspaces, sandboxes, store, registry, confinement, told, checkouts, directory }
    }

    /// With these files as its first commit.
    pub async fn of(files: &[(&str, &str)]) -> Self {
        let world = Self::new().await;
        world.commit(files);
        world
    }

    pub fn user(&self) -> PathBuf {
        self.directory.path().join("user")
    }

    pub fn commit(&self, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = self.user().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        git(&self.user(), &["add", "-A"]);
        git(&self.user(), &["commit", "-q", "--allow-empty", "-m", "work"]);
    }

    pub async fn origin(&self) -> (Repository, CommitId) {
        let request = ResolveRequest { directory: self.user(), ..ResolveRequest::default() };
        let origin = self.workspaces.resolve(request).await.unwrap();
        (origin.repository, origin.base)
    }

    pub async fn request(&self, checks: &[&str]) -> BuildRequest {
        let (repository, base) = self.origin().await;
        let told = Arc::clone(&self.told);
        let told: Told = Arc::new(move |line| told.lock().unwrap().push(line.to_owned()));
        let checks = checks.iter().map(|line| CheckSpec::from_command(*line)).collect();
        BuildRequest { repository, base, confinement: self.confinement, checks, told }
    }

    pub async fn build(&self, checks: &[&str], start: Start) -> Result<Built, Fault> {
        self.environments.build(self.request(checks).await, start).await
    }

    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    pub async fn log(&self, id: Option<BlobId>) -> String {
        String::from_utf8(Blobs::get(&*self.store, id.unwrap()).await.unwrap().into()).unwrap()
    }

    pub async fn secret(&self, name: &str, value: &str, stage: Stage) {
        let scope = format!("repository/{}/{}", self.origin().await.0.id.0, stage.word());
        let values = Credentials([(name.to_owned(), value.to_owned())].into());
        Secrets::put(&*self.store, scope, values).await.unwrap();
    }

    pub async fn place(&self, environment: Option<EnvironmentId>) -> Prepared {
        let (repository, commit) = self.origin().await;
        let name = {
            let mut checkouts = self.checkouts.lock().unwrap();
            *checkouts += 1;
            format!("test-{checkouts}")
        };
        let surroundings = Surroundings { environment, confinement: self.confinement };
        let request = CheckoutRequest { repository, commit, protect: None, name, surroundings };
        self.workspaces.checkout(request).await.unwrap()
    }

    pub async fn open(
        &self,
        environment: Option<EnvironmentId>,
        purpose: Purpose,
    ) -> (Opened, Arc<Mutex<Vec<Refusal>>>) {
        let (request, refused) = self.opening(environment, purpose).await;
        (self.environments.open(request).await.unwrap(), refused)
    }

    /// What is asked for a sandbox, and where its refusals are told.
    pub async fn opening(
        &self,
        environment: Option<EnvironmentId>,
        purpose: Purpose,
    ) -> (OpenRequest, Arc<Mutex<Vec<Refusal>>>) {
        let refused: Arc<Mutex<Vec<Refusal>>> = Arc::default();
        let receiver = Arc::clone(&refused);
        let (repository, base) = self.origin().await;
        let request = OpenRequest {
            repository,
            base,
            place: self.place(environment).await,
            purpose,
            confinement: self.confinement,
            programs: Vec::new(),
            allow: Vec::new(),
            env: vec![("LAST".to_owned(), "added".to_owned())],
            bridges: Vec::new(),
            refused: Arc::new(move |refusal| receiver.lock().unwrap().push(refusal)),
            output_bytes: 1 << 20,
        };
        (request, refused)
    }

    /// What a line prints over a layer, and how it ends.
    pub async fn run(&self, environment: Option<EnvironmentId>, line: &str) -> (String, Exit) {
        let (opened, _) = self.open(environment, Purpose::Turn).await;
        let said = run(&*opened.sandbox, line).await;
        opened.sandbox.kill().await;
        said
    }
}

pub async fn run(sandbox: &dyn Sandbox, line: &str) -> (String, Exit) {
    let argv = ["sh", "-c", line].map(str::to_owned).to_vec();
    let exec = Exec { argv, cwd: None, env: Vec::new(), stdin: Default::default(), timeout: LONG };
    let mut process = sandbox.spawn(exec).await.unwrap();
    let exit = loop {
        if let Some(exit) = process.wait(LONG).await {
            break exit;
        }
    };
    (String::from_utf8_lossy(&process.output().head).into_owned(), exit)
}

/// A line that fetches `path` of the registry, and fails where it is not let.
/// Writes an executable file.
pub fn program(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

pub fn fetch(path: &str) -> String {
    format!("curl --silent --show-error --fail --max-time 20 http://{HOST}/{path}")
}

fn git(directory: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", directory);
    let output = command.arg("-C").arg(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
