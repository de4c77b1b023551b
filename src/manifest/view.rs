//! The bytes of a manifest that an agent gets (R6.4).
//!
//! Owns the only edits there are: lines that a scope may not see vanish, `[Server]` leads nowhere but to the relay, so do URLs
//! of what the relay stands for, and withheld increments leave no gap in the numbers. Invariant: all else is byte for byte what the upstream wrote.

use bytes::Bytes;

use crate::base::path::TreePath;
use crate::manifest::catalogue::Class;
use crate::manifest::fields;
use crate::manifest::ini::{Content, Line};
use crate::manifest::links::Links;
use crate::manifest::reader::{Placed, Role};
use crate::manifest::sections::Seen;
use crate::manifest::server_ini::{Kind, Listing, Manifest};

/// What becomes of the pairs under `[Server]`, which would send agents past the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerLines<'a> {
    /// `;` before each.
    CommentedOut,
    /// This URL in place of each value that is not a bare number.
    Base(&'a str),
}

/// Writes the manifest for a scope: what it `sees`, without the increments that are `withheld`.
///
/// A manifest of which the scope sees no section is empty but for the comments before the first.
pub fn render(
    manifest: &Manifest,
    servers: ServerLines<'_>,
    links: &Links,
    withheld: &dyn Fn(&TreePath) -> bool,
    sees: impl Fn(Class) -> bool,
) -> Bytes {
    let ini = manifest.ini();
    let sight = Sight::of(manifest, sees);
    let mut numbers = Numbers::of(manifest, withheld);
    let mut out = Vec::with_capacity(ini.bytes().len());
    out.extend_from_slice(ini.mark());
    for (index, placed) in manifest.reading().lines.iter().enumerate() {
        if !sight.shows(*placed) {
            continue;
        }
        match placed.role {
            Role::Frame | Role::Plain | Role::Classed(_) if links.is_empty() => {
                out.extend_from_slice(ini.raw(index));
            }
            Role::Frame | Role::Plain | Role::Classed(_) => print_led(ini.line(index), links, &mut out),
            Role::Server => match servers {
                ServerLines::CommentedOut => {
                    out.push(b';');
                    out.extend_from_slice(ini.raw(index));
                }
                ServerLines::Base(url) => print_server(ini.line(index), url, &mut out),
            },
            Role::Increment { component, listing } => match numbers.next(component, listing) {
                Number::Withheld => {}
                Number::AsWritten => out.extend_from_slice(ini.raw(index)),
                Number::Now(number) => print_increment(ini.line(index), number, &mut out),
            },
            Role::Count { component } => match numbers.lost(component) {
                0 => out.extend_from_slice(ini.raw(index)),
                lost => print_count(ini.line(index), lost, &mut out),
            },
        }
    }
    out.into()
}

/// Which sections and classes a scope sees.
struct Sight<'a> {
    manifest: &'a Manifest,
    classes: [bool; Class::ALL.len()],
    /// Whether a section's header, comments and blanks stay: when its own class is seen, or any line in it.
    frames: Vec<bool>,
}

impl<'a> Sight<'a> {
    fn of(manifest: &'a Manifest, sees: impl Fn(Class) -> bool) -> Self {
        let reading = manifest.reading();
        let classes = Class::ALL.map(sees);
        let stays = |seen: &Seen| match *seen {
            Seen::Always | Seen::FrameAlways(_) => true,
            Seen::By(class) => classes[class as usize],
        };
        let mut frames: Vec<bool> = reading.sections.iter().map(stays).collect();
        for placed in &reading.lines {
            if let Role::Classed(class) = placed.role {
                frames[placed.section] |= classes[class as usize];
            }
        }
        Self { manifest, classes, frames }
    }

    fn shows(&self, placed: Placed) -> bool {
        match placed.role {
            Role::Frame => self.frames[placed.section],
            Role::Classed(class) => self.classes[class as usize],
            Role::Plain | Role::Server | Role::Increment { .. } | Role::Count { .. } => {
                match self.manifest.reading().sections[placed.section] {
                    Seen::Always => true,
                    Seen::FrameAlways(class) | Seen::By(class) => self.classes[class as usize],
                }
            }
        }
    }
}

/// The numbers of increments where some are withheld.
struct Numbers {
    /// Whether each listing is withheld.
    withheld: Vec<bool>,
    /// For each component, how many of its lines vanish.
    lost: Vec<u64>,
    /// For each component, the number of its last increment that stayed.
    last: Vec<u32>,
}

/// What becomes of an increment's number.
enum Number {
    /// The line vanishes.
    Withheld,
    /// None of its component is withheld: even a number out of order stays.
    AsWritten,
    /// Its place among those that stay, from 1.
    Now(u32),
}

impl Numbers {
    fn of(manifest: &Manifest, withheld: &dyn Fn(&TreePath) -> bool) -> Self {
        let reading = manifest.reading();
        let gone = |listing: &Listing| listing.kind == Kind::Increment && withheld(&listing.path);
        let mut numbers = Self {
            withheld: reading.listings.iter().map(gone).collect(),
            lost: vec![0; reading.components],
            last: vec![0; reading.components],
        };
        for placed in &reading.lines {
            if let Role::Increment { component, listing } = placed.role {
                numbers.lost[component] += u64::from(numbers.withheld[listing]);
            }
        }
        numbers
    }

    fn lost(&self, component: usize) -> u64 {
        self.lost[component]
    }

    fn next(&mut self, component: usize, listing: usize) -> Number {
        if self.withheld[listing] {
            return Number::Withheld;
        }
        if self.lost[component] == 0 {
            return Number::AsWritten;
        }
        self.last[component] += 1;
        Number::Now(self.last[component])
    }
}

/// A line, its value led to the relay where it is a pair.
fn print_led(line: Line<'_>, links: &Links, out: &mut Vec<u8>) {
    match line.content {
        Content::Pair { indent, key, equals, value, trail } => {
            let content = Content::Pair { indent, key, equals, value: &links.lead(value), trail };
            Line { content, ..line }.print(out);
        }
        _ => line.print(out),
    }
}

/// A pair under `[Server]` with another value; one that only counts stays.
fn print_server(line: Line<'_>, url: &str, out: &mut Vec<u8>) {
    match line.content {
        Content::Pair { indent, key, equals, value, trail } if !fields::is_number(value) => {
            let content = Content::Pair { indent, key, equals, value: url.as_bytes(), trail };
            Line { content, ..line }.print(out);
        }
        _ => line.print(out),
    }
}

/// `P.ID.Merge.N` with another N.
fn print_increment(line: Line<'_>, number: u32, out: &mut Vec<u8>) {
    let Content::Pair { indent, key, equals, value, trail } = line.content else { return line.print(out) };
    let digits_at = key.iter().rposition(|byte| *byte == b'.').map_or(0, |dot| dot + 1);
    let key = [&key[..digits_at], number.to_string().as_bytes()].concat();
    Line { content: Content::Pair { indent, key: &key, equals, value, trail }, ..line }.print(out);
}

/// A merge count lowered by what vanished; a count that was too low already ends at nothing.
fn print_count(line: Line<'_>, lost: u64, out: &mut Vec<u8>) {
    let Content::Pair { indent, key, equals, value, trail } = line.content else { return line.print(out) };
    let count = fields::count(value).unwrap_or_default().saturating_sub(lost).to_string();
    let content = Content::Pair { indent, key, equals, value: count.as_bytes(), trail };
    Line { content, ..line }.print(out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::catalogue::Catalogue;
    use crate::manifest::samples::{Plan, Shown, manifest_like_bytes, plan};

    fn read(text: &[u8]) -> Manifest {
        Manifest::read(Bytes::copy_from_slice(text), &Catalogue::builtin()).unwrap()
    }

    /// The whole manifest without some paths.
    fn without(text: &str, gone: &[&str]) -> String {
        let withheld = |path: &TreePath| gone.contains(&path.as_str());
        let view =
            render(&read(text.as_bytes()), ServerLines::CommentedOut, &Links::default(), &withheld, |_| true);
        String::from_utf8(view.to_vec()).unwrap()
    }

    fn seen_by(text: &str, sees: impl Fn(Class) -> bool) -> String {
        let view =
            render(&read(text.as_bytes()), ServerLines::CommentedOut, &Links::default(), &|_| false, sees);
        String::from_utf8(view.to_vec()).unwrap()
    }

    #[test]
    fn server_pairs_are_commented_out_whole_or_lead_to_the_base() {
        let text = "[Server]\r\n Server.1 = http://up/au \r\n;c\r\nCount=2\r\nx\r\nServer.2=\"a b\"";
        let manifest = read(text.as_bytes());
        let commented =
            render(&manifest, ServerLines::CommentedOut, &Links::default(), &|_| false, |_| false);
        assert_eq!(
            commented,
            "[Server]\r\n; Server.1 = http://up/au \r\n;c\r\n;Count=2\r\nx\r\n;Server.2=\"a b\""
        );
        let based =
            render(&manifest, ServerLines::Base("https://relay/a"), &Links::default(), &|_| false, |_| false);
        assert_eq!(
            based,
            "[Server]\r\n Server.1 = https://relay/a \r\n;c\r\nCount=2\r\nx\r\nServer.2=https://relay/a"
        );
    }

    #[test]
    fn a_withheld_increment_leaves_no_gap_and_only_digits_change() {
        let text = "[PATTERN]\nP.4=a,9,1\n P.4.MergeCountEx = 3 \nP.4.MergeCount=1\nP.4.Merge.1=b,8,1\n\
                    P.4.Merge.2=c,7,1\n p.4.MERGE.3 = d, 6, 1 \nP.5=e,1,1\nP.5.MergeCount=7\nP.5.Merge.9=f,0,1\n";
        let expected = "[PATTERN]\nP.4=a,9,1\n P.4.MergeCountEx = 2 \nP.4.MergeCount=0\nP.4.Merge.1=b,8,1\n \
                        p.4.MERGE.2 = d, 6, 1 \nP.5=e,1,1\nP.5.MergeCount=7\nP.5.Merge.9=f,0,1\n";
        assert_eq!(without(text, &["c"]), expected);
    }

    #[test]
    fn numbers_out_of_order_are_counted_anew_in_the_order_of_lines() {
        let text = "[PATTERN]\nP.4=a,9,1\nP.4.MergeCount=0\nP.4.Merge.3=b,8,1\nP.4.Merge.1=c,7,1\nP.4.Merge.7=d,6,1\n";
        let expected = "[PATTERN]\nP.4=a,9,1\nP.4.MergeCount=0\nP.4.Merge.1=b,8,1\nP.4.Merge.2=d,6,1\n";
        assert_eq!(without(text, &["c"]), expected);
    }

    #[test]
    fn a_package_is_never_withheld_even_where_an_increment_has_its_path() {
        let text = "[PATTERN]\nP.4=a,9,1\nP.4.Merge.1=a,8,1\nP.5=b,1,1\n";
        assert_eq!(without(text, &["a", "b"]), text);
    }

    #[test]
    fn an_unseen_section_vanishes_whole_and_an_unseen_line_alone() {
        let text = ";top\nstray=1\n[PATTERN]\n;p\nP.4=a,9,1\n\n[ENGINE]\n;e\nE.1=VSAPI,b,1,1\nE.2=TMBM_DRIVER,c,1,1\n\
                    [All_Product]\n;EN\n[Info_1]\nPath=x/hotfix/a,1\nMin=1\n[Info_2]\nPath=x/b,1\n";
        let top = ";top\n[PATTERN]\n;p\nP.4=a,9,1\n\n";
        let engine = "[ENGINE]\n;e\nE.1=VSAPI,b,1,1\n";
        assert_eq!(seen_by(text, |class| class == Class::Pattern), top);
        assert_eq!(seen_by(text, |class| class <= Class::Engine), format!("{top}{engine}"));
        assert_eq!(
            seen_by(text, |class| class == Class::Driver),
            ";top\n[ENGINE]\n;e\nE.2=TMBM_DRIVER,c,1,1\n"
        );
        assert_eq!(
            seen_by(text, |class| class == Class::Hotfix),
            ";top\n[Info_1]\nPath=x/hotfix/a,1\nMin=1\n"
        );
        assert_eq!(seen_by(text, |_| true), text);
    }

    #[test]
    fn a_byte_order_mark_outlives_the_line_behind_it() {
        let text = "\u{feff}[All_Product]\n[PATTERN]\n";
        assert_eq!(seen_by(text, |class| class == Class::Pattern), "\u{feff}[PATTERN]\n");
    }

    /// Whether a view names exactly what its scope sees, for a scope that sees every class up to one.
    fn view_names_what_is_seen(manifest: &Manifest, most: Class, gone: impl Fn(&str) -> bool) {
        let withheld = |path: &TreePath| gone(path.as_str());
        let view =
            render(manifest, ServerLines::Base("http://relay/a"), &Links::default(), &withheld, |class| {
                class <= most
            });
        let facts = |l: &Listing| (l.path.clone(), l.size, l.class);
        // What an unknown line seems to name depends on what else is there.
        let known = |l: &&Listing| l.kind != Kind::Guess;
        let seen = |l: &&Listing| l.class <= most && (l.kind == Kind::Package || !gone(l.path.as_str()));
        let mut expected: Vec<_> = manifest.listings().iter().filter(known).filter(seen).map(facts).collect();
        let mut found = match Manifest::read(view, &Catalogue::builtin()) {
            Ok(view) => view.listings().iter().filter(known).map(facts).collect(),
            Err(error) => {
                assert!(error.to_string().contains("not a server.ini"), "{error}");
                Vec::new()
            }
        };
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }

    fn gone(path: &str, chance: u8) -> bool {
        path.bytes().fold(7u8, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte)) < chance
    }

    #[test]
    fn views_of_the_fuzz_corpus_name_what_is_seen() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/manifest");
        let mut read = 0;
        for file in std::fs::read_dir(corpus).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let Ok(manifest) = Manifest::read(bytes.into(), &Catalogue::builtin()) else { continue };
            read += 1;
            for (most, chance) in
                Class::ALL.into_iter().flat_map(|most| [(most, 0), (most, 128), (most, 255)])
            {
                view_names_what_is_seen(&manifest, most, |path| gone(path, chance));
            }
        }
        assert!(read > 1, "{read} of the corpus are manifests");
    }

    proptest! {
        #[test]
        fn a_manifest_lists_what_was_planned(plan in plan()) {
            let manifest = read(&plan.write(&Shown::everything()));
            // Guesses come behind what is known.
            let (guesses, known): (Vec<_>, Vec<_>) =
                plan.listings().into_iter().partition(|listing| listing.kind == Kind::Guess);
            prop_assert_eq!(manifest.listings(), [known, guesses].concat());
        }

        #[test]
        fn all_seen_and_nothing_withheld_is_the_manifest_itself(plan in plan()) {
            let plan = Plan { servers: 0, ..plan };
            let text = plan.write(&Shown::everything());
            prop_assert_eq!(render(&read(&text), ServerLines::CommentedOut, &Links::default(), &|_| false, |_| true), text);
        }

        #[test]
        fn a_view_is_the_manifest_that_was_planned_without_the_rest(
            plan in plan(),
            most in prop::sample::select(&Class::ALL[..]),
            chance in 0u8..=255,
        ) {
            let withheld = |path: &str| gone(path, chance);
            let manifest = read(&plan.write(&Shown::everything()));
            let base = "http://relay/activeupdate";
            let view = render(&manifest, ServerLines::Base(base), &Links::default(), &|path| withheld(path.as_str()), |c| c <= most);
            let expected = plan.write(&Shown { most, withheld: &withheld, server: base });
            prop_assert_eq!(view.escape_ascii().to_string(), expected.escape_ascii().to_string());
            view_names_what_is_seen(&manifest, most, withheld);
        }

        #[test]
        fn views_of_whatever_reads_name_what_is_seen(
            text in manifest_like_bytes(),
            most in prop::sample::select(&Class::ALL[..]),
            chance in 0u8..=255,
        ) {
            if let Ok(manifest) = Manifest::read(text.into(), &Catalogue::builtin()) {
                view_names_what_is_seen(&manifest, most, |path| gone(path, chance));
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Manifest::read(bytes.into(), &Catalogue::builtin());
        }
    }
}
