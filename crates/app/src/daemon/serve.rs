//! `serve`: the daemon's life, from its lock to its last word.

use std::{
    env,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{self, Command},
    time::Duration,
};

use api::Stop;
use domain::{Fault, ports::model::Credentials};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

use super::{lock::Lock, start::READY};
use crate::{Exit, home::Home, wiring};

/// How long a daemon in the background waits for one that is on its way out.
const HANDOVER: Duration = Duration::from_secs(30);
/// What the log tells, unless this variable says otherwise.
const LOG_VARIABLE: &str = "OVERNIGHT_LOG";
const LOG_DEFAULT: &str = "info";
/// Threads for tasks' work; blocking work has threads of its own.
const WORKERS: usize = 4;

/// Serves until it is asked to stop.
///
/// Errors: what stands in the way of starting. In the background the starting process is told.
pub fn serve(home: &Home, background: bool) -> Result<Exit, Fault> {
    shed_keys()?;
    if !background {
        return live(home, Duration::ZERO, || Ok(()));
    }
    // No terminal's hang-up or Ctrl-C is meant for this process.
    rustix::process::setsid().map_err(|error| Fault::environment(format!("the terminal cannot be left: {error}")))?;
    let lived = live(home, HANDOVER, || tell_starter(READY));
    if let Err(fault) = &lived {
        let told = serde_json::to_string(fault).unwrap_or_default();
        // Once it was told `ready`, nobody listens any more; the log has the fault too.
        let _ = tell_starter(&told);
    }
    lived
}

/// Runs itself again without providers' keys, where it was started with some: keys come with each task, and a process's
/// environment can be read in `/proc` as long as it lives.
fn shed_keys() -> Result<(), Fault> {
    let carried: Vec<&str> = Credentials::VARIABLES.into_iter().filter(|name| env::var_os(name).is_some()).collect();
    if carried.is_empty() {
        return Ok(());
    }
    let mut again = Command::new("/proc/self/exe");
    again.arg0("overnight").args(env::args_os().skip(1));
    for name in carried {
        again.env_remove(name);
    }
    Err(Fault::environment(format!("this program cannot run itself: {}", again.exec())).hint("is /proc mounted?"))
}

/// Says a line to the process that started this one, and lets go of the pipe to it.
fn tell_starter(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()?;
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

fn live(home: &Home, handover: Duration, ready: impl FnOnce() -> io::Result<()>) -> Result<Exit, Fault> {
    home.make()?;
    home.make_socket_directory()?;
    // Kept to the very end: whoever waits for it knows that this process writes nothing more.
    let lock = Lock::take(home, handover)?;
    start_log();
    raise_open_files();
    // A work tree or mount that someone stood in must not be held for days.
    env::set_current_dir(home.path())
        .map_err(|error| Fault::environment(format!("{} cannot be entered: {error}", home.path().display())))?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).min(WORKERS))
        .enable_all()
        .build()
        .map_err(|error| Fault::environment(format!("threads cannot be started: {error}")))?;
    let lived = runtime.block_on(run(home, &lock, ready));
    // Blocking work that is left (reads of a slow disk) has nothing more to say.
    runtime.shutdown_timeout(Duration::from_secs(1));
    lived
}

/// Every running command takes some descriptors; the usual soft limit of 1,024 is for programs that use `select`.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised; hundreds of tasks at once may meet it");
    }
}

fn start_log() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    // A line that finds no room on the disk is lost. Telling of that, on the same disk, would panic where the line was written.
    log.log_internal_errors(false).init();
}

async fn run(home: &Home, lock: &Lock, ready: impl FnOnce() -> io::Result<()>) -> Result<Exit, Fault> {
    let unheard = |error: io::Error| Fault::environment(format!("signals cannot be heard: {error}"));
    let (mut term, mut int) =
        (signal(SignalKind::terminate()).map_err(unheard)?, signal(SignalKind::interrupt()).map_err(unheard)?);
    let wiring::Started { handle, engine, rung, providers } = wiring::start(home).await?;
    let listener = api::bind(&home.socket())?;
    let stop = Stop::default();
    let options = api::Options {
        handle,
        version: env!("CARGO_PKG_VERSION"),
        home: home.path().to_owned(),
        rung,
        providers,
        stop: stop.clone(),
    };
    let server = tokio::spawn(api::serve(listener, options));
    tracing::info!(pid = process::id(), version = env!("CARGO_PKG_VERSION"), home = %home.path().display(), "ready");
    ready().map_err(|error| Fault::environment(format!("whoever started this daemon cannot be told: {error}")))?;

    let fenced = tokio::select! {
        () = stop.asked() => false,
        () = heard(&mut term, &mut int) => false,
        () = engine.fenced() => true,
    };
    if fenced {
        tracing::error!("another daemon has taken this home; this one ends at once");
        return Err(Fault::fenced(format!("another daemon has taken the home {}", home.path().display())));
    }
    tracing::info!("stopping: running turns are brought to rest; a second signal ends it at once");
    if let Err(error) = lock.mark_stopping() {
        tracing::warn!(%error, "the lock cannot say that this daemon stops; whoever follows a task may start the next one");
    }
    stop.ask();
    tokio::spawn(async move {
        heard(&mut term, &mut int).await;
        // At any instant is as good as now: that is what the journal is for.
        process::exit(1);
    });
    engine.stop().await;
    if let Ok(Err(error)) = server.await {
        tracing::warn!(%error, "the server did not end well");
    }
    // One that stays behind is only a name: the next daemon replaces it.
    let _ = std::fs::remove_file(home.socket());
    tracing::info!("stopped");
    Ok(Exit::Well)
}

async fn heard(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
