//! `forebay me`: who the relay takes whoever types for.

use clap::Args;

use crate::admin::model::access::{KnownBy, Me as Answer};
use crate::cli::Failed;
use crate::cli::api::Asking;
use crate::cli::output::print;

/// Shows who you are to the relay: the name and role of your token.
#[derive(Debug, Args)]
pub struct Me {
    #[command(flatten)]
    asking: Asking,
}

impl Me {
    /// Asks and shows.
    pub fn run(self) -> Result<(), Failed> {
        let me: Answer = self.asking.api()?.get("me")?;
        self.asking.print(&me, |me| {
            let by = match me.known_by {
                KnownBy::Token => "a token",
                KnownBy::Certificate => "a certificate",
            };
            print(&format!("{}, with the role {}, known by {by}", me.name, me.role));
            Ok(())
        })
    }
}
