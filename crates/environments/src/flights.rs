//! Builds that are under way: each layer once, however many wait for it, and a bounded number at a time.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::{
    Fault,
    environment::EnvironmentId,
    ids::RepositoryId,
    ports::environments::{Built, Told},
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::sync::Semaphore;

/// Failures remembered; those of long ago are of bases that nobody works on any more.
const REMEMBERED: usize = 64;

type Name = (RepositoryId, EnvironmentId);
type Done = Result<Built, Fault>;
pub(crate) type Arrival = Shared<BoxFuture<'static, Done>>;

#[derive(Clone)]
struct Flight {
    done: Arrival,
    audience: Arc<Mutex<Audience>>,
}

/// Whom a build is told, and what was told last: who comes later hears that at once.
#[derive(Default)]
struct Audience {
    all: Vec<Told>,
    last: Option<String>,
}

impl Audience {
    fn joins(&mut self, told: Told) {
        if let Some(last) = &self.last {
            told(last);
        }
        self.all.push(told);
    }

    fn hears(&mut self, line: &str) {
        self.last = Some(line.to_owned());
        self.all.iter().for_each(|told| told(line));
    }
}

#[derive(Debug)]
pub(crate) struct Flights {
    under_way: Arc<Mutex<HashMap<Name, Flight>>>,
    places: Arc<Semaphore>,
    failed: Arc<Mutex<Failures>>,
}

/// Why the last build of a layer failed, until one succeeds; the latest last.
#[derive(Debug, Default)]
struct Failures(VecDeque<(Name, Fault)>);

impl Failures {
    fn forget(&mut self, name: &Name) {
        self.0.retain(|(failed, _)| failed != name);
    }

    fn remember(&mut self, name: Name, fault: Fault) {
        self.forget(&name);
        self.0.push_back((name, fault));
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flight").finish_non_exhaustive()
    }
}

impl Flights {
    pub fn new(parallel: usize) -> Self {
        let places = Arc::new(Semaphore::new(parallel.clamp(1, Semaphore::MAX_PERMITS)));
        Self { under_way: Arc::default(), places, failed: Arc::default() }
    }

    /// The end of the build of this layer: of one that is under way, else of `build`, which is told whom to tell. It goes on when
    /// nobody waits for it any more.
    pub fn join<F>(&self, name: Name, told: Told, build: impl FnOnce(Told) -> F) -> Arrival
    where
        F: Future<Output = Done> + Send + 'static,
    {
        let mut under_way = lock(&self.under_way);
        let flight = match under_way.get(&name) {
            Some(flight) => {
                lock(&flight.audience).joins(told);
                flight.clone()
            }
            None => {
                let flight = self.begin(name.clone(), told, build);
                under_way.insert(name, flight.clone());
                flight
            }
        };
        flight.done
    }

    fn begin<F>(&self, name: Name, told: Told, build: impl FnOnce(Told) -> F) -> Flight
    where
        F: Future<Output = Done> + Send + 'static,
    {
        let audience = Arc::new(Mutex::new(Audience { all: vec![told], last: None }));
        let hearing = Arc::clone(&audience);
        let tell: Told = Arc::new(move |line| lock(&hearing).hears(line));
        let (places, under_way, failed) = (self.places.clone(), self.under_way.clone(), self.failed.clone());
        let (waiting, build) = (Arc::clone(&tell), build(tell));
        let task = tokio::spawn(async move {
            if places.available_permits() == 0 {
                waiting("waiting for another environment's build to end");
            }
            let _place = places.acquire_owned().await.map_err(|_| Fault::bug("no environment is built any more"))?;
            build.await
        });
        let done = async move {
            let done = task.await.unwrap_or_else(|error| Err(Fault::bug(format!("a build broke off: {error}"))));
            match &done {
                Ok(_) => lock(&failed).forget(&name),
                Err(fault) => lock(&failed).remember(name.clone(), fault.clone()),
            }
            lock(&under_way).remove(&name);
            done
        };
        // Driven by a task of its own, so that it is cleared away when nobody waits.
        let done = tokio::spawn(done);
        let done =
            async move { done.await.unwrap_or_else(|error| Err(Fault::bug(format!("a build broke off: {error}")))) };
        Flight { done: done.boxed().shared(), audience }
    }

    /// Why building this layer failed last.
    pub fn failed(&self, name: &Name) -> Option<Fault> {
        lock(&self.failed).0.iter().find(|(failed, _)| failed == name).map(|(_, fault)| fault.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
