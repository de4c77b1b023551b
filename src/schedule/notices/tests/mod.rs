//! The machine of notices: each rule by itself, the machine against a plain model, and its work counted for a large fleet.

mod fleet;
mod ground;
mod missed;
mod model;
mod rules;
mod starts;
