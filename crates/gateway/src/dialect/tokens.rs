//! Counts of tokens, as providers write them: a wrong one must neither spoil the reply it comes with nor be paid by.

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::prices::Counted;

/// More than any call has.
const MOST: u64 = 100_000_000;

/// One count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Count {
    #[default]
    Absent,
    Given(u64),
    /// Negative, a fraction, more than any call has, or no number at all.
    Wrong,
}

impl Count {
    /// `None`: it is not there. A wrong one is remembered: what was counted with it is no account.
    pub fn read(self, counted: &mut Counted) -> Option<u64> {
        match self {
            Self::Absent => None,
            Self::Given(count) => Some(count),
            Self::Wrong => {
                counted.is_wrong = true;
                None
            }
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Count;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number of tokens")
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<Count, E> {
        Ok(if count <= MOST { Count::Given(count) } else { Count::Wrong })
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<Count, E> {
        u64::try_from(count).map_or(Ok(Count::Wrong), |count| self.visit_u64(count))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number in a range is looked for"
    )]
    fn visit_f64<E: Error>(self, count: f64) -> Result<Count, E> {
        // Some servers write whole numbers as `12.0`.
        if count >= 0.0 && count.fract() == 0.0 { self.visit_u64(count as u64) } else { Ok(Count::Wrong) }
    }

    fn visit_unit<E: Error>(self) -> Result<Count, E> {
        Ok(Count::Absent)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Count, E> {
        Ok(Count::Wrong)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Count, E> {
        Ok(Count::Wrong)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count::Wrong)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count::Wrong)
    }
}

/// An account that is no account at all is none.
pub(super) fn account<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_str(<&RawValue>::deserialize(deserializer)?.get()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plausible_count_is_one() {
        for (json, count) in [
            ("0", Count::Given(0)),
            ("12.0", Count::Given(12)),
            ("100000000", Count::Given(MOST)),
            ("null", Count::Absent),
            ("-5", Count::Wrong),
            ("1.5", Count::Wrong),
            ("100000001", Count::Wrong),
            ("1e300", Count::Wrong),
            ("18446744073709551616", Count::Wrong),
            ("\"12\"", Count::Wrong),
            ("true", Count::Wrong),
            ("[1,[2]]", Count::Wrong),
            ("{\"a\":{}}", Count::Wrong),
        ] {
            assert_eq!(serde_json::from_str::<Count>(json).unwrap(), count, "{json}");
        }
    }
}
