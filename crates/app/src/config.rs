//! `config.toml` in the home: the bounds of this installation. Everything has a default; an unknown word is a fault.

use std::{fs, io, path::Path};

use domain::Fault;
use serde::Deserialize;

const FILE: &str = "config.toml";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub limits: Limits,
}

/// How much goes on at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Agents' turns. The rest wait in their order.
    pub turns: Bound,
    /// Runs of checks.
    pub checks: Bound,
    /// Workspaces being made, snapshotted or removed.
    pub disk: Bound,
}

/// A number from 1, or the word `none`; absent, the default of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    #[default]
    Default,
    At(usize),
    None,
}

impl Bound {
    /// The number to work with.
    pub fn or(self, default: usize) -> usize {
        match self {
            Self::Default => default,
            Self::At(number) => number,
            Self::None => usize::MAX,
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Word(String),
        }
        let refused = || serde::de::Error::custom("write a number from 1, or \"none\" for no limit");
        match Written::deserialize(deserializer) {
            Ok(Written::Number(number)) => {
                usize::try_from(number).ok().filter(|number| *number > 0).map(Self::At).ok_or_else(refused)
            }
            Ok(Written::Word(word)) if word == "none" => Ok(Self::None),
            Ok(Written::Word(_)) | Err(_) => Err(refused()),
        }
    }
}

impl Config {
    /// Reads the home's configuration; the defaults where there is none.
    ///
    /// Errors: `Input` that shows the line and what is wrong with it.
    pub fn read(home: &Path) -> Result<Self, Fault> {
        let path = home.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Fault::environment(format!("{} cannot be read: {error}", path.display()))),
        };
        Self::parse(&text).map_err(|why| {
            Fault::input(format!("{}: {why}", path.display()))
                .hint("mend that line, or move the file away: every setting has a default")
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{Bound, Config};

    #[test]
    fn bounds_are_numbers_or_none() {
        let config = Config::parse("[limits]\nturns = \"none\"\nchecks = 3\n").unwrap();
        assert_eq!((config.limits.turns, config.limits.checks), (Bound::None, Bound::At(3)));
        assert_eq!(config.limits.disk.or(7), 7);
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_line() {
        for (text, wanted) in [
            ("[limits]\nturn = 3\n", "turn = 3"),
            ("[limits]\nturns = 0\n", "number from 1"),
            ("[limits]\ndisk = \"lots\"\n", "number from 1"),
            ("limits = [\n", "line 1"),
        ] {
            let why = Config::parse(text).unwrap_err();
            assert!(why.contains(wanted), "{text:?} gives {why:?}");
        }
    }
}
