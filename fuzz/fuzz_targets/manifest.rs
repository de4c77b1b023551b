//! Any bytes as a manifest: lines print as themselves, and each view names exactly what its scope sees.
//! `manifest::view`'s tests hold the corpus against the same predicate in every run.

#![no_main]

use bytes::Bytes;
use forebay::base::path::TreePath;
use forebay::manifest::catalogue::{Catalogue, Class};
use forebay::manifest::ini::Ini;
use forebay::manifest::server_ini::{Kind, Listing, Manifest, ManifestReason};
use forebay::manifest::links::Links;
use forebay::manifest::view::{ServerLines, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    assert_eq!(Ini::parse(bytes.clone()).print(), data);
    let Ok(manifest) = Manifest::read(bytes, catalogue()) else { return };
    for most in Class::ALL {
        check_view(&manifest, most, ServerLines::CommentedOut, |_| false);
        check_view(&manifest, most, ServerLines::Base("http://relay/a"), |path| path.as_str().len() % 2 == 0);
    }
});

fn check_view(
    manifest: &Manifest,
    most: Class,
    servers: ServerLines<'_>,
    withheld: impl Fn(&TreePath) -> bool,
) {
    let view = render(manifest, servers, &Links::default(), &withheld, |class| class <= most);
    // What an unknown line seems to name depends on what else is there.
    let known = |l: &&Listing| l.kind != Kind::Guess;
    let seen = |l: &&Listing| l.class <= most && (l.kind == Kind::Package || !withheld(&l.path));
    let mut expected = facts(manifest.listings().iter().filter(known).filter(seen));
    let mut found = match Manifest::read(view, catalogue()) {
        Ok(view) => facts(view.listings().iter().filter(known)),
        Err(error) => {
            assert!(matches!(error.reason, ManifestReason::NotManifest | ManifestReason::Markup), "{error}");
            Vec::new()
        }
    };
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

fn facts<'a>(listings: impl Iterator<Item = &'a Listing>) -> Vec<(TreePath, u64, Class)> {
    listings.map(|l| (l.path.clone(), l.size, l.class)).collect()
}

fn catalogue() -> &'static Catalogue {
    CATALOGUE.get_or_init(Catalogue::builtin)
}

static CATALOGUE: std::sync::OnceLock<Catalogue> = std::sync::OnceLock::new();
