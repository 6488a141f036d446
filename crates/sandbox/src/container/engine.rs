//! The engine that makes containers: what is asked of it, and what it is told.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::{ContainerCreateBody, HealthConfig, HostConfig, Mount, MountTypeEnum, ResourcesUlimits, SystemInfo},
    query_parameters::{ListContainersOptions, RemoveContainerOptions, WaitContainerOptions},
};
use domain::{Fault, ports::sandbox::SandboxSpec};
use futures::StreamExt;
use tokio::sync::OnceCell;

use super::{INSIDE, SOCKET, program::Program};
use crate::{
    groups,
    order::{Access, Hidden, Mount as Put, View},
};

/// For one call of the engine, in seconds.
const PATIENCE: u64 = 60;
/// Which installation a container belongs to, and which sandbox's lock it holds.
pub const OF_STATE: &str = "overnight.state";
pub const OF_LOCK: &str = "overnight.lock";

/// Reached when it is first needed.
#[derive(Debug)]
pub struct Engine {
    /// The path of its socket.
    socket: PathBuf,
    image: String,
    docker: OnceCell<Docker>,
    facts: OnceCell<Facts>,
}

/// What was asked once.
#[derive(Debug)]
pub struct Facts {
    /// Of the image.
    pub env: Vec<String>,
    pub info: SystemInfo,
    user: String,
    user_namespace: Option<String>,
    /// What makes the containers, and of what.
    pub told: String,
}

impl Engine {
    pub fn new(socket: PathBuf, image: String) -> Self {
        Self { socket, image, docker: OnceCell::new(), facts: OnceCell::new() }
    }

    async fn docker(&self) -> Result<&Docker, Fault> {
        let connect = || async {
            let socket = self.socket.to_string_lossy();
            let docker = Docker::connect_with_unix(&socket, PATIENCE, API_DEFAULT_VERSION);
            docker
                .map_err(|error| self.unreachable(&error))?
                .negotiate_version()
                .await
                .map_err(|error| self.unreachable(&error))
        };
        self.docker.get_or_try_init(connect).await
    }

    fn unreachable(&self, error: &Error) -> Fault {
        Fault::environment(format!("cannot reach a container engine at {}: {error}", self.socket.display())).hint(
            "start it (`systemctl start podman.socket`, or docker), or say where it is: `engine` below [sandbox] in config.toml",
        )
    }

    /// What the engine and the image are like. Errors are not kept: the engine may be started, or the image pulled, meanwhile.
    pub async fn facts(&self) -> Result<&Facts, Fault> {
        self.facts.get_or_try_init(|| self.ask()).await
    }

    async fn ask(&self) -> Result<Facts, Fault> {
        let docker = self.docker().await?;
        let image = docker.inspect_image(&self.image).await.map_err(|error| match error {
            Error::DockerResponseServerError { status_code: 404, .. } => {
                Fault::environment(format!("the container engine has no image {}", self.image))
                    .hint(format!("fetch it: `podman pull {0}` or `docker pull {0}`", self.image))
            }
            error => self.unreachable(&error),
        })?;
        let version = docker.version().await.map_err(|error| self.unreachable(&error))?;
        let info = docker.info().await.map_err(|error| self.unreachable(&error))?;
        let has = |option: &str| info.security_options.iter().flatten().any(|one| one.contains(option));
        let podman = version.components.iter().flatten().any(|part| part.name.contains("Podman"));
        let own = format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        // Files must belong to the daemon's user inside and outside.
        let (user, user_namespace) = match (has("name=rootless"), podman) {
            (true, true) => (own, Some("keep-id".to_owned())),
            // There the daemon's user is the user 0 of every container.
            (true, false) => ("0:0".to_owned(), None),
            (false, _) => (own, has("name=userns").then(|| "host".to_owned())),
        };
        let told = format!(
            "{} {}{} at {}, image {}",
            if podman { "Podman" } else { "Docker" },
            version.version.unwrap_or_default(),
            if has("name=rootless") { ", rootless," } else { "" },
            self.socket.display(),
            self.image
        );
        let env = image.config.and_then(|config| config.env).unwrap_or_default();
        Ok(Facts { env, info, user, user_namespace, told })
    }

    /// Starts a container with this view; its number.
    pub async fn start(&self, spec: &SandboxSpec, given: Given<'_>) -> Result<String, Fault> {
        let facts = self.facts().await?;
        let body = body(&self.image, facts, spec, given)?;
        let docker = self.docker().await?;
        let refuse =
            |error| Fault::environment(format!("the container engine could not start a sandbox: {}", told(error)));
        let made = docker.create_container(None, body).await.map_err(refuse)?;
        if let Err(error) = docker.start_container(&made.id, None).await {
            // What failed is told; what is left of it goes with the next start of the daemon, if not now.
            drop(self.remove(&made.id).await);
            return Err(refuse(error));
        }
        Ok(made.id)
    }

    /// Resolves when a container has ended, to how.
    pub async fn ended(&self, container: &str) -> String {
        let Ok(docker) = self.docker().await else { return "the engine is gone".to_owned() };
        let options = WaitContainerOptions { condition: "not-running".to_owned() };
        match docker.wait_container(container, Some(options)).next().await {
            Some(Ok(answer)) => format!("it ended with {}", answer.status_code),
            Some(Err(Error::DockerContainerWaitError { code, .. })) => format!("it ended with {code}"),
            Some(Err(error)) => told(error),
            None => "it is gone".to_owned(),
        }
    }

    /// Kills and removes all containers with a label.
    pub async fn remove_labeled(&self, label: &str, value: &Path) -> Result<(), Fault> {
        let docker = self.docker().await?;
        let filter = vec![format!("{label}={}", value.display())];
        let filters = Some(HashMap::from([("label".to_owned(), filter)]));
        let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let found = docker.list_containers(Some(options)).await.map_err(|error| self.unreachable(&error))?;
        for container in found.into_iter().filter_map(|container| container.id) {
            self.remove(&container).await?;
        }
        Ok(())
    }

    async fn remove(&self, container: &str) -> Result<(), Fault> {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        match self.docker().await?.remove_container(container, Some(options)).await {
            // It is gone, or on its way (409).
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(Fault::environment(format!(
                "the container engine could not remove the sandbox {container}: {}",
                told(error)
            ))),
        }
    }
}

fn told(error: Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message,
        error => error.to_string(),
    }
}

/// What a container is made of.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    pub view: &'a View,
    pub program: &'a Program,
    /// Of the daemon.
    pub socket: &'a Path,
    pub state: &'a Path,
}

fn body(image: &str, facts: &Facts, spec: &SandboxSpec, given: Given<'_>) -> Result<ContainerCreateBody, Fault> {
    let labels = [(OF_STATE, given.state), (OF_LOCK, &spec.lock)];
    let labels = labels.into_iter().map(|(label, path)| Ok((label.to_owned(), text(path)?)));
    Ok(ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(given.program.argv.clone()),
        cmd: Some(Vec::new()),
        user: Some(facts.user.clone()),
        // The host's own name tells of the host.
        hostname: Some("localhost".to_owned()),
        working_dir: Some("/".to_owned()),
        // The image's would be run beside the commands.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        labels: Some(labels.collect::<Result<_, Fault>>()?),
        host_config: Some(host_config(facts, spec, mounts(given)?)),
        ..ContainerCreateBody::default()
    })
}

fn host_config(facts: &Facts, spec: &SandboxSpec, mounts: Vec<Mount>) -> HostConfig {
    let can = |ability: Option<bool>| ability == Some(true);
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let memory = spec.limits.memory_bytes.unwrap_or_else(groups::default_memory);
    let share = |percent: u64| number(memory / 100 * percent);
    // Refused by an engine that cannot bound it; the walls tell.
    let bound = Some(number(memory)).filter(|_| can(facts.info.memory_limit));
    let processors = spec.limits.processor_percent.filter(|_| can(facts.info.cpu_cfs_quota));
    HostConfig {
        network_mode: Some("none".to_owned()),
        ipc_mode: Some("private".to_owned()),
        userns_mode: facts.user_namespace.clone(),
        cap_drop: Some(vec!["ALL".to_owned()]),
        // SELinux would keep the commands from the workspace, and the keeper from the daemon.
        security_opt: Some(vec!["no-new-privileges".to_owned(), "label=disable".to_owned()]),
        readonly_rootfs: Some(true),
        mounts: Some(mounts),
        tmpfs: Some(HashMap::from([("/run".to_owned(), format!("rw,nosuid,nodev,mode=1777,size={}", share(10)))])),
        shm_size: Some(share(40)),
        // As in a network of our own, where commands may serve every port.
        sysctls: Some(HashMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())])),
        memory: bound,
        memory_swap: bound.filter(|_| can(facts.info.swap_limit)),
        // Said outright: an engine's own default may be more than it can give.
        ulimits: Some(vec![
            ulimit("nofile", rustix::process::Resource::Nofile, spec.limits.open_files),
            ulimit("nproc", rustix::process::Resource::Nproc, spec.limits.processes),
        ]),
        pids_limit: spec.limits.processes.map(number).filter(|_| can(facts.info.pids_limit)),
        // In hundredths there, in billionths here.
        nano_cpus: processors.map(|percent| i64::from(percent) * 10_000_000),
        // The keeper is the first process; another would stand between it and its orphans.
        init: Some(false),
        auto_remove: Some(true),
        ..HostConfig::default()
    }
}

/// What the sandbox may have, and no more than this process itself.
fn ulimit(name: &str, resource: rustix::process::Resource, wanted: Option<u64>) -> ResourcesUlimits {
    let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let bound = i64::try_from(wanted.unwrap_or(most).min(most)).ok();
    ResourcesUlimits { name: Some(name.to_owned()), soft: bound, hard: bound }
}

fn mounts(given: Given<'_>) -> Result<Vec<Mount>, Fault> {
    let bind = |source: &Path, target: &Path, access: Access| {
        Ok(Mount {
            typ: Some(MountTypeEnum::BIND),
            source: Some(text(source)?),
            target: Some(text(target)?),
            read_only: Some(access != Access::ReadWrite),
            ..Mount::default()
        })
    };
    let mut mounts = vec![
        bind(&given.program.directory, &Path::new(INSIDE).join("program"), Access::ReadOnly),
        bind(given.socket, Path::new(SOCKET), Access::ReadWrite),
    ];
    mounts.extend(given.view.mounts.iter().map(|put| match put {
        Put::Bind { source, target, access } => bind(source, target, *access),
        Put::Scratch { name, target } => bind(&given.view.scratch.join(name), target, Access::ReadWrite),
        Put::Hide { target, what: Hidden::File } => bind(Path::new("/dev/null"), target, Access::ReadOnly),
        Put::Hide { target, what: Hidden::Directory } => Ok(Mount {
            typ: Some(MountTypeEnum::TMPFS),
            target: Some(text(target)?),
            read_only: Some(true),
            ..Mount::default()
        }),
        Put::Layers { .. } | Put::Cache { .. } | Put::Symlink { .. } => {
            Err(Fault::bug("a container engine cannot be given layers or links"))
        }
    }));
    mounts.into_iter().collect()
}

fn text(path: &Path) -> Result<String, Fault> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Fault::environment(format!("a container engine cannot be told the path {}: it is not UTF-8", path.display()))
    })
}
