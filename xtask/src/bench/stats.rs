//! Samples, and how they are told: the median with the spread.

use std::fmt;

/// At least one sample.
#[derive(Clone, Debug)]
pub(super) struct Samples {
    sorted: Vec<f64>,
}

impl Samples {
    pub fn new(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        Self { sorted: samples }
    }

    /// The sample below which `part` of all are; 0 where there are none.
    pub fn at(&self, part: f64) -> f64 {
        let last = self.sorted.len().saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = (last as f64 * part).round() as usize;
        self.sorted.get(index).copied().unwrap_or(0.0)
    }

    pub fn median(&self) -> f64 {
        self.at(0.5)
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} (p95 {:.2}, from {:.2} to {:.2}, n = {})",
            self.median(),
            self.at(0.95),
            self.at(0.0),
            self.at(1.0),
            self.sorted.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_told_with_their_spread() {
        let samples = Samples::new(vec![3.0, 1.0, 2.0, 5.0, 4.0]);
        assert_eq!(samples.to_string(), "3.00 (p95 5.00, from 1.00 to 5.00, n = 5)");
    }
}
