//! `overnight.toml`: the file in which a repository says all this itself.

use std::{collections::BTreeMap, num::NonZeroU32};

use domain::{
    Fault,
    check::{CheckSpec, Tier},
    environment::{Definition, Readiness, Resources, SecretPurpose, SecretUse, Service, Source, Stage},
    ports::egress::Egress,
};
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::{
    OVERNIGHT, mistake,
    values::{Check, Lines, Processors, Size, Time, command},
};

/// What a service is given to become ready, where it does not say.
pub(super) const READY_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// Bytes without which not even a shell does anything.
const LEAST_MEMORY: u64 = 16 << 20;

/// A file as read.
#[derive(Debug)]
pub(super) struct Read {
    /// `None`: the file speaks of checks only.
    pub environment: Option<Environment>,
    pub checks: Vec<CheckSpec>,
    pub checks_network: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Environment {
    pub definition: Definition,
    /// Else it is detected.
    pub says_what_to_install: bool,
    /// Else it may reach the registries of what is detected.
    pub says_where_from: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    environment: Option<Section>,
    #[serde(default)]
    checks: Checks,
    /// Read by the room of agents.
    #[serde(default, rename = "profiles")]
    _profiles: de::IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    install: Option<Lines>,
    install_network: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    network: Vec<Spanned<String>>,
    #[serde(default)]
    variables: BTreeMap<Spanned<String>, Variable>,
    #[serde(default)]
    secrets: BTreeMap<Spanned<String>, Spanned<Secret>>,
    #[serde(default)]
    stage: Stage,
    #[serde(default)]
    resources: Bounds,
    #[serde(default)]
    caches: Vec<Spanned<String>>,
    #[serde(default)]
    locks: Vec<Spanned<String>>,
    #[serde(default, rename = "service")]
    services: Vec<OneService>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checks {
    #[serde(default)]
    fast: Vec<Check>,
    #[serde(default)]
    slow: Vec<Check>,
    #[serde(default)]
    network: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    memory: Option<Spanned<Size>>,
    processes: Option<NonZeroU32>,
    cpus: Option<Processors>,
    disk: Option<Size>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneService {
    name: Spanned<String>,
    command: Spanned<String>,
    ready: Option<Spanned<Ready>>,
    ready_within: Option<Time>,
    port: Option<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ready {
    Port(Port),
    Http(String),
    Command(String),
}

/// Not 0, which no service can be found at.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
struct Port(u16);

impl TryFrom<i64> for Port {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        port.map(Self).ok_or_else(|| format!("{number} is no port: write a number from 1 to 65535"))
    }
}

/// A variable's value: a string, or a number or truth value that is written as one.
struct Variable(String);

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) if text.contains('\0') => {
                Err(de::Error::custom("a value with a zero byte in it"))
            }
            toml::Value::String(text) => Ok(Self(text)),
            toml::Value::Integer(number) => Ok(Self(number.to_string())),
            toml::Value::Boolean(truth) => Ok(Self(truth.to_string())),
            other => Err(de::Error::custom(format!("{}, expected a string such as \"test\"", other.type_str()))),
        }
    }
}

/// `"install"`, or `{ proxy = "host" }` with a header of its own where it needs one.
enum Secret {
    Install,
    Proxy(Proxy),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Proxy {
    proxy: String,
    header: Option<String>,
    value: Option<String>,
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Secret;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "what the secret is for: \"install\" (a variable while installing), or { proxy = \"api.example.com\" } \
                     (put on requests to that host outside the sandbox); its value is set with `overnight secret set`",
                )
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Secret, E> {
                // A value by mistake must not be repeated.
                if word == "install" {
                    Ok(Secret::Install)
                } else {
                    Err(E::invalid_type(de::Unexpected::Other("another string"), &self))
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
                Proxy::deserialize(de::value::MapAccessDeserializer::new(map)).map(Secret::Proxy)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

pub(super) fn parse(text: &str, egress: &dyn Egress) -> Result<Read, Fault> {
    let file: File = toml::from_str(text)
        .map_err(|error| mistake(OVERNIGHT, text, error.span().map(|span| span.start), error.message()))?;
    let reader = Reader { text, egress };
    let environment = file.environment.map(|section| reader.environment(section)).transpose()?;
    let fast = file.checks.fast.into_iter().map(|check| check.spec(Tier::Fast));
    let slow = file.checks.slow.into_iter().map(|check| check.spec(Tier::Slow));
    let checks: Vec<CheckSpec> = fast.chain(slow).collect();
    if let Some(name) = twice(checks.iter().map(|check| check.name.as_str())) {
        let what = format!("two checks are called `{name}`: give them a `name` each");
        return Err(mistake(OVERNIGHT, text, text.find("[checks]"), &what));
    }
    Ok(Read { environment, checks, checks_network: reader.entries(file.checks.network)? })
}

struct Reader<'a> {
    text: &'a str,
    egress: &'a dyn Egress,
}

impl Reader<'_> {
    fn mistake(&self, at: &Spanned<impl Sized>, what: &str) -> Fault {
        mistake(OVERNIGHT, self.text, Some(at.span().start), what)
    }

    fn environment(&self, section: Section) -> Result<Environment, Fault> {
        let says_what_to_install = section.install.is_some();
        let says_where_from = section.install_network.is_some();
        let mut variables = BTreeMap::new();
        for (name, value) in section.variables {
            self.variable_name(&name)?;
            variables.insert(name.into_inner(), value.0);
        }
        let secrets = section.secrets.into_iter().map(|(name, to)| self.secret(name, to)).collect::<Result<_, _>>()?;
        let names = section.services.iter().map(|service| service.name.get_ref().as_str());
        if let Some(name) = twice(names) {
            let last = section.services.iter().rfind(|service| *service.name.get_ref() == name);
            let at = last.map(|service| service.name.span().start);
            return Err(mistake(OVERNIGHT, self.text, at, &format!("two services are called `{name}`")));
        }
        let services: Vec<Service> =
            section.services.into_iter().map(|service| self.service(service)).collect::<Result<_, _>>()?;
        let definition = Definition {
            source: Source::File(OVERNIGHT.to_owned()),
            install: section.install.unwrap_or_default().0,
            install_network: self.entries(section.install_network.unwrap_or_default())?,
            services,
            variables,
            secrets,
            network: self.entries(section.network)?,
            resources: Resources {
                memory_bytes: section.resources.memory.map(|size| self.memory(&size)).transpose()?,
                processes: section.resources.processes.map(|number| u64::from(number.get())),
                processor_percent: section.resources.cpus.map(|processors| processors.0),
                disk_bytes: section.resources.disk.map(|size| size.0),
            },
            caches: section.caches.into_iter().map(|path| self.path(path, "~/")).collect::<Result<_, _>>()?,
            locks: section.locks.into_iter().map(|path| self.path(path, "")).collect::<Result<_, _>>()?,
            stage: section.stage,
            ..Definition::default()
        };
        Ok(Environment { definition, says_what_to_install, says_where_from })
    }

    fn memory(&self, size: &Spanned<Size>) -> Result<u64, Fault> {
        let Size(bytes) = *size.get_ref();
        if bytes < LEAST_MEMORY {
            let what = format!("{bytes} bytes of memory are too few for any program: write \"4 GiB\", say");
            return Err(self.mistake(size, &what));
        }
        Ok(bytes)
    }

    /// Entries of an allow-list.
    fn entries(&self, entries: Vec<Spanned<String>>) -> Result<Vec<String>, Fault> {
        for entry in &entries {
            self.egress
                .examine(entry.get_ref())
                .map_err(|fault| Fault { what: self.mistake(entry, &fault.what).what, ..fault })?;
        }
        Ok(entries.into_iter().map(Spanned::into_inner).collect())
    }

    /// A path below the workspace, or below HOME where it begins with `home`.
    fn path(&self, path: Spanned<String>, home: &str) -> Result<String, Fault> {
        let text = path.get_ref();
        let below = if home.is_empty() { text } else { text.strip_prefix(home).unwrap_or(text) };
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part != ".git" && part != "~";
        let below = below.trim_end_matches('/');
        if below.bytes().any(|byte| byte.is_ascii_control()) || !below.split('/').all(is_plain) {
            let what = format!("`{text}` is not a path from the root of the repository, such as \"web/target\"");
            return Err(self.mistake(&path, &what));
        }
        Ok(text.trim_end_matches('/').to_owned())
    }

    fn variable_name(&self, name: &Spanned<String>) -> Result<(), Fault> {
        let text = name.get_ref();
        let valid = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !valid || text.is_empty() || text.len() > 128 || text.starts_with(|c: char| c.is_ascii_digit()) {
            let what = format!("`{text}` cannot name a variable: letters, digits and `_`, not beginning with a digit");
            return Err(self.mistake(name, &what));
        }
        Ok(())
    }

    fn secret(&self, name: Spanned<String>, to: Spanned<Secret>) -> Result<SecretUse, Fault> {
        self.variable_name(&name)?;
        let purpose = match to.get_ref() {
            Secret::Install => SecretPurpose::Install,
            Secret::Proxy(Proxy { proxy, header, value }) => {
                let is_host = !proxy.contains(['*', ' ', '/']) && proxy.contains('.');
                if !is_host || self.egress.examine(proxy).is_err() {
                    let what = format!(
                        "`{proxy}` is not the name of one host: write it as \"api.example.com\" or \"api.example.com:8443\""
                    );
                    return Err(self.mistake(&to, &what));
                }
                let header = header.clone().unwrap_or_else(|| "Authorization".to_owned());
                if header.is_empty() || !header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                    return Err(self.mistake(&to, &format!("`{header}` is not the name of a header")));
                }
                let value = value.clone().unwrap_or_else(|| "Bearer {}".to_owned());
                if !value.contains("{}") || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                    let what = "the header's `value` needs `{}` where the secret goes, as in \"Bearer {}\"";
                    return Err(self.mistake(&to, what));
                }
                SecretPurpose::Proxy { host: proxy.to_ascii_lowercase(), header, value }
            }
        };
        Ok(SecretUse { name: name.into_inner(), to: purpose })
    }

    fn service(&self, service: OneService) -> Result<Service, Fault> {
        let line = |at: &Spanned<()>, line: &str| {
            command::<toml::de::Error>(line).map_err(|error| self.mistake(at, error.message()))
        };
        let ready = match &service.ready {
            None => None,
            Some(ready) => Some(match ready.get_ref() {
                Ready::Port(port) => Readiness::Port(port.0),
                Ready::Http(url) => page(url).map_err(|what| self.mistake(ready, &what))?,
                Ready::Command(command) => Readiness::Command(line(&Spanned::new(ready.span(), ()), command)?),
            }),
        };
        let probed = match &ready {
            Some(Readiness::Port(port) | Readiness::Http { port, .. }) => Some(*port),
            Some(Readiness::Command(_)) | None => None,
        };
        if service.name.get_ref().trim().is_empty() {
            return Err(self.mistake(&service.name, "a service needs a name, such as \"web\""));
        }
        Ok(Service {
            name: service.name.into_inner(),
            command: line(&Spanned::new(service.command.span(), ()), service.command.get_ref())?,
            ready,
            ready_within: service.ready_within.map_or(READY_WITHIN, |time| time.0),
            port: service.port.map(|port| port.0).or(probed),
        })
    }
}

/// `http://localhost:3000/health`
fn page(url: &str) -> Result<Readiness, String> {
    let wrong = || format!("`{url}` is not a page of the sandbox: write it as \"http://localhost:3000/health\"");
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port: &u16| *port != 0).ok_or_else(wrong)?),
        None => (host, 80),
    };
    let is_visible = path.bytes().all(|byte| byte.is_ascii_graphic());
    if !["localhost", "127.0.0.1", "[::1]"].contains(&name) || !is_visible {
        return Err(wrong());
    }
    Ok(Readiness::Http { port, path: if path.is_empty() { "/".to_owned() } else { path.to_owned() } })
}

/// The first name that stands there again.
fn twice<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut seen = std::collections::BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name)).map(str::to_owned)
}
