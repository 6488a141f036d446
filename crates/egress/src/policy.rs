//! What may be done where: the allow-list and the stamps of one gate.

use base64::Engine as _;
use domain::{
    Fault,
    ports::egress::{Pass, Stamp},
    redact::Redactor,
};
use hyper::{
    HeaderMap, Method, Uri,
    header::{self, HeaderName, HeaderValue},
};

use crate::entry::{self, Access, Entry, Hosts, Name};

/// A name and a port, as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: Name,
    pub(crate) port: u16,
}

impl Target {
    /// The entry that would allow everything there.
    pub(crate) fn entry(&self) -> String {
        match self.port {
            80 | 443 => self.name.to_string(),
            port => format!("{}:{port}", self.name),
        }
    }
}

/// A header put on requests to one target.
#[derive(Clone, Debug)]
struct Seal {
    target: Target,
    header: HeaderName,
    /// Marked sensitive: `Debug` hides it.
    value: HeaderValue,
}

#[derive(Debug)]
pub(crate) struct Policy {
    entries: Vec<Entry>,
    seals: Vec<Seal>,
    /// Of the stamps' values.
    redactor: Redactor,
}

/// What the policy says of one target.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) access: Access,
    pub(crate) stamps: Vec<(HeaderName, HeaderValue)>,
}

impl Rule {
    /// Whether requests must be seen, and TLS be ended for it.
    pub(crate) fn inspects(&self) -> bool {
        self.access == Access::Fetch || !self.stamps.is_empty()
    }

    /// `Err` says why a request is not let through, in one clause.
    pub(crate) fn examine(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
        if self.access == Access::Full {
            return Ok(());
        }
        let query = uri.query().unwrap_or_default();
        if query.split('&').any(|part| part.starts_with("service=") && part != "service=git-upload-pack") {
            return Err("pushing by git is not allowed".to_owned());
        }
        let by_git = uri.path().ends_with("/git-upload-pack")
            && query.is_empty()
            && headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/x-git-upload-pack-request");
        match *method {
            Method::GET | Method::HEAD => {
                let length = headers.get(header::CONTENT_LENGTH);
                let body =
                    length.is_some_and(|length| length != "0") || headers.contains_key(header::TRANSFER_ENCODING);
                if body { Err(format!("{method} with a body is not allowed")) } else { Ok(()) }
            }
            Method::POST if by_git => Ok(()),
            Method::POST if uri.path().ends_with("/git-receive-pack") => {
                Err("pushing by git is not allowed".to_owned())
            }
            _ => Err(format!("{method} is not allowed")),
        }
    }
}

impl Policy {
    pub(crate) fn new(pass: &Pass) -> Result<Self, Fault> {
        let mut entries = Vec::new();
        for text in &pass.allow {
            entries.extend(entry::read(text)?);
        }
        let seals = pass.stamps.iter().map(seal).collect::<Result<Vec<_>, _>>()?;
        let values: Vec<(&str, String)> = pass
            .stamps
            .iter()
            .flat_map(|stamp| secrets(&stamp.value).into_iter().map(|value| (stamp.header.as_str(), value)))
            .collect();
        let redactor = Redactor::new(values.iter().map(|(name, value)| (*name, value.as_str())));
        Ok(Self { entries, seals, redactor })
    }

    /// Whether any host has its TLS ended here.
    pub(crate) fn ends_tls(&self) -> bool {
        !self.seals.is_empty() || self.entries.iter().any(|entry| entry.access == Access::Fetch)
    }

    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// `None`: not allowed. The entries say what may be done, together; a stamp alone allows everything at its host.
    pub(crate) fn rule(&self, target: &Target) -> Option<Rule> {
        let stamps: Vec<_> = self
            .seals
            .iter()
            .filter(|seal| seal.target == *target)
            .map(|seal| (seal.header.clone(), seal.value.clone()))
            .collect();
        let allowed = self.entries.iter().filter(|entry| entry.allows(&target.name, target.port));
        let access = allowed.map(|entry| entry.access).max();
        access.or((!stamps.is_empty()).then_some(Access::Full)).map(|access| Rule { access, stamps })
    }
}

/// Headers that are between two ends of a connection, or say where a message ends: never a credential.
const UNFIT: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

fn seal(stamp: &Stamp) -> Result<Seal, Fault> {
    let fault = |why: String| {
        Fault::input(format!("the secret for {:?} cannot be put on requests: {why}", stamp.host))
            .hint("name one host (`api.example`, or `api.example:8443`) and the header, as `Authorization`")
    };
    let (host, port) = entry::with_port(stamp.host.trim()).map_err(fault)?;
    let Hosts::One(name) = Hosts::parse(host).map_err(fault)? else {
        return Err(fault("it is for one host only".to_owned()));
    };
    let header = HeaderName::try_from(stamp.header.trim())
        .ok()
        .filter(|header| !UNFIT.contains(header))
        .ok_or_else(|| fault(format!("{:?} is not a header for a credential", stamp.header)))?;
    let mut value = HeaderValue::from_str(stamp.value.trim())
        .map_err(|_| fault("its value holds what no header can (a line break, say)".to_owned()))?;
    value.set_sensitive(true);
    Ok(Seal { target: Target { name, port: port.unwrap_or(443) }, header, value })
}

/// What of a header's value is secret: the whole, what follows the scheme, and what `Basic` wraps.
fn secrets(value: &str) -> Vec<String> {
    let value = value.trim();
    let mut secrets = vec![value.to_owned()];
    let mut words = value.split_whitespace();
    let scheme = words.next().unwrap_or_default();
    secrets.extend(words.map(str::to_owned));
    if scheme.eq_ignore_ascii_case("basic") {
        let wrapped = secrets.last().and_then(|word| base64::engine::general_purpose::STANDARD.decode(word).ok());
        if let Some(pair) = wrapped.and_then(|bytes| String::from_utf8(bytes).ok()) {
            secrets.extend(pair.split_once(':').map(|(_, password)| password.to_owned()));
            secrets.push(pair);
        }
    }
    secrets
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use domain::ports::egress::{Pass, Stamp};
    use hyper::{HeaderMap, Method, header::HeaderValue};

    use super::{Policy, Target, secrets};
    use crate::entry::{Access, Name};

    fn policy(allow: &[&str], stamps: &[(&str, &str, &str)]) -> Result<Policy, domain::Fault> {
        let stamps = stamps.iter().map(|(host, header, value)| Stamp {
            host: (*host).to_owned(),
            header: (*header).to_owned(),
            value: (*value).to_owned(),
        });
        let allow = allow.iter().map(|entry| (*entry).to_owned()).collect();
        Policy::new(&Pass { allow, stamps: stamps.collect(), refused: Arc::new(|_| {}) })
    }

    fn target(name: &str, port: u16) -> Target {
        Target { name: Name::parse(name).unwrap(), port }
    }

    #[test]
    fn an_entry_says_what_may_be_done_where_there_is_a_stamp_too() {
        let stamp = ("git.example", "Authorization", "token abcdefgh");
        let both = policy(&["git.example fetch"], &[stamp]).unwrap();
        assert_eq!(both.rule(&target("git.example", 443)).unwrap().access, Access::Fetch);
        let alone = policy(&[], &[stamp]).unwrap();
        assert_eq!(alone.rule(&target("git.example", 443)).unwrap().access, Access::Full);
        assert!(alone.rule(&target("git.example", 80)).is_none(), "never in the clear");
        assert!(alone.rule(&target("example", 443)).is_none());
        assert!(!format!("{alone:?}").contains("abcdefgh"));
    }

    #[test]
    fn fetching_is_reading() {
        let rule = policy(&["git.example fetch"], &[]).unwrap().rule(&target("git.example", 443)).unwrap();
        let mut git = HeaderMap::new();
        git.insert("content-type", HeaderValue::from_static("application/x-git-upload-pack-request"));
        let ask =
            |method: Method, path: &str, headers: &HeaderMap| rule.examine(&method, &path.parse().unwrap(), headers);
        assert_eq!(ask(Method::GET, "/o/r/info/refs?service=git-upload-pack", &HeaderMap::new()), Ok(()));
        assert_eq!(ask(Method::POST, "/o/r/git-upload-pack", &git), Ok(()));
        for (method, path, headers) in [
            (Method::GET, "/o/r/info/refs?service=git-receive-pack", &HeaderMap::new()),
            (Method::POST, "/o/r/git-receive-pack", &HeaderMap::new()),
            (Method::POST, "/o/r/git-upload-pack", &HeaderMap::new()),
            (Method::POST, "/o/r/git-upload-pack?_method=put", &git),
            (Method::PUT, "/", &git),
            (Method::DELETE, "/", &git),
        ] {
            assert!(ask(method, path, headers).is_err(), "{path}");
        }
        git.insert("content-length", HeaderValue::from_static("3"));
        assert!(ask(Method::GET, "/", &git).is_err());
    }

    #[test]
    fn stamps_that_cannot_be_are_refused_without_their_value() {
        for (host, header, value) in [
            ("*.example.com", "Authorization", "hunter2hunter2"),
            ("10.0.0.1", "Authorization", "hunter2hunter2"),
            ("a.example", "Host", "hunter2hunter2"),
            ("a.example", "Bad Header", "hunter2hunter2"),
            ("a.example", "Authorization", "hunter2\nhunter2"),
        ] {
            let fault = policy(&[], &[(host, header, value)]).unwrap_err();
            assert!(!fault.to_string().contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn what_a_value_wraps_is_secret_too() {
        assert_eq!(secrets("Bearer abcdef"), ["Bearer abcdef", "abcdef"]);
        assert!(secrets("Basic dXNlcjpodW50ZXIyMg==").contains(&"hunter22".to_owned()));
    }
}
