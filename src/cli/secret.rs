//! `forebay secret`: a new secret for a user of the proxy, and the lines of the settings that know its hash.
//!
//! Never stores it: what is printed is all there is. Invariant: a secret has 256 random bits, so that its hash tells nothing.

use clap::Args;
use rand::rngs::SysRng;

use crate::cli::Failed;
use crate::cli::output::print;
use crate::policy::secret::{SecretHash, new_secret};

/// Makes a secret for a user of the proxy.
#[derive(Debug, Args)]
pub struct Secret {
    /// The user's name.
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
}

impl Secret {
    /// Prints it.
    pub fn run(self) -> Result<(), Failed> {
        let secret = new_secret(&mut SysRng)?;
        print(&format!(
            "The secret of {name}, which is shown this once:\n\n{secret}\n\n\
             For the settings:\n\n[[proxy.user]]\nname = \"{name}\"\nsecret_hash = \"{hash}\"\n\n\
             try: curl -x 'http://RELAY:8080' --proxy-user '{name}:{secret}' URL",
            name = self.name,
            hash = SecretHash::of(secret.as_bytes()),
        ));
        Ok(())
    }
}

/// A name as the settings take it.
fn name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err("allowed: 1 to 64 of A-Z, a-z, 0-9, '-', '_' and '.'".to_owned())
}
