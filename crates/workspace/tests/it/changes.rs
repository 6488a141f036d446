//! Snapshots of layered workspaces: whatever is done in one, they are what a plain workspace would have given.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::{
    FaultClass,
    ids::{AttemptKey, AttemptNo, CommitId, TaskId, TurnNo},
    ports::{
        sandbox::{Confinement, Tree},
        workspace::{Origin, PrepareRequest, Prepared, Snapshot, SnapshotRequest, Surroundings, Workspaces as _},
    },
    redact::Redactor,
};
use workspace::Rung;

use crate::ground::{Ground, KEY, at, git, inside, sh, surroundings, write};

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
        match self.roll(17) {
            0..4 => format!("mkdir -p \"$(dirname {one})\" && echo {} > {one}", self.roll(4)),
            4 => format!("echo more >> {one}"),
            5..7 => format!("rm -rf {one}"),
            7 => format!("rm -rf {one}; mkdir -p {one}"),
            8 => format!("rm -rf {one}; mkdir -p {one} && echo {} > {one}/a", self.roll(4)),
            9 => format!("mv {one} {two}"),
            10 => format!("ln -s {two} {one}"),
            11 => format!("chmod {} {one}", self.one(&["+x", "-x", "600"])),
            12 => format!("rm -f {one}; mkfifo {one}"),
            13 => format!("ln {one} {two}"),
            14 => {
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
            15 => format!("mkdir -p {one} && git init -q {one}"),
            _ => format!("cp -r {one} {two}"),
        }
    }

    fn script(&mut self, lines: usize) -> String {
        (0..lines).map(|_| format!("{{ {}; }} 2>&-\n", self.change())).collect::<String>() + "true\n"
    }
}

#[tokio::test]
async fn whatever_is_done_both_rungs_give_the_same_commit() {
    for round in 1..=12 {
        let mut dice = Dice(round * 0x9e37_79b9_7f4a_7c15);
        let ground = Ground::on(Rung::Overlay);
        sh(&ground.repo, &dice.script(25));
        // What is tracked and ignored stays tracked.
        sh(
            &ground.repo,
            "find . -mindepth 1 -name .git -prune -exec mv {} /dev/null \\; 2>&-; git add -A -f . 2>&-; git commit -q -m base --allow-empty",
        );
        let origin = ground.resolve().await;
        let layered = prepare(&ground, 1, &origin, Confinement::Confined).await;
        let plain = prepare(&ground, 2, &origin, Confinement::Unconfined).await;
        let Tree::Directory(root) = &plain.root else { panic!("{plain:?}") };
        let script = dice.script(30);
        inside(&layered, &script);
        sh(root, &script);
        let expected = ground.rooms.snapshot(request(&origin, 2, 1)).await.unwrap();
        let taken = ground.rooms.snapshot(request(&origin, 1, 1)).await.unwrap();
        assert_eq!(
            listing(&ground, &origin, &taken.commit),
            listing(&ground, &origin, &expected.commit),
            "round {round}:\n{script}"
        );
        assert_eq!(taken, expected, "round {round}");
        // A workspace that is rebuilt of it holds the same, and is known to.
        for task in [1, 2] {
            ground.rooms.release(origin.repository.clone(), key(task), Some(taken.commit.clone())).await.unwrap();
        }
        let request_again = PrepareRequest {
            repository: origin.repository.clone(),
            key: key(1),
            commit: taken.commit.clone(),
            surroundings: surroundings(None),
        };
        let again = ground.rooms.prepare(request_again).await.unwrap();
        assert_eq!(ground.rooms.snapshot(request(&origin, 1, 2)).await.unwrap(), taken, "round {round}, laid");
        inside(&again, "git fsck --full 2>&1");
    }
}
