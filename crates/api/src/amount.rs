//! Amounts as people write them: `2usd`, `$2.50`, `200ktok`, `1.5Mtok`, `30rounds`, `2h`, `1h30m`, and their serde forms.

use domain::{
    Fault,
    budget::{Budget, MicroUsd},
    check::{CheckSpec, Tier},
};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::mistakes::Mistake;

/// More than a billion dollars is a slip of the keyboard, and beyond it floats lose micro-dollars.
const MAX_USD: u64 = 1_000_000_000;

/// Reads limits: terms like `2usd`, `$2`, `200ktok`, `1.5Mtok`, `30rounds`, `2h`, separated by commas or spaces, one of a kind.
///
/// Errors: `Input` with the forms there are as hint.
pub fn parse_budget(text: &str) -> Result<Budget, Fault> {
    let mut budget = Budget::default();
    for term in text.split([',', ' ', '\t']).filter(|term| !term.is_empty()) {
        let doubled = match parse_term(term)? {
            Term::Cost(cost) => budget.cost.replace(cost).is_some(),
            Term::Tokens(tokens) => budget.tokens.replace(tokens).is_some(),
            Term::Rounds(rounds) => budget.rounds.replace(rounds).is_some(),
            Term::Wall(seconds) => budget.wall_s.replace(seconds).is_some(),
        };
        if doubled {
            return Err(Fault::input(format!("`{text}` limits the same thing twice, the second time with `{term}`"))
                .hint("give one limit of each kind"));
        }
    }
    if budget == Budget::default() {
        return Err(not_a_budget(text));
    }
    Ok(budget)
}

/// Reads a length of time like `2h`, `90m`, `1h30m`, `45s`, `1d`; in seconds, at least 1.
///
/// Errors: `Input` with the forms there are as hint.
pub fn parse_seconds(text: &str) -> Result<u64, Fault> {
    seconds(text).filter(|seconds| *seconds > 0).ok_or_else(|| {
        Fault::input(format!("`{text}` is not a length of time")).hint("write it like 2h, 90m, 1h30m, 45s or 1d")
    })
}

enum Term {
    Cost(MicroUsd),
    Tokens(u64),
    Rounds(u32),
    Wall(u64),
}

fn parse_term(term: &str) -> Result<Term, Fault> {
    let lower = term.to_ascii_lowercase();
    let read = if let Some(number) = lower.strip_prefix('$').or_else(|| lower.strip_suffix("usd")) {
        scaled(number, 1_000_000)
            .filter(|micros| *micros <= MAX_USD * 1_000_000)
            .map(|micros| Term::Cost(MicroUsd(micros)))
    } else if let Some(number) = ["tokens", "token", "toks", "tok"].iter().find_map(|unit| lower.strip_suffix(unit)) {
        match (number.strip_suffix('k'), number.strip_suffix('m')) {
            (Some(thousands), _) => scaled(thousands, 1_000),
            (_, Some(millions)) => scaled(millions, 1_000_000),
            (None, None) => scaled(number, 1),
        }
        .map(Term::Tokens)
    } else if let Some(number) = ["rounds", "round"].iter().find_map(|unit| lower.strip_suffix(unit)) {
        number.parse().ok().map(Term::Rounds)
    } else {
        seconds(&lower).map(Term::Wall)
    };
    match read {
        Some(Term::Cost(MicroUsd(0)) | Term::Tokens(0) | Term::Rounds(0) | Term::Wall(0)) => {
            Err(Fault::input(format!("`{term}` leaves nothing to spend"))
                .hint("leave the limit out, or make it positive"))
        }
        Some(term) => Ok(term),
        None => Err(not_a_budget(term)),
    }
}

fn not_a_budget(text: &str) -> Fault {
    Fault::input(format!("`{text}` is not a budget")).hint(
        "write money like 2usd or $2.50, tokens like 200ktok or 1.5Mtok, rounds like 30rounds, time like 2h or 90m",
    )
}

/// `number × scale`, exactly: `1.5` with scale 1,000 is 1,500. `None` for anything else than plain digits with at most one
/// point, for more decimals than the scale has, and for what does not fit.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let mut total = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(scale)? };
    let mut place = scale;
    for digit in fraction.bytes() {
        let value = u64::from(digit - b'0');
        place /= 10;
        if value > 0 && place == 0 {
            return None;
        }
        total = total.checked_add(value * place)?;
    }
    Some(total)
}

fn seconds(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = match unit {
            "d" => 86_400,
            "h" => 3_600,
            "m" | "min" => 60,
            "s" => 1,
            _ => return None,
        };
        // `1.5h` is fine; half a second is not a limit.
        total = total.checked_add(fraction_of(number, scale)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// Like [`scaled`] for scales that are no powers of ten: exact to a millionth, which must come out whole.
fn fraction_of(number: &str, scale: u64) -> Option<u64> {
    let millionths = scaled(number, 1_000_000)?.checked_mul(scale)?;
    millionths.is_multiple_of(1_000_000).then_some(millionths / 1_000_000)
}

/// The shortest single-unit form: `2h`, `90m`, `3601s`.
fn print_seconds(seconds: u64) -> String {
    match seconds {
        s if s > 0 && s.is_multiple_of(3_600) => format!("{}h", s / 3_600),
        s if s > 0 && s.is_multiple_of(60) => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// Something that may be written as a text or as a table.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Form<T> {
    Text(String),
    Table(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Form<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `#[serde(untagged)]`: its error would not say which field of the table is wrong.
        struct Reader<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Reader<T> {
            type Value = Form<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text or a table")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Form::Text(text.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Form::Table)
            }
        }
        deserializer.deserialize_any(Reader(std::marker::PhantomData))
    }
}

/// A number, or a text with a unit.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Quantity {
    Integer(u64),
    Float(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl de::Visitor<'_> for Reader {
            type Value = Quantity;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a positive number or a text with a unit")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity::Text(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
                Ok(Quantity::Integer(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
                u64::try_from(value)
                    .map(Quantity::Integer)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Quantity, E> {
                Ok(Quantity::Float(value))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl Quantity {
    /// As [`parse_budget`] reads it, a bare number taken to be in `unit`.
    fn term(&self, unit: &str) -> Result<Term, Fault> {
        match self {
            Self::Integer(value) => parse_term(&format!("{value}{unit}")),
            // `{}` prints the shortest decimal that reads back as the same float, never an exponent.
            Self::Float(value) => parse_term(&format!("{value}{unit}")),
            Self::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
                parse_term(&format!("{text}{unit}"))
            }
            Self::Text(text) => parse_term(text),
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetTable {
    /// US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    usd: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Quantity>,
    /// Model replies over the whole task.
    #[serde(skip_serializing_if = "Option::is_none")]
    rounds: Option<Quantity>,
    /// Time of work; a bare number is in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    wall: Option<Quantity>,
}

pub type BudgetForm = Form<BudgetTable>;

impl TryFrom<BudgetForm> for crate::wire::brief::Budget {
    type Error = Mistake;

    fn try_from(form: BudgetForm) -> Result<Self, Mistake> {
        let table = match form {
            Form::Text(text) => return Ok(Self(parse_budget(&text)?)),
            Form::Table(table) => table,
        };
        let mut budget = Budget::default();
        for (name, unit, quantity) in [
            ("usd", "usd", table.usd),
            ("tokens", "tok", table.tokens),
            ("rounds", "rounds", table.rounds),
            ("wall", "s", table.wall),
        ] {
            let Some(quantity) = quantity else { continue };
            match (name, quantity.term(unit)?) {
                ("usd", Term::Cost(cost)) => budget.cost = Some(cost),
                ("tokens", Term::Tokens(tokens)) => budget.tokens = Some(tokens),
                ("rounds", Term::Rounds(rounds)) => budget.rounds = Some(rounds),
                ("wall", Term::Wall(seconds)) => budget.wall_s = Some(seconds),
                _ => {
                    let fault = Fault::input(format!("`{name}` of a budget has the unit of something else"));
                    return Err(fault
                        .hint("write `{ usd = 2, tokens = \"200ktok\", rounds = 30, wall = \"2h\" }`")
                        .into());
                }
            }
        }
        Ok(Self(budget))
    }
}

impl From<crate::wire::brief::Budget> for BudgetForm {
    fn from(crate::wire::brief::Budget(budget): crate::wire::brief::Budget) -> Self {
        let usd = budget.cost.map(|MicroUsd(micros)| match (micros / 1_000_000, micros % 1_000_000) {
            (whole, 0) => Quantity::Integer(whole),
            (whole, part) => Quantity::Text(format!("{whole}.{part:06}").trim_end_matches('0').to_owned()),
        });
        Self::Table(BudgetTable {
            usd,
            tokens: budget.tokens.map(Quantity::Integer),
            rounds: budget.rounds.map(|rounds| Quantity::Integer(rounds.into())),
            wall: budget.wall_s.map(|seconds| Quantity::Text(print_seconds(seconds))),
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckTable {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    command: String,
    /// A bare number is in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Quantity>,
    /// `fast` or `slow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tier: Option<Tier>,
}

pub type CheckForm = Form<CheckTable>;

impl TryFrom<CheckForm> for crate::wire::brief::Check {
    type Error = Mistake;

    fn try_from(form: CheckForm) -> Result<Self, Mistake> {
        let table = match form {
            Form::Text(command) => return Ok(Self(CheckSpec::from_command(command))),
            Form::Table(table) => table,
        };
        let timeout_s = match table.timeout {
            None => None,
            Some(Quantity::Integer(seconds)) if seconds > 0 => Some(seconds),
            Some(Quantity::Text(text)) => Some(parse_seconds(&text)?),
            Some(Quantity::Integer(_) | Quantity::Float(_)) => {
                let fault = Fault::input("`timeout` of a check is no whole number of seconds above 0");
                return Err(fault.hint("write 10m or 600").into());
            }
        };
        Ok(Self(CheckSpec {
            name: table.name.unwrap_or_else(|| table.command.clone()),
            command: table.command,
            timeout_s,
            tier: table.tier.unwrap_or_default(),
        }))
    }
}

impl From<crate::wire::brief::Check> for CheckForm {
    fn from(crate::wire::brief::Check(check): crate::wire::brief::Check) -> Self {
        if check == CheckSpec::from_command(check.command.as_str()) {
            return Self::Text(check.command);
        }
        Self::Table(CheckTable {
            name: (check.name != check.command).then_some(check.name),
            command: check.command,
            timeout: check.timeout_s.map(|seconds| Quantity::Text(print_seconds(seconds))),
            tier: (check.tier != Tier::default()).then_some(check.tier),
        })
    }
}

/// Serde form of a deadline: RFC 3339; without an offset in the local time zone; a date alone is the end of that day.
pub mod deadline {
    use domain::Fault;
    use jiff::{Timestamp, civil, tz::TimeZone};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Form;
    use crate::mistakes::Mistake;

    /// Errors: `Input` with the forms there are as hint.
    pub fn parse(text: &str) -> Result<Timestamp, Fault> {
        let local = |time: civil::DateTime| time.to_zoned(TimeZone::system()).map(|zoned| zoned.timestamp());
        // A date is tried first: as a time it would be read as its first second.
        let date = (text.len() == "2026-12-24".len()).then(|| text.parse::<civil::Date>().ok()).flatten();
        let read = match date {
            Some(date) => local(date.at(23, 59, 59, 0)),
            None => text.parse::<Timestamp>().or_else(|_| text.parse::<civil::DateTime>().and_then(local)),
        };
        read.map_err(|_| {
            Fault::input(format!("`{text}` is not a time"))
                .hint("write 2026-12-24, 2026-12-24T18:00 or 2026-12-24T18:00:00+01:00")
        })
    }

    pub fn serialize<S: Serializer>(deadline: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        deadline.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        // TOML has times of its own, JSON has texts.
        let text = match Option::<Form<toml::value::Datetime>>::deserialize(deserializer)? {
            None => return Ok(None),
            Some(Form::Text(text)) => text,
            Some(Form::Table(datetime)) => datetime.to_string(),
        };
        parse(&text).map(Some).map_err(|fault| serde::de::Error::custom(Mistake::from(fault)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_in_every_form_people_write() {
        let read = |text| parse_budget(text).unwrap();
        assert_eq!(read("2usd").cost, Some(MicroUsd(2_000_000)));
        assert_eq!(read("$2.50").cost, Some(MicroUsd(2_500_000)));
        assert_eq!(read(".5USD").cost, Some(MicroUsd(500_000)));
        assert_eq!(read("200ktok").tokens, Some(200_000));
        assert_eq!(read("1.5Mtok").tokens, Some(1_500_000));
        assert_eq!(read("1234tokens").tokens, Some(1234));
        assert_eq!(read("30rounds").rounds, Some(30));
        assert_eq!(read("2h").wall_s, Some(7_200));
        assert_eq!(read("1h30m").wall_s, Some(5_400));
        assert_eq!(read("1.5h").wall_s, Some(5_400));
        let both = read("2usd, 200ktok 1d");
        assert_eq!((both.cost, both.tokens, both.wall_s), (Some(MicroUsd(2_000_000)), Some(200_000), Some(86_400)));
    }

    #[test]
    fn what_is_no_budget_is_told_apart_and_explained() {
        for text in [
            "",
            "2",
            "usd",
            "-2usd",
            "2usdx",
            "0.0000001usd",
            "1.0005ktok",
            "2usd,3usd",
            "0usd",
            "0h",
            "1e3usd",
            "2h3",
            "99999999999usd",
            "٣usd",
        ] {
            let fault = parse_budget(text).unwrap_err();
            assert!(fault.hint.is_some(), "{text}: {fault}");
        }
    }

    #[test]
    fn a_date_is_the_end_of_its_day_and_offsets_are_kept() {
        let day = deadline::parse("2026-12-24").unwrap().to_zoned(jiff::tz::TimeZone::system());
        assert_eq!(day.strftime("%F %T").to_string(), "2026-12-24 23:59:59");
        assert_eq!(deadline::parse("2026-12-24T18:00:00+01:00").unwrap(), "2026-12-24T17:00:00Z".parse().unwrap());
        assert!(deadline::parse("2026-12-24T18:00").is_ok());
        assert!(deadline::parse("tomorrow").is_err());
    }
}
