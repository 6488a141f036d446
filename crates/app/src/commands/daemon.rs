//! `daemon start|stop|status|install`.

use std::{sync::mpsc, thread, time::Duration};

use api::wire::Status;
use domain::{Fault, FaultClass};
use rustix::process::{Pid, Signal, kill_process};

use super::{Context, console};
use crate::{
    Exit,
    cli::Daemon,
    client::{Client, read_json},
    daemon::{lock, start, unit},
    home::Home,
    terminal::{self, Form},
};

/// How long a daemon may take to bring its turns to rest.
pub const STOP_PATIENCE: Duration = Duration::from_secs(60);

pub fn daemon(context: &Context, what: &Daemon) -> Result<Exit, Fault> {
    let home = context.client.home();
    match what {
        Daemon::Start => {
            start::start(home)?;
            status(context)
        }
        Daemon::Stop => stop(context),
        Daemon::Status => status(context),
        Daemon::Install => {
            let (path, next) = unit::install(home)?;
            match context.form {
                Form::Json => terminal::print(&format!("{}\n", serde_json::json!({ "unit": path, "next": next }))),
                Form::Text => {
                    let next: String = next.iter().map(|line| format!("  {line}\n")).collect();
                    terminal::print(&format!(
                        "Wrote {}. To put it to work, now and after a reboot:\n{next}",
                        path.display()
                    ));
                }
            }
            Ok(Exit::Well)
        }
    }
}

fn status(context: &Context) -> Result<Exit, Fault> {
    let client = Client::onlooker(context.client.home().clone());
    let body = match client.get("status").and_then(|answer| client.body(answer)) {
        Ok(body) => body,
        Err(fault) if fault.class == FaultClass::NotFound => {
            match context.form {
                Form::Json => terminal::print(&format!(
                    "{}\n",
                    serde_json::json!({ "running": false, "home": client.home().path() })
                )),
                Form::Text => terminal::print(&format!("{}\n", fault.what)),
            }
            return Ok(Exit::Badly);
        }
        Err(fault) => return Err(fault),
    };
    let status: Status = read_json(&body)?;
    if context.form == Form::Json {
        let mut json: serde_json::Value = read_json(&body)?;
        json["running"] = true.into();
        terminal::print(&format!("{json}\n"));
        return Ok(Exit::Well);
    }
    let tasks = status.tasks;
    terminal::print(&format!(
        "running   process {}, version {}, for {}\nhome      {}\nsocket    {}\nlog       {}\ntasks     {} working, {} need you, {} landing, {} closing\n",
        status.pid,
        status.version,
        console::length(status.uptime_s),
        status.home,
        client.home().socket().display(),
        client.home().log_file().display(),
        tasks.working,
        tasks.needs_you,
        tasks.landing,
        tasks.closing,
    ));
    Ok(Exit::Well)
}

fn stop(context: &Context) -> Result<Exit, Fault> {
    let home = context.client.home();
    let Some(pid) = lock::holder(home) else {
        tell_stopped(context, None);
        return Ok(Exit::Well);
    };
    let client = Client::onlooker(home.clone());
    if client.post("shutdown", &serde_json::json!({})).is_err() {
        // It does not answer; a signal reaches it all the same. The lock says that this process is the daemon.
        let process = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| Fault::bug(format!("{pid} is no process")))?;
        match kill_process(process, Signal::TERM) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(Fault::environment(format!("process {pid} cannot be asked to end: {error}"))),
        }
    }
    if !ends_within(home, STOP_PATIENCE) {
        let what = format!("the daemon (process {pid}) has not ended after {} s", STOP_PATIENCE.as_secs());
        return Err(Fault::transient(what)
            .hint(format!("`kill -9 {pid}`: nothing recorded is lost, and its tasks go on at the next start")));
    }
    tell_stopped(context, Some(pid));
    Ok(Exit::Well)
}

fn tell_stopped(context: &Context, pid: Option<u32>) {
    match (context.form, pid) {
        (Form::Json, _) => terminal::print(&format!("{}\n", serde_json::json!({ "stopped": pid }))),
        (Form::Text, Some(pid)) => {
            terminal::print(&format!("stopped (process {pid}); its tasks go on at the next start\n"))
        }
        (Form::Text, None) => terminal::print("no daemon runs\n"),
    }
}

/// Whether the daemon of a home ends in time.
pub fn ends_within(home: &Home, patience: Duration) -> bool {
    let (sender, ended) = mpsc::channel();
    let home = home.clone();
    thread::spawn(move || sender.send(lock::wait_until_free(&home).is_ok()));
    ended.recv_timeout(patience).unwrap_or(false)
}
