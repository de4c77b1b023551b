//! Outlines as text and back, plans between random trees, what is refused and how a change is told.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::base::blob::BlobId;
use crate::policy::outline::Outline;
use crate::policy::outline::error::ERRORS_MAX;
use crate::policy::outline::plan::plan;
use crate::policy::outline::read::{Read, read};
use crate::policy::outline::told::told;
use crate::policy::tree::Tree;
use crate::policy::tree::admit::tests::some_action as some_admission;
use crate::policy::tree::change::{Action, Changed};
use crate::policy::tree::difference::Difference;
use crate::policy::tree::drawn::{numbered, some_action};
use crate::policy::tree::file::{Content, FileName};
use crate::policy::tree::id::{DomainId, DomainName};
use crate::policy::tree::setting::{Resolved, Values};

/// Names that would be something else without their quotes.
const NAMES: [&str; 6] =
    ["Z\u{fc}rich, \"S\u{fc}d\"", "[[agent]]", "a = 'b' # c", "\\u0041", "\u{202e}desrever", "\"\"\""];

/// The bytes of settings files: text, with each kind of line end and quote; no text; nothing.
const BYTES: [&[u8]; 5] = [
    b"[Global]\r\nx=\"\"\"1\"\"\"\r\n",
    b"\n\n'\\\t\x7f\0\n",
    b"\xff\xfe\x00",
    b"",
    b"a\n[[agent]]\nid = \"x\"\n",
];

fn content(bytes: &[u8]) -> Content {
    Content { hash: BlobId::of(bytes), bytes: bytes.len() as u64 }
}

fn bytes_of(content: &Content) -> Result<Vec<u8>, String> {
    let found = BYTES.into_iter().find(|bytes| BlobId::of(bytes) == content.hash);
    found.map(<[u8]>::to_vec).ok_or_else(|| "not there".to_owned())
}

fn text(tree: &Tree) -> String {
    Outline::of(tree).text(bytes_of).unwrap()
}

fn some_rest() -> impl Strategy<Value = Action> {
    let domain = || (1u32..9).prop_map(|number| DomainId::try_from(number).unwrap());
    let name = prop::sample::select(NAMES.to_vec()).prop_map(|name| DomainName::parse(name).unwrap());
    let files = prop::sample::select(vec!["x.ini", "y"]).prop_map(|name| FileName::parse(name).unwrap());
    let bytes = prop::option::weighted(0.8, prop::sample::select(BYTES.to_vec()));
    let entries = prop::collection::btree_map(0u8..4, 0u8..3, 0..4).prop_map(|entries| {
        let entry = |(range, url)| {
            let range = match range {
                0 => "2001:db8::/32".to_owned(),
                _ => format!("192.0.2.{range}-192.0.2.{range}"),
            };
            let source = match url {
                0 => serde_json::json!({ "url": "http://[2001:db8::1]/x/" }),
                1 => serde_json::json!({ "url": "https://a.example/", "families": "ipv4" }),
                _ => serde_json::json!({ "url": "http://b.example/%20" }),
            };
            serde_json::from_value(serde_json::json!({ "range": range, "source": source })).unwrap()
        };
        entries.into_iter().map(entry).collect()
    });
    prop_oneof![
        3 => (domain(), name).prop_map(|(domain, name)| Action::RenameDomain { domain, name }),
        4 => (prop::option::of(domain()), files, bytes).prop_map(|(domain, name, bytes)| {
            Action::PutFile { domain, name, content: bytes.map(content) }
        }),
        1 => entries.prop_map(|entries| Action::SetCustomised { entries }),
    ]
}

/// A tree after some of these were done: each that is not refused.
fn some_tree() -> impl Strategy<Value = Tree> {
    let some = prop_oneof![5 => some_action(), 3 => some_admission(), 2 => some_rest()];
    prop::collection::vec(some, 0..60).prop_map(|actions| {
        actions.into_iter().fold(Tree::default(), |tree, action| {
            tree.changed(&numbered(vec![action], &tree)).map_or(tree, |changed| changed.tree)
        })
    })
}

proptest! {
    #[test]
    fn an_outline_reads_back_from_its_text(tree in some_tree()) {
        let outline = Outline::of(&tree);
        let written = text(&tree);
        let read = read(&written).map_err(|errors| TestCaseError::fail(format!("{errors}\n{written}")))?;
        prop_assert_eq!(&read.outline, &outline, "{}", written);
        let named: BTreeMap<_, _> = tree.files().map(|(.., file)| (file.content.hash, bytes_of(&file.content).unwrap())).collect();
        prop_assert_eq!(read.contents, named);
        prop_assert!(plan(&tree, &outline).is_empty());
        let acts = written.chars().any(|letter| letter.is_control() && letter != '\n' || NAMES[4].starts_with(letter));
        prop_assert!(!acts, "a terminal shows it");
        // The same tree, however it came about, has the same text.
        let again = Tree::numbering_after(tree.last_domain()).replayed(tree.whole()).unwrap();
        prop_assert_eq!(text(&again), written);
    }

    #[test]
    fn a_plan_makes_any_tree_the_one_that_an_outline_says(one in some_tree(), other in some_tree(), ids in any::<bool>()) {
        let outline = Outline::of(&other);
        let outline = if ids { outline } else { outline.without_ids() };
        let actions = plan(&one, &outline);
        let changed = one.changed(&actions).map_err(|refused| TestCaseError::fail(format!("{refused}: {actions:?}")))?;
        prop_assert_eq!(Outline::of(&changed.tree).without_ids(), outline.clone().without_ids());
        prop_assert_eq!(&one.replayed(changed.differences.clone()).unwrap(), &changed.tree);
        prop_assert!(plan(&changed.tree, &outline.without_ids()).is_empty(), "what was made is made");
        let told = told(&one, &changed);
        prop_assert_eq!(told.is_empty(), changed.differences.is_empty());
        let hashes = other.agents().filter_map(|(_, agent)| agent.keys?.secret);
        for hash in hashes {
            prop_assert!(!told.iter().any(|line| line.contains(&hash.to_string())));
        }
        prop_assert!(told.iter().all(|line| !line.ends_with(": ")), "{told:?}");
    }

    /// Whatever stands there: errors with lines that are in it, or an outline.
    #[test]
    fn any_text_is_read_or_refused_with_the_line(
        lines in prop::collection::vec(prop_oneof![
            Just("[[agent]]".to_owned()), Just("[[domain]]".to_owned()), Just("[root]".to_owned()), Just("[agent.values]".to_owned()),
            Just("id = \"a\"".to_owned()), Just("path = \"a\"".to_owned()), Just("domain = \"a\"".to_owned()),
            Just("scope = \"all\"".to_owned()), "[a-z.\\[\\]=\"' #]{0,12}",
        ], 0..20),
    ) {
        let text = lines.join("\n");
        if let Err(errors) = read(&text) {
            for error in errors.iter() {
                prop_assert!((1..=lines.len().max(1)).contains(&error.line), "{error} in {text}");
            }
        }
    }
}

fn outline(text: &str) -> Outline {
    read(text).unwrap_or_else(|errors| panic!("{errors}")).outline
}

fn changed(tree: &Tree, text: &str) -> Changed {
    tree.changed(&plan(tree, &outline(text))).unwrap()
}

fn tree(text: &str) -> Tree {
    changed(&Tree::default(), text).tree
}

/// As a person writes it, with what may be left out.
const FLEET: &str = r#"
root.scope = "patterns"

[future]
update_now = true

[[domain]]
path = "Branches/North"
values = { scope = "all", schedule = { kind = "weekly", days = ["mon"], at = "02:30", window_mins = 60 } }
[[domain]]
path = "Branches"
id = 1
started_with = ["update_now"]
[domain.values]
update_now = true

[[agent]]
id = "pc-1"
domain = "Branches/North"
certificate = "BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD"
[[agent]]
id = "pc-2"
domain = "Branches"
revoked = true
values.roaming = "always"

[[range]]
from = "10.0.0.0/8"
domain = "Branches"

[[source]]
range = "192.0.2.1-192.0.2.9"
url = "http://mirror.example/"

[[file]]
name = "x.ini"
text = """
[Global]
x=1
"""
"#;

#[test]
fn what_a_person_writes_is_written_back_in_order() {
    let tree = tree(FLEET);
    let written = Outline::of(&tree).text(|_| Ok(b"[Global]\nx=1\n".to_vec())).unwrap();
    let (_, body) = written.split_once("\n\n").unwrap();
    let expected = r#"[root]
scope = "patterns"

[future]
update_now = true

[[domain]]
path = "Branches"
id = 1
started_with = ["update_now"]
values.update_now = true

[[domain]]
path = "Branches/North"
id = 2
values.scope = "all"
values.schedule = { at = "02:30", days = ["mon"], kind = "weekly", window_mins = 60 }

[[agent]]
id = "pc-1"
domain = "Branches/North"
certificate = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

[[agent]]
id = "pc-2"
domain = "Branches"
values.roaming = "always"
revoked = true

[[range]]
from = "10.0.0.0/8"
domain = "Branches"

[[source]]
range = "192.0.2.1-192.0.2.9"
url = "http://mirror.example/"

[[file]]
name = "x.ini"
text = """
[Global]
x=1
"""
"#;
    assert_eq!(body, expected);
    assert_eq!(outline(&written), Outline::of(&tree));
}

#[test]
fn every_setting_has_its_line() {
    let all = Resolved::default().values();
    let actions = [Action::Amend {
        differences: vec![Difference::Root { before: Box::default(), after: Box::new(all.clone()) }],
    }];
    let tree = Tree::default().changed(&actions).unwrap().tree;
    let written = text(&tree);
    assert_eq!(written.lines().filter(|line| line.contains(" = ")).count(), all.settings().count());
    assert_eq!(outline(&written).root, all);
    assert_eq!(outline("").root, Values::default());
}

#[test]
fn domains_swap_names_and_places_and_keep_who_they_are() {
    let tree = tree(
        "[[domain]]\npath = 'A'\n[[domain]]\npath = 'A/B'\n[[agent]]\nid = 'x'\ndomain = 'A/B'\n[[domain]]\npath = 'C'\n",
    );
    let swapped = "[[domain]]\npath = 'C'\nid = 1\n[[domain]]\npath = 'A'\nid = 3\n[[domain]]\npath = 'A/C'\nid = 2\n[[agent]]\nid = 'x'\ndomain = 'A/C'\n";
    let made = changed(&tree, swapped);
    assert_eq!(made.differences.len(), 3, "the agent stays in domain 2");
    assert_eq!(
        told(&tree, &made),
        ["3 domains changed", "domain A/C: was A/B", "domain A: was C", "domain C: was A"]
    );
    // Inside out: what held the other is held by it.
    let inside_out = "[[domain]]\npath = 'B'\nid = 2\n[[domain]]\npath = 'B/A'\nid = 1\n[[agent]]\nid = 'x'\ndomain = 'B'\n[[domain]]\npath = 'C'\n";
    let made = changed(&tree, inside_out).tree;
    assert_eq!(made.domain(DomainId::try_from(1).unwrap()).unwrap().parent.map(DomainId::number), Some(2));
    // Without ids, paths alone count: what is gone there is removed, and numbers are not used twice.
    let made = changed(&tree, "[[domain]]\npath = 'D'\n");
    assert_eq!(made.tree.domains().map(|(id, _)| id.number()).collect::<Vec<_>>(), [4]);
    assert_eq!(told(&tree, &made)[0], "3 domains REMOVED, 1 domain added, 1 agent REMOVED");
}

#[test]
fn a_change_is_told_setting_by_setting_without_secrets() {
    let hash = "a".repeat(64);
    let before = tree(FLEET);
    let text = FLEET
        .replace("root.scope = \"patterns\"", "root.scope = \"all\"")
        .replace("[[range]]\nfrom = \"10.0.0.0/8\"\n", "[[range]]\nfrom = \"10.9.0.0/16\"\n")
        .replace("x=1", "x=22")
        .replace("http://mirror", "https://mirror")
        .replace("revoked = true", &format!("secret_hash = \"{hash}\""))
        .replace("id = \"pc-1\"", "id = \"pc-3\"")
        .replace("values = { scope = \"all\", schedule", "values = { update_now = false, schedule")
        + &format!(
            "[[enrolment]]\nid = 't'\ndomain = 'Branches'\nsecret_hash = '{hash}'\nleft = 5\nuntil = '2027-01-01T00:00:00Z'\n"
        );
    let made = changed(&before, &text);
    let expected = [
        "root changed, 1 domain changed, 1 agent REMOVED, 1 agent added, 1 agent changed, 1 enrolment added, 1 range REMOVED, \
         1 range added, 1 update source changed, 1 settings file changed",
        "root: scope patterns -> all",
        "domain Branches/North: scope all -> not set, update_now not set -> false",
        "agent pc-1: REMOVED from Branches/North",
        "agent pc-3: added to Branches/North, certificate none -> ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "agent pc-2: readmitted, gets a secret",
        "enrolment t: added, 5 agents into Branches until 2027-01-01T00:00:00Z",
        "range 10.0.0.0/8: REMOVED, of Branches",
        "range 10.9.0.0/16: added, of Branches",
        "update source of 192.0.2.1-192.0.2.9: http://mirror.example/ (both) -> https://mirror.example/ (both)",
        "settings file x.ini at the root: 13 bytes -> 14 bytes",
    ];
    assert_eq!(told(&before, &made), expected);
}

#[test]
fn what_is_removed_is_counted_whole_however_much_it_is() {
    let agent = |number| format!("[[agent]]\nid = \"pc-{number:05}\"\ndomain = \"A\"\n");
    let agents = (0..12_360).map(agent).collect::<Vec<_>>().concat();
    let tree = tree(&format!("[[domain]]\npath = \"A\"\n{agents}"));
    let told = told(&tree, &changed(&tree, "[[domain]]\npath = \"A\"\n"));
    assert_eq!(told[0], "12,360 agents REMOVED");
    assert_eq!(told[1], "agent pc-00000: REMOVED from A");
    assert_eq!(told.last().unwrap(), "and 12,340 more agents REMOVED");
    assert!(told.len() < 30);
}

#[test]
fn each_error_has_its_line_its_key_its_value_and_what_is_allowed() {
    let secret = "0123456789abcdef".repeat(4).to_uppercase();
    for (text, expected) in [
        ("[[agent]\n", "line 1: not valid TOML: "),
        ("\n\n[[agent]]\nid = \n", "line 4: not valid TOML: "),
        ("agents = 1\n", "line 1: agents: unknown; allowed: root, future, domain, "),
        ("[root]\n[agent]\n", "line 2: agent: of type table; allowed: tables, each as [[agent]]"),
        ("root = 3\n", "line 1: root: of type integer; allowed: a table, [root]"),
        ("agent = [3]", "line 1: agent: of type integer; allowed: tables, each as [[agent]]"),
        ("[root]\n[root]\n", "line 2: root: stands in line 1 already"),
        ("[root]\nskope = 1\n", "line 2: root.skope: unknown; allowed: scope, scheduled_updates, "),
        (
            "[root]\nscope = \"some\"\n",
            "line 2: root.scope = \"some\": unknown variant `some`, expected one of `patterns`, ",
        ),
        (
            "[root]\nupdate_now = 1\n",
            "line 2: root.update_now = 1: invalid type: integer `1`, expected a boolean",
        ),
        ("[future]\nbytes_per_sec = 0", "line 2: future.bytes_per_sec = 0: a rate is 1 to "),
        ("[[domain]]\n", "line 1: domain.path: missing"),
        (
            "[[domain]]\npath = \"a\"\n[[domain]]\npath = \"a\"",
            "line 3: domain.path = a: stands in line 1 already",
        ),
        (
            "[[domain]]\npath = \"a\"\nid = 1\n[[domain]]\npath = \"b\"\nid = 1",
            "line 4: domain.id = 1: stands in line 1 already",
        ),
        ("[[domain]]\npath = \"a\"\nid = 0", "line 3: domain.id = 0: domains are numbered from 1"),
        (
            "[[domain]]\npath = \"a/b\"",
            "line 1: domain.path = \"a\": there is no [[domain]] with the path \"a\"",
        ),
        ("[[domain]]\npath = \"a//b\"", "line 2: domain.path = \"a//b\": '' is no domain's name: "),
        ("[[domain]]\npath = \"1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17\"", "line 2: domain.path = "),
        (
            "[[domain]]\npath = \"a\"\nstarted_with = [\"scope\"]",
            "line 1: domain.started_with: 'scope' is not among the domain's values",
        ),
        (
            "[[domain]]\npath = \"a\"\nparent = 1\n",
            "line 3: domain.parent: unknown; allowed: path, id, started_with, values",
        ),
        ("[[agent]]\nid = \"A\"\ndomain = \"a\"\n", "line 2: agent.id = \"A\": 'A' is no agent: 1 to 63 of "),
        (
            "[[agent]]\nid = \"a\"\ndomain = \"a\"\n",
            "line 1: agent.domain = \"a\": there is no [[domain]] with the path \"a\"",
        ),
        ("[[agent]]\nvalues = 1\n", "line 2: agent.values: of type integer; allowed: a table of settings"),
        ("[[agent]]\nid = \"a\"\nid = \"b\"", "line 3: not valid TOML: duplicate key"),
        (
            "[[agent]]\nrevoked = true\ncertificate = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"",
            "line 1: agent.revoked = true: an agent that is shut out",
        ),
        (
            "[[agent]]\ncertificate = \"ba\"",
            "line 2: agent.certificate = \"ba\": a fingerprint is the SHA-256 ",
        ),
        (
            &format!("[[agent]]\nsecret_hash = \"{secret}\""),
            "line 2: agent.secret_hash: a secret's hash is 64 lower-case ",
        ),
        (
            "[[range]]\nfrom = \"10.0.0.1/8\"\ndomain = \"a\"",
            "line 1: range.from = 10.0.0.1/8: the range 10.0.0.1/8 has more bits",
        ),
        ("[[source]]\nrange = \"x\"", "line 2: source.range = \"x\": it is neither an IPv4 range"),
        (
            "[[source]]\nrange = \"2001:db8::/32\"\nurl = \"http://u:p@h/\"",
            "line 1: source.url: a source is an http or https URL",
        ),
        ("[[file]]\nname = \"x\"", "line 1: file.text: its bytes stand in 'text'"),
        ("[[file]]\nname = \"x\"\nbase64 = \"?\"", "line 1: file.base64: "),
        (
            "[[enrolment]]\nid = \"t\"\nuntil = 2027-01-01T00:00:00Z\nleft = -1",
            "line 1: enrolment.domain: missing",
        ),
    ] {
        let errors = read(text).expect_err(text);
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected} in {lines:#?}");
        assert!(!errors.to_string().contains(&secret) && !errors.to_string().contains("u:p"), "{errors}");
    }
    let overlap = "[[source]]\nrange = \"192.0.2.1-192.0.2.9\"\nurl = \"http://h/\"\n".repeat(2);
    assert!(
        read(&overlap).unwrap_err().to_string().contains("entry 2 (192.0.2.1-192.0.2.9) overlaps entry 1")
    );
    let certificate = "certificate = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\n";
    let twice = format!(
        "[[domain]]\npath = \"a\"\n[[agent]]\nid = \"x\"\ndomain = \"a\"\n{certificate}[[agent]]\nid = \"y\"\ndomain = \"a\"\n{certificate}"
    );
    assert!(read(&twice).unwrap_err().to_string().starts_with("line 7: agent.certificate = ba78"));
    assert_eq!(read("# nothing\n"), Ok(Read::default()));
}

#[test]
fn however_much_is_wrong_few_lines_say_it() {
    let keys = (0..150_000).map(|number| format!("a{number} = 1\n")).collect::<Vec<_>>().concat();
    for text in [
        "[".repeat(64 << 20),
        "[[agent]]\n".repeat(1 << 20),
        format!("[root]\n{keys}"),
        keys.clone(),
        format!("[[agent]]\n{keys}"),
        format!("agent = [{}]", "{},".repeat(400_000)),
        "\"\"\"".to_owned() + &"\n[[agent]]".repeat(1 << 20),
        "a.".repeat(1 << 19) + "a = 1",
        format!("a = {}", "[".repeat(1 << 20)),
        format!("[[domain]]\npath = \"{}\"", "a/".repeat(1 << 19)),
    ] {
        let errors = read(&text).unwrap_err();
        assert!(errors.iter().count() <= ERRORS_MAX);
        assert!(errors.to_string().len() < 100_000, "{}", errors.to_string().len());
    }
}
