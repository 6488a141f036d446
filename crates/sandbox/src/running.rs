//! The commands of a sandbox that run now, for those who want to tell which of them did something.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::process::Life;

/// The most that is told of one command line, in bytes.
const LONGEST: usize = 200;

/// In the order in which they were started. Those that are over stay until somebody looks, or the next one comes.
#[derive(Debug, Default)]
pub struct Running(Mutex<Vec<(Life, String)>>);

impl Running {
    pub fn enter(&self, argv: &[String], life: Life) {
        let mut line = argv.join(" ");
        line.truncate(line.floor_char_boundary(LONGEST));
        self.living().push((life, line));
    }

    pub fn lines(&self) -> Vec<String> {
        self.living().iter().map(|(_, line)| line.clone()).collect()
    }

    fn living(&self) -> MutexGuard<'_, Vec<(Life, String)>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(life, _)| !life.is_over());
        all
    }
}
