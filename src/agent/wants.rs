//! What of a manifest an agent wants, and by which file: the increment from what it has, or the full package. Pure.
//!
//! Owns the choice between the two. Invariant: what is wanted differs from what is there, and each path is wanted once.

use std::collections::BTreeMap;

use crate::agent::installed::{FURTHER, Has, Installed};
use crate::base::path::TreePath;
use crate::base::tree::TreeName;
use crate::config::agent::Settings;
use crate::manifest::catalogue::Class;
use crate::manifest::server_ini::{Kind, Listing, Manifest};
use crate::policy::scope::Scope;

/// A component that is to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) tree: TreeName,
    pub(super) component: Box<str>,
    pub(super) class: Class,
    /// The version that it is to have.
    pub(super) version: Box<str>,
    /// Its full file.
    pub(super) package: File,
    /// The increment from the version that is there, where that is the shorter way.
    pub(super) increment: Option<File>,
}

/// A file of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: TreePath,
    pub(super) size: u64,
}

/// Whose choice of classes counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The manifest is the relay's, which shows what the scope sees.
    Filtered,
    /// The manifest is whole: the agent keeps to its scope by itself.
    Whole(Scope),
}

/// Whether increments can be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Increments {
    Taken,
    Not,
}

/// Releases that an increment leads over: an agent that is further behind takes the full package.
const BEHIND_MAX: usize = 14;

/// What is wanted of a tree, given what is there whole.
pub(super) fn wants(
    tree: &TreeName,
    manifest: &Manifest,
    shown: Shown,
    settings: &Settings,
    increments: Increments,
    installed: &Installed,
) -> Vec<Want> {
    let seen = |listing: &&Listing| match shown {
        Shown::Filtered => true,
        Shown::Whole(scope) => scope.sees(listing.class),
    };
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let packages = manifest.listings().iter().filter(|listing| listing.kind == Kind::Package).filter(seen);
    let mut wanted = Vec::new();
    for listing in packages.filter(|listing| settings.wants(&listing.component)) {
        let count = counts.entry(&listing.component).and_modify(|count| *count += 1).or_insert(1);
        let component = if *count == 1 {
            listing.component.clone()
        } else {
            format!("{}{FURTHER}{count}", listing.component).into()
        };
        let has = installed.component(tree, &component);
        if has.is_some_and(|has| is_current(has, listing)) {
            continue;
        }
        let package = File { path: listing.path.clone(), size: listing.size };
        let increment = has
            .filter(|_| increments == Increments::Taken)
            .and_then(|has| increment(manifest, listing, &has.version))
            .filter(|increment| increment.size < package.size);
        let (class, version) = (listing.class, listing.version.clone());
        wanted.push(Want { tree: tree.clone(), component, class, version, package, increment });
    }
    wanted
}

/// Whether what is there is what the manifest lists. What was merged is a file of the agent's own making.
fn is_current(has: &Has, listing: &Listing) -> bool {
    has.version == listing.version && (has.merged || has.path == listing.path && has.size == listing.size)
}

/// The increment from this version, among those of the newest releases before.
fn increment(manifest: &Manifest, package: &Listing, from: &str) -> Option<File> {
    let increments = manifest.listings().iter().filter_map(|listing| {
        let of_it = listing.kind == Kind::Increment && listing.component == package.component;
        let from = listing.version.strip_suffix(&*package.version)?.strip_suffix('-')?;
        of_it.then_some((from, listing))
    });
    let mut increments: Vec<_> = increments.collect();
    increments.sort_by_key(|(from, _)| std::cmp::Reverse(order(from)));
    increments.truncate(BEHIND_MAX);
    let (_, listing) = increments.into_iter().find(|(version, _)| *version == from)?;
    Some(File { path: listing.path.clone(), size: listing.size })
}

/// Versions of patterns are numbers.
fn order(version: &str) -> (u64, &str) {
    (version.parse().unwrap_or(0), version)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::Timestamp;

    use super::*;
    use crate::base::blob::BlobId;
    use crate::manifest::catalogue::Catalogue;

    const TEXT: &str = "[PATTERN]\nP.4=pattern/a16.zip,16,9000\n\
        [ENGINE]\nE.4=VSAPI,engine/e1.zip,1.0.1,500,1.0\n[Info_1_2_3_4]\nVersion=2\nBuild=1\n\
        Path=product/x/a.zip,7\n";

    fn manifest(increments: impl IntoIterator<Item = (u32, u64)>) -> Manifest {
        let lines = increments.into_iter().enumerate().map(|(number, (from, size))| {
            format!("P.4.Merge.{}=pattern/a_{from}.16,{from},{size}\n", number + 1)
        });
        let text = TEXT.replace("[ENGINE]", &format!("{}[ENGINE]", lines.collect::<String>()));
        Manifest::read(Bytes::from(text), &Catalogue::builtin()).unwrap()
    }

    fn tree() -> TreeName {
        TreeName::parse("a").unwrap()
    }

    fn has(component: &str, version: &str, path: &str, size: u64) -> Has {
        Has {
            tree: tree(),
            component: component.into(),
            class: Class::Pattern,
            version: version.into(),
            path: TreePath::parse(path.as_bytes()).unwrap(),
            size,
            hash: BlobId::of(b""),
            signed: false,
            merged: false,
            since: Timestamp::UNIX_EPOCH,
            came_in: 1,
        }
    }

    fn wanted(manifest: &Manifest, shown: Shown, increments: Increments, has: Vec<Has>) -> Vec<String> {
        let installed = Installed { components: has, ..Installed::default() };
        let settings = Settings::for_relay("http://r/").unwrap();
        let wants = wants(&tree(), manifest, shown, &settings, increments, &installed);
        let file = |want: &Want| want.increment.as_ref().unwrap_or(&want.package).path.to_string();
        wants.iter().map(|want| format!("{} {}", want.component, file(want))).collect()
    }

    #[test]
    fn each_scope_wants_its_classes_of_a_whole_manifest_r6_1() {
        let manifest = manifest([]);
        let seen = |scope| wanted(&manifest, Shown::Whole(scope), Increments::Not, vec![]).len();
        assert_eq!(Scope::ALL.map(seen), [1, 2, 3]);
        assert_eq!(wanted(&manifest, Shown::Filtered, Increments::Not, vec![]).len(), 3);
    }

    #[test]
    fn what_is_there_is_not_wanted_and_what_was_merged_is_compared_by_its_version() {
        let manifest = manifest([]);
        let patterns = |has| wanted(&manifest, Shown::Whole(Scope::Patterns), Increments::Not, vec![has]);
        let there = has("P.4", "16", "pattern/a16.zip", 9000);
        assert!(patterns(there.clone()).is_empty());
        assert_eq!(patterns(Has { size: 8999, ..there.clone() }).len(), 1);
        assert!(patterns(Has { size: 8999, merged: true, ..there.clone() }).is_empty());
        assert_eq!(patterns(Has { version: "15".into(), ..there }).len(), 1);
    }

    #[test]
    fn an_increment_is_taken_over_fourteen_releases_at_most_and_where_it_is_smaller() {
        let manifest = manifest((1..=15).rev().map(|from| (from, if from == 15 { 9001 } else { 700 })));
        let from = |version: &str, increments| {
            let there = vec![has("P.4", version, "pattern/a.zip", 1)];
            wanted(&manifest, Shown::Whole(Scope::Patterns), increments, there).remove(0)
        };
        assert_eq!(from("14", Increments::Taken), "P.4 pattern/a_14.16");
        assert_eq!(from("2", Increments::Taken), "P.4 pattern/a_2.16");
        for (version, increments) in [
            ("1", Increments::Taken),
            ("15", Increments::Taken),
            ("14", Increments::Not),
            ("99", Increments::Taken),
        ] {
            assert_eq!(from(version, increments), "P.4 pattern/a16.zip", "{version} {increments:?}");
        }
    }

    #[test]
    fn a_section_with_several_files_has_a_component_for_each() {
        let text =
            "[Info_1]\nVersion=2\nPath=product/x/a.zip,7\n[Info_1]\nVersion=2\nPath=product/x/b.zip,7\n";
        let manifest = Manifest::read(Bytes::from(text), &Catalogue::builtin()).unwrap();
        let names = wanted(&manifest, Shown::Filtered, Increments::Not, vec![]);
        assert_eq!(names, ["Info_1 product/x/a.zip", "Info_1#2 product/x/b.zip"]);
    }
}
