//! Entries of an allow-list, and the names in them.

use std::fmt;

use domain::Fault;

use crate::presets;

/// What there is to write.
const FORMS: &str = "write a host (`registry.example`), all below one (`*.example.com`), either with a port \
    (`db.example:5432`), any of these with ` fetch` for reading only, or a preset; a host of a private network is allowed \
    by its name, once the operator's list lets that name lead there";

/// A host's name in lower case, without a dot at the end. Never an address, in whatever notation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(String);

/// Why a text is no [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAName {
    Address,
    Malformed,
}

impl Name {
    pub(crate) fn parse(text: &str) -> Result<Self, NotAName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.starts_with('[') || text.contains(':') {
            return Err(NotAName::Address);
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if text.len() > 253 || !text.split('.').all(label) {
            return Err(NotAName::Malformed);
        }
        // What the URL standard calls "ends in a number": every notation of an IPv4 address does (127.1, 0x7f.0.0.1, 2130706433).
        let last = text.rsplit('.').next().unwrap_or(text);
        let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        if last.bytes().all(|byte| byte.is_ascii_digit())
            || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return Err(NotAName::Address);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// Whether `text` is this name.
    pub(crate) fn is(&self, text: &str) -> bool {
        Self::parse(text).is_ok_and(|name| name == *self)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One host, or all below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    One(Name),
    Below(Name),
}

impl Hosts {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let below = text.strip_prefix("*.");
        let name = Name::parse(below.unwrap_or(text)).map_err(|why| match why {
            NotAName::Address => format!("{text:?} is an address; hosts are allowed by their names"),
            NotAName::Malformed => format!("{text:?} is not the name of a host"),
        })?;
        match below {
            None => Ok(Self::One(name)),
            Some(_) if name.as_str().contains('.') => Ok(Self::Below(name)),
            Some(_) => Err(format!("{text:?} would allow a whole top-level domain")),
        }
    }

    pub(crate) fn hold(&self, name: &Name) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Below(parent) => {
                name.as_str().strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        }
    }
}

/// What may be done at a host. Ordered: the later holds the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// GET, HEAD, and reading by git.
    Fetch,
    Full,
}

/// A line of an allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) hosts: Hosts,
    /// `None`: 80 and 443.
    pub(crate) port: Option<u16>,
    pub(crate) access: Access,
}

impl Entry {
    pub(crate) fn allows(&self, name: &Name, port: u16) -> bool {
        self.port.map_or(port == 80 || port == 443, |named| named == port) && self.hosts.hold(name)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (text, access) = match text.rsplit_once(char::is_whitespace) {
            Some((host, "fetch")) => (host.trim_end(), Access::Fetch),
            Some((_, word)) => return Err(format!("{word:?} is not a way to allow a host")),
            None => (text, Access::Full),
        };
        let (hosts, port) = with_port(text)?;
        let hosts = Hosts::parse(hosts)?;
        match &hosts {
            // Most likely a preset's name, misspelt or with something added.
            Hosts::One(name) if !name.as_str().contains('.') => Err(format!(
                "{text:?} is not a preset ({}), and the name of a host has a dot in it",
                presets::PRESETS.map(|(name, _)| name).join(", ")
            )),
            Hosts::One(_) | Hosts::Below(_) => Ok(Self { hosts, port, access }),
        }
    }
}

/// Splits a port off. More than one colon is an IPv6 address, which [`Hosts::parse`] says so of.
pub(crate) fn with_port(text: &str) -> Result<(&str, Option<u16>), String> {
    match text.split_once(':') {
        Some((hosts, port)) if !port.contains(':') && !hosts.starts_with('[') => match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok((hosts, Some(port))),
            _ => Err(format!("{port:?} is not a port")),
        },
        _ => Ok((text, None)),
    }
}

/// The entries that a text stands for: itself, or those of a preset.
pub(crate) fn read(text: &str) -> Result<Vec<Entry>, Fault> {
    let fault = |why| Fault::input(format!("the allow-list's entry {text:?} cannot be read: {why}")).hint(FORMS);
    match presets::named(text.trim()) {
        Some(entries) => entries.iter().map(|entry| Entry::parse(entry).map_err(fault)).collect(),
        None => Ok(vec![Entry::parse(text).map_err(fault)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, Name, NotAName, read};

    #[test]
    fn names_are_compared_without_case_and_final_dot() {
        let allows = |entry: &str, host: &str, port: u16| {
            Name::parse(host).is_ok_and(|name| read(entry).unwrap().iter().any(|entry| entry.allows(&name, port)))
        };
        assert!(allows("Files.Example", "fiLes.example.", 443));
        assert!(allows("files.example", "files.example", 80));
        assert!(!allows("files.example", "files.example", 8080));
        assert!(allows("files.example:8080", "files.example", 8080));
        assert!(!allows("files.example:8080", "files.example", 443));
        assert!(!allows("files.example", "a.files.example", 443));
        assert!(allows("*.files.example", "a.files.example", 443));
        assert!(allows("*.files.example", "a.b.files.example", 443));
        assert!(!allows("*.files.example", "files.example", 443));
        assert!(!allows("*.files.example", "evilfiles.example", 443));
        assert!(!allows("*.files.example", ".files.example", 443));
        assert_eq!(read(" files.example  fetch ").unwrap()[0].access, Access::Fetch);
        assert!(read("npm").unwrap().len() > 1);
    }

    #[test]
    fn addresses_in_any_notation_are_no_names() {
        for text in
            ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "a.1", "a.0x", "[::1]", "::1"]
        {
            assert_eq!(Name::parse(text), Err(NotAName::Address), "{text}");
        }
        for text in ["", ".", "a..b", "a b", "münchen.example", "-a.example", "a/b", "a\n", "a@b", &"a.".repeat(200)] {
            assert_eq!(Name::parse(text), Err(NotAName::Malformed), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_with_the_forms() {
        for entry in
            ["10.0.0.1", "[::1]:80", "::1", "*", "*.com", "a.example:0", "a.example:http", "a.example push", ""]
        {
            let fault = read(entry).unwrap_err();
            assert!(fault.what.contains(entry), "{fault}");
            assert!(fault.hint.is_some_and(|hint| hint.contains("`*.example.com`")), "{entry}");
        }
        assert!(read("pypii").unwrap_err().what.contains("packagist, pypi, rubygems"));
    }
}
