//! Snapshots: whatever is done in a workspace, they are the same on every rung.

use std::{fs, os::unix::net::UnixListener, path::PathBuf, sync::Arc};

use domain::{
    FaultClass,
    environment::EnvironmentId,
    ids::{AttemptKey, AttemptNo, CommitId, TaskId, TurnNo},
    ports::{
        sandbox::{Confinement, Tree},
        workspace::{
            Origin, PrepareRequest, Prepared, RaiseRequest, ResolveRequest, Snapshot, SnapshotRequest, Surroundings,
            Workspaces as _,
        },
    },
    redact::Redactor,
};
use workspace::{Options, Rung, Workspaces};

use crate::{
    ground::{Ground, KEY, at, git, inside, sh, surroundings, write},
    layers::{LISTING, assert_same},
    reflink::is_inner,
};

fn upper(prepared: &Prepared) -> PathBuf {
    match &prepared.root {
        Tree::Layers(layers) => layers.upper.clone(),
        Tree::Directory(path) => panic!("{} has no layers", path.display()),
    }
}

async fn prepare(ground: &Ground, task: u64, origin: &Origin, confinement: Confinement) -> Prepared {
    let request = PrepareRequest {
        repository: origin.repository.clone(),
        key: key(task),
        commit: origin.base.clone(),
        surroundings: Surroundings { environment: None, confinement },
    };
    ground.rooms.prepare(request).await.unwrap()
}

fn key(task: u64) -> AttemptKey {
    AttemptKey { task: TaskId(task), attempt: AttemptNo(1) }
}

fn request(origin: &Origin, task: u64, turn: u32) -> SnapshotRequest {
    SnapshotRequest {
        repository: origin.repository.clone(),
        key: key(task),
        turn: TurnNo(turn),
        base: origin.base.clone(),
        message: "Do it\n\nOvernight-Task: T-12".to_owned(),
        at: at(),
        redactor: Arc::default(),
    }
}

/// Every path of a commit with kind, mode and object.
fn listing(ground: &Ground, origin: &Origin, commit: &CommitId) -> String {
    git(&ground.store(origin), &["ls-tree", "-r", "-t", commit.as_str()])
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }

    /// A path of one to three names, quoted for a shell.
    fn path(&mut self) -> String {
        let names = [
            "a",
            "b",
            "d",
            "a.txt",
            "x.o",
            "build",
            "sp ace",
            "ne\\nw",
            "caf\\351",
            "qu\\\"ote",
            "back\\\\134",
            ".GIT",
            "git~1",
        ];
        let path: Vec<&str> = (0..=self.roll(3)).map(|_| self.one(&names)).collect();
        format!("\"$(printf '{}')\"", path.join("/"))
    }

    /// A line of shell that changes something, or fails.
    fn change(&mut self) -> String {
        let (one, two) = (self.path(), self.path());
        match self.roll(16) {
            0..4 => format!("mkdir -p \"$(dirname {one})\" && echo {} > {one}", self.roll(4)),
            4 => format!("echo more >> {one}"),
            5..7 => format!("rm -rf {one}"),
            7 => format!("rm -rf {one}; mkdir -p {one}"),
            8 => format!("rm -rf {one}; mkdir -p {one} && echo {} > {one}/a", self.roll(4)),
            9 => format!("mv {one} {two}"),
            10 => format!("ln -s {two} {one}"),
            11 => format!("chmod {} {one}", self.one(&["+x", "-x", "600"])),
            12 => format!("ln {one} {two}"),
            13 => {
                let rules = self.one(&[
                    "*.o\\n",
                    "build/\\n",
                    "/a\\n!a.txt\\n",
                    "a/b\\n",
                    "**/d\\n",
                    "*\\n!*/\\n!a*\\n",
                    "d/*\\n!d/a\\n",
                ]);
                format!("[ -d {one} ] && printf '{rules}' > {one}/.gitignore || printf '{rules}' > .gitignore")
            }
            14 => format!("mkdir -p {one} && git init -q {one}"),
            _ => format!("cp -r {one} {two}"),
        }
    }

    fn script(&mut self, lines: usize) -> String {
        "set +e\n".to_owned()
            + &(0..lines).map(|_| format!("{{ {}; }} 2>&-\n", self.change())).collect::<String>()
            + "true\n"
    }
}

/// The rungs that the file system of a ground has, each with a home of its own.
fn ladder(ground: &Ground) -> Vec<(Rung, Arc<Workspaces>)> {
    let mut rungs = vec![(Rung::Overlay, Arc::clone(&ground.rooms))];
    let mut plain = vec![Rung::Copy];
    if Rung::probe_copy(ground.dir.path()) == Rung::Reflink {
        plain.push(Rung::Reflink);
    }
    for rung in plain {
        let home = ground.dir.path().join(format!("{rung:?}"));
        rungs.push((rung, Workspaces::open(Options { home, rung, layers_bytes: None }).unwrap()));
    }
    rungs
}

/// What is done on one rung: a workspace over an environment, and the snapshots of it.
struct Done {
    environment: String,
    snapshots: Vec<Snapshot>,
}

async fn work(rooms: &Workspaces, origin: &Origin, installed: &str, turns: &[String]) -> Done {
    let id = EnvironmentId::parse(&"e".repeat(16)).unwrap();
    let (repository, confinement) = (origin.repository.clone(), Confinement::Confined);
    let base = origin.base.clone();
    let raise = RaiseRequest { repository, base, id: id.clone(), over: None, confinement };
    let raised = rooms.raise(raise).await.unwrap();
    inside(&raised, installed);
    rooms.freeze(origin.repository.clone(), id.clone(), String::new()).await.unwrap();
    let prepare = |commit: &CommitId| PrepareRequest {
        repository: origin.repository.clone(),
        key: key(1),
        commit: commit.clone(),
        surroundings: surroundings(Some(&id)),
    };
    let made = rooms.prepare(prepare(&origin.base)).await.unwrap();
    let environment = inside(&made, LISTING);
    let mut snapshots = vec![rooms.snapshot(request(origin, 1, 0)).await.unwrap()];
    for (number, script) in (1..).zip(turns) {
        inside(&made, script);
        snapshots.push(rooms.snapshot(request(origin, 1, number)).await.unwrap());
    }
    // A workspace that is rebuilt of the last holds the same, and is known to.
    let last = snapshots.last().unwrap().commit.clone();
    rooms.release(origin.repository.clone(), key(1), Some(last.clone())).await.unwrap();
    let again = rooms.prepare(prepare(&last)).await.unwrap();
    inside(&again, "git fsck --full 2>&1");
    snapshots.push(rooms.snapshot(request(origin, 1, 99)).await.unwrap());
    assert_eq!(snapshots.last(), snapshots.iter().nth_back(1));
    Done { environment, snapshots }
}

#[tokio::test]
async fn whatever_is_done_every_rung_gives_the_same_commits() {
    for round in 1..=if is_inner() { 2 } else { 5 } {
        let mut dice = Dice(round * 0x1234_5678_9abc);
        let ground = Ground::on(Rung::Overlay);
        sh(&ground.repo, &dice.script(25));
        // What is tracked and ignored stays tracked.
        sh(
            &ground.repo,
            "find . -mindepth 2 '(' -iname .git -o -name git~1 ')' -prune -exec rm -rf {} +; rm -rf .GIT git~1; git add -A -f .; git commit -q -m base --allow-empty",
        );
        let installed = if round % 3 == 0 { "true".to_owned() } else { dice.script(25) };
        let turns = [dice.script(30), dice.script(10), dice.script(10)];
        let mut expected: Option<Done> = None;
        for (rung, rooms) in ladder(&ground) {
            let about = format!("{rung:?}, round {round}:\n{installed}\nthen {}", turns.join("\nthen "));
            let directory = ground.repo.clone();
            let origin = rooms.resolve(ResolveRequest { directory, ..ResolveRequest::default() }).await.unwrap();
            let done = work(&rooms, &origin, &installed, &turns).await;
            assert!(done.snapshots[0].empty, "{about}");
            let Some(expected) = &expected else {
                expected = Some(done);
                continue;
            };
            assert_same(&done.environment, &expected.environment);
            let home = if rung == Rung::Overlay { ground.home() } else { ground.dir.path().join(format!("{rung:?}")) };
            let store = home.join("repositories").join(&origin.repository.id.0).join("private.git");
            for (turn, (ours, theirs)) in done.snapshots.iter().zip(&expected.snapshots).enumerate() {
                let theirs_listed = listing(&ground, &origin, &theirs.commit);
                let listed = git(&store, &["ls-tree", "-r", "-t", ours.commit.as_str()]);
                assert_eq!(listed, theirs_listed, "turn {turn} on {about}");
                assert_eq!(ours, theirs, "turn {turn} on {about}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_work_is_left_out_and_what_cannot_be_kept_is_told() {
    let ground = Ground::on(Rung::Overlay);
    write(&ground.repo, ".gitattributes", "*.txt text\n*.bat text eol=crlf\n");
    write(&ground.repo, ".gitignore", "target/\n*.log\n");
    ground.commit("b.txt", "b\n");
    let origin = ground.resolve().await;
    let made = prepare(&ground, 1, &origin, Confinement::Confined).await;
    inside(
        &made,
        "mkfifo pipe; mkdir -p target/d sub/.git; ln -s / target/d/root; echo x > noise.log; echo x > sub/.git/config; echo x > sub/s; \
         printf 'one\\r\\ntwo\\r\\n' > new.bat; printf 'one\\r\\ntwo\\r\\nthree\\r\\n' > a.txt; rm -rf .git",
    );
    let _socket = UnixListener::bind(upper(&made).join("socket")).unwrap();
    // Ignored, it costs nothing, however large it says it is.
    fs::File::create(upper(&made).join("target/huge")).unwrap().set_len(1 << 40).unwrap();
    let taken = ground.rooms.snapshot(request(&origin, 1, 1)).await.unwrap();
    let files = ground.files(&origin, &taken.commit);
    assert_eq!(
        files,
        [".gitattributes", ".gitignore", "a.txt", "b.txt", "new.bat", "run.sh", "src/lib.rs", "sub/s"],
        "no pipe, socket, `.git` or ignored file"
    );
    assert_eq!(ground.show(&origin, &taken.commit, "new.bat"), "one\ntwo", "stored as the attributes say");
    assert_eq!(taken.stat.files, 2, "a.txt is the same but for its line endings");
    fs::File::create(upper(&made).join("huge")).unwrap().set_len(1 << 40).unwrap();
    let fault = ground.rooms.snapshot(request(&origin, 1, 2)).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Input);
    assert!(fault.what.contains("`huge` is larger"), "{fault:?}");
    fs::remove_file(upper(&made).join("huge")).unwrap();
    let repository = origin.repository.clone();
    ground.rooms.release(repository.clone(), key(1), Some(taken.commit.clone())).await.unwrap();
    // Laid out again, it is checked out as the attributes say.
    let rebuilt =
        PrepareRequest { repository, key: key(1), commit: taken.commit.clone(), surroundings: surroundings(None) };
    let made = ground.rooms.prepare(rebuilt).await.unwrap();
    assert_eq!(inside(&made, "od -c new.bat | head -1").split_whitespace().last(), Some("\\n"));
    assert!(inside(&made, "od -c new.bat").contains("\\r"), "with carriage returns");
    assert_eq!(ground.rooms.snapshot(request(&origin, 1, 3)).await.unwrap().commit, taken.commit);
}

#[tokio::test]
async fn a_secret_does_not_get_into_a_commit_and_does_not_hold_a_release_up() {
    for (confinement, size) in
        [(Confinement::Confined, 10), (Confinement::Confined, 5 << 20), (Confinement::Unconfined, 10)]
    {
        let ground = Ground::on(Rung::Overlay);
        let origin = ground.resolve().await;
        let made = prepare(&ground, 1, &origin, confinement).await;
        let root = match &made.root {
            Tree::Layers(layers) => layers.upper.clone(),
            Tree::Directory(path) => path.clone(),
        };
        write(&root, "key.txt", format!("{}\nthe key is hunter2-hunter2!\n", "x".repeat(size)));
        let redactor = Arc::new(Redactor::new([("KEY", "hunter2-hunter2")]));
        let taken = ground.rooms.snapshot(SnapshotRequest { redactor, ..request(&origin, 1, 1) }).await.unwrap();
        let text = ground.show(&origin, &taken.commit, "key.txt");
        assert!(text.ends_with("the key is [KEY redacted]!"), "{confinement:?}");
        // After another start, too: what was taken out is known beside the workspace.
        let rooms = ground.open(Rung::Overlay);
        write(&root, "more.txt", "hunter2-hunter2\n");
        let release = || rooms.release(origin.repository.clone(), key(1), Some(taken.commit.clone()));
        assert_eq!(release().await.unwrap_err().class, FaultClass::Conflict);
        fs::remove_file(root.join("more.txt")).unwrap();
        release().await.unwrap();
    }
}

/// As root nothing is locked: it is tried as another user then.
#[tokio::test]
async fn what_is_locked_from_its_owner_is_work_too() {
    if rustix::process::geteuid().is_root() {
        let place = tempfile::TempDir::new().unwrap();
        let (copy, name) = (place.path().join("it"), "changes::what_is_locked_from_its_owner_is_work_too");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let mut again = std::process::Command::new("setpriv");
        again.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(["--exact", name]);
        let told =
            again.current_dir(place.path()).env("TMPDIR", place.path()).env("HOME", place.path()).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stdout));
        return;
    }
    let ground = Ground::on(Rung::Overlay);
    let origin = ground.resolve().await;
    let made = ground.prepare_as(KEY, &origin, None).await;
    inside(
        &made,
        "mkdir -p a/b/c d; echo 1 > a/b/c/f; echo 2 > d/g; echo 3 > h; chmod 000 a/b/c/f h; chmod 200 a/b/c a/b; chmod 600 d",
    );
    let head = ground.snapshot(&origin, 1).await.commit;
    for (path, content) in [("a/b/c/f", "1"), ("d/g", "2"), ("h", "3")] {
        assert_eq!(ground.show(&origin, &head, path), content);
    }
    ground.rooms.release(origin.repository.clone(), KEY, Some(head)).await.unwrap();
}
