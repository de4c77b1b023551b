//! Who typed the command, as the audit log names them.
//!
//! Never says that it is so: whoever may write to the data folder may write any name. Invariant: there is always a name, of few
//! characters, all of which can be shown.

/// The users of this machine.
const USERS: &str = "/etc/passwd";

/// Bytes of the file that are read: names of a network's directory are not in it.
const USERS_BYTES_MAX: u64 = 1 << 20;

/// Characters of a name.
const NAME_CHARS_MAX: usize = 32;

/// The name of the user that this process is, or their number.
pub fn who() -> String {
    use std::io::Read as _;
    let number = rustix::process::getuid().as_raw();
    let mut users = Vec::new();
    let read = std::fs::File::open(USERS).and_then(|file| file.take(USERS_BYTES_MAX).read_to_end(&mut users));
    // Without the file, the number says it.
    let _ = read;
    name(&String::from_utf8_lossy(&users), number).unwrap_or_else(|| format!("user {number}"))
}

/// A user's name in a file of passwd(5).
fn name(users: &str, number: u32) -> Option<String> {
    let user = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(number)).then_some(name)
    })?;
    let fits = (1..=NAME_CHARS_MAX).contains(&user.chars().count()) && !user.chars().any(char::is_control);
    fits.then(|| user.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_known_by_name_or_else_by_number() {
        let users = "root:x:0:0::/root:/bin/sh\nbroken\nalice:x:1000:1000::/:/bin/sh\n\u{1b}:x:7:7::/:\n";
        assert_eq!(name(users, 1000).as_deref(), Some("alice"));
        assert_eq!((name(users, 7), name(users, 8)), (None, None));
        assert!(!who().is_empty());
    }
}
