//! A manifest: `server.ini` with what it lists (activeupdate.md, server.ini).
//!
//! Owns the words of a manifest and the reasons for refusing one; reading lines is `reader`'s, writing views `view`'s.
//! Invariant: a `Manifest` names each path once, with one size, inside the tree.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::base::path::TreePath;
use crate::manifest::catalogue::{Catalogue, Class};
use crate::manifest::fields::FieldError;
use crate::manifest::ini::Ini;
use crate::manifest::reader::{self, Reading};

/// A manifest, read and understood. Share it by `Arc`.
pub struct Manifest {
    ini: Ini,
    reading: Reading,
}

/// A file that the manifest lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Where it lies in the tree.
    pub path: TreePath,
    /// Whole, or from one version to the next.
    pub kind: Kind,
    /// Who may see it: the least restricted class of the lines that name it.
    pub class: Class,
    /// The component it belongs to: `P.ID`, `E.ID`, the name of an `[Info_...]` section, or an unknown line's key.
    pub component: Box<str>,
    /// The version that it brings, as it was written; an increment has `FROM-TO`. Empty where none is known.
    pub version: Box<str>,
    /// Bytes.
    pub size: u64,
}

/// What a listed file does. A path that is both is a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A component's full file.
    Package,
    /// A file that takes a pattern from one version to the next.
    Increment,
    /// What an unknown line seems to name. It gives way to what known lines say, and need not exist.
    Guess,
}

/// A line that neither the grammar nor the catalogue knew (R6.3). Texts are escaped and cut, fit for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The line's number, counted from 1.
    pub line: usize,
    /// The section it stands in; empty before the first.
    pub section: Arc<str>,
    /// Its key, an engine's label, or the line itself where it has no `=`.
    pub key: Box<str>,
}

/// Why bytes are refused as a manifest: one line is enough to refuse the whole.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct ManifestError {
    /// The line's number, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: ManifestReason,
}

/// What is wrong with a line of a manifest, or with all of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestReason {
    /// None of the sections that make a manifest.
    #[error("this is not a server.ini: it has no [Server], [PATTERN], [ENGINE] or [Info_...]")]
    NotManifest,
    /// As [`Self::NotManifest`], and it begins with `<`.
    #[error("this is not a server.ini: it looks like HTML or XML")]
    Markup,
    /// More than [`LINES_MAX`] lines.
    #[error("a manifest has at most {LINES_MAX} lines")]
    Lines,
    /// More than [`LISTINGS_MAX`] lines that list a file.
    #[error("a manifest lists at most {LISTINGS_MAX} files")]
    Listings,
    /// A section's `[` without its `]`: nobody can say what the lines below belong to.
    #[error("section '{0}' has no ']'")]
    OpenSection(Box<str>),
    /// The value under a known key is not what the key asks for.
    #[error("{key}: {error}")]
    Field {
        /// The key.
        key: Box<str>,
        /// What is wrong with the value.
        error: FieldError,
    },
    /// An increment of a component that the manifest does not have.
    #[error("{key}: there is no component for this increment")]
    NoComponent {
        /// The increment's key.
        key: Box<str>,
    },
    /// The same component with two values.
    #[error("{key}: line {other} says something else")]
    TwoPackages {
        /// The component's key.
        key: Box<str>,
        /// The line that came first.
        other: usize,
    },
    /// Two increments of one component with the same number.
    #[error("{key}: line {other} has this number already")]
    TwoIncrements {
        /// The increment's key.
        key: Box<str>,
        /// The line that came first.
        other: usize,
    },
    /// The same path with two sizes.
    #[error("'{path}' has {size} bytes here and {other_size} on line {other}")]
    TwoSizes {
        /// The path.
        path: TreePath,
        /// Bytes on this line.
        size: u64,
        /// Bytes on the line that came first.
        other_size: u64,
        /// The line that came first.
        other: usize,
    },
    /// A listed file that would have to be a folder too.
    #[error("'{path}' is a file on one line and a folder on another: see line {other}")]
    FileAndFolder {
        /// The path that is both.
        path: Box<str>,
        /// The line that came first.
        other: usize,
    },
}

impl Manifest {
    /// Reads a manifest. What the grammar knows must be right; what it does not know is kept and counted.
    pub fn read(bytes: Bytes, catalogue: &Catalogue) -> Result<Self, ManifestError> {
        #[expect(clippy::naive_bytecount, reason = "the compiler makes it fast enough to do without a crate")]
        let line_feeds = bytes.iter().filter(|byte| **byte == b'\n').count();
        if line_feeds > LINES_MAX {
            return Err(ManifestError { line: LINES_MAX + 1, reason: ManifestReason::Lines });
        }
        let ini = Ini::parse(bytes);
        match reader::read(&ini, catalogue) {
            Ok(reading) if reading.is_manifest => Ok(Self { ini, reading }),
            Err(error) if reader::is_manifest(&ini) => Err(error),
            _ => Err(ManifestError { line: 1, reason: not_manifest(&ini) }),
        }
    }

    /// The manifest as the upstream wrote it.
    pub fn bytes(&self) -> &Bytes {
        self.ini.bytes()
    }

    /// What it lists: each path once, in the manifest's order.
    pub fn listings(&self) -> &[Listing] {
        &self.reading.listings
    }

    /// The lines that nobody knew, in order.
    pub fn unknown(&self) -> &[Unknown] {
        &self.reading.unknown
    }

    /// Its lines.
    pub(super) fn ini(&self) -> &Ini {
        &self.ini
    }

    /// What each line is for.
    pub(super) fn reading(&self) -> &Reading {
        &self.reading
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("ini", &self.ini)
            .field("listings", &self.listings().len())
            .field("unknown", &self.unknown().len())
            .finish_non_exhaustive()
    }
}

fn not_manifest(ini: &Ini) -> ManifestReason {
    let text = ini.bytes()[ini.mark().len()..].trim_ascii_start();
    if text.starts_with(b"<") { ManifestReason::Markup } else { ManifestReason::NotManifest }
}

/// Lines of a manifest: the largest known, under 2 MB, have some 30,000; more costs memory only to be refused.
pub const LINES_MAX: usize = 500_000;

/// Lines that list a file, for the same reason.
pub const LISTINGS_MAX: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::read(Bytes::copy_from_slice(text.as_bytes()), &Catalogue::builtin())
    }

    fn listing(
        (path, kind, class): (&str, Kind, Class),
        (component, version, size): (&str, &str, u64),
    ) -> Listing {
        let path = TreePath::parse(path.as_bytes()).unwrap();
        Listing { path, kind, class, component: component.into(), version: version.into(), size }
    }

    /// The excerpt of activeupdate.md, to the letter.
    const EXCERPT: &str = "\
[Server]
Server.1=http://osce14-p.activeupdate.trendmicro.com/activeupdate
[PATTERN]
P.48020000=pattern/icrc/ioth1668300.zip,1668300,21493972
P.48020000.MergeCountEx=14
P.48020000.Merge.1=pattern/icrc/ioth_1668100.1668300,1668100,3090
P.48020000.Merge.14=pattern/icrc/ioth_1665500.1668300,1665500,204709
P.48040252=pattern/tmtbd64_en_257364.zip,257364,196355
[ENGINE]
E.4=VSAPI32_NT_I386,engine/engv_nt386_v12500-1004.zip,12.500.1004,1350445,6.510.1002
E.22000010=SSENGINE_SSAPI32_V6,engine/ssapi32_v6/SSAPI32_v62-4015.zip,6.2.4015,592305,6.0.1000
[All_Product]
MaxProductID=745
Product.490=OSCE Add-On Service - VDI, 1.0, 3.0
;EN edition
[Info_745_10000_1_1]
Version=2.5
Build=1045
Path=product/osce14/enu/PLM25_OSCE_AOS_COMP_LIST.zip,166427
Min=1.0
Max=3.0
";

    #[test]
    fn the_excerpt_of_activeupdate_md_reads_as_it_says() {
        use Class::{Engine, Pattern, Program};
        use Kind::{Increment, Package};
        let manifest = read(EXCERPT).unwrap();
        let expected = [
            listing(
                ("pattern/icrc/ioth1668300.zip", Package, Pattern),
                ("P.48020000", "1668300", 21_493_972),
            ),
            listing(
                ("pattern/icrc/ioth_1668100.1668300", Increment, Pattern),
                ("P.48020000", "1668100-1668300", 3_090),
            ),
            listing(
                ("pattern/icrc/ioth_1665500.1668300", Increment, Pattern),
                ("P.48020000", "1665500-1668300", 204_709),
            ),
            listing(("pattern/tmtbd64_en_257364.zip", Package, Pattern), ("P.48040252", "257364", 196_355)),
            listing(
                ("engine/engv_nt386_v12500-1004.zip", Package, Engine),
                ("E.4", "12.500.1004", 1_350_445),
            ),
            listing(
                ("engine/ssapi32_v6/SSAPI32_v62-4015.zip", Package, Engine),
                ("E.22000010", "6.2.4015", 592_305),
            ),
            listing(
                ("product/osce14/enu/PLM25_OSCE_AOS_COMP_LIST.zip", Package, Program),
                ("Info_745_10000_1_1", "2.5.1045", 166_427),
            ),
        ];
        assert_eq!(manifest.listings(), expected);
        assert_eq!(manifest.unknown(), []);
        assert_eq!(manifest.bytes(), EXCERPT.as_bytes());
    }

    #[test]
    fn what_is_no_manifest_is_refused_and_markup_is_called_so() {
        let cases = [
            ("", ManifestReason::NotManifest),
            ("\n;x\n", ManifestReason::NotManifest),
            ("a=b\n[All_Product]\nMaxProductID=1\n", ManifestReason::NotManifest),
            ("[ server\n", ManifestReason::NotManifest),
            ("<!DOCTYPE html>\n<p>[\n", ManifestReason::Markup),
            ("\u{feff}\r\n <?xml?>", ManifestReason::Markup),
        ];
        for (text, reason) in cases {
            assert_eq!(read(text).unwrap_err(), ManifestError { line: 1, reason }, "{text}");
        }
        assert!(read("[server]").is_ok());
        assert!(read("<\n[ Info_1 ]\n").is_ok());
    }

    #[test]
    fn one_malformed_line_refuses_the_whole() {
        let cases = [
            ("[PATTERN]\nP.4=a/b,1,12x\n", "line 2: P.4: size '12x' is not a number of bytes"),
            ("[PATTERN]\nP.4=a/b,1\n", "line 2: P.4: the size is missing"),
            ("[PATTERN]\nP.4=a/b,,1\n", "line 2: P.4: the version is missing"),
            ("[PATTERN]\nP.4=\n", "line 2: P.4: the path is missing"),
            ("[PATTERN]\nP.4=/etc/passwd,1,1\n", "line 2: P.4: path '/etc/passwd': the path is absolute"),
            ("[PATTERN]\nP.4=a/../b,1,1\n", "line 2: P.4: path 'a/../b': the path has '.' or '..' in it"),
            ("[PATTERN]\nP.4=Server.INI,1,1\n", "line 2: P.4: path 'Server.INI' is the manifest's own"),
            (
                "[PATTERN]\nPath_VSAPI=ini_xml.zip, 1\n",
                "line 2: Path_VSAPI: path 'ini_xml.zip' is the manifest's own",
            ),
            ("[PATTERN]\nP.4.MergeCount=x\n", "line 2: P.4.MergeCount: 'x' is no count of increments"),
            (
                "[PATTERN]\nP.4=a,1,1\nP.4.Merge.0=b,1,1\n",
                "line 3: P.4.Merge.0: '0' is no number of an increment: they count from 1",
            ),
            (
                "[PATTERN]\nP.4.Merge.x=b,1,1\n",
                "line 2: P.4.Merge.x: 'x' is no number of an increment: they count from 1",
            ),
            (
                "[PATTERN]\nP.4.Merge.1=b,1,1\n",
                "line 2: P.4.Merge.1: there is no component for this increment",
            ),
            (
                "[PATTERN]\nP.4=a,1,1\nP.4.Merge.1=b,1,1\nP.4.Merge.2=c,1,1\np.4.merge.01=d,1,1\n",
                "line 5: p.4.merge.01: line 3 has this number already",
            ),
            ("[PATTERN]\nP.4=a,1,1\nP.4=a,2,1\n", "line 3: P.4: line 2 says something else"),
            ("[ENGINE]\nE.4=L,a/b,1\n", "line 2: E.4: the size is missing"),
            ("[ENGINE]\nE.4=,a/b,1,1\n", "line 2: E.4: the label is missing"),
            ("[Info_1]\nPath=a/b\n", "line 2: Path: the size is missing"),
            ("[PATTERN]\nP.4=a,1,1\nP.5=a,1,2\n", "line 3: 'a' has 2 bytes here and 1 on line 2"),
            (
                "[PATTERN]\nP.4=a,1,1\nP.5=a/b,1,2\n",
                "line 3: 'a' is a file on one line and a folder on another: see line 2",
            ),
            ("[PATTERN]\n [ENGINE\n", "line 2: section '[ENGINE' has no ']'"),
        ];
        for (text, said) in cases {
            assert_eq!(read(text).unwrap_err().to_string(), said, "{text}");
        }
    }

    #[test]
    fn more_lines_than_the_bound_are_refused() {
        let text = "\n".repeat(LINES_MAX + 1);
        assert_eq!(read(&text).unwrap_err().reason, ManifestReason::Lines);
    }

    #[test]
    fn more_listings_than_the_bound_are_refused() {
        let mut text = String::from("[PATTERN]\n");
        for id in 0..=LISTINGS_MAX {
            use std::fmt::Write;
            writeln!(text, "P.{id}=a,1,1").unwrap();
        }
        let error = read(&text).unwrap_err();
        assert_eq!(error, ManifestError { line: LISTINGS_MAX + 2, reason: ManifestReason::Listings });
    }
}
