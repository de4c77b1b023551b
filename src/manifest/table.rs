//! The table of listings: each path once, none a folder of another.
//!
//! Owns what happens when lines name the same path; never reads a line. Invariant: a listing has the least restricted class
//! of the known lines that name it, and `Package` where any of them does.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::manifest::server_ini::{Kind, Listing, ManifestError, ManifestReason};

/// Listings by path. Paths are kept as their names, each under its folder, so that placing one takes time proportional to
/// its length, and most often one look-up: neighbours share their folder.
pub(super) struct Table<'a> {
    nodes: HashMap<(FolderId, &'a str), Node>,
    folders: u32,
    last: (&'a str, FolderId),
    listings: Vec<Listing>,
    /// The line that placed each listing.
    lines: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct FolderId(u32);

enum Node {
    Folder { id: FolderId, line: usize },
    File { listing: usize },
}

impl<'a> Table<'a> {
    /// A table with room for so many.
    pub(super) fn with_capacity(listings: usize) -> Self {
        Self {
            nodes: HashMap::with_capacity(listings),
            folders: 0,
            last: ("", FolderId(0)),
            listings: Vec::with_capacity(listings),
            lines: Vec::with_capacity(listings),
        }
    }

    /// Places what a line lists and says at which index it stands. `path` is the listing's own, borrowed for longer.
    pub(super) fn place(
        &mut self,
        path: &'a str,
        line: usize,
        listing: Listing,
    ) -> Result<usize, ManifestError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.folder(folder, line)?;
        match self.nodes.entry((folder, name)) {
            Entry::Vacant(vacant) => {
                let index = self.listings.len();
                vacant.insert(Node::File { listing: index });
                self.listings.push(listing);
                self.lines.push(line);
                Ok(index)
            }
            Entry::Occupied(occupied) => match *occupied.get() {
                Node::Folder { line: other, .. } => Err(file_and_folder(path, line, other)),
                Node::File { listing: index } => self.merge(index, line, listing).map(|()| index),
            },
        }
    }

    /// The listings, in the order in which their paths came first.
    pub(super) fn into_listings(self) -> Vec<Listing> {
        self.listings
    }

    /// Finds a folder, or makes it.
    fn folder(&mut self, folder: &'a str, line: usize) -> Result<FolderId, ManifestError> {
        if self.last.0 == folder {
            return Ok(self.last.1);
        }
        let mut id = FolderId(0);
        let mut end = 0;
        for name in folder.split('/').filter(|name| !name.is_empty()) {
            end += name.len();
            match self.nodes.entry((id, name)) {
                Entry::Vacant(vacant) => {
                    self.folders += 1;
                    id = FolderId(self.folders);
                    vacant.insert(Node::Folder { id, line });
                }
                Entry::Occupied(occupied) => match *occupied.get() {
                    Node::Folder { id: there, .. } => id = there,
                    Node::File { listing } => {
                        return Err(file_and_folder(&folder[..end], line, self.lines[listing]));
                    }
                },
            }
            end += 1;
        }
        self.last = (folder, id);
        Ok(id)
    }

    /// Another line names a path that is there already.
    fn merge(&mut self, index: usize, line: usize, listing: Listing) -> Result<(), ManifestError> {
        let there = &mut self.listings[index];
        if there.size != listing.size {
            let reason = ManifestReason::TwoSizes {
                path: listing.path,
                size: listing.size,
                other_size: there.size,
                other: self.lines[index],
            };
            return Err(ManifestError { line, reason });
        }
        if listing.kind == Kind::Guess && there.kind != Kind::Guess {
            // A line that nobody knows does not widen who may have a file.
            return Ok(());
        }
        let class = there.class.min(listing.class);
        if (listing.kind, listing.class) < (there.kind, there.class) {
            *there = listing;
        }
        there.class = class;
        Ok(())
    }
}

fn file_and_folder(path: &str, line: usize, other: usize) -> ManifestError {
    ManifestError { line, reason: ManifestReason::FileAndFolder { path: path.into(), other } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::path::TreePath;
    use crate::manifest::catalogue::Class;

    fn listing(path: &str, kind: Kind, class: Class, size: u64) -> Listing {
        let path = TreePath::parse(path.as_bytes()).unwrap();
        Listing { path, kind, class, component: format!("{kind:?}").into(), version: "1".into(), size }
    }

    #[test]
    fn one_path_on_two_lines_is_one_package_of_the_least_restricted_class() {
        let mut table = Table::with_capacity(2);
        let first = listing("a/b", Kind::Increment, Class::Pattern, 5);
        let second = listing("a/b", Kind::Package, Class::Program, 5);
        assert_eq!(table.place("a/b", 1, first), Ok(0));
        assert_eq!(table.place("a/b", 2, second), Ok(0));
        let listings = table.into_listings();
        assert_eq!(listings, [listing("a/b", Kind::Package, Class::Pattern, 5)]);
    }

    #[test]
    fn a_guess_does_not_widen_who_may_have_a_known_file_r6_3() {
        let mut table = Table::with_capacity(2);
        table.place("a/b", 1, listing("a/b", Kind::Package, Class::Program, 5)).unwrap();
        table.place("a/b", 2, listing("a/b", Kind::Guess, Class::Pattern, 5)).unwrap();
        assert_eq!(table.into_listings(), [listing("a/b", Kind::Package, Class::Program, 5)]);
    }

    #[test]
    fn one_path_with_two_sizes_is_refused_with_both_lines() {
        let mut table = Table::with_capacity(2);
        table.place("a/b", 3, listing("a/b", Kind::Package, Class::Pattern, 5)).unwrap();
        let error = table.place("a/b", 7, listing("a/b", Kind::Package, Class::Pattern, 6)).unwrap_err();
        assert_eq!(error.to_string(), "line 7: 'a/b' has 6 bytes here and 5 on line 3");
    }

    #[test]
    fn a_file_that_is_a_folder_of_another_is_refused_in_either_order() {
        for (first, second, said) in [("a/b", "a/b/c/d", "a/b"), ("a/b/c/d", "a/b", "a/b"), ("a", "a/b", "a")]
        {
            let mut table = Table::with_capacity(2);
            table.place(first, 1, listing(first, Kind::Package, Class::Pattern, 5)).unwrap();
            let error =
                table.place(second, 2, listing(second, Kind::Package, Class::Pattern, 5)).unwrap_err();
            assert_eq!(error, file_and_folder(said, 2, 1), "{first} then {second}");
        }
    }

    #[test]
    fn names_that_only_begin_alike_are_no_folders_of_each_other() {
        let mut table = Table::with_capacity(4);
        for (index, path) in ["a/b", "a/b-c/d", "a/bc", "b/a/b"].into_iter().enumerate() {
            assert_eq!(table.place(path, index, listing(path, Kind::Package, Class::Pattern, 5)), Ok(index));
        }
    }
}
