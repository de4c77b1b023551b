//! The audit log as people read it: the changes of the agent tree, the last one first, from the journals that hold them.
//!
//! Reads the end of what there is, and decodes no more than it gives. Invariant: a change that is told was on the disk.

use std::io;

use crate::disk::journal::decode;
use crate::state::State;
use crate::state::files::{self, Files};
use crate::state::record::{Record, Serial};

/// Bytes of records that are read for one answer, and one record more: some name a hundred thousand agents.
const BYTES_MAX: usize = 8 << 20;

impl State {
    /// Changes before this one, or all, the last one first; so many at most, and fewer where they are large. Blocks on the disk.
    pub fn audit(&self, before: Option<Serial>, count_max: usize) -> io::Result<Vec<Record>> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        let files = Files::list(&self.disk, &self.folder)?;
        for begins in files.journals.into_iter().rev() {
            if before.is_some_and(|before| before <= begins.next()) {
                continue;
            }
            // One that was removed since it was listed held the oldest.
            let Some(text) = self.disk.read(&files::journal(&self.folder, begins))? else { break };
            let lines = text.split(|byte| *byte == b'\n').skip(1).count() as u64;
            // What stands behind the last line's end is being written.
            for (back, line) in text.rsplit(|byte| *byte == b'\n').skip(1).enumerate() {
                let serial = Serial((begins.0 + lines).saturating_sub(back as u64));
                if before.is_some_and(|before| serial >= before) {
                    continue;
                }
                if records.len() >= count_max || bytes >= BYTES_MAX {
                    return Ok(records);
                }
                bytes += line.len();
                records.extend(decode::<Record>(line));
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::base::clock::SystemClock;
    use crate::disk::Disk;
    use crate::policy::tree::change::Action;
    use crate::policy::tree::id::DomainName;
    use crate::policy::tree::setting::Values;
    use crate::state::record::{Author, Serial};
    use crate::state::{Keep, State};

    #[test]
    fn the_last_changes_come_first_over_all_journals_and_pages_join_r11_2() {
        let folder = tempfile::tempdir().unwrap();
        // Every few changes begin another journal.
        let keep = Keep { journal_bytes_max: 1000, ..Keep::default() };
        let clock = Arc::new(SystemClock::default());
        let state = State::open(&Disk::default(), folder.path(), keep, clock).unwrap();
        assert!(state.audit(None, 10).unwrap().is_empty());
        for number in 1..=23 {
            let plan = move |tree: &crate::policy::tree::Tree| {
                let name = DomainName::parse(&format!("d{number}")).unwrap();
                let (domain, values) = (tree.next_domain(), Values::default());
                Ok(vec![Action::AddDomain { domain, name, parent: None, values }])
            };
            let author = Author::parse(&format!("author {number}")).unwrap();
            state.plan(author, plan).unwrap().wait().unwrap();
        }
        let (mut before, mut all) = (None, Vec::new());
        loop {
            let page = state.audit(before, 4).unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.serial);
            all.extend(page);
        }
        let serials: Vec<_> = all.iter().map(|record| record.serial).collect();
        assert_eq!(serials, (1..=23).rev().map(Serial).collect::<Vec<_>>());
        assert_eq!(all[0].who.as_str(), "author 23");
        assert_eq!(all[0].what, ["add domain 23 'd23' to the root"]);
    }
}
