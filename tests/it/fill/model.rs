//! Random faults against random readers: each gets exactly its bytes or an error that shows, and the store is right (R1.5, R2).

use std::net::SocketAddr;
use std::ops::Range;

use super::ground::{Ground, changed, path};
use crate::origin::answer::Validators;
use crate::origin::fault::Fault;
use crate::raw::Client;
use crate::raw::answer::{Answer, End};

const READERS: usize = 6;

/// Packages of one relay.
const PACKAGES: usize = 16;

/// One seed's numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

#[test]
fn whatever_the_upstream_does_readers_get_their_bytes_or_an_error_r1_5_r2() {
    let seeds = std::env::var("FOREBAY_SEEDS").map_or(PACKAGES, |count| count.parse().unwrap());
    let mut far = 0;
    for first in (0..seeds).step_by(PACKAGES) {
        let dice: Vec<_> = (first..seeds.min(first + PACKAGES)).map(|seed| Dice(seed as u64)).collect();
        // A third is long enough for readers far ahead to have lanes of their own.
        let size = |mut dice: Dice| {
            let most = if dice.below(3) == 0 { 3_000_000 } else { 600_000 };
            1 + dice.below(most)
        };
        let sizes: Vec<_> = dice.into_iter().map(size).collect();
        let mut ground = Ground::new(&sizes);
        for number in 0..sizes.len() {
            far += play(&mut ground, number, first + number);
        }
        ground.relay.stop();
    }
    assert!(far > 0 || seeds < PACKAGES, "no reader had a lane of its own");
}

/// Plays one seed; gives how many requests were for a part in the middle.
fn play(ground: &mut Ground, number: usize, seed: usize) -> usize {
    let mut dice = Dice(!(seed as u64));
    let (path, old) = (path(number), ground.files[number].clone());
    let all = [Validators::Strong, Validators::Strong, Validators::Weak, Validators::Date, Validators::None];
    ground.origin.set_validators(all[dice.below(all.len())]);
    let mut change = None;
    let scripts = dice.below(5);
    for number in 0..scripts {
        let mut faults = faults(&mut dice, old.len(), &mut change);
        if number == 0 && dice.below(2) == 0 {
            // Slow enough for readers to lose patience.
            faults.push(Fault::Throttle { bytes_per_sec: 2_000_000 });
        }
        ground.origin.script_together(&path, faults);
    }
    let new = change.map_or_else(|| old.clone(), |from| changed(&old, from));
    let address = ground.relay.v4();
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            let (whole, start) = (dice.below(3) == 0, dice.below(old.len()));
            let end = if whole { old.len() } else { start + 1 + dice.below(old.len() - start) };
            let span = if whole { 0..end } else { start..end };
            let (path, states) = (&path, [&old[span.clone()], &new[span.clone()]]);
            scope.spawn(move || {
                let answer = read(address, path, (!whole).then_some(span));
                let right = states.iter().any(|state| answer.body == *state);
                let prefix = states.iter().any(|state| state.starts_with(&answer.body));
                match (answer.head.status, answer.end) {
                    (200 | 206, End::Complete) => assert!(right, "seed {seed}: wrong bytes as complete"),
                    (200 | 206, End::Short | End::Reset) => assert!(prefix, "seed {seed}: wrong bytes"),
                    (status, End::Complete) => assert!(matches!(status, 502..=504), "seed {seed}: {status}"),
                    other => panic!("seed {seed}: {other:?}"),
                }
            });
        }
    });
    // Whatever is under way ends; then the upstream behaves.
    ground.settle(&path);
    let seen = ground.origin.seen();
    let (bytes, gets) = (seen.body_bytes(&path), ground.gets(&path));
    // A request with an end was made by a far lane, or stops at its bytes.
    let ends = |range: Option<String>| range.is_some_and(|range| !range.ends_with('-'));
    let spans = ground.ranges(&path).into_iter().filter(|range| ends(range.clone())).count();
    // Each script spoils one transfer; a change costs another, and each fill that failed may be begun anew by a reader. A
    // lane may be refused, and another broken off where it begins; what was on its way then is lost.
    let transfers = scripts + 2 + 2 * spans;
    assert!(bytes <= (transfers * old.len() + 400) as u64, "seed {seed}: {bytes} of {}", old.len());
    assert!(gets - spans <= 2 * scripts + 2, "seed {seed}: {gets} requests");
    // Three of a fill's lanes may be refused, and a script spoils one; each brought its bytes else.
    assert!(spans <= (scripts + 1) * (READERS + 3), "seed {seed}: {spans} far requests");
    ground.origin.behave();
    ground.forget(&path);
    let now = if seen.of(&path).count() > scripts { &new } else { &old };
    let last = ground.get(&path);
    assert!([&old, &new].contains(&&last.body), "seed {seed}: neither state");
    assert!(last.body == *now || change.is_some(), "seed {seed}");
    last.whole(200);
    assert!(ground.settle(&path), "seed {seed}");
    for blob in ground.blobs() {
        let name = blob.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&blob).unwrap();
        assert_eq!(name, format!("{}.{}", blake3::hash(&bytes).to_hex(), bytes.len()), "seed {seed}");
    }
    assert_eq!(ground.staged(), 0, "seed {seed}");
    spans
}

fn faults(dice: &mut Dice, size: usize, change: &mut Option<usize>) -> Vec<Fault> {
    let mut faults = vec![match dice.below(9) {
        0 => Fault::ResetAfter(dice.below(size + 1)),
        1 | 2 => Fault::CloseAfter(dice.below(size + 1)),
        3 => Fault::NoRange,
        4 => Fault::Chunked,
        5 => Fault::Status(503),
        6 => Fault::WrongContentRange,
        7 => Fault::GarbageHead,
        _ => {
            let from = *change.get_or_insert_with(|| dice.below(size));
            Fault::ChangedFrom(from)
        }
    }];
    if dice.below(2) == 0 {
        faults.push(Fault::CloseAfter(dice.below(size + 1)));
    }
    faults
}

fn read(address: SocketAddr, path: &str, range: Option<Range<usize>>) -> Answer {
    let range = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
    let headers: Vec<_> = range.iter().map(|range| ("Range", range.as_str())).collect();
    Client::connect(address).exchange("GET", path, &headers).expect("an answer has a head")
}
