//! What a manifest has to offer: its components, each with its full file and its increments.
//!
//! Agents that were given the same manifest share its menu. Never fetches. Invariant: the table of menus has at most [`MENUS_MAX`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::base::blob::BlobId;
use crate::base::path::TreePath;
use crate::load::fault::{Failure, Fault};
use crate::load::plan::Choice;
use crate::manifest::catalogue::{Catalogue, Class};
use crate::manifest::server_ini::{Kind, Listing, Manifest};

/// Components in the manifest's order.
#[derive(Debug)]
pub struct Menu {
    items: Vec<Item>,
}

/// A component.
#[derive(Debug)]
pub struct Item {
    /// Its class.
    pub class: Class,
    full: Option<File>,
    increments: Vec<File>,
}

/// A file.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it lies in the tree.
    pub path: TreePath,
    /// Bytes.
    pub size: u64,
    /// Whether it is an increment.
    pub is_increment: bool,
}

/// The menus of a run.
#[derive(Debug)]
pub struct Menus {
    catalogue: Catalogue,
    /// Guards the menus by the hash of their manifest's bytes.
    known: Mutex<HashMap<BlobId, Arc<Menu>>>,
}

impl Menu {
    /// Reads what a manifest lists. What it may only seem to list need not exist, and is left out.
    pub fn of(manifest: &Manifest) -> Self {
        let mut items: Vec<Item> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        // Full files by their folder and version: a manifest may name a component's full file under another key than its increments.
        let mut versions: HashMap<(&str, &str), usize> = HashMap::new();
        let listings = || manifest.listings().iter();
        for listing in listings().filter(|listing| listing.kind == Kind::Package) {
            places.entry(&listing.component).or_insert(items.len());
            versions.entry((folder(&listing.path), &listing.version)).or_insert(items.len());
            let full = Some(File::of(listing));
            items.push(Item { class: listing.class, full, increments: Vec::new() });
        }
        for listing in listings().filter(|listing| listing.kind == Kind::Increment) {
            let to = listing.version.rsplit('-').next().unwrap_or_default();
            let place = *places.entry(&listing.component).or_insert_with(|| {
                versions.get(&(folder(&listing.path), to)).copied().unwrap_or_else(|| {
                    items.push(Item { class: listing.class, full: None, increments: Vec::new() });
                    items.len() - 1
                })
            });
            items[place].increments.push(File::of(listing));
        }
        Self { items }
    }

    /// The components.
    pub fn items(&self) -> &[Item] {
        &self.items
    }
}

impl File {
    fn of(listing: &Listing) -> Self {
        let is_increment = listing.kind == Kind::Increment;
        Self { path: listing.path.clone(), size: listing.size, is_increment }
    }
}

impl Item {
    /// The file that is taken by a choice; of the increments, one is drawn.
    pub fn chosen(&self, choice: Choice, random: &mut SmallRng) -> Option<&File> {
        match choice {
            Choice::Current => None,
            Choice::Increment if !self.increments.is_empty() => {
                self.increments.get(random.random_range(0..self.increments.len()))
            }
            Choice::Full | Choice::Increment => self.full.as_ref(),
        }
    }
}

impl Menus {
    /// No menus yet; classes by the catalogue that the program has.
    pub fn new() -> Self {
        Self { catalogue: Catalogue::builtin(), known: Mutex::default() }
    }

    /// The menu of a manifest.
    pub fn menu(&self, hash: BlobId, manifest: Bytes) -> Result<Arc<Menu>, Failure> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(menu) = known.get(&hash) {
            return Ok(menu.clone());
        }
        if known.len() == MENUS_MAX {
            let what = format!("this is one more than {MENUS_MAX} different manifests");
            return Err(Failure::new(Fault::Manifest, what));
        }
        // Read under the lock: others would only wait to read the same.
        let read = Manifest::read(manifest, &self.catalogue);
        let read = read.map_err(|error| Failure::new(Fault::Manifest, error.to_string()))?;
        let menu = Arc::new(Menu::of(&read));
        known.insert(hash, menu.clone());
        Ok(menu)
    }
}

impl Default for Menus {
    fn default() -> Self {
        Self::new()
    }
}

/// The folder that a file lies in.
fn folder(path: &TreePath) -> &str {
    path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Different manifests in one run: a relay has one for each scope and generation, and more cost memory without end.
pub const MENUS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::draw::{Purpose, draw};

    fn menu(text: &str) -> Menu {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        Menu::of(&Manifest::read(bytes, &Catalogue::builtin()).unwrap())
    }

    #[test]
    fn a_component_has_its_full_file_and_its_increments_r12_1() {
        let menu = menu(
            "[PATTERN]\nP.4=p/a.zip,3,30\nP.4.MergeCountEx=2\nP.4.Merge.1=p/a_2.3,2,2\nP.4.Merge.2=p/a_1.3,1,3\n\
             Other=x/guess.zip,1,1\n[ENGINE]\nE.4=VSAPI,e/b.zip,1.0.1,40,1.0\n",
        );
        let [pattern, engine] = menu.items() else { panic!("{menu:?}") };
        assert_eq!((pattern.class, engine.class), (Class::Pattern, Class::Engine));
        let taken = |item: &Item, choice, agent| {
            let file = item.chosen(choice, &mut draw(1, Purpose::Choice, agent, 0));
            file.map(|file| (file.path.to_string(), file.size))
        };
        assert_eq!(taken(pattern, Choice::Full, 0), Some(("p/a.zip".into(), 30)));
        assert_eq!(taken(pattern, Choice::Current, 0), None);
        let mut increments: Vec<_> = (0..50).map(|agent| taken(pattern, Choice::Increment, agent)).collect();
        increments.sort();
        increments.dedup();
        assert_eq!(increments, [Some(("p/a_1.3".into(), 3)), Some(("p/a_2.3".into(), 2))]);
        assert_eq!(taken(engine, Choice::Increment, 0), Some(("e/b.zip".into(), 40)));
    }

    #[test]
    fn increments_find_the_full_file_that_another_key_names() {
        let text = "[PATTERN]\nVersion=3\nPath_VSAPI=p/a.zip, 30\nP.4=p/a.zip,3,30\nP.4.Merge.1=p/a_2.3,2,2\n\
                    P.5=q/b.zip,3,9\n";
        let menu = menu(text);
        let increments: Vec<_> = menu.items().iter().map(|item| item.increments.len()).collect();
        assert_eq!(increments, [1, 0], "{menu:?}");
    }

    #[test]
    fn menus_are_shared_and_bounded_and_what_is_no_manifest_is_refused() {
        let menus = Menus::new();
        let take =
            |text: &str| menus.menu(BlobId::of(text.as_bytes()), Bytes::copy_from_slice(text.as_bytes()));
        let text = |number| format!("[PATTERN]\nP.4=p/{number}.zip,3,30\n");
        assert!(Arc::ptr_eq(&take(&text(0)).unwrap(), &take(&text(0)).unwrap()));
        assert_eq!(take("<html>").unwrap_err().fault, Fault::Manifest);
        for number in 1..MENUS_MAX {
            take(&text(number)).unwrap();
        }
        assert!(take(&text(MENUS_MAX)).unwrap_err().what.contains("different manifests"));
        take(&text(0)).unwrap();
    }
}
