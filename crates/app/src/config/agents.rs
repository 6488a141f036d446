//! `[agents]`: where they are installed, what is lent to them, and those that Overnight does not know by itself.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

use agents::{acp, cli};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use super::tables::{FromTable, Named};

/// Where people are told to install agents, below the data directory.
const USUAL: &str = "overnight-agents";

#[derive(Debug)]
pub struct Agents {
    /// `None`: the usual one.
    directories: Option<Vec<PathBuf>>,
    /// Whether a person's own login may be lent to an agent.
    pub own_logins: bool,
    pub acp: Vec<acp::Spec>,
    pub recipes: Vec<cli::Recipe>,
}

impl Default for Agents {
    fn default() -> Self {
        Self { directories: None, own_logins: true, acp: Vec::new(), recipes: Vec::new() }
    }
}

impl Agents {
    /// Relative ones are in the home. Without any: `overnight-agents` in the data directory of this person.
    pub fn directories(&self, home: &Path) -> Vec<PathBuf> {
        if let Some(directories) = &self.directories {
            return directories.iter().map(|directory| home.join(directory)).collect();
        }
        let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
        data.map(|data| data.join(USUAL)).into_iter().collect()
    }
}

/// An agent of the configuration, by how it is driven.
enum Agent {
    Acp(acp::Spec),
    CommandLine(cli::Recipe),
}

impl FromTable for Agent {
    fn read(name: &str, mut table: toml::Table) -> Result<Self, String> {
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !name.bytes().all(is_part) {
            return Err("an agent's name is made of lower case, digits and `-`".to_owned());
        }
        let kind = table.remove("kind");
        let wrong = |error: toml::de::Error| error.message().to_owned();
        let is_startable = table.get("argv").is_some_and(|argv| argv.as_array().is_none_or(|argv| !argv.is_empty()));
        let name = name.to_owned();
        let agent = match kind.as_ref().and_then(toml::Value::as_str) {
            Some("acp") => Self::Acp(acp::Spec { name, ..Deserialize::deserialize(table).map_err(wrong)? }),
            Some("command-line") => {
                Self::CommandLine(cli::Recipe { name, ..Deserialize::deserialize(table).map_err(wrong)? })
            }
            _ => return Err("`kind` must be \"acp\" or \"command-line\"".to_owned()),
        };
        if is_startable { Ok(agent) } else { Err("`argv` is missing: the program and its arguments".to_owned()) }
    }
}

impl<'de> Deserialize<'de> for Agents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Agents;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`directories`, `own_logins`, and a table for each agent under its name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Agents, A::Error> {
                let mut agents = Agents::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "directories" => agents.directories = Some(map.next_value()?),
                        "own_logins" => agents.own_logins = map.next_value()?,
                        name => match map.next_value_seed(Named::<Agent>::new(name))? {
                            Agent::Acp(spec) => agents.acp.push(spec),
                            Agent::CommandLine(recipe) => agents.recipes.push(recipe),
                        },
                    }
                }
                Ok(agents)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}
