//! How values of the domain stand in columns: numbers as SQLite's 64-bit integers, times as nanoseconds, the rest as JSON.

use domain::Fault;
use jiff::Timestamp;
use rusqlite::{Row, types::ValueRef};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::Error;

/// SQLite has no unsigned 64-bit integers; nothing we count gets that far, and a number from outside that does is no row's key.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn number(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or_default())
}

pub(crate) fn optional_number(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|value| u64::try_from(value).unwrap_or_default()))
}

/// Times after the year 2262 are kept as that year's end.
pub(crate) fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at.as_second() < 0 { i64::MIN } else { i64::MAX })
}

pub(crate) fn time(nanos: i64) -> Timestamp {
    // Every i64 is inside the range of `Timestamp`.
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default()
}

pub(crate) fn json(value: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::bug(format!("cannot be written as JSON: {error}")))
}

/// Reads a column of JSON. `name` says which row it is, should it be damaged.
pub(crate) fn parse<T: DeserializeOwned>(row: &Row<'_>, column: &str, name: impl Fn() -> String) -> Result<T, Error> {
    match row.get_ref(column)? {
        ValueRef::Text(text) => serde_json::from_slice(text).map_err(|error| Error::unreadable(name(), error)),
        other => Err(Error::unreadable(name(), format!("{column} is {}, not text", other.data_type()))),
    }
}
