//! The program as the person meets it who types its commands and reads its log.

mod activation;
mod ask;
mod certs;
mod errors;
mod help;
mod listen;
mod log;
mod long;
mod notices;
mod reload;
mod service;
mod shells;
mod signals;
mod units;
mod upstream;
