//! Collection: layers go, those first that were used longest ago, until the rest is within its bound. What is in use is seen by
//! reading what the places say; nothing is counted that a crash could leave wrong.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use domain::{Fault, ids::RepositoryId, ports::workspace::DiskUse};

use crate::{
    home::{Home, read_dir},
    layer::{AboutBase, LayerName, about, last_used},
    place::{Place, Ready},
    store::Store,
};

/// A place that is being made may not say yet what it is over.
const IN_THE_MAKING: Duration = Duration::from_secs(120);
/// A repository whose directory is gone may come back: what it takes time to make again is kept so long.
const GONE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A layer that is there.
#[derive(Debug)]
struct Found {
    repository: RepositoryId,
    name: LayerName,
    root: PathBuf,
    bytes: u64,
    used: SystemTime,
    /// What it lies over.
    over: Vec<LayerName>,
    /// Whether the directory of its repository is there.
    wanted: bool,
}

impl Home {
    /// What is in use, by all places.
    pub fn places(&self) -> Result<Vec<Ready>, Fault> {
        let mut parents = vec![self.workspaces(), self.checkouts()];
        parents.extend(self.stores()?.iter().map(|store| store.root().join("raised")).filter(|path| path.is_dir()));
        let mut places = Vec::new();
        for parent in parents {
            for root in read_dir(&parent)? {
                places.extend(Place::new(root).ready()?);
            }
        }
        Ok(places)
    }

    pub fn used_layers(&self) -> Result<BTreeSet<(RepositoryId, LayerName)>, Fault> {
        let mut used = BTreeSet::new();
        for ready in self.places()? {
            let Some(id) = ready.repository else { continue };
            // One that was copied is in use too: what it put there is told from work by it.
            let copied = ready.environment.map(LayerName::Environment);
            used.extend(ready.layers.into_iter().chain(copied).map(|name| (id.clone(), name)));
        }
        Ok(used)
    }

    pub fn disk_use(&self) -> Result<DiskUse, Fault> {
        let found = self.found()?;
        Ok(DiskUse {
            layers: found.len().try_into().unwrap_or(u32::MAX),
            layer_bytes: found.iter().map(|layer| layer.bytes).sum(),
            budget_bytes: self.layers_bytes,
            workspaces: read_dir(&self.workspaces())?.len().try_into().unwrap_or(u32::MAX),
        })
    }

    /// Makes a layer that is not in use, and may be had again, go until the rest is within its bound.
    pub fn collect(&self) -> Result<(), Fault> {
        self.while_layers_go(|| {
            let used = self.used_layers()?;
            self.forget_gone(&used)?;
            let mut found = self.found()?;
            found.sort_by_key(|layer| (layer.wanted, layer.used));
            let mut held: u64 = found.iter().map(|layer| layer.bytes).sum();
            let old = SystemTime::now() - IN_THE_MAKING;
            while held > self.layers_bytes || found.iter().any(|layer| !layer.wanted) {
                let over_budget = held > self.layers_bytes;
                let may_go = |layer: &Found| {
                    (over_budget || !layer.wanted)
                        && layer.used < old
                        && !used.contains(&(layer.repository.clone(), layer.name.clone()))
                        && !found
                            .iter()
                            .any(|above| above.repository == layer.repository && above.over.contains(&layer.name))
                };
                let Some(at) = found.iter().position(may_go) else { break };
                let layer = found.remove(at);
                self.throw_away(&layer.root)?;
                held -= layer.bytes;
                tracing::info!(layer = %layer.root.display(), bytes = layer.bytes, "collected");
            }
            Ok(())
        })
    }

    /// Removes all that is kept of repositories that are gone for long, when no task has anything in them.
    fn forget_gone(&self, used: &BTreeSet<(RepositoryId, LayerName)>) -> Result<(), Fault> {
        let old = SystemTime::now() - GONE;
        let places = self.places()?;
        for store in self.stores()? {
            let id = store.id();
            let named = fs::metadata(store.named()).and_then(|file| file.modified());
            if store.is_wanted()
                || named.is_ok_and(|named| named > old)
                || used.iter().any(|(user, _)| *user == id)
                || places.iter().any(|ready| ready.repository.as_ref().is_none_or(|user| *user == id))
                || store.has_task_refs()?
            {
                continue;
            }
            tracing::info!(repository = %id.0, "its directory is gone: what was kept of it goes too");
            self.throw_away(store.root())?;
        }
        Ok(())
    }

    fn stores(&self) -> Result<Vec<Store<'_>>, Fault> {
        let roots = read_dir(&self.repositories())?;
        Ok(roots.into_iter().map(|root| Store::new(self, root)).collect())
    }

    fn found(&self) -> Result<Vec<Found>, Fault> {
        let mut found = Vec::new();
        for store in self.stores()? {
            let mut push = |name: LayerName, bytes: u64, over: Vec<LayerName>| {
                let root = store.layer_root(&name);
                let used = last_used(&root);
                found.push(Found { repository: store.id(), name, root, bytes, used, over, wanted: store.is_wanted() });
            };
            for (id, about) in store.environment_ids()? {
                let over = about.below.into_iter().map(LayerName::Environment).collect();
                push(LayerName::Environment(id), about.bytes, over);
            }
            let bases = store.layers().join("base");
            for root in if bases.is_dir() { read_dir(&bases)? } else { Vec::new() } {
                let Some(AboutBase { stack, .. }) = about(&root)? else { continue };
                let mut stack = stack.into_iter().map(LayerName::Base);
                let Some(name) = stack.next() else { continue };
                // Not known until it has settled.
                let bytes = fs::read_to_string(root.join("durable")).ok().and_then(|text| text.parse().ok());
                push(name, bytes.unwrap_or(0), stack.collect());
            }
        }
        Ok(found)
    }
}
