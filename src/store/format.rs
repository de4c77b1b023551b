//! The number of the data folder's layout, and how folders of older programs are brought up to it.
//!
//! A step of the migration may be cut short at any moment: it is done again at the next start. Invariant: the number in
//! `FORMAT` is raised only after its step is whole; a newer number is refused, and nothing is changed.

use std::io;
use std::path::Path;

use tracing::info;

use crate::disk::Disk;
use crate::store::StoreError;

/// The layout that this program writes. What each number brought:
///
/// 1. The first.
/// 2. Rows of the index hold when a blob was last used.
pub const FORMAT: u32 = 2;

/// Brings a folder of the layout before up to the one that the number names.
type Step = (u32, fn(&Disk, &Path) -> io::Result<()>);

/// The steps in their order.
const STEPS: &[Step] = &[(2, remove_index)];

/// Brings a data folder up to this program's layout; a folder without a number is a new one.
pub(super) fn bring_up(disk: &Disk, root: &Path) -> Result<(), StoreError> {
    let path = root.join("FORMAT");
    let text = disk.read(&path).map_err(StoreError::io("read", &path))?;
    let write = |number: u32| {
        disk.write_whole(&path, format!("{number}\n").as_bytes()).map_err(StoreError::io("write", &path))
    };
    let Some(text) = text else {
        let staged = disk.read(&root.join("FORMAT.new")).map_err(StoreError::io("read", &path))?;
        // A folder whose number was on its way is of that number, or a new one that holds nothing yet.
        return match staged.as_deref().and_then(number) {
            Some(known @ 1..FORMAT) => write(known).and_then(|()| bring_up(disk, root)),
            _ => write(FORMAT),
        };
    };
    let Some(found @ 1..=FORMAT) = number(&text) else {
        let found = String::from_utf8_lossy(&text).trim().chars().take(40).collect();
        return Err(StoreError::Format { path: root.to_owned(), found });
    };
    for (number, step) in STEPS.iter().filter(|(number, _)| *number > found) {
        info!(folder = %root.display(), from = number - 1, to = number, "the data folder is brought up to a newer format");
        step(disk, root).map_err(StoreError::io("migrate", root))?;
        write(*number)?;
    }
    Ok(())
}

fn number(text: &[u8]) -> Option<u32> {
    str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The index is a view: it is made again from the files.
fn remove_index(disk: &Disk, root: &Path) -> io::Result<()> {
    disk.remove_folder_if_there(&root.join("index"))
}
