//! One walk over a manifest's lines: which section each stands in, what it lists, whom it is for.
//!
//! Sections are `sections`', keys and values `fields`', components `components`', the listings' table `table`'s.
//! Invariant: each line has exactly one role.

use crate::base::path::TreePath;
use crate::manifest::catalogue::{Catalogue, Class};
use crate::manifest::components::Components;
use crate::manifest::fields::{self, Item, PatternKey, quote};
use crate::manifest::ini::{Content, Ini, trim};
use crate::manifest::sections::{Family, OpenSection, Seen, joined, lossy};
use crate::manifest::server_ini::{Kind, LISTINGS_MAX, Listing, ManifestError, ManifestReason, Unknown};
use crate::manifest::table::Table;

/// What the walk learnt.
pub(super) struct Reading {
    /// Whether any section that makes a manifest is there.
    pub(super) is_manifest: bool,
    /// Each line's place and role.
    pub(super) lines: Vec<Placed>,
    /// The sections; the first is what stands before any header.
    pub(super) sections: Vec<Seen>,
    /// How many components have ids; roles name them by index.
    pub(super) components: usize,
    pub(super) listings: Vec<Listing>,
    pub(super) unknown: Vec<Unknown>,
}

/// A line's section and role.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    pub(super) section: usize,
    pub(super) role: Role,
}

/// What a line is for.
#[derive(Clone, Copy)]
pub(super) enum Role {
    /// A header, a comment or a blank line: stays while anything of its section does.
    Frame,
    /// Seen as its section is.
    Plain,
    /// Seen by its own class.
    Classed(Class),
    /// A pair under `[Server]`.
    Server,
    /// `P.ID.Merge.N`: a component by index, and what the line lists, by index.
    Increment { component: usize, listing: usize },
    /// `P.ID.MergeCount` or `P.ID.MergeCountEx`.
    Count { component: usize },
}

/// Walks over the lines.
pub(super) fn read(ini: &Ini, catalogue: &Catalogue) -> Result<Reading, ManifestError> {
    let mut reader = Reader {
        catalogue,
        lines: Vec::with_capacity(ini.lines().len()),
        sections: vec![OpenSection::new(b"", Family::Loose)],
        components: Components::default(),
        drafts: Vec::new(),
        unknown: Vec::new(),
    };
    for (index, line) in ini.lines().enumerate() {
        let role = reader.line(index + 1, line.content);
        let role = role.map_err(|reason| ManifestError { line: index + 1, reason })?;
        reader.lines.push(Placed { section: reader.sections.len() - 1, role });
    }
    reader.finish()
}

/// Whether any line is the header of a section that makes a manifest.
pub(super) fn is_manifest(ini: &Ini) -> bool {
    ini.lines().any(
        |line| matches!(line.content, Content::Section { name, .. } if Family::of(name).makes_manifest()),
    )
}

struct Reader<'a> {
    catalogue: &'a Catalogue,
    lines: Vec<Placed>,
    /// Never empty: the last is the one that lines now belong to.
    sections: Vec<OpenSection<'a>>,
    components: Components<'a>,
    drafts: Vec<Draft<'a>>,
    unknown: Vec<Unknown>,
}

/// A listing whose class or version may depend on lines still to come.
struct Draft<'a> {
    line: usize,
    section: usize,
    /// `None` is the section's.
    class: Option<Class>,
    origin: Origin<'a>,
    path: TreePath,
    size: u64,
}

/// Where a draft's component and version come from.
enum Origin<'a> {
    /// Both stand on the line.
    Line { key: &'a [u8], version: &'a [u8] },
    /// The key on the line, the version in its section.
    Key(&'a [u8]),
    /// Both on a line that is unknown.
    Guess { key: &'a [u8], version: &'a [u8] },
    /// Both in its section.
    Section,
    /// From this version to the component's.
    Component { index: usize, from: &'a [u8] },
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: usize, content: Content<'a>) -> Result<Role, ManifestReason> {
        match content {
            Content::Section { name, .. } => {
                self.sections.push(OpenSection::new(name, Family::of(name)));
                Ok(Role::Frame)
            }
            Content::Comment(_) | Content::Blank(_) => Ok(Role::Frame),
            Content::Pair { key, value, .. } => self.pair(line, key, value),
            Content::Other(text) => match trim(text) {
                text @ [b'[', ..] => Err(ManifestReason::OpenSection(quote(text))),
                text => {
                    self.note(line, text);
                    Ok(Role::Plain)
                }
            },
        }
    }

    fn pair(&mut self, line: usize, key: &'a [u8], value: &'a [u8]) -> Result<Role, ManifestReason> {
        let is = |known: &str| key.eq_ignore_ascii_case(known.as_bytes());
        match self.section().family {
            Family::Server => Ok(Role::Server),
            Family::Pattern => self.pattern_pair(line, key, value),
            Family::Engine if fields::is_engine_key(key) => self.engine_pair(line, key, value),
            Family::Info if is("Path") => self.info_path(line, key, value),
            Family::Info if is("Version") => {
                self.section().version = Some(value);
                Ok(Role::Plain)
            }
            Family::Info if is("Build") => {
                self.section().build = Some(value);
                Ok(Role::Plain)
            }
            Family::Info if is("Min") || is("Max") => Ok(Role::Plain),
            Family::AllProduct if is("MaxProductID") || is_product_key(key) => Ok(Role::Plain),
            _ => self.unknown_pair(line, key, value),
        }
    }

    fn pattern_pair(&mut self, line: usize, key: &'a [u8], value: &'a [u8]) -> Result<Role, ManifestReason> {
        let refuse = |error| ManifestReason::Field { key: quote(key), error };
        match PatternKey::read(key) {
            PatternKey::Package { id } => {
                let item = fields::package(value).map_err(refuse)?;
                self.components.package(id, line, key, value, item.version)?;
                self.draft(line, Origin::Line { key, version: item.version }, item)?;
                Ok(Role::Plain)
            }
            PatternKey::Increment { id, number } => {
                let number = fields::increment_number(number).map_err(refuse)?;
                let item = fields::package(value).map_err(refuse)?;
                let component = self.components.increment(id, line, key, number);
                let listing = self.drafts.len();
                self.draft(line, Origin::Component { index: component, from: item.version }, item)?;
                Ok(Role::Increment { component, listing })
            }
            PatternKey::Count { id } => {
                fields::count(value).map_err(refuse)?;
                Ok(Role::Count { component: self.components.index(id) })
            }
            PatternKey::Version => {
                self.section().version = Some(value);
                Ok(Role::Plain)
            }
            PatternKey::Path => {
                let item = fields::file(value).map_err(refuse)?;
                self.draft(line, Origin::Key(key), item)?;
                Ok(Role::Plain)
            }
            PatternKey::Unknown => self.unknown_pair(line, key, value),
        }
    }

    fn engine_pair(&mut self, line: usize, key: &'a [u8], value: &'a [u8]) -> Result<Role, ManifestReason> {
        let refuse = |error| ManifestReason::Field { key: quote(key), error };
        let (label, item) = fields::engine(value).map_err(refuse)?;
        // An administrator may restrict an engine further; nothing makes it a pattern.
        let known = self.catalogue.class_of(label, item.path.as_str(), &Class::ALL[1..]);
        if known.is_none() {
            self.note(line, label);
        }
        let class = known.unwrap_or(Class::Engine);
        self.draft(line, Origin::Line { key, version: item.version }, item)?.class = Some(class);
        Ok(Role::Classed(class))
    }

    fn info_path(&mut self, line: usize, key: &'a [u8], value: &'a [u8]) -> Result<Role, ManifestReason> {
        let item = fields::file(value).map_err(|error| ManifestReason::Field { key: quote(key), error })?;
        let label = self.section().name;
        let known = self.catalogue.class_of(label, item.path.as_str(), &[Class::Hotfix, Class::Program]);
        let class = known.unwrap_or(Class::Program);
        let section = self.section();
        section.class = section.class.max(Some(class));
        self.draft(line, Origin::Section, item)?;
        Ok(Role::Plain)
    }

    fn unknown_pair(&mut self, line: usize, key: &'a [u8], value: &'a [u8]) -> Result<Role, ManifestReason> {
        self.note(line, key);
        if let Some(item) = fields::guess(value) {
            self.draft(line, Origin::Guess { key, version: item.version }, item)?;
        }
        Ok(Role::Plain)
    }

    fn draft(
        &mut self,
        line: usize,
        origin: Origin<'a>,
        item: Item<'a>,
    ) -> Result<&mut Draft<'a>, ManifestReason> {
        if self.drafts.len() == LISTINGS_MAX {
            return Err(ManifestReason::Listings);
        }
        let section = self.sections.len() - 1;
        let draft = Draft { line, section, class: None, origin, path: item.path, size: item.size };
        Ok(self.drafts.push_mut(draft))
    }

    fn note(&mut self, line: usize, key: &[u8]) {
        let section = self.section();
        let name = section.name;
        let section = section.shown.get_or_insert_with(|| quote(name).into()).clone();
        self.unknown.push(Unknown { line, section, key: quote(key) });
    }

    fn section(&mut self) -> &mut OpenSection<'a> {
        self.sections.last_mut().expect("the section before the first header is always there")
    }

    fn finish(mut self) -> Result<Reading, ManifestError> {
        self.components.check()?;
        let mut table = Table::with_capacity(self.drafts.len());
        let (guesses, known): (Vec<_>, Vec<_>) = self.drafts.iter().partition(|draft| draft.is_guess());
        for draft in known {
            let listing = draft.listing(&self.sections[draft.section], &self.components);
            let index = table.place(draft.path.as_str(), draft.line, listing)?;
            if let Role::Increment { listing, .. } = &mut self.lines[draft.line - 1].role {
                *listing = index;
            }
        }
        for draft in guesses {
            let listing = draft.listing(&self.sections[draft.section], &self.components);
            // One that contradicts a known line, or another guess, was no listing.
            let _ = table.place(draft.path.as_str(), draft.line, listing);
        }
        Ok(Reading {
            is_manifest: self.sections.iter().any(|section| section.family.makes_manifest()),
            lines: self.lines,
            sections: self.sections.iter().map(OpenSection::seen).collect(),
            components: self.components.len(),
            listings: table.into_listings(),
            unknown: self.unknown,
        })
    }
}

impl Draft<'_> {
    fn is_guess(&self) -> bool {
        matches!(self.origin, Origin::Guess { .. })
    }

    fn listing(&self, section: &OpenSection<'_>, components: &Components<'_>) -> Listing {
        let (kind, component, version) = match self.origin {
            Origin::Line { key, version } => (Kind::Package, key, lossy(version)),
            Origin::Key(key) => (Kind::Package, key, section.version()),
            Origin::Guess { key, version } => (Kind::Guess, key, lossy(version)),
            Origin::Section => (Kind::Package, section.name, section.version()),
            Origin::Component { index, from } => {
                let (key, to) = components.package_of(index);
                (Kind::Increment, key, joined(from, b'-', to))
            }
        };
        Listing {
            path: self.path.clone(),
            kind,
            class: self.class.unwrap_or(section.class()),
            component: lossy(component),
            version,
            size: self.size,
        }
    }
}

/// `Product.N`.
fn is_product_key(key: &[u8]) -> bool {
    key.split_at_checked(b"Product.".len())
        .is_some_and(|(head, number)| head.eq_ignore_ascii_case(b"Product.") && fields::is_number(number))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::manifest::server_ini::Manifest;

    fn read(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::read(Bytes::copy_from_slice(text.as_bytes()), &Catalogue::builtin())
    }

    #[test]
    fn a_guess_that_contradicts_a_known_line_is_no_listing_and_refuses_nothing() {
        let manifest =
            read("[Else]\nX=a/b,9\nY=a/b/c,1\nZ=a,1\nV=g/h,2\nW=g/h,3\n[PATTERN]\nP.4=a/b,1,5\n").unwrap();
        assert_eq!(listed(&manifest), ["a/b Package Pattern P.4 1 5", "g/h Guess Program V  2"]);
    }

    /// Each listing as `path kind class component version size`.
    fn listed(manifest: &Manifest) -> Vec<String> {
        let line = |l: &Listing| {
            format!("{} {:?} {:?} {} {} {}", l.path, l.kind, l.class, l.component, l.version, l.size)
        };
        manifest.listings().iter().map(line).collect()
    }

    fn unknown(manifest: &Manifest) -> Vec<(usize, &str, &str)> {
        manifest.unknown().iter().map(|u| (u.line, &*u.section, &*u.key)).collect()
    }

    #[test]
    fn names_and_keys_compare_without_case_and_padding_is_no_part_of_them() {
        let manifest = read(" [ pattern ]\r\n p.4 = a/b , 1 , 5 \r\nP.4.MERGE.1=a/c,0,6\r\n").unwrap();
        assert_eq!(listed(&manifest), ["a/b Package Pattern p.4 1 5", "a/c Increment Pattern p.4 0-1 6"]);
        assert_eq!(unknown(&manifest), []);
    }

    #[test]
    fn an_increment_may_come_before_its_component() {
        let manifest = read("[PATTERN]\nP.4.Merge.1=a/c,0,6\n[Server]\n[PATTERN]\nP.4=a/b,1,5\n").unwrap();
        assert_eq!(listed(&manifest), ["a/c Increment Pattern P.4 0-1 6", "a/b Package Pattern P.4 1 5"]);
    }

    #[test]
    fn the_same_component_twice_is_one() {
        let manifest = read("[PATTERN]\nP.4=a/b,1,5\nP.4 = a/b,1,5\n").unwrap();
        assert_eq!(listed(&manifest), ["a/b Package Pattern P.4 1 5"]);
    }

    #[test]
    fn path_vsapi_has_the_version_of_its_section() {
        let manifest = read("[PATTERN]\nPath_VSAPI=pattern/v.zip, 5\nVersion=349\n").unwrap();
        assert_eq!(listed(&manifest), ["pattern/v.zip Package Pattern Path_VSAPI 349 5"]);
        assert_eq!(unknown(&manifest), []);
    }

    #[test]
    fn an_engine_is_a_driver_by_label_or_path_and_an_unknown_one_is_an_engine() {
        let text = "[ENGINE]\nE.1=VSAPI32_NT,engine/a,1,1\nE.2=TMBM_DRIVER_X64,engine/b,1,1\n\
                    E.3=NEW,engine/driver_c,1,1\nE.4=NEWER,engine/d,1,1,0\nX=engine/e,2,9\n";
        let manifest = read(text).unwrap();
        assert_eq!(
            listed(&manifest),
            [
                "engine/a Package Engine E.1 1 1",
                "engine/b Package Driver E.2 1 1",
                "engine/driver_c Package Driver E.3 1 1",
                "engine/d Package Engine E.4 1 1",
                "engine/e Guess Engine X  9",
            ]
        );
        assert_eq!(unknown(&manifest), [(5, "ENGINE", "NEWER"), (6, "ENGINE", "X")]);
    }

    #[test]
    fn an_info_section_is_a_hot_fix_by_its_path_and_a_program_otherwise() {
        let text = "[Info_1]\nPath=product/hotfix/a,5\n[Info_2]\nPath=product/b,6\nBuild=7\n\
                    [Info_3]\nPath=product/hotfix/c,5\nPath=product/d,5\n";
        assert_eq!(
            listed(&read(text).unwrap()),
            [
                "product/hotfix/a Package Hotfix Info_1  5",
                "product/b Package Program Info_2 7 6",
                "product/hotfix/c Package Program Info_3  5",
                "product/d Package Program Info_3  5",
            ]
        );
    }

    #[test]
    fn what_nobody_knows_is_a_program_and_is_noted() {
        let text = "stray=x/y,1\n[Server]\nServer.1=http://a/b\n[Extra]\nA=b/c,1.0,7\nplain\nB=http://x/y,1\n\
                    [All_Product]\nMaxProductID=7\nProduct.1=x/y,1\nProduct.x=1\n";
        let manifest = read(text).unwrap();
        assert_eq!(listed(&manifest), ["x/y Guess Program stray  1", "b/c Guess Program A 1.0 7",]);
        assert_eq!(
            unknown(&manifest),
            [
                (1, "", "stray"),
                (5, "Extra", "A"),
                (6, "Extra", "plain"),
                (7, "Extra", "B"),
                (11, "All_Product", "Product.x"),
            ]
        );
    }
}
