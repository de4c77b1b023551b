//! Manifests for tests: a plan is written as text, and says what reading that text must list.
//!
//! The plan is the model: it writes a view by leaving things out, and knows nothing of how views are made.

use proptest::prelude::*;

use crate::base::path::TreePath;
use crate::manifest::catalogue::Class;
use crate::manifest::server_ini::{Kind, Listing};

/// What a manifest is to hold.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Pairs under `[Server]`, which is always there.
    pub(super) servers: usize,
    pub(super) sections: Vec<Part>,
    pub(super) style: Style,
}

/// One section.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// For each component, how many increments.
    Patterns(Vec<usize>),
    /// For each engine, whether it is a driver.
    Engines(Vec<bool>),
    /// A package, a hot fix or not.
    Info { hotfix: bool },
    /// `[All_Product]`.
    Products,
    /// A section that nobody knows, with a file in it.
    Stranger,
}

/// How it is written.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "six independent ways to write the same")]
pub(super) struct Style {
    mark: bool,
    crlf: bool,
    padded: bool,
    lower: bool,
    commented: bool,
    open_end: bool,
}

/// What of a plan is written.
pub(super) struct Shown<'a> {
    /// The most restricted class that is seen.
    pub(super) most: Class,
    pub(super) withheld: &'a dyn Fn(&str) -> bool,
    /// The value of the `[Server]` pairs.
    pub(super) server: &'a str,
}

impl Shown<'_> {
    pub(super) fn everything() -> Self {
        Self { most: Class::Program, withheld: &|_| false, server: "http://upstream.example/activeupdate" }
    }

    fn sees(&self, class: Class) -> bool {
        class <= self.most
    }
}

/// Any plan.
pub(super) fn plan() -> impl Strategy<Value = Plan> {
    let part = prop_oneof![
        3 => prop::collection::vec(0usize..5, 0..4).prop_map(Part::Patterns),
        2 => prop::collection::vec(any::<bool>(), 0..4).prop_map(Part::Engines),
        2 => any::<bool>().prop_map(|hotfix| Part::Info { hotfix }),
        1 => Just(Part::Products),
        1 => Just(Part::Stranger),
    ];
    let style = any::<(bool, bool, bool, bool, bool, bool)>().prop_map(
        |(mark, crlf, padded, lower, commented, open_end)| Style {
            mark,
            crlf,
            padded,
            lower,
            commented,
            open_end,
        },
    );
    (0usize..3, prop::collection::vec(part, 0..6), style).prop_map(|(servers, sections, style)| Plan {
        servers,
        sections,
        style,
    })
}

/// Lines that are often right alone and often wrong together.
pub(super) fn manifest_like_bytes() -> impl Strategy<Value = Vec<u8>> {
    let section = "\\[(PATTERN|engine|Server|Info_[12]|All_Product|Extra)\\]";
    let package = "P\\.[1-3]=[ab]/[a-f],[12],[1-2]";
    let increment = "P\\.[1-3]\\.Merge\\.[1-3]=i/[a-f],[12],1";
    let engine = "E\\.[12]=(VSAPI|TMBM_DRIVER|X),e/[a-f],[12],1";
    let info = "(Path=(x|hotfix)/[a-f],1|Version=1|Build=2|Min=0)";
    let other = "(;c|\u{feff}|\u{feff}\\[PATTERN\\]|X=[ab]/[a-f],1|P\\.1\\.MergeCount=[0-3]|Server\\.1=http://u|[a= \r]{0,3})";
    let line = prop_oneof![3 => section, 4 => package, 3 => increment, 3 => engine, 2 => info, 2 => other];
    let ending = prop_oneof![Just("\n"), Just("\r\n")];
    prop::collection::vec((line, ending), 0..12)
        .prop_map(|lines| {
            lines.into_iter().flat_map(|(line, ending)| [line, ending.into()]).collect::<String>()
        })
        .prop_map(String::into_bytes)
}

impl Plan {
    /// The text, or what a scope gets of it.
    pub(super) fn write(&self, shown: &Shown<'_>) -> Vec<u8> {
        let mut text = Text { out: String::new(), style: self.style };
        text.comment("top");
        text.line("[Server]");
        for number in 1..=self.servers {
            text.pair(&format!("Server.{number}"), &[shown.server]);
        }
        for (at, part) in self.sections.iter().enumerate() {
            text.part(at, part, shown);
        }
        if self.style.open_end {
            text.line("[Server]");
            text.out += ";the end";
        }
        let mark = if self.style.mark { "\u{feff}" } else { "" };
        format!("{mark}{}", text.out).into_bytes()
    }

    /// What reading the text must list.
    pub(super) fn listings(&self) -> Vec<Listing> {
        let mut all = Vec::new();
        let mut add = |kind, class, (path, component, version): (String, String, &str), size| {
            let path = TreePath::parse(path.as_bytes()).unwrap();
            all.push(Listing {
                path,
                kind,
                class,
                component: component.into(),
                version: version.into(),
                size,
            });
        };
        for (at, part) in self.sections.iter().enumerate() {
            match part {
                Part::Patterns(components) => {
                    for (of, increments) in components.iter().enumerate() {
                        let key = self.style.cased(&format!("P.{at}0{of}"));
                        add(
                            Kind::Package,
                            Class::Pattern,
                            (format!("pattern/p{at}{of}.900"), key.clone(), "900"),
                            9,
                        );
                        for number in 1..=*increments {
                            let path = format!("pattern/p{at}{of}_{number}.900");
                            let version = format!("{number}-900");
                            add(Kind::Increment, Class::Pattern, (path, key.clone(), &version), 7);
                        }
                    }
                }
                Part::Engines(drivers) => {
                    for (of, driver) in drivers.iter().enumerate() {
                        let class = if *driver { Class::Driver } else { Class::Engine };
                        let key = self.style.cased(&format!("E.{at}0{of}"));
                        add(Kind::Package, class, (format!("engine/e{at}{of}.zip"), key, "1.2.3"), 8);
                    }
                }
                Part::Info { hotfix } => {
                    let class = if *hotfix { Class::Hotfix } else { Class::Program };
                    let key = self.style.cased(&format!("Info_{at}"));
                    add(Kind::Package, class, (info_path(at, *hotfix), key, "2.5.10"), 6);
                }
                Part::Products => {}
                Part::Stranger => {
                    let key = self.style.cased("File");
                    add(Kind::Guess, Class::Program, (format!("strange/s{at}.bin"), key, "v1"), 5);
                }
            }
        }
        all
    }
}

fn info_path(at: usize, hotfix: bool) -> String {
    format!("product/{}/i{at}.zip", if hotfix { "hotfix" } else { "enu" })
}

impl Style {
    fn cased(self, text: &str) -> String {
        if self.lower { text.to_lowercase() } else { text.into() }
    }
}

/// A manifest being written.
struct Text {
    out: String,
    style: Style,
}

impl Text {
    fn line(&mut self, line: &str) {
        self.out += line;
        self.out += if self.style.crlf { "\r\n" } else { "\n" };
    }

    fn comment(&mut self, what: &str) {
        if self.style.commented {
            self.line(&format!(";{what}=1"));
            self.line("");
        }
    }

    fn pair(&mut self, key: &str, fields: &[&str]) {
        let key = self.style.cased(key);
        let line = if self.style.padded {
            format!(" {key} =\t{} ", fields.join(", "))
        } else {
            format!("{key}={}", fields.join(","))
        };
        self.line(&line);
    }

    fn header(&mut self, name: &str) {
        let name = self.style.cased(name);
        self.line(&format!("[{name}]"));
        self.comment("inside");
    }

    fn part(&mut self, at: usize, part: &Part, shown: &Shown<'_>) {
        match part {
            Part::Patterns(components) => {
                self.header("PATTERN");
                for (of, increments) in components.iter().enumerate() {
                    self.pattern(&format!("P.{at}0{of}"), &format!("pattern/p{at}{of}"), *increments, shown);
                }
            }
            Part::Engines(drivers) if shown.sees(Class::Engine) => {
                self.header("ENGINE");
                for (of, driver) in drivers.iter().enumerate() {
                    if !driver || shown.sees(Class::Driver) {
                        let label = if *driver { "TMBM_DRIVER_X64" } else { "VSAPI32_NT" };
                        let path = format!("engine/e{at}{of}.zip");
                        self.pair(&format!("E.{at}0{of}"), &[label, &path, "1.2.3", "8", "0"]);
                    }
                }
            }
            Part::Info { hotfix } if shown.sees(if *hotfix { Class::Hotfix } else { Class::Program }) => {
                self.header(&format!("Info_{at}"));
                self.pair("Version", &["2.5"]);
                self.pair("Path", &[&info_path(at, *hotfix), "6"]);
                self.pair("Build", &["10"]);
            }
            Part::Products if shown.sees(Class::Program) => {
                self.header("All_Product");
                self.pair("MaxProductID", &["7"]);
            }
            Part::Stranger if shown.sees(Class::Program) => {
                self.header("Extra");
                self.pair("File", &[&format!("strange/s{at}.bin"), "v1", "5"]);
            }
            Part::Engines(_) | Part::Info { .. } | Part::Products | Part::Stranger => {}
        }
    }

    fn pattern(&mut self, key: &str, stem: &str, increments: usize, shown: &Shown<'_>) {
        let path = |number: usize| format!("{stem}_{number}.900");
        let kept: Vec<_> = (1..=increments).filter(|number| !(shown.withheld)(&path(*number))).collect();
        self.pair(key, &[&format!("{stem}.900"), "900", "9"]);
        self.pair(&format!("{key}.MergeCountEx"), &[&kept.len().to_string()]);
        for (index, number) in kept.into_iter().enumerate() {
            self.pair(&format!("{key}.Merge.{}", index + 1), &[&path(number), &number.to_string(), "7"]);
        }
    }
}
