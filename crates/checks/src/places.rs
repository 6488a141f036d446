//! How many executions go on at once. A check that hangs must not hold up the checks of other tasks until its timeout.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use domain::Fault;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Clone, Debug)]
pub(crate) struct Places {
    timely: Arc<Semaphore>,
    late: Arc<Semaphore>,
    late_after: Duration,
}

/// The right to go on. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    timely: OwnedSemaphorePermit,
    late: Arc<Semaphore>,
    late_after: Duration,
}

impl Places {
    /// `count` places, and as many for those that are late. `None`: no limit.
    pub fn new(count: Option<usize>, late_after: Duration) -> Self {
        let count = count.unwrap_or(Semaphore::MAX_PERMITS).clamp(1, Semaphore::MAX_PERMITS);
        Self { timely: Arc::new(Semaphore::new(count)), late: Arc::new(Semaphore::new(count)), late_after }
    }

    pub async fn take(&self) -> Result<Place, Fault> {
        let timely = acquire(&self.timely).await?;
        Ok(Place { timely, late: Arc::clone(&self.late), late_after: self.late_after })
    }
}

impl Place {
    /// Holds the place until this is dropped; once it is late, one among the late, as soon as there is one.
    pub async fn hold(self) -> Infallible {
        tokio::time::sleep(self.late_after).await;
        let _late = acquire(&self.late).await;
        drop(self.timely);
        pending().await
    }
}

async fn acquire(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Fault> {
    Arc::clone(places).acquire_owned().await.map_err(|_| Fault::bug("the places for checks are closed"))
}
