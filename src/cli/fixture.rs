//! `forebay fixture`: a tree for tests, of any size, that can move on.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use indicatif::{HumanBytes, MultiProgress};

use crate::cli::Failed;
use crate::cli::output::print;
use crate::cli::progress::{Lines, Unit, Work};
use crate::fixture;

/// Writes a tree, or its next release.
#[derive(Debug, Args)]
pub struct Fixture {
    /// The folder: new, empty, or holding such a tree.
    dir: PathBuf,
    /// How large the files are.
    #[arg(long, value_enum, default_value = "small", conflicts_with = "next")]
    scale: Scale,
    /// What the bytes are made from; equal seeds make equal trees.
    #[arg(long, default_value_t = fixture::Fixture::default().seed, conflicts_with = "next")]
    seed: u32,
    /// Publish the next release into the tree that is there: files first, server.ini last.
    #[arg(long)]
    next: bool,
    /// With --next: remove the files that the new release no longer names.
    #[arg(long, requires = "next")]
    retire: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scale {
    /// About a megabyte.
    Small,
    /// Full patterns of 20 to 200 MB, about 1.5 GB in all.
    Real,
}

impl Fixture {
    /// Writes it.
    pub fn run(self) -> Result<(), Failed> {
        let bars = Arc::new(MultiProgress::new());
        let mut work = Work::begin(&bars, "fixture", Unit::Bytes, Lines::Printed);
        let mut show =
            |now: fixture::Progress<'_>| work.show(now.bytes_done, now.bytes_total, now.path.as_str());
        let written = if self.next {
            let retired = if self.retire { fixture::Retired::Remove } else { fixture::Retired::Keep };
            fixture::publish_next(&self.dir, retired, &mut show)?
        } else {
            let scale = match self.scale {
                Scale::Small => fixture::Scale::Small,
                Scale::Real => fixture::Scale::Real,
            };
            let tree = fixture::Fixture { scale, seed: self.seed, ..fixture::Fixture::default() };
            tree.write(&self.dir, &mut show)?;
            tree
        };
        drop(work);
        let files = written.files();
        let bytes: u64 = files.iter().map(|file| file.size).sum();
        let (dir, release) = (self.dir.display(), written.release);
        print(&format!("{dir}: release {release}, {} files, {}", files.len(), HumanBytes(bytes)));
        Ok(())
    }
}
