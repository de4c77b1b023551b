//! Ends at the worst moments: no wrong byte is served, nothing complete is lost, and a disk that
//! stalls holds up nobody else (R1.5, R1.6).
//!
//! `points`: SIGKILL before and after each step on the data folder; `moments`: SIGKILL at random moments under load; `cuts`:
//! power cuts under a small kernel; `stall`: a cold blob on a disk that stalls. `child` is the relay that ends, `load` the agents that compare all they get, `ground` the
//! releases and the checks of what an end left. A bounded number runs by default; `FOREBAY_CRASHES=all` runs every point, 200
//! moments and 20 cuts.

mod child;
mod cuts;
mod ground;
mod load;
mod moments;
mod points;
mod stall;
