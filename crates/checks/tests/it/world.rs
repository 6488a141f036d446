//! A repository of two commits, wired to the room under test.

use std::{sync::Arc, time::Duration};

use checks::{Checks, Options};
use domain::{
    Fault,
    check::{CheckRun, CheckSpec, Judgement, Tier},
    ids::{AttemptKey, AttemptNo, CommitId, RepositoryId, TaskId},
    ports::{
        checks::{Checks as _, JudgeRequest},
        sandbox::Confinement,
        workspace::{Repository, Surroundings},
    },
};

use testkit::PlainEnvironments;

use crate::fakes::{self, Memory, Plain, Tree, Trees};

pub struct World {
    pub trees: Arc<Trees>,
    pub sandboxes: Arc<Plain>,
    pub environments: PlainEnvironments,
    pub memory: Arc<Memory>,
    pub checks: Arc<Checks>,
    directory: tempfile::TempDir,
}

pub fn base() -> CommitId {
    CommitId::parse(&"b".repeat(40)).unwrap()
}

pub fn head() -> CommitId {
    CommitId::parse(&"e".repeat(40)).unwrap()
}

pub fn repository() -> Repository {
    Repository { id: RepositoryId("sample".to_owned()), path: "/nowhere".into() }
}

pub fn tree(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())).collect()
}

impl World {
    pub fn new(base_files: &[(&str, &str)], head_files: &[(&str, &str)]) -> Self {
        Self::tuned(base_files, head_files, |_| {})
    }

    pub fn tuned(base_files: &[(&str, &str)], head_files: &[(&str, &str)], tune: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let trees = Arc::new(Trees { home: directory.path().canonicalize().unwrap(), ..Trees::default() });
        let commits = [(base(), base_files), (head(), head_files)];
        trees.commits.lock().unwrap().extend(commits.map(|(commit, files)| (commit.as_str().to_owned(), tree(files))));
        let (sandboxes, memory) = (Arc::<Plain>::default(), Arc::<Memory>::default());
        let environments = PlainEnvironments::new(sandboxes.clone());
        let mut options = Options::new(trees.clone(), Arc::new(environments.clone()), memory.clone(), memory.clone());
        tune(&mut options);
        Self { trees, sandboxes, environments, memory, checks: Checks::new(options), directory }
    }

    pub async fn judge(&self, command: &str) -> CheckRun {
        let judgement = self.judgement(&[command]).await;
        self.is_tidy();
        judgement.runs.into_iter().next().unwrap()
    }

    pub async fn judgement(&self, commands: &[&str]) -> Judgement {
        self.try_judge(request(commands)).await.unwrap()
    }

    pub async fn try_judge(&self, request: JudgeRequest) -> Result<Judgement, Fault> {
        self.checks.judge(request).await
    }

    pub fn log(&self, run: &CheckRun) -> Vec<u8> {
        let id = run.log.clone().unwrap();
        self.memory.blobs.lock().unwrap()[&id].to_vec()
    }

    /// No checkout, no sandbox is left.
    pub fn is_tidy(&self) {
        assert!(self.trees.live.lock().unwrap().is_empty());
        assert!(fakes::is_empty(self.directory.path()));
        assert_eq!(self.sandboxes.open.load(std::sync::atomic::Ordering::SeqCst), 0);
    }
}

pub fn request(commands: &[&str]) -> JudgeRequest {
    JudgeRequest {
        key: AttemptKey { task: TaskId(12), attempt: AttemptNo(1) },
        repository: repository(),
        base: base(),
        head: head(),
        checks: commands.iter().map(|command| CheckSpec::from_command(*command)).collect(),
        allowed_paths: vec![],
        protected_paths: vec![],
        surroundings: Surroundings { environment: None, confinement: Confinement::Unconfined },
        env: vec![],
    }
}

pub fn hasty(command: &str) -> CheckSpec {
    CheckSpec { timeout_s: Some(1), ..CheckSpec::from_command(command) }
}

pub fn slow(command: &str) -> CheckSpec {
    CheckSpec { tier: Tier::Slow, ..CheckSpec::from_command(command) }
}

/// A script that prints TAP: each test by its name and whether it passes.
pub fn tap(tests: &[(&str, bool)]) -> String {
    let lines = tests
        .iter()
        .enumerate()
        .map(|(nth, (name, passes))| format!("echo '{}ok {} - {name}'\n", if *passes { "" } else { "not " }, nth + 1));
    let failed = tests.iter().any(|(_, passes)| !passes);
    format!("echo TAP version 13\n{}echo 1..{}\nexit {}\n", lines.collect::<String>(), tests.len(), i32::from(failed))
}

/// Waits until a fact holds; a fact that never comes is a failure after half a minute.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(30), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    patience.await.unwrap_or_else(|_| panic!("{what} never came"));
}
