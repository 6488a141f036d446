//! One build of a layer: raised, installed, rid of its secrets, judged, frozen.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    Fault,
    check::BlobId,
    environment::{Definition, EnvironmentId, EnvironmentUse, Source},
    ports::{
        egress::{Refusal, Refusals},
        environments::{BuildRequest, Built, Start},
        sandbox::Exit,
        workspace::{Prepared, RaiseRequest},
    },
    redact::Redactor,
};

use crate::{
    Site,
    about::{About, Dependencies, Key, Known},
    definition::{self, OVERNIGHT},
    furnish::{Reach, Refused, Request},
    health,
    leftovers::{self, Leftovers},
    line,
    secrets::Used,
    services,
};

/// Kept of the output of one command.
pub(crate) const OUTPUT: u64 = 8 << 20;
/// Hosts remembered of a build's refusals, and how many of them a failure names.
pub(crate) const REFUSALS: usize = 50;
const NAMED: usize = 10;

/// A build that is about to be done.
pub(crate) struct Build {
    pub site: Arc<Site>,
    pub request: BuildRequest,
    pub definition: Arc<Definition>,
    pub start: Start,
    pub key: Key,
    pub generation: u32,
    pub id: EnvironmentId,
    /// The layer to start from.
    pub over: Option<Known>,
}

impl Build {
    pub async fn carry_out(self) -> Result<Built, Fault> {
        let (workspaces, repository) = (&self.site.rooms().workspaces, &self.request.repository);
        if let Some(there) = self.there().await? {
            return Ok(there);
        }
        let place = workspaces
            .raise(RaiseRequest {
                repository: repository.clone(),
                base: self.request.base.clone(),
                id: self.id.clone(),
                over: self.over.as_ref().map(|over| over.layer.id.clone()),
                confinement: self.request.confinement,
            })
            .await?;
        let built = self.fill(&place).await;
        if built.is_err()
            && let Err(fault) = workspaces.remove_environment(repository.clone(), self.id.clone()).await
        {
            tracing::warn!(%fault, environment = %self.id, "what a failed build left is still there");
        }
        built
    }

    /// What a build has made that ended after this one was decided on.
    async fn there(&self) -> Result<Option<Built>, Fault> {
        let layers = self.site.rooms().workspaces.environments(self.request.repository.clone()).await?;
        let there = layers.into_iter().filter(|layer| layer.id == self.id).find_map(Known::read);
        Ok(there.map(|Known { about, .. }| Built {
            used: EnvironmentUse { layer: Some(self.id.clone()), health: about.health, note: None },
            seconds: about.seconds,
            log: about.log,
            left_out: Vec::new(),
            refused: Vec::new(),
        }))
    }

    async fn fill(&self, place: &Prepared) -> Result<Built, Fault> {
        let started = Instant::now();
        let mut log = Log::default();
        let refusals = Refusals::at_most(REFUSALS);
        let used = Used::of(&*self.site.rooms().secrets, &self.request.repository, &self.definition).await?;
        for note in &used.notes {
            (self.request.told)(note);
        }
        let mut installed = self.install(place, &used, &mut log, &refusals).await;
        if installed.is_ok() && !used.install.is_empty() {
            installed = self.sweep(place, &used, &mut log).await;
        }
        if let Err(fault) = installed {
            return Err(with_log(fault, log.keep(&self.site).await.as_ref()));
        }
        let health = self.judge(place, &used, &mut log).await?;
        let seconds = started.elapsed().as_secs();
        let log = log.keep(&self.site).await;
        let health = health.of(log.clone());
        let base = self.site.base(&self.request.repository, &self.request.base);
        let about = About {
            key: self.key.clone(),
            generation: self.generation,
            dependencies: Dependencies::of(&base, &self.definition).await?,
            confinement: self.request.confinement,
            source: definition::told(&self.definition.source),
            health: health.clone(),
            seconds,
            log: log.clone(),
        };
        let about = serde_json::to_string(&about)
            .map_err(|error| Fault::bug(format!("a layer's description cannot be written: {error}")))?;
        let repository = self.request.repository.clone();
        let left_out = self.site.rooms().workspaces.freeze(repository, self.id.clone(), about).await?;
        (self.request.told)(&format!("environment {} is there after {seconds} s", self.id.short()));
        let used = EnvironmentUse { layer: Some(self.id.clone()), health, note: None };
        Ok(Built { used, seconds, log, left_out, refused: refusals.all() })
    }

    fn sandbox<'a>(&'a self, place: &'a Prepared, reach: Reach, refused: Refused) -> Request<'a> {
        Request {
            repository: &self.request.repository,
            definition: &self.definition,
            place,
            reach,
            confinement: self.request.confinement,
            programs: Vec::new(),
            allow: Vec::new(),
            env: line::environment().collect(),
            bridges: Vec::new(),
            refused,
            output_bytes: OUTPUT,
        }
    }

    async fn install(&self, place: &Prepared, used: &Used, log: &mut Log, refusals: &Refusals) -> Result<(), Fault> {
        let furnished = self.site.furnish(self.sandbox(place, Reach::Install, refusals.receiver()), used).await?;
        let sandbox = &**furnished.sandbox();
        let installed = async {
            let deadline = Instant::now() + self.site.options.deadline;
            if let (Start::Nothing, Some(_)) = (self.start, &self.over) {
                let exec = line::exec(&emptied(&self.definition.caches), self.site.options.deadline);
                let ended = line::run(sandbox, exec, &self.request.told).await?;
                if ended.exit != Exit::Code(0) {
                    let what =
                        format!("what an older layer held could not be removed: {}", line::last_lines(&ended.output));
                    return Err(Fault::environment(what).hint("name no `caches`, then build again"));
                }
            }
            for command in &self.definition.install {
                (self.request.told)(&format!("installing: `{}`", line::first(command)));
                let mut exec = line::exec(command, deadline.saturating_duration_since(Instant::now()));
                exec.env.clone_from(&used.install);
                let ended = line::run(sandbox, exec, &self.request.told).await?;
                log.add(command, &ended);
                if ended.exit != Exit::Code(0) {
                    return Err(self.failure(command, &ended, &refusals.all()));
                }
            }
            Ok(())
        };
        let installed = installed.await;
        // Whatever it left running must not see what comes, nor write while the layer is looked through.
        sandbox.kill().await;
        installed
    }

    fn failure(&self, command: &str, ended: &line::Ended, refused: &[Refusal]) -> Fault {
        let how = match ended.exit {
            Exit::TimedOut => format!("did not end: installing may take {}", span(self.site.options.deadline)),
            exit => format!("ended with {}", line::ending(exit)),
        };
        let mut what = format!("installing the environment failed: `{}` {how}", line::first(command));
        let printed = line::ends(&ended.output);
        if !printed.is_empty() {
            what = format!("{what}\nIt printed:\n{printed}");
        }
        for refusal in refused.iter().take(NAMED) {
            let by = refusal.by.as_ref().map(|by| format!(" by `{by}`")).unwrap_or_default();
            what = format!("{what}\nblocked: {}:{}{by}: {}", refusal.host, refusal.port, refusal.why);
        }
        let hint = match self.with_entries(refused) {
            Some(lines) => format!("if these hosts are to be reached, commit this in {lines}"),
            None => "mend the line or the base; try it with `overnight env build`".to_owned(),
        };
        Fault::environment(what).hint(hint)
    }

    /// What to write so that the refused hosts are reached; `None` where nothing helps.
    fn with_entries(&self, refused: &[Refusal]) -> Option<String> {
        let mut entries = self.definition.install_network.clone();
        let known = entries.len();
        for entry in refused.iter().filter_map(|refusal| refusal.entry.as_ref()) {
            if !entries.contains(entry) {
                entries.push(entry.clone());
            }
        }
        let list = |lines: &[String]| serde_json::to_string(lines).unwrap_or_default();
        let network = format!("install_network = {}", list(&entries));
        match &self.definition.source {
            _ if entries.len() == known => None,
            Source::File(path) if path == OVERNIGHT => {
                Some(format!("{path}, as the line of [environment]:\n{network}"))
            }
            Source::File(path) => {
                let install = list(&self.definition.install);
                Some(format!(
                    "{OVERNIGHT}, which takes the place of {path}:\n[environment]\n{network}\ninstall = {install}"
                ))
            }
            // What is not said is detected still.
            Source::Detected(_) | Source::Nothing => Some(format!("{OVERNIGHT}:\n[environment]\n{network}")),
        }
    }

    /// Makes sure that no secret of the installation stays in the layer.
    async fn sweep(&self, place: &Prepared, used: &Used, log: &mut Log) -> Result<(), Fault> {
        let redactor = Redactor::new(used.install.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let place = place.clone();
        let swept = tokio::task::spawn_blocking(move || leftovers::sweep(&place, &redactor)).await;
        let Leftovers { removed, found } =
            swept.map_err(|error| Fault::bug(format!("looking for secrets broke off: {error}")))??;
        for path in removed {
            log.say(&format!("{path} held a secret of the installation: removed"));
        }
        if found.is_empty() {
            return Ok(());
        }
        Err(Fault::environment(format!(
            "a secret of the installation was left in {}: such a layer would show it to every task",
            found.join(", ")
        ))
        .hint("remove these files at the end of `install`, or give the secret as { proxy = \"host\" }: then it never enters"))
    }

    /// Runs services and the fast checks where the secrets are gone; this fills the caches that tasks will find.
    async fn judge(&self, place: &Prepared, used: &Used, log: &mut Log) -> Result<health::Found, Fault> {
        if self.request.checks.is_empty() {
            return Ok(health::Found::Nothing);
        }
        let blocked = Refusals::at_most(REFUSALS);
        let furnished = self.site.furnish(self.sandbox(place, Reach::Check, blocked.receiver()), used).await?;
        for note in services::start(&furnished, &self.definition.services).await {
            (self.request.told)(&note);
            log.say(&note);
        }
        let found = health::find(&**furnished.sandbox(), &self.request, log).await;
        furnished.sandbox().kill().await;
        Ok(found?.blocked(&blocked.all()))
    }
}

/// Where all that was printed is found, told before what may be copied from the hint.
fn with_log(fault: Fault, log: Option<&BlobId>) -> Fault {
    match log {
        Some(log) => Fault { what: format!("{}\nthe whole log: `overnight env log {}`", fault.what, log.0), ..fault },
        None => fault,
    }
}

/// Removes what an older layer holds, but for the caches.
fn emptied(caches: &[String]) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let (mut clean, mut pruned) = ("git clean -ffdxq".to_owned(), String::new());
    for cache in caches {
        match cache.strip_prefix("~/") {
            Some(below) => pruned.push_str(&format!(" -path \"$HOME\"/{} -prune -o", quoted(below))),
            None => clean.push_str(&format!(" -e {}", quoted(&format!("/{cache}")))),
        }
    }
    format!("{clean} && find \"$HOME\" -mindepth 1{pruned} ! -type d -exec rm -f -- {{}} +")
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds > 0 && seconds % 60 == 0 => format!("{} min", seconds / 60),
        0 => format!("{} ms", time.as_millis()),
        seconds => format!("{seconds} s"),
    }
}

/// All that was printed, as a person reads it.
#[derive(Debug, Default)]
pub(crate) struct Log(Vec<u8>);

impl Log {
    pub fn add(&mut self, command: &str, ended: &line::Ended) {
        self.say(&format!("$ {command}"));
        self.0.extend_from_slice(&ended.output);
        if ended.exit != Exit::Code(0) {
            self.say(&format!("[{}]", line::ending(ended.exit)));
        }
    }

    /// A line of its own.
    pub fn say(&mut self, line: &str) {
        if self.0.last().is_some_and(|last| *last != b'\n') {
            self.0.push(b'\n');
        }
        self.0.extend_from_slice(line.as_bytes());
        self.0.push(b'\n');
    }

    /// A log that cannot be kept is no reason to lose what it tells of.
    pub async fn keep(self, site: &Site) -> Option<BlobId> {
        if self.0.is_empty() {
            return None;
        }
        match site.rooms().blobs.put(self.0.into()).await {
            Ok(id) => Some(id),
            Err(fault) => {
                tracing::warn!(%fault, "the log of an environment's build is lost");
                None
            }
        }
    }
}
