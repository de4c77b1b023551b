//! Where a command's settings come from: a file, or an upstream on the command line.

use std::io::Read;
use std::path::Path;

use crate::cli::Failed;
use crate::config::settings::Settings;

/// The largest settings file, in bytes: 1,024 ranges and 64 trees fit many times.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads and checks a settings file.
pub fn read(path: &Path) -> Result<Settings, Failed> {
    crate::config::parse(&text(path)?).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("{}: {error}", path.display())).collect();
        Failed::new(lines.join("\n"))
    })
}

/// The text of a settings file.
pub(super) fn text(path: &Path) -> Result<String, Failed> {
    let named =
        |what: &dyn std::fmt::Display| Failed::new(format!("settings file {}: {what}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| named(&error))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| named(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(named(&format_args!("a settings file has at most {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| named(&"not TOML: the text is not UTF-8"))
}
