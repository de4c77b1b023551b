//! A new set made of the one before and what was taken: hard links to files that are on the disk already, published as one.
//!
//! Waits for the disk. Invariant: a set is published only when each of its files and names is synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use tracing::warn;

use crate::agent::folder::{Folder, FolderError, named};
use crate::agent::installed::{Has, Installed};
use crate::agent::wants::Want;
use crate::base::blob::BlobId;
use crate::base::path::TreePath;
use crate::base::tree::TreeName;

/// A component that was taken.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) want: Want,
    /// Where its file lies, synced.
    pub(super) file: PathBuf,
    pub(super) size: u64,
    pub(super) hash: BlobId,
    pub(super) made: Made,
    pub(super) signature: Option<Bytes>,
}

/// How a component's file came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// It is the package.
    Whole,
    /// Of the version before and an increment.
    Merged,
}

/// What of a set is there as it says: files of the right size.
pub(super) fn present(folder: &Folder, installed: Installed) -> Installed {
    let root = folder.place().version(installed.number);
    let is_there = |has: &Has| {
        let there = std::fs::metadata(root.join(has.place()));
        there.is_ok_and(|there| there.is_file() && there.len() == has.size)
    };
    let components = installed.components.into_iter().filter(is_there).collect();
    Installed { components, ..installed }
}

/// Publishes the set of what was there and what was taken in its place.
pub(super) fn install(
    folder: &Folder,
    before: &Installed,
    taken: &[Taken],
    manifests: &BTreeMap<TreeName, Bytes>,
    now: Timestamp,
) -> Result<Installed, FolderError> {
    let number = before.number + 1;
    let mut set = Set { folder, root: folder.begin_version(number)?, folders: BTreeSet::new() };
    let mut components = Vec::new();
    let from = folder.place().version(before.number);
    for has in before.components.iter().filter(|has| stays(has, taken)) {
        let mut has = has.clone();
        if !set.link(&from.join(has.place()), &has.place())? {
            warn!(component = %has.component, "a component's file is gone");
            continue;
        }
        // Files of several components may have one signature between them.
        if let Some(signature) = has.signature().filter(|place| !set.holds(place)) {
            has.signed = set.link(&from.join(&signature), &signature)?;
        }
        components.push(has);
    }
    for taken in taken {
        let has = taken.installed(number, now);
        set.link(&taken.file, &has.place())?;
        if let (Some(place), Some(bytes)) = (has.signature(), &taken.signature)
            && !set.holds(&place)
        {
            set.write(&place, bytes)?;
        }
        components.push(has);
    }
    for (tree, manifest) in manifests {
        set.write(&format!("{tree}/server.ini"), manifest)?;
    }
    for tree in before.components.iter().map(|has| &has.tree).filter(|tree| !manifests.contains_key(tree)) {
        let place = format!("{tree}/server.ini");
        if !set.holds(&place) {
            set.link(&from.join(&place), &place)?;
        }
    }
    set.sync()?;
    components.sort_by(|one, other| (&one.tree, &one.component).cmp(&(&other.tree, &other.component)));
    let installed = Installed { number, components };
    folder.publish(&installed)?;
    Ok(installed)
}

impl Taken {
    fn installed(&self, number: u64, now: Timestamp) -> Has {
        let Want { tree, component, class, version, package, .. } = self.want.clone();
        let (size, hash, merged) = (self.size, self.hash, self.made == Made::Merged);
        let signed = self.signature.is_some() && package.path.signature().is_some();
        let path = package.path;
        Has { tree, component, class, version, path, size, hash, signed, merged, since: now, came_in: number }
    }
}

/// Whether a component stays as it is: nothing was taken for it, nor for a place that is in its way.
fn stays(has: &Has, taken: &[Taken]) -> bool {
    taken.iter().all(|taken| {
        let same = taken.want.component == has.component;
        taken.want.tree != has.tree || !same && !collide(&taken.want.package.path, &has.path)
    })
}

/// Whether two paths are one file, or the one a folder of the other.
fn collide(one: &TreePath, other: &TreePath) -> bool {
    let within =
        |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    let (one, other) = (one.as_str(), other.as_str());
    one == other || within(one, other) || within(other, one)
}

/// A set that is being built.
struct Set<'f> {
    folder: &'f Folder,
    root: PathBuf,
    /// Those that have new names in them.
    folders: BTreeSet<PathBuf>,
}

impl Set<'_> {
    fn holds(&self, place: &str) -> bool {
        self.root.join(place).exists()
    }

    /// Gives a file a name in the set; false where there is no such file.
    fn link(&mut self, from: &Path, place: &str) -> Result<bool, FolderError> {
        let to = self.make_way(place)?;
        match self.folder.place().disk().link(from, &to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !from.exists() => Ok(false),
            Err(error) => Err(named(&to)(error)),
        }
    }

    fn write(&mut self, place: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let to = self.make_way(place)?;
        let disk = self.folder.place().disk();
        let written = disk.create_new(&to).and_then(|file| {
            disk.write_all_at(&file, bytes, 0)?;
            disk.sync(&file)
        });
        written.map_err(named(&to))
    }

    /// Where a place of the set is, once there is a folder for it.
    fn make_way(&mut self, place: &str) -> Result<PathBuf, FolderError> {
        let to = self.root.join(place);
        let folders = to.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
        let new: Vec<PathBuf> =
            folders.filter(|folder| !self.folders.contains(*folder)).map(Path::to_owned).collect();
        if let Some(deepest) = new.first() {
            self.folder.place().disk().create_private_folder(deepest).map_err(named(deepest))?;
        }
        self.folders.extend(new);
        Ok(to)
    }

    fn sync(&self) -> Result<(), FolderError> {
        let disk = self.folder.place().disk();
        self.folders.iter().try_for_each(|folder| disk.sync_folder(folder).map_err(named(folder)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_the_way_of_itself_and_of_what_lies_below_it() {
        let path = |text: &str| TreePath::parse(text.as_bytes()).unwrap();
        for (one, other, expected) in
            [("a/b", "a/b", true), ("a/b", "a/b/c", true), ("a/b/c", "a/b", true), ("a/b", "a/bc", false)]
        {
            assert_eq!(collide(&path(one), &path(other)), expected, "{one} {other}");
        }
    }
}
