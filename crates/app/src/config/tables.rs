//! `[providers.NAME]` and its like: tables that a person names.

use std::{fmt, marker::PhantomData};

use agents::profiles::Section;
use domain::profile::Profile;
use gateway::{ModelConfig, ProviderConfig};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
};

/// Something that is described under its name.
pub(super) trait FromTable: Sized {
    /// Errors: what is wrong with it, for the person who wrote it.
    fn read(name: &str, table: toml::Table) -> Result<Self, String>;
}

/// In the order of the file.
#[derive(Debug)]
pub(super) struct Tables<T>(pub Vec<T>);

impl<T> Default for Tables<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: FromTable> Deserialize<'de> for Tables<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: FromTable> Visitor<'de> for Reader<T> {
            type Value = Tables<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table for each, under its name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    all.push(map.next_value_seed(Named::new(&name))?);
                }
                Ok(Tables(all))
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

/// Reads the table of this name; a fault in it is shown at its place.
pub(super) struct Named<'a, T> {
    name: &'a str,
    of: PhantomData<T>,
}

impl<'a, T> Named<'a, T> {
    pub fn new(name: &'a str) -> Self {
        Self { name, of: PhantomData }
    }
}

impl<'de, T: FromTable> DeserializeSeed<'de> for Named<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::read(self.name, toml::Table::deserialize(deserializer)?)
            .map_err(|why| D::Error::custom(format!("`{}`: {why}", self.name)))
    }
}

/// Reads a table whose type knows its own name.
pub(super) fn with_name<'de, T: Deserialize<'de>>(name: &str, mut table: toml::Table) -> Result<T, String> {
    if table.insert("name".to_owned(), name.into()).is_some() {
        return Err("its name is that of its table: leave `name` out".to_owned());
    }
    T::deserialize(table).map_err(|error| error.message().to_owned())
}

impl FromTable for ProviderConfig {
    fn read(name: &str, table: toml::Table) -> Result<Self, String> {
        with_name(name, table)
    }
}

impl FromTable for ModelConfig {
    fn read(name: &str, table: toml::Table) -> Result<Self, String> {
        with_name(name, table)
    }
}

impl FromTable for Profile {
    fn read(name: &str, table: toml::Table) -> Result<Self, String> {
        let section = Section::deserialize(table).map_err(|error| error.message().to_owned())?;
        section.profile(name, "configuration").map_err(|fault| match fault.hint {
            Some(hint) => format!("{}: {hint}", fault.what),
            None => fault.what,
        })
    }
}
