//! Whether a base builds and passes in its environment: the fast checks, run on the base itself.

use std::time::Duration;

use domain::{
    Fault,
    check::{BlobId, Tier},
    environment::Health,
    ports::{
        egress::Refusal,
        environments::BuildRequest,
        sandbox::{Exit, Sandbox},
    },
};

use crate::{build::Log, line};

/// For a check that names no time of its own; as in the room `checks`.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Bytes of the line that is shown with a failure.
const COMPLAINT: usize = 200;

/// Blocked hosts that are named.
const HOSTS: usize = 5;

/// What the checks said, before the log is kept.
#[derive(Debug)]
pub(crate) enum Found {
    Healthy,
    Unhealthy(String),
    /// There was no check.
    Nothing,
}

impl Found {
    /// With the hosts that the checks were not let reach, which may be why they failed.
    pub fn blocked(self, refused: &[Refusal]) -> Self {
        match self {
            Self::Unhealthy(why) if !refused.is_empty() => {
                let hosts = refused.iter().take(HOSTS).map(|refusal| format!("{}:{}", refusal.host, refusal.port));
                let hosts = hosts.collect::<Vec<_>>().join(", ");
                Self::Unhealthy(format!("{why} (blocked: {hosts}; checks reach what `network` in [checks] names)"))
            }
            Self::Unhealthy(_) | Self::Healthy | Self::Nothing => self,
        }
    }

    pub fn of(self, log: Option<BlobId>) -> Health {
        match self {
            Self::Healthy => Health::Healthy,
            Self::Unhealthy(why) => Health::Unhealthy { why, log },
            Self::Nothing => Health::Unknown,
        }
    }
}

/// Runs every fast check, to warm the caches of all of them, and tells of the first that fails.
pub(crate) async fn find(sandbox: &dyn Sandbox, request: &BuildRequest, log: &mut Log) -> Result<Found, Fault> {
    let mut found = Found::Nothing;
    for check in request.checks.iter().filter(|check| check.tier == Tier::Fast) {
        (request.told)(&format!("checking the base: `{}`", check.command));
        let timeout = check.timeout_s.map_or(TIMEOUT, Duration::from_secs);
        let ended = line::run(sandbox, line::exec(&check.command, timeout), &request.told).await?;
        log.add(&check.command, &ended);
        found = match (found, ended.exit) {
            (Found::Unhealthy(why), _) => Found::Unhealthy(why),
            (Found::Healthy | Found::Nothing, Exit::Code(0)) => Found::Healthy,
            (Found::Healthy | Found::Nothing, exit) => {
                let said = line::last_lines(&ended.output);
                let said = said.lines().next_back().unwrap_or("it printed nothing");
                let said: String = said.chars().take(COMPLAINT).collect();
                Found::Unhealthy(format!("On the base, `{}` ended with {}: {said}", check.name, line::ending(exit)))
            }
        };
    }
    Ok(found)
}
