//! Two origins of one tree that go wrong and come right again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::soak::dice::Dice;

/// How long a port may be taken by somebody else before the origin behind it is missed.
const PORT_WITHIN: Duration = Duration::from_secs(30);

/// The origins.
pub(super) struct Upstream {
    dir: PathBuf,
    origins: Vec<(SocketAddr, Option<Origin>)>,
    gates: Vec<Gate>,
    /// How often each fault was begun.
    pub(super) faults: BTreeMap<&'static str, u64>,
}

impl Upstream {
    /// Two that are well.
    pub(super) fn start(dir: &Path) -> Self {
        let origins = (0..2).map(|_| Origin::start(dir)).map(|origin| (origin.address(), Some(origin)));
        Self { dir: dir.into(), origins: origins.collect(), gates: Vec::new(), faults: BTreeMap::new() }
    }

    /// Their URLs.
    pub(super) fn urls(&self) -> Vec<String> {
        self.origins.iter().map(|(address, _)| format!("http://{address}/")).collect()
    }

    /// One of them does something else from now on. `listed` is a path whose length the manifest says.
    pub(super) fn turn(&mut self, listed: &str, dice: &mut Dice) {
        let index = dice.within(0..self.origins.len());
        self.mend(index);
        let name = *dice.one_of(FAULTS);
        *self.faults.entry(name).or_default() += 1;
        if name == "down" {
            self.origins[index].1 = None;
            return;
        }
        let Some(origin) = &self.origins[index].1 else { return };
        let at = dice.within(0..400_000);
        let gate = Gate::default();
        self.gates.push(gate.clone());
        let fault = match name {
            "reset" => Fault::ResetAfter(at),
            "truncated" => Fault::CloseAfter(at),
            "stalled" => Fault::StallAfter(at, gate),
            "silent" => Fault::StallBeforeHead(gate),
            "500" => Fault::Status(500),
            "503" => Fault::Status(503),
            "html" => Fault::Html,
            "wrong length" => Fault::WrongLength { declared: at },
            "garbage" => Fault::GarbageHead,
            "no range" => Fault::NoRange,
            "slow" => Fault::Throttle { bytes_per_sec: 400_000 },
            "chunked" => Fault::Chunked,
            _ => return,
        };
        // Of what no manifest says the length of, an origin alone knows it.
        let path = if name == "wrong length" { listed } else { "*" };
        origin.always(path, fault);
    }

    /// Both are well.
    pub(super) fn heal(&mut self) {
        (0..self.origins.len()).for_each(|index| self.mend(index));
    }

    /// Nobody listens.
    pub(super) fn stop(&mut self) {
        self.heal();
        self.origins.iter_mut().for_each(|(_, origin)| *origin = None);
    }

    fn mend(&mut self, index: usize) {
        // An open gate holds nobody, whichever origin it belongs to.
        self.gates.drain(..).for_each(|gate| gate.open());
        let (address, origin) = &mut self.origins[index];
        if let Some(origin) = origin {
            origin.behave();
            return;
        }
        let begun = Instant::now();
        while origin.is_none() {
            *origin = Origin::start_again(*address, &self.dir);
            assert!(begun.elapsed() < PORT_WITHIN, "the port of {address} is taken");
        }
    }
}

/// What may go wrong; `well` more than once, so that not all is always wrong.
const FAULTS: &[&str] = &[
    "well",
    "well",
    "well",
    "down",
    "reset",
    "truncated",
    "stalled",
    "silent",
    "500",
    "503",
    "html",
    "wrong length",
    "garbage",
    "no range",
    "slow",
    "chunked",
];
