//! One manifest with the files that it names.
//!
//! Invariant: every listing of the manifest has an entry, and so has each listing's signature; `server.ini` and
//! `ini_xml.zip` have none.

use std::collections::{BTreeSet, HashMap, HashSet, hash_map};
use std::io;
use std::sync::Arc;

use foldhash::fast::RandomState;
use jiff::Timestamp;

use crate::base::path::TreePath;
use crate::base::tree::{GenerationNumber, TreeName};
use crate::manifest::catalogue::{Catalogue, Class};
use crate::manifest::server_ini::{Kind, Manifest, ManifestError};
use crate::relay::entry::{Entry, Identity, Prior, Role, State};
use crate::store::Store;
use crate::store::generations::{GenerationFolder, Head, Record};

/// A generation in memory.
#[derive(Debug)]
pub struct Generation {
    tree: TreeName,
    head: Head,
    manifest: Arc<Manifest>,
    /// What the classes come from.
    catalogue: Arc<Catalogue>,
    files: HashMap<TreePath, Listed, RandomState>,
    folder: Arc<GenerationFolder>,
}

/// A file of a generation.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The class that decides who may have it; of several, the least restricted.
    pub class: Class,
    /// The file.
    pub entry: Arc<Entry>,
}

/// The files of a generation that is being put together.
#[derive(Clone, Debug, Default)]
pub struct Files(HashMap<TreePath, Listed, RandomState>);

impl Files {
    /// Makes entries for the signatures of everything that the manifest lists. `prior` says what was held under a path.
    pub fn signatures(
        tree: &TreeName,
        number: GenerationNumber,
        manifest: &Manifest,
        prior: impl Fn(&TreePath) -> Option<Prior>,
    ) -> Self {
        let mut files = Self::default();
        let named: HashSet<&TreePath> = manifest.listings().iter().map(|l| &l.path).collect();
        for listing in manifest.listings() {
            let Some(path) = listing.path.signature().filter(|path| !named.contains(path)) else { continue };
            let identity = Identity {
                tree: tree.clone(),
                path: path.clone(),
                role: Role::Signature,
                component: listing.component.clone(),
                version: "".into(),
                size: None,
                generation: Some(number),
            };
            files.add(listing.class, path, |path| Arc::new(Entry::new(identity, prior(path))));
        }
        files
    }

    /// Adds entries for the packages and increments; `entry` gives one for an identity, an older one where it may.
    pub fn add_listings(
        &mut self,
        tree: &TreeName,
        manifest: &Manifest,
        entry: impl Fn(Identity) -> Arc<Entry>,
    ) {
        for listing in manifest.listings() {
            let identity = Identity {
                tree: tree.clone(),
                path: listing.path.clone(),
                role: match listing.kind {
                    Kind::Package => Role::Package,
                    Kind::Increment => Role::Increment,
                    Kind::Guess => Role::Guess,
                },
                component: listing.component.clone(),
                version: listing.version.clone(),
                size: Some(listing.size),
                generation: None,
            };
            self.add(listing.class, listing.path.clone(), |_| entry(identity));
        }
    }

    /// Adds all of another's files.
    pub fn add_all(&mut self, others: &Self) {
        for (path, listed) in &others.0 {
            self.add(listed.class, path.clone(), |_| listed.entry.clone());
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Listed> {
        self.0.values()
    }

    /// One of them.
    pub fn listed(&self, path: &TreePath) -> Option<&Listed> {
        self.0.get(path)
    }

    fn add(&mut self, class: Class, path: TreePath, entry: impl FnOnce(&TreePath) -> Arc<Entry>) {
        match self.0.entry(path) {
            hash_map::Entry::Occupied(mut there) => {
                let there = there.get_mut();
                there.class = there.class.min(class);
            }
            hash_map::Entry::Vacant(place) => {
                let entry = entry(place.key());
                place.insert(Listed { class, entry });
            }
        }
    }
}

impl Generation {
    /// Puts a generation together from its parts.
    pub fn new(
        tree: TreeName,
        head: Head,
        manifest: Manifest,
        catalogue: Catalogue,
        files: Files,
        folder: GenerationFolder,
    ) -> Self {
        let (manifest, catalogue, folder) = (Arc::new(manifest), Arc::new(catalogue), Arc::new(folder));
        Self { tree, head, manifest, catalogue, files: files.0, folder }
    }

    /// The same generation without files that the upstream turned out not to have. They get entries of their own, since
    /// an older generation may have the others.
    #[must_use]
    pub fn withholding(&self, absent: &HashSet<TreePath>) -> Self {
        let mut files = self.files.clone();
        for path in absent {
            if let Some(listed) = files.get_mut(path) {
                let entry = Entry::new(listed.entry.identity().clone(), None);
                entry.set_absent();
                listed.entry = Arc::new(entry);
            }
        }
        self.with(self.manifest.clone(), self.catalogue.clone(), files)
    }

    /// The same generation with the classes that another catalogue gives.
    pub fn reclassified(&self, catalogue: Catalogue) -> Result<Self, ManifestError> {
        let manifest = Manifest::read(self.manifest.bytes().clone(), &catalogue)?;
        let mut files = Files::default();
        let named: HashSet<&TreePath> = manifest.listings().iter().map(|l| &l.path).collect();
        for listing in manifest.listings() {
            let signature = listing.path.signature().filter(|path| !named.contains(path));
            for path in signature.into_iter().chain([listing.path.clone()]) {
                // The paths that a manifest names do not depend on the catalogue: each has its entry.
                if let Some(listed) = self.files.get(&path) {
                    files.add(listing.class, path, |_| listed.entry.clone());
                }
            }
        }
        Ok(self.with(Arc::new(manifest), Arc::new(catalogue), files.0))
    }

    fn with(
        &self,
        manifest: Arc<Manifest>,
        catalogue: Arc<Catalogue>,
        files: HashMap<TreePath, Listed, RandomState>,
    ) -> Self {
        let (tree, head, folder) = (self.tree.clone(), self.head.clone(), self.folder.clone());
        Self { tree, head, manifest, catalogue, files, folder }
    }

    /// The catalogue that its classes come from.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Its tree.
    pub fn tree(&self) -> &TreeName {
        &self.tree
    }

    /// Its number.
    pub fn number(&self) -> GenerationNumber {
        self.head.number
    }

    /// When its manifest was taken, by the wall clock.
    pub fn taken(&self) -> Timestamp {
        self.head.taken
    }

    /// What the upstream said of its manifest, and which origin that was.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its folder in the store.
    pub fn folder(&self) -> &GenerationFolder {
        &self.folder
    }

    /// A file that it names.
    pub fn listed(&self, path: &TreePath) -> Option<&Listed> {
        self.files.get(path)
    }

    /// All files that it names, in no order.
    pub fn files(&self) -> impl Iterator<Item = &Listed> {
        self.files.values()
    }

    /// The files that the upstream does not have.
    pub fn absent(&self) -> BTreeSet<&TreePath> {
        let absent = self.files().filter(|listed| matches!(**listed.entry.state(), State::Absent));
        absent.map(|listed| listed.entry.path()).collect()
    }

    /// How many increments the upstream does not have: they are withheld from its views.
    pub fn withheld(&self) -> usize {
        let absent = |entry: &Entry| matches!(**entry.state(), State::Absent);
        self.files().filter(|l| l.entry.identity().role == Role::Increment && absent(&l.entry)).count()
    }

    /// Whether this very entry is one of its files.
    pub fn names(&self, entry: &Arc<Entry>) -> bool {
        self.listed(entry.path()).is_some_and(|listed| Arc::ptr_eq(&listed.entry, entry))
    }

    /// Writes records about its files into its journal.
    pub fn record(&self, records: &[Record]) -> io::Result<()> {
        self.folder.append(records)
    }
}

/// Brings entries to what a journal says of them, where the store still has the blobs.
pub fn restore(files: &Files, records: &[Record], store: &Store) {
    for record in records {
        match record {
            Record::Held(held) => {
                if let Some(listed) = files.listed(&held.path)
                    && listed.entry.identity().size.is_none_or(|size| size == held.blob.size)
                {
                    if store.holds(held.blob) {
                        listed.entry.set_held(held.blob, held.validator.clone());
                    } else {
                        listed.entry.set_seen(held.validator.clone());
                    }
                }
            }
            Record::Absent { path } => {
                if let Some(listed) = files.listed(path) {
                    listed.entry.set_absent();
                }
            }
            Record::Generation(_) => {}
        }
    }
}
