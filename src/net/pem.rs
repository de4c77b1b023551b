//! Files in PEM as the settings name them: read within a bound, and told from what they were.
//!
//! Never says anything of their bytes. Invariant: a file that was changed or replaced has another stamp.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The largest file, in bytes: keys and chains have a few KiB, all authorities of a system some 200, and a larger file is a mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What tells that a file was changed, without reading it; `None` for one that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<(SystemTime, u64, u64)>);

impl Stamp {
    pub(super) fn of(path: &Path) -> Self {
        let metadata = path.metadata().ok();
        Self(metadata.and_then(|is| Some((is.modified().ok()?, is.len(), is.ino()))))
    }
}

/// Reads a whole file.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("larger than any certificate or key"));
    }
    Ok(bytes)
}

/// Reads a file's certificates, of which there is at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path).map_err(|error| error.to_string())?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| format!("not PEM: {error}"))?;
    if all.is_empty() { Err("it holds no certificate in PEM".into()) } else { Ok(all) }
}
