//! The README says what is so: its settings are the program's, its configuration is right.

use std::process::Command;

const README: &str = include_str!("../../README.md");

#[test]
fn the_settings_table_is_the_one_that_the_program_checks_by_r11_3() {
    let table = forebay::config::table::markdown();
    let (header, _) = table.split_once('\n').unwrap();
    let from = README.find(header).expect("the README has the table's header");
    let shown: Vec<&str> = README[from..].lines().take_while(|line| line.starts_with('|')).collect();
    let expected: Vec<&str> = table.lines().collect();
    for (shown, expected) in shown.iter().zip(&expected) {
        assert_eq!(shown, expected, "put config::table::markdown() into README.md");
    }
    assert_eq!(shown.len(), expected.len(), "the table:\n{table}");
}

#[test]
fn the_agents_settings_are_those_that_it_checks_by_r11_3() {
    use forebay::config::agent::{parse, rows};

    let table = forebay::config::table::markdown_of(rows::TABLE);
    assert!(README.contains(&table), "put this into README.md, below 'Of the agent':\n{table}");
    let settings = blocks("toml agent").map(|text| parse(text).unwrap());
    assert_eq!(settings.count(), 1);
}

#[test]
fn check_config_accepts_every_configuration_of_the_readme_r11_3() {
    let configurations: Vec<&str> = blocks("toml").collect();
    assert!(configurations.len() >= 2, "one for a branch office, one for a folder as upstream");
    let folder = tempfile::tempdir().unwrap();
    for configuration in configurations {
        let file = folder.path().join("forebay.toml");
        std::fs::write(&file, configuration).unwrap();
        let checked = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["check", "config"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(checked.status.success(), "{}\n{configuration}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn the_agent_tree_of_the_readme_is_applied_as_it_shows_r5() {
    use forebay::policy::outline::{plan::plan, read::read, told::told};
    use forebay::policy::tree::Tree;

    let outline = read(blocks("toml outline").next().unwrap()).unwrap().outline;
    let changed = Tree::default().changed(&plan(&Tree::default(), &outline)).unwrap();
    let shown = blocks("text").find(|block| block.starts_with("$ forebay tree apply")).unwrap();
    let shown: Vec<_> = shown.lines().skip(1).take_while(|line| !line.starts_with("Change it so?")).collect();
    assert_eq!(told(&Tree::default(), &changed), shown);
}

#[test]
fn the_branch_offices_ranges_mean_what_the_text_says_r6_1() {
    use forebay::manifest::catalogue::Class;
    use forebay::policy::decide::{Ask, Permission, Policy, Refusal};
    use forebay::policy::tree::compiled::Compiled;

    let settings = forebay::config::parse(blocks("toml").next().unwrap()).unwrap();
    let ranges = settings.agents.ranges.iter().map(|range| (range.from, range.scope));
    let policy = Policy::new(ranges, settings.agents.unknown);
    let caller = |address: &str| {
        let address: std::net::IpAddr = address.parse().unwrap();
        policy.caller(&Compiled::default(), &address.into())
    };
    let may = |address: &str, class| {
        policy.decide(&caller(address).unwrap(), Ask::Component(class), Permission::Closed).is_ok()
    };
    assert!(may("10.20.3.4", Class::Driver) && !may("10.20.3.4", Class::Program), "desktops");
    assert!(may("2001:db8:20::1", Class::Engine) && !may("2001:db8:20::1", Class::Hotfix), "desktops");
    assert!(may("10.20.1.4", Class::Program), "servers");
    assert!(may("10.20.7.4", Class::Pattern) && !may("10.20.7.4", Class::Engine), "tills");
    assert_eq!(caller("10.21.0.1").unwrap_err(), Refusal::UnknownAgent);
}

/// What stands in the README's code blocks of a language.
fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{language}\n");
    let mut rest = README;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(fence.as_str())?;
        let (block, after) = after.split_once("```")?;
        rest = after;
        Some(block)
    })
}
