//! A fleet of 2,000 domains and 20,000 agents, applied and exported in bounded time.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::{apply, export, place};

/// Domains, in three levels, and agents in each, most with a secret.
pub(super) fn fleet(domains: usize, agents: usize) -> String {
    let path = |number: usize| match number {
        0..10 => format!("Region {number}"),
        10..200 => format!("Region {}/City {number}", number % 10),
        _ => format!("Region {}/City {}/Office {number}", (10 + number % 190) % 10, 10 + number % 190),
    };
    let mut text = String::new();
    for number in 0..domains {
        let _ = write!(text, "[[domain]]\npath = {:?}\n", path(number));
        if number % 5 == 0 {
            text += "values.scope = \"patterns\"\n";
        }
    }
    for number in 0..agents {
        let _ = write!(text, "[[agent]]\nid = \"pc-{number:06}\"\ndomain = {:?}\n", path(number % domains));
        if number % 10 == 0 {
            text += "values.update_now = true\n";
        }
        let _ = writeln!(text, "secret_hash = \"{number:064x}\"");
    }
    text
}

/// Far beyond what it takes, for an unoptimised program on a busy machine.
const WITHIN: Duration = Duration::from_secs(50);

#[test]
fn a_fleet_of_20_000_agents_is_applied_changed_and_exported_in_bounded_time_r5() {
    let place = place();
    let relay = place.serve_ready();
    let text = fleet(2_000, 20_000);
    let timed = |what: &str, work: &mut dyn FnMut()| {
        let begun = Instant::now();
        work();
        println!("{what}: {:?}", begun.elapsed());
        assert!(begun.elapsed() < WITHIN, "{what} took {:?}", begun.elapsed());
    };
    timed("applied", &mut || {
        let made = apply(&place, &text, &["--yes"]).succeeded().stdout;
        assert!(made.starts_with("2,000 domains added, 20,000 agents added\n"), "{made}");
        assert!(made.contains("\nand 19,980 more agents added\n"), "{made}");
        assert!(made.lines().count() < 50, "{made}");
    });
    let mut kept = String::new();
    timed("exported", &mut || kept = export(&place));
    let renamed = kept.replace("\"Region 3", "\"Gegend 3").replace("pc-000007", "pc-seven");
    timed("changed", &mut || {
        let made = apply(&place, &renamed, &["--yes"]).succeeded().stdout;
        assert_eq!(
            made,
            "1 domain changed, 1 agent REMOVED, 1 agent added\ndomain Gegend 3: was Region 3\n\
             agent pc-000007: REMOVED from Region 7\nagent pc-seven: added to Region 7, gets a secret\ndone: change 2\n"
        );
    });
    timed("removed", &mut || {
        let made = apply(&place, "", &["--yes"]).succeeded().stdout;
        assert!(made.starts_with("2,000 domains REMOVED, 20,000 agents REMOVED\n"), "{made}");
    });
    relay.stop();
}
