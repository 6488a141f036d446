//! A layered workspace's change, written into an import.
//!
//! Contents go in as they are, except where attributes say that git stores a file otherwise than it is checked out (line endings,
//! `ident`, another encoding): those few are put aside, and git itself stores them.

use std::{collections::HashMap, path::PathBuf};

use domain::Fault;

use crate::{
    git::pieces,
    given::Given,
    home::remove_tree,
    import::Import,
    layer::LayerName,
    path_of,
    place::{Place, Ready},
    reading::{Bounds, Found, Known, LayerOf, Lower, Reader, What},
    redaction::{Content, Redaction},
    stage::write_file,
    store::Store,
    upper::Side,
};

/// One reading of a layered workspace.
#[derive(Debug)]
pub(crate) struct Layered<'a> {
    pub store: &'a Store<'a>,
    pub place: &'a Place,
    pub ready: &'a Ready,
    pub redaction: &'a Redaction<'a>,
}

/// Files that git is to store.
#[derive(Debug)]
struct Aside {
    stage: PathBuf,
    index: PathBuf,
    /// Paths from the root.
    files: Vec<Vec<u8>>,
}

impl Layered<'_> {
    /// Tells an import on the base all that differs from it.
    pub fn write_to(&self, import: &mut Import<'_>) -> Result<(), Fault> {
        let base = self
            .store
            .base(&self.ready.base)
            .ok_or_else(|| Fault::not_found(format!("the base store {} is gone", self.ready.base)))?
            .about()?;
        let trees = self.store.stack(&self.ready.layers)?.trees;
        let lower = trees.into_iter().zip(&self.ready.layers).map(|(tree, name)| {
            let of = if matches!(name, LayerName::Base(_)) { LayerOf::Base } else { LayerOf::Environment };
            Lower { tree, of }
        });
        let lower: Vec<Lower> = lower.collect();
        let bounds = Bounds::default();
        let given = Given::to(self.store, self.place, self.ready)?;
        let known = Known { submodules: &base.submodules, given: &given };
        let (upper, all) = Reader::new(Side::open(&self.place.upper())?, &lower, known, bounds)?.read()?;
        let (stage, index) = (self.place.root().join("stage"), self.place.root().join("index.stage"));
        let mut aside = Aside { stage, index, files: Vec::new() };
        aside.clear()?;
        let mut bytes_left = bounds.total_bytes;
        for found in &all {
            let bytes = self.write(&upper, found, import, &mut aside)?;
            bytes_left = bytes_left.checked_sub(bytes).ok_or_else(|| {
                Fault::input(format!("the change is larger than {} MiB", bounds.total_bytes >> 20))
                    .hint("remove what is not work, or have git ignore it by a line in .gitignore")
            })?;
        }
        if !aside.files.is_empty() {
            self.write_aside(&aside, import)?;
            aside.clear()?;
        }
        Ok(())
    }

    /// Returns how many bytes its content has.
    fn write(&self, upper: &Side, found: &Found, import: &mut Import<'_>, aside: &mut Aside) -> Result<u64, Fault> {
        let path = &found.path;
        match found.what {
            What::Gone => {}
            What::Link => {
                if let Some(target) = upper.link(path)? {
                    let content = self.redaction.pass(target)?;
                    import.write(b"120000", Content::Bytes(content), path)?;
                    return Ok(0);
                }
            }
            What::File => {
                if let Some(file) = upper.file(path)? {
                    let (is_program, content) = self.redaction.read(file, path)?;
                    let length = content.length();
                    if is_stored_otherwise(&content, found) {
                        aside.add(found, is_program, content)?;
                    } else {
                        import.write(if is_program { b"100755" } else { b"100644" }, content, path)?;
                    }
                    return Ok(length);
                }
            }
        }
        import.delete(path)?;
        Ok(0)
    }

    /// Has git store what was put aside, by an index that holds of the base just these files: what is stored with
    /// carriage returns keeps them, whatever the attributes say.
    fn write_aside(&self, aside: &Aside, import: &mut Import<'_>) -> Result<(), Fault> {
        let call = || self.store.git().index(&aside.index);
        let mut seed = Vec::new();
        for paths in aside.files.chunks(100) {
            let names = paths.iter().map(|path| path_of(path));
            let listed = self.store.git().args(["ls-tree", "-z", self.ready.base.as_str(), "--"]).args(names).run()?;
            for entry in pieces(&listed).filter(|entry| entry.starts_with(b"100")) {
                seed.extend_from_slice(entry);
                seed.push(0);
            }
        }
        if !seed.is_empty() {
            call().args(["update-index", "-z", "--index-info"]).input(seed).run()?;
        }
        let mut paths = aside.files.join(&0);
        paths.push(0);
        let update = ["update-index", "-z", "--add", "--replace", "--stdin"];
        call().work_tree(&aside.stage).args(update).input(paths).run()?;
        let listed = call().args(["ls-files", "-s", "-z"]).run()?;
        // `<mode> <object> <stage><TAB><path>`
        let entries = pieces(&listed).filter_map(|entry| {
            let tab = entry.iter().position(|byte| *byte == b'\t')?;
            let mut words = entry[..tab].split(|byte| *byte == b' ');
            Some((&entry[tab + 1..], (words.next()?, words.next()?)))
        });
        let entries: HashMap<&[u8], (&[u8], &[u8])> = entries.collect();
        for path in &aside.files {
            let (mode, object) = entries
                .get(path.as_slice())
                .ok_or_else(|| Fault::bug(format!("git does not store {}", String::from_utf8_lossy(path))))?;
            import.put(mode, object, path)?;
        }
        Ok(())
    }
}

impl Aside {
    fn add(&mut self, found: &Found, is_program: bool, content: Content) -> Result<(), Fault> {
        for (directory, attributes) in found.rules.attributes() {
            let path = self.stage.join(path_of(&[directory, b".gitattributes"].concat()));
            if !path.exists() {
                write_file(&path, false, Content::Bytes(attributes.to_vec()))?;
            }
        }
        let path = self.stage.join(path_of(&found.path));
        if path.exists() {
            // Its own rules are put aside already, and are a change too.
            remove_tree(&path)?;
        }
        write_file(&path, is_program, content)?;
        self.files.push(found.path.clone());
        Ok(())
    }

    /// Removes what this or an interrupted reading left.
    fn clear(&self) -> Result<(), Fault> {
        for path in [&self.stage, &self.index, &self.index.with_extension("stage.lock")] {
            remove_tree(path)?;
        }
        Ok(())
    }
}

/// Whether attributes may have git store a content otherwise than it is.
fn is_stored_otherwise(content: &Content, found: &Found) -> bool {
    let has = |text: &[u8], word: &[u8]| text.windows(word.len()).any(|part| part == word);
    let attributes = || found.rules.attributes().map(|(_, text)| text);
    if attributes().next().is_none() {
        return false;
    }
    match content {
        Content::Spool(..) => true,
        Content::Bytes(bytes) => {
            bytes.contains(&b'\r')
                || attributes().any(|text| has(text, b"working-tree-encoding"))
                || has(bytes, b"$Id") && attributes().any(|text| has(text, b"ident"))
        }
    }
}
