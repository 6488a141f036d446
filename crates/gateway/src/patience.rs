//! How long and how often a call is tried again.

use std::time::Duration;

use domain::ports::Clock;
use reqwest::header::HeaderMap;

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

    /// Pauses before the next try, as long as the provider `asked` for or as experience says. `Err`: no further try.
    pub async fn pause(&mut self, asked: Option<Duration>) -> Result<(), Exhausted> {
        if self.tried >= self.retry.tries {
            return Err(Exhausted);
        }
        let doubled = self.retry.first.saturating_mul(1 << (self.tried - 1).min(16));
        // Between half and whole of it, so that many that failed together do not come back together.
        let pause = asked.unwrap_or_else(|| doubled.mul_f64(chance().mul_add(0.5, 0.5)));
        if self.paused.saturating_add(pause) > self.retry.in_all {
            return Err(Exhausted);
        }
        self.tried += 1;
        self.paused += pause;
        tokio::time::sleep(pause).await;
        Ok(())
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
            asked(&HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]), &clock)
        };
        assert_eq!(read("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(read("retry-after", "1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(read("retry-after", "Fri, 20 Nov 2026 12:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(read("retry-after", "Fri, 20 Nov 2026 11:00:00 GMT"), Some(Duration::ZERO), "a date gone by");
        for nonsense in ["soon", "-3", "NaN", "inf"] {
            assert_eq!(read("retry-after", nonsense), None, "{nonsense}");
        }
    }

    #[tokio::test]
    async fn tries_and_pauses_are_bounded() {
        let retry = Retry { tries: 3, first: Duration::from_micros(1), in_all: Duration::from_secs(1) };
        let mut patience = Patience::new(retry);
        assert_eq!(patience.pause(Some(Duration::from_secs(2))).await, Err(Exhausted), "longer than all pauses may be");
        assert_eq!(patience.pause(None).await, Ok(()));
        assert_eq!(patience.pause(Some(Duration::ZERO)).await, Ok(()));
        assert_eq!(patience.pause(None).await, Err(Exhausted), "three tries");
        assert_eq!(patience.tried(), 3);
    }
}
