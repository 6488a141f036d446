//! How long and how often a call is tried again.

use std::time::Duration;

use domain::ports::Clock;
use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::dialect::Complaint;

/// Bounds of trying again.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Tries of one call, the first included.
    pub tries: u32,
    /// The first pause; each further one is twice as long.
    pub first: Duration,
    /// All pauses together. A provider that asks for a longer one is not waited for.
    pub in_all: Duration,
}

impl Default for Retry {
    /// 2, 4, 8, 16, 32 seconds, less some chance.
    fn default() -> Self {
        Self { tries: 6, first: Duration::from_secs(2), in_all: Duration::from_secs(120) }
    }
}

/// What is left of it for one call.
#[derive(Debug)]
pub(crate) struct Patience {
    retry: Retry,
    tried: u32,
    paused: Duration,
}

impl Patience {
    pub fn new(retry: Retry) -> Self {
        Self { retry, tried: 1, paused: Duration::ZERO }
    }

    /// Tries so far.
    pub fn tried(&self) -> u32 {
        self.tried
    }

    /// Pauses before the next try. `Err`: no further try.
    pub async fn pause(&mut self) -> Result<(), Exhausted> {
        let doubled = self.retry.first.saturating_mul(1 << (self.tried - 1).min(16));
        // Between half and whole of it, so that many that failed together do not come back together.
        let pause = doubled.mul_f64(chance().mul_add(0.5, 0.5));
        if pause > self.left() {
            return Err(Exhausted);
        }
        self.again()?;
        self.waited(pause);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Another try. `Err`: there is none left.
    pub fn again(&mut self) -> Result<(), Exhausted> {
        if self.tried >= self.retry.tries {
            return Err(Exhausted);
        }
        self.tried += 1;
        Ok(())
    }

    /// How long may be waited yet, in all.
    pub fn left(&self) -> Duration {
        self.retry.in_all.saturating_sub(self.paused)
    }

    /// Counts a wait.
    pub fn waited(&mut self, pause: Duration) {
        self.paused = self.paused.saturating_add(pause);
    }
}

/// No further try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// Between 0 and 1.
fn chance() -> f64 {
    let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
    f64::from(u32::try_from(low & 0xffff_ffff).unwrap_or_default()) / f64::from(u32::MAX)
}

/// The pause a provider asks for: `retry-after-ms`, or `retry-after` in seconds or as a date.
pub(crate) fn asked(headers: &HeaderMap, clock: &dyn Clock) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name| text(name)?.parse::<f64>().ok();
    let span = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    if let Some(milliseconds) = number("retry-after-ms") {
        return span(milliseconds / 1000.0);
    }
    if let Some(seconds) = number("retry-after") {
        return span(seconds);
    }
    let date = jiff::fmt::rfc2822::parse(text("retry-after")?).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(clock.now())).unwrap_or(Duration::ZERO))
}

/// When a quota that is used up is whole again: as it is asked for, as the complaint says, or as the headers tell of each quota: the
/// latest of those of which nothing is left, or of which is not told how much.
pub(crate) fn whole(headers: &HeaderMap, complaint: &Complaint, clock: &dyn Clock) -> Option<Duration> {
    if let Some(pause) = asked(headers, clock).or(complaint.retry) {
        return Some(pause);
    }
    let until = |then: Timestamp| Duration::try_from(then.duration_since(clock.now())).unwrap_or(Duration::ZERO);
    let pause = |(name, value): (&HeaderName, &HeaderValue)| {
        let left = headers.get(remaining(name.as_str())?);
        let is_used_up = left.is_none_or(|left| left.as_bytes() == b"0");
        is_used_up.then(|| moment(value.to_str().ok()?, until)).flatten()
    };
    headers.iter().filter_map(pause).max()
}

/// The header that tells how much is left of the quota whose reset this one tells: `anthropic-ratelimit-tokens-reset`,
/// `x-ratelimit-reset-tokens`, `x-ratelimit-reset`.
fn remaining(reset: &str) -> Option<String> {
    let (front, of) = reset.split_once("ratelimit-")?;
    if of == "reset" {
        Some(format!("{front}ratelimit-remaining"))
    } else if let Some(of) = of.strip_suffix("-reset") {
        Some(format!("{front}ratelimit-{of}-remaining"))
    } else {
        Some(format!("{front}ratelimit-remaining-{}", of.strip_prefix("reset-")?))
    }
}

/// A moment or a span: `2026-11-20T12:00:30Z`, `6m0s`, `1730000000` (or in milliseconds), `12` seconds.
fn moment(text: &str, until: impl Fn(Timestamp) -> Duration) -> Option<Duration> {
    /// No span of seconds is that long, and every time of the epoch is later.
    const EPOCH: f64 = 1e9;
    if let Ok(number) = text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and what is out of range is no timestamp")]
        let at = |milliseconds: f64| Timestamp::from_millisecond(milliseconds as i64).ok().map(&until);
        return match number {
            milliseconds if milliseconds >= EPOCH * 1e3 => at(milliseconds),
            seconds if seconds >= EPOCH => at(seconds * 1e3),
            seconds => Duration::try_from_secs_f64(seconds).ok(),
        };
    }
    text.parse().ok().map(until).or_else(|| span(text))
}

/// A span as providers write it: `1h6m0.5s`, `350ms`.
pub(crate) fn span(text: &str) -> Option<Duration> {
    let (mut rest, mut whole) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, after) = rest.split_at(end);
        let length = after.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        whole += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(whole).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(jiff::Timestamp);

    impl Clock for At {
        fn now(&self) -> jiff::Timestamp {
            self.0
        }
    }

    #[test]
    fn the_pause_asked_for_is_read_in_every_form() {
        let clock = At("2026-11-20T12:00:00Z".parse().unwrap());
        let read = |name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            asked(&headers, &clock)
        };
        assert_eq!(read("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(read("retry-after", "1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(read("retry-after", "Fri, 20 Nov 2026 12:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(read("retry-after", "Fri, 20 Nov 2026 11:00:00 GMT"), Some(Duration::ZERO), "a date gone by");
        for nonsense in ["soon", "-3", "NaN", "inf"] {
            assert_eq!(read("retry-after", nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn the_latest_quota_that_is_used_up_counts() {
        let clock = At("2026-11-20T12:00:00Z".parse().unwrap());
        let read = |all: &[(&'static str, &'static str)]| {
            let headers = all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            whole(&headers, &Complaint::default(), &clock).map(|pause| pause.as_millis())
        };
        let anthropics = |left: &'static str| {
            read(&[
                ("anthropic-ratelimit-requests-remaining", left),
                ("anthropic-ratelimit-requests-reset", "2026-11-20T12:00:10Z"),
                ("anthropic-ratelimit-input-tokens-remaining", "77"),
                ("anthropic-ratelimit-input-tokens-reset", "2026-11-20T12:01:00Z"),
            ])
        };
        assert_eq!((anthropics("0"), anthropics("5")), (Some(10_000), None), "what is not used up says nothing");
        let openais = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0.5s")];
        assert_eq!(read(&openais), Some(360_500));
        let others = [("x-ratelimit-remaining-requests", "9"), ("x-ratelimit-reset-requests", "1h")];
        assert_eq!(read(&[openais[0], openais[1], others[0], others[1]]), Some(360_500));
        assert_eq!(
            read(&[("x-ratelimit-reset", "1795176005000")]),
            Some(5000),
            "in milliseconds, as OpenRouter says it"
        );
        assert_eq!(read(&[("anthropic-ratelimit-unified-reset", "1795176005")]), Some(5000));
        assert_eq!(read(&[("x-ratelimit-reset-tokens", "soon"), ("x-ratelimit-limit", "5")]), None);
        assert_eq!(read(&[openais[0], openais[1], ("retry-after", "2")]), Some(2000), "it says so itself");
    }

    #[tokio::test]
    async fn tries_and_pauses_are_bounded() {
        let retry = Retry { tries: 3, first: Duration::from_micros(1), in_all: Duration::from_secs(1) };
        let mut patience = Patience::new(retry);
        assert_eq!(patience.pause().await, Ok(()));
        assert_eq!(patience.again(), Ok(()));
        assert_eq!(patience.pause().await, Err(Exhausted), "three tries");
        assert_eq!(patience.tried(), 3);
        let mut patience = Patience::new(retry);
        patience.waited(Duration::from_secs(2));
        assert_eq!((patience.left(), patience.pause().await), (Duration::ZERO, Err(Exhausted)), "no time is left");
    }
}
