//! What layers cost and save on a large repository: `cargo run --release -p workspace --example layers -- DIRECTORY [FILES]`.
//!
//! Makes (once) a repository of so many files, ten in a directory, and an environment of as many, below DIRECTORY, whose file
//! system must be able to hold overlays. Prints medians; judges nothing.
#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use domain::{
    environment::EnvironmentId,
    ids::{AttemptKey, AttemptNo, TaskId},
    ports::{
        sandbox::{Confinement, Tree},
        workspace::{Origin, PrepareRequest, Prepared, RaiseRequest, ResolveRequest, Surroundings, Workspaces as _},
    },
};
use workspace::{Options, Rung, Workspaces};

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let directory = PathBuf::from(args.next().unwrap());
    let files: usize = args.next().map_or(50_000, |files| files.parse().unwrap());
    let (repo, home) = (directory.join("repository"), directory.join("home"));
    if !repo.exists() {
        generate(&repo, files);
        sh(&repo, "git init -q -b main && git add . && git -c user.name=x -c user.email=x commit -qm first");
    }
    if home.exists() {
        fs::remove_dir_all(&home).unwrap();
    }
    let rooms = Workspaces::open(Options { home, rung: Rung::Overlay, layers_bytes: None }).unwrap();
    let request = || ResolveRequest { directory: repo.clone(), ..ResolveRequest::default() };
    let origin = timed("resolve, new base", async || rooms.resolve(request()).await.unwrap()).await;
    timed("prepare, no layer yet", async || prepare(&rooms, 1, &origin, None).await).await;

    let id = EnvironmentId::parse(&"e".repeat(16)).unwrap();
    let raise = RaiseRequest {
        repository: origin.repository.clone(),
        base: origin.base.clone(),
        id: id.clone(),
        over: None,
        confinement: Confinement::Confined,
    };
    let raised = rooms.raise(raise).await.unwrap();
    let Tree::Layers(layers) = &raised.root else { panic!("no layers") };
    generate(&layers.upper.join("target"), files);
    let freeze = async || rooms.freeze(origin.repository.clone(), id.clone(), String::new()).await.unwrap();
    timed("freeze an environment", freeze).await;

    let mut times = Vec::new();
    let mut place = None;
    for task in 10..60 {
        let start = Instant::now();
        place = Some(prepare(&rooms, task, &origin, Some(&id)).await);
        times.push(start.elapsed());
    }
    println!("prepare over layers: {:?}, at most {:?}", median(&mut times), times.iter().max().unwrap());
    let place = place.unwrap();
    let root = place.lock.parent().unwrap();
    println!("disk of an untouched workspace: {}", sh(root, "du -sk ."));
    let start = Instant::now();
    let many: Vec<_> = (100..200).map(|task| prepare(&rooms, task, &origin, Some(&id))).map(Box::pin).collect();
    for one in many {
        one.await;
    }
    println!("100 workspaces: {:?}", start.elapsed());

    let plain = directory.join("plain");
    if !plain.exists() {
        sh(
            &directory,
            "git clone -q --shared repository plain && cp -a home/repositories/*/layers/environment/*/tree/. plain/",
        );
        sh(&plain, "echo target > .git/info/exclude");
    }
    let status = "for n in $(seq 9); do s=$(date +%s%N); git status --porcelain > /dev/null; e=$(date +%s%N); echo $((($e-$s)/1000)); \
                  done | sort -n | sed -n 5p";
    println!("git status in a clone (µs): {}", sh(&plain, status));
    let script = format!("mkdir -p .git/info; echo target >> .git/info/exclude; {status}; du -sk .git | cut -f1");
    println!("git status over layers (µs), and what it left in KiB: {}", inside(&place, &script).replace('\n', ", "));
    let Tree::Layers(layers) = &place.root else { panic!("no layers") };
    let edit = "for n in $(seq 20); do echo changed > $(git ls-files | sed -n ${n}1p); done; git add -A; git commit -qm x; git status";
    inside(&place, edit);
    println!("after 20 edits and a commit, `.git` and all: {}", sh(&layers.upper, "du -sk .git . | tr '\\n' ' '"));

    sh(
        &repo,
        "for n in $(git ls-files | awk 'NR % 100 == 0'); do date +%N >> $n; done; git add -A; git -c user.name=x -c user.email=x \
               commit -qm more",
    );
    let near = rooms.resolve(request()).await.unwrap();
    timed("prepare on a near base, no layer yet", async || prepare(&rooms, 300, &near, None).await).await;
    let serves = async || rooms.serves(near.repository.clone(), id.clone(), near.base.clone()).await.unwrap();
    println!("the environment serves it: {}", timed("whether it serves", serves).await);
    println!("disk: {:?}", rooms.disk_use().await.unwrap());
}

async fn prepare(rooms: &Workspaces, task: u64, origin: &Origin, environment: Option<&EnvironmentId>) -> Prepared {
    let request = PrepareRequest {
        repository: origin.repository.clone(),
        key: AttemptKey { task: TaskId(task), attempt: AttemptNo(1) },
        commit: origin.base.clone(),
        surroundings: Surroundings { environment: environment.cloned(), confinement: Confinement::Confined },
    };
    rooms.prepare(request).await.unwrap()
}

async fn timed<T>(what: &str, work: impl AsyncFnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work().await;
    println!("{what}: {:?}", start.elapsed());
    done
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// So many files of a few kilobytes, no two the same.
fn generate(root: &Path, files: usize) {
    for number in 0..files {
        let directory = root.join(format!("part-{}/unit-{}", number / 500, number / 10));
        if number % 10 == 0 {
            fs::create_dir_all(&directory).unwrap();
        }
        let text = format!("line of file {number}\n").repeat(40 + number % 300);
        fs::write(directory.join(format!("source-file-{number}.txt")), text).unwrap();
    }
}

fn sh(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").current_dir(directory).args(["-euc", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// In the merged view of a workspace, mounted for this script.
fn inside(place: &Prepared, script: &str) -> String {
    let Tree::Layers(layers) = &place.root else { panic!("no layers") };
    let at = place.scratch.join("root");
    fs::create_dir_all(&at).unwrap();
    let lower: Vec<_> = layers.lower.iter().map(|path| path.display().to_string()).collect();
    let mut mounts = format!(
        "mount -t overlay overlay -o userxattr,lowerdir={},upperdir={},workdir={} {}\n",
        lower.join(":"),
        layers.upper.display(),
        layers.work.display(),
        at.display()
    );
    for readable in &place.readable {
        mounts += &format!("mount --bind {0} {0}; mount -o remount,bind,ro {0}\n", readable.display());
    }
    let script = format!("set -eu\n{mounts}cd {}\n{script}", at.display());
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
