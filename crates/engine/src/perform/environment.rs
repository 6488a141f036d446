//! The environment a task's workspaces stand on: what its base defines, the layer that serves it now.

use std::sync::Arc;

use domain::{
    Fault,
    check::CheckSpec,
    environment::{Definition, EnvironmentUse, SecretPurpose},
    event::Event,
    ids::{AttemptNo, TurnNo},
    ports::{
        egress::{Refusal, Refusals},
        environments::BuildRequest,
        sandbox::Confinement,
        workspace::{Origin, Surroundings},
    },
};
use tokio::sync::mpsc;

use super::{Job, Site};
use crate::incoming::Incoming;

/// Hosts that one sandbox's refusals are told of.
const TOLD: usize = 50;

/// The checks that a base defines, or else suggests.
pub(crate) async fn checks_of(site: &Site, origin: &Origin, definition: &Definition) -> Result<Vec<CheckSpec>, Fault> {
    if definition.checks.is_empty() {
        site.ports.checks.detect(origin.repository.clone(), origin.base.clone()).await
    } else {
        Ok(definition.checks.clone())
    }
}

/// The same, whatever the task names: a base owes nothing to the checks of one task, which may well be red on it.
pub(super) async fn checks_of_base(site: &Site, origin: &Origin) -> Result<Vec<CheckSpec>, Fault> {
    let environments = &site.ports.environments;
    let definition = environments.definition(origin.repository.clone(), origin.base.clone()).await?;
    checks_of(site, origin, &definition).await
}

/// The environment for this task, built first where its base defines one and none serves; how that goes is told as the
/// attempt's progress. `checks` judge the base's health.
pub(super) async fn provide(
    job: &Job<'_>,
    attempt: AttemptNo,
    checks: Vec<CheckSpec>,
) -> Result<EnvironmentUse, Fault> {
    let (tell, mut lines) = mpsc::unbounded_channel();
    let request = BuildRequest {
        repository: job.task.origin.repository.clone(),
        base: job.task.origin.base.clone(),
        confinement: job.task.confinement,
        checks,
        told: Arc::new(move |line| {
            // Nobody listens once the environment is there.
            let _ = tell.send(line.to_owned());
        }),
    };
    let mut provided = job.site.ports.environments.provide(request);
    loop {
        tokio::select! {
            biased;
            done = &mut provided => return done,
            Some(line) = lines.recv() => tell_progress(job, attempt, &line).await?,
        }
    }
}

async fn tell_progress(job: &Job<'_>, attempt: AttemptNo, line: &str) -> Result<(), Fault> {
    let turn = TurnNo(job.task.attempt(attempt).map_or(0, |attempt| attempt.turns) + 1);
    let text = line.chars().take(500).collect();
    let dedup = format!("p-{}-{}-{}", job.id, job.site.ports.store.epoch(), job.site.next_number());
    let event = Event::Progressed { attempt, turn, percent: None, text };
    job.driver.apply(job.task.id, Incoming::system(dedup, event)).await.map(drop)
}

/// What workspaces and checkouts of this task are laid out with. A layer that was collected meanwhile is provided anew.
pub(super) async fn surroundings(job: &Job<'_>) -> Result<Surroundings, Fault> {
    let confinement = job.task.confinement;
    let known = job.task.environment.as_ref().and_then(|used| used.layer.clone());
    let Some(layer) = known else { return Ok(Surroundings { environment: None, confinement }) };
    let there = job.site.ports.workspaces.environments(job.task.origin.repository.clone()).await?;
    if there.iter().any(|there| there.id == layer) {
        return Ok(Surroundings { environment: Some(layer), confinement });
    }
    let attempt = job.task.attempts.first().map_or(AttemptNo(1), |attempt| attempt.no);
    let judging = checks_of_base(job.site, &job.task.origin).await?;
    let used = provide(job, attempt, judging).await?;
    Ok(Surroundings { environment: used.layer, confinement })
}

/// What an agent is told of its sandbox at the start.
pub(crate) async fn told(site: &Site, origin: &Origin, confinement: Confinement) -> Result<Vec<String>, Fault> {
    let definition = site.ports.environments.definition(origin.repository.clone(), origin.base.clone()).await?;
    let mut told = reached(confinement, &definition);
    told.extend(definition.services.iter().map(|service| match service.port {
        Some(port) => format!(
            "The service {} is started with it, at http://localhost:{port} (`{}`).",
            service.name, service.command
        ),
        None => format!("The service {} is started with it (`{}`).", service.name, service.command),
    }));
    Ok(told)
}

/// What can be reached from a sandbox, and with whose credentials.
fn reached(confinement: Confinement, definition: &Definition) -> Vec<String> {
    let stamped: Vec<(&str, &str)> = definition
        .secrets
        .iter()
        .filter_map(|secret| match &secret.to {
            SecretPurpose::Proxy { host, .. } => Some((secret.name.as_str(), host.as_str())),
            SecretPurpose::Install => None,
        })
        .collect();
    let mut hosts: Vec<&str> = definition.network.iter().map(String::as_str).collect();
    hosts.extend(stamped.iter().map(|(_, host)| *host));
    match (confinement, &hosts[..]) {
        (Confinement::Unconfined, _) => Vec::new(),
        (Confinement::Confined, []) => vec!["There is no network: do not try to download anything.".to_owned()],
        (Confinement::Confined, hosts) => {
            let mut told = vec![format!(
                "Of the network only these can be reached, through the proxy that is set: {}.",
                hosts.join(", ")
            )];
            told.extend(stamped.iter().map(|(name, host)| {
                format!(
                    "Requests to {host} are given their credential ({name}) on the way: send none, and look for none."
                )
            }));
            told
        }
    }
}

/// Tells each refused host once, and not more than a person reads.
pub(super) fn once(tell: impl Fn(Refusal) + Send + Sync + 'static) -> Arc<dyn Fn(Refusal) + Send + Sync> {
    let told = Refusals::at_most(TOLD);
    Arc::new(move |refusal| {
        if told.note(&refusal) {
            tell(refusal);
        }
    })
}

#[cfg(test)]
mod tests {
    use domain::environment::SecretUse;

    use super::*;

    #[test]
    fn an_agent_hears_of_hosts_that_need_no_credential_of_its() {
        let to = SecretPurpose::Proxy {
            host: "api.example".to_owned(),
            header: "Authorization".to_owned(),
            value: "Bearer {}".to_owned(),
        };
        let secrets = vec![SecretUse { name: "TOKEN".to_owned(), to }];
        let definition = Definition { network: vec!["npm".to_owned()], secrets, ..Definition::default() };
        let told = reached(Confinement::Confined, &definition);
        assert!(told[0].ends_with("the proxy that is set: npm, api.example.") && told[1].contains("TOKEN"), "{told:?}");
        assert_eq!(reached(Confinement::Confined, &Definition::default()).len(), 1);
        assert!(reached(Confinement::Unconfined, &definition).is_empty());
    }
}
