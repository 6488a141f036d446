//! What a command costs: `cargo run --release -p sandbox --example latency`. Prints medians and 95th percentiles, processor
//! time of this process and its children, and memory.
#![expect(clippy::unwrap_used, reason = "a measurement has nobody to report to")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use domain::ports::sandbox::{
    Confinement, Exec, Exit, Layers, Limits, Network, Sandbox, SandboxSpec, Sandboxes as _, Tree,
};
use sandbox::{Options, Sandboxes, ZYGOTE_ARGUMENT, zygote_main};

const ROUNDS: usize = 400;
const MANY: usize = 1000;

fn main() {
    if std::env::args().nth(1).as_deref() == Some(ZYGOTE_ARGUMENT) {
        zygote_main()
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(measure());
}

fn exec(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        stdin: bytes::Bytes::new(),
        timeout: Duration::from_secs(60),
    }
}

async fn measure() {
    let directory = std::env::temp_dir().join(format!("overnight-latency-{}", std::process::id()));
    let sandboxes = Sandboxes::start(Options::from_env(directory.join("state"))).unwrap();
    for wall in sandboxes.probe().walls {
        println!("{:14} {:5} {}", wall.name, wall.stands, wall.note);
    }
    let open = async |name: String, confinement| -> Arc<dyn Sandbox> {
        let base = directory.join(name);
        fs::create_dir_all(base.join("root")).unwrap();
        let spec = spec(&base, Tree::Directory(base.join("root")), confinement);
        sandboxes.open(spec).await.unwrap()
    };
    for argv in [&["/bin/true"][..], &["sh", "-c", "echo hi"]] {
        let mut times = Vec::new();
        let before = processor();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            Command::new(argv[0]).args(&argv[1..]).stdout(Stdio::null()).status().unwrap();
            times.push(begun.elapsed());
        }
        report(&format!("plain {argv:?}"), times, processor() - before);
        for confinement in [Confinement::Unconfined, Confinement::Confined] {
            let sandbox = open(format!("{confinement:?}"), confinement).await;
            let begun = Instant::now();
            run(&*sandbox, argv).await;
            println!("{confinement:?} first command of a sandbox: {:?}", begun.elapsed());
            let mut times = Vec::new();
            let before = processor();
            for _ in 0..ROUNDS {
                let begun = Instant::now();
                run(&*sandbox, argv).await;
                times.push(begun.elapsed());
            }
            // What namespaces cost when they go is paid after the command's end.
            sandbox.kill().await;
            report(&format!("{confinement:?} {argv:?}"), times, processor() - before);
        }
    }
    cold(&sandboxes, &directory).await;
    let mut opened = Vec::new();
    let begun = Instant::now();
    for number in 0..MANY {
        let sandbox = open(format!("many-{number}"), Confinement::Confined).await;
        let process = sandbox.spawn(exec(&["sleep", "600"])).await.unwrap();
        opened.push((sandbox, process));
    }
    println!("{MANY} sandboxes opened, a command running in each: {:?}", begun.elapsed());
    let (own, keepers, commands) = (pss("latency"), pss("overnight-"), pss("sleep"));
    println!(
        "proportional set size: this process {own} kB; zygote, keepers, inits {keepers} kB; commands {commands} kB"
    );
    let begun = Instant::now();
    for (sandbox, _) in &opened {
        sandbox.kill().await;
    }
    println!("{MANY} sandboxes killed one after the other: {:?}", begun.elapsed());
    drop(opened);
    fs::remove_dir_all(&directory).unwrap();
}

/// From nothing to the end of a first command, over a directory and over layers; and how long the kill takes.
async fn cold(sandboxes: &Sandboxes, directory: &Path) {
    let below = |name: &str| {
        let path = directory.join("cold").join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let layers = Layers { lower: vec![below("lower")], upper: below("upper"), work: below("work") };
    let layers = Tree::Layers(layers);
    for (what, root) in [("a directory", Tree::Directory(below("root"))), ("layers", layers)] {
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        let before = processor();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let sandbox = sandboxes.open(spec(&below("own"), root.clone(), Confinement::Confined)).await.unwrap();
            run(&*sandbox, &["/bin/true"]).await;
            starts.push(begun.elapsed());
            let begun = Instant::now();
            sandbox.kill().await;
            ends.push(begun.elapsed());
        }
        report(&format!("cold sandbox on {what}, to the end of its first command"), starts, processor() - before);
        report(&format!("kill of a sandbox on {what}"), ends, Duration::ZERO);
    }
}

fn spec(base: &Path, root: Tree, confinement: Confinement) -> SandboxSpec {
    SandboxSpec {
        root,
        home: Tree::Directory(base.join("home")),
        scratch: base.join("scratch"),
        readable: Vec::new(),
        hidden: Vec::new(),
        env: Vec::new(),
        network: match confinement {
            Confinement::Confined => Network::Own(Vec::new()),
            Confinement::Unconfined => Network::Host,
        },
        redactor: Arc::default(),
        limits: Limits::default(),
        lock: base.join("lock"),
        spill: base.join("spill"),
        confinement,
    }
}

async fn run(sandbox: &dyn Sandbox, argv: &[&str]) {
    let mut process = sandbox.spawn(exec(argv)).await.unwrap();
    assert_eq!(process.wait(Duration::from_secs(60)).await, Some(Exit::Code(0)));
}

fn report(what: &str, mut times: Vec<Duration>, processor: Duration) {
    times.sort();
    let (median, late) = (times[times.len() / 2], times[times.len() * 95 / 100]);
    println!("{what}: median {median:?}, 95% {late:?}, processor {:?} each", processor / ROUNDS as u32);
}

/// Busy time of the whole machine: keepers and what they reap are not this process's children.
fn processor() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<u64> =
        stat.lines().next().unwrap().split_whitespace().skip(1).map(|n| n.parse().unwrap()).collect();
    let busy: u64 = fields.iter().sum::<u64>() - fields[3] - fields[4];
    Duration::from_millis(busy * 10)
}

/// Summed over all processes whose name starts so, in kB.
fn pss(name: &str) -> u64 {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.starts_with(name)))
        .filter_map(|entry| fs::read_to_string(entry.path().join("smaps_rollup")).ok())
        .filter_map(|text| {
            text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().split(' ').next()?.parse::<u64>().ok())
        })
        .sum()
}
