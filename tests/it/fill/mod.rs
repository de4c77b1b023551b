//! One fetch for all readers, and what the upstream or the disk can do to it (R1.5, R2).

mod crowd;
mod deadlines;
mod far;
mod ground;
mod lies;
mod model;
mod origins;
mod readers;
mod resume;
mod stampede;
mod store;
mod unfinished;
