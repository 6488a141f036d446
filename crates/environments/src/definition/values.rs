//! Values as people write them: sizes, times, numbers of processors, commands in one line or several.

use std::{fmt, time::Duration};

use domain::check::{CheckSpec, Tier};
use serde::{Deserialize, Deserializer, de};

/// `4 GiB`, `512MB`, or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub u64);

const UNITS: [(&str, u64); 10] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("g", 1 << 30),
    ("m", 1 << 20),
];

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"4 GiB\" or \"512 MB\"")
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                let positive = u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
                positive.map(Size).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                size(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn size(text: &str) -> Option<Size> {
    let text = text.trim().to_ascii_lowercase();
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim_end(), *factor)))
        .unwrap_or((text.as_str(), 1));
    let bytes = scaled(number, factor)?;
    (bytes > 0).then_some(Size(bytes))
}

/// A decimal number with at most three digits after the point, times `factor`.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let thousandths = format!("{part:0<3}").parse::<u64>().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(factor.checked_mul(thousandths)? / 1000)
}

/// `90s`, `10m`, `1h`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as \"90s\", \"10m\" or \"1h\", at most a day")
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Time, E> {
                let valid = u64::try_from(seconds).ok().and_then(bounded);
                valid.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(seconds), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                time(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn bounded(seconds: u64) -> Option<Time> {
    (1..=86_400).contains(&seconds).then(|| Time(Duration::from_secs(seconds)))
}

fn time(text: &str) -> Option<Time> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match text[digits..].trim() {
        "" | "s" | "sec" | "seconds" => 1,
        "m" | "min" | "minutes" => 60,
        "h" | "hours" => 3600,
        _ => return None,
    };
    bounded(text[..digits].parse::<u64>().ok()?.checked_mul(factor)?)
}

/// Processors, in hundredths: `1.5` is 150.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Processors(pub u32);

impl<'de> Deserialize<'de> for Processors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Processors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of processors such as 2 or 0.5")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Processors, E> {
                let hundredths = u32::try_from(number).ok().filter(|number| (1..=4096).contains(number));
                hundredths
                    .map(|number| Processors(number * 100))
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Processors, E> {
                if !(0.01..=4096.0).contains(&number) {
                    return Err(E::invalid_value(de::Unexpected::Float(number), &self));
                }
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded just above")]
                Ok(Processors((number * 100.0).round() as u32))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// One command or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines(pub Vec<String>);

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Lines;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command, or a list of commands")
            }

            fn visit_str<E: de::Error>(self, line: &str) -> Result<Lines, E> {
                Ok(Lines(vec![command(line)?]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut lines: A) -> Result<Lines, A::Error> {
                let mut all = Vec::new();
                while let Some(line) = lines.next_element::<String>()? {
                    all.push(command(&line)?);
                }
                Ok(Lines(all))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

pub(super) fn command<E: de::Error>(line: &str) -> Result<String, E> {
    let line = line.trim();
    if line.is_empty() {
        return Err(E::custom("an empty command: write a line for `sh -c`, such as \"npm ci\""));
    }
    if line.contains('\0') {
        return Err(E::custom("a command with a zero byte in it"));
    }
    Ok(line.to_owned())
}

/// A check as a line, or as a table where it needs a name or a time of its own.
#[derive(Clone, Debug)]
pub(super) struct Check(CheckSpec);

impl Check {
    pub fn spec(self, tier: Tier) -> CheckSpec {
        CheckSpec { tier, ..self.0 }
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            name: Option<String>,
            command: String,
            timeout: Option<Time>,
        }
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Check;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a command, or a table such as { name = \"unit\", command = \"npm test\", timeout = \"10m\" }",
                )
            }

            fn visit_str<E: de::Error>(self, line: &str) -> Result<Check, E> {
                Ok(Check(CheckSpec::from_command(command::<E>(line)?)))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Check, A::Error> {
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let mut spec = CheckSpec::from_command(command::<A::Error>(&table.command)?);
                spec.name = table.name.unwrap_or(spec.name);
                spec.timeout_s = table.timeout.map(|time| time.0.as_secs());
                Ok(Check(spec))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_as_people_write_them() {
        for (text, bytes) in
            [("4 GiB", 4 << 30), ("512MB", 512_000_000), ("1.5g", 3 << 29), ("0.5 KiB", 512), ("700", 700)]
        {
            assert_eq!(size(text), Some(Size(bytes)), "{text}");
        }
        for text in ["", "0", "GiB", "-1 GiB", "1.2345 GiB", "1 GiB of it", "99999999999 TiB", "1..2 kb"] {
            assert_eq!(size(text), None, "{text}");
        }
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h", 3600), ("5", 5), ("2 minutes", 120)] {
            assert_eq!(time(text), Some(Time(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "s", "0s", "-1s", "2 days", "25h", "1.5h"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
