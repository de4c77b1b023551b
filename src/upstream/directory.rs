//! A directory as an upstream, for air-gapped sites.
//!
//! A file's state is told by its time of change, size and inode, as a strong entity tag. Invariant: a file that is changed
//! while it is read ends in [`UpstreamError::Changed`], not in a mixture.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use crate::base::limits::FILL_BATCH_BYTES;
use crate::base::range::ByteRange;
use crate::base::validator::Validator;
use crate::upstream::{Found, Head, Kind, Part, Request, Source, UpstreamError};

/// A file being read.
#[derive(Debug)]
pub struct DirectoryTransfer {
    file: Arc<File>,
    offset: u64,
    end: u64,
    tag: String,
}

impl DirectoryTransfer {
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let (file, offset, tag) = (self.file.clone(), self.offset, self.tag.clone());
        let len = usize::try_from(self.end - offset).unwrap_or(usize::MAX).min(FILL_BATCH_BYTES);
        let bytes = blocking(move || {
            let mut buffer = vec![0; len];
            match file.read_exact_at(&mut buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(UpstreamError::Changed);
                }
                read => read?,
            }
            if tag != entity_tag(&file.metadata()?) {
                return Err(UpstreamError::Changed);
            }
            Ok(buffer)
        })
        .await?;
        self.offset += bytes.len() as u64;
        Ok((!bytes.is_empty()).then(|| bytes.into()))
    }
}

pub(super) async fn fetch(folder: &Path, request: Request<'_>) -> Result<Found, UpstreamError> {
    let path = folder.join(request.path);
    let (file, metadata) = blocking(move || {
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(UpstreamError::NotFound),
            file => file?,
        };
        let metadata = file.metadata()?;
        if metadata.is_file() { Ok((file, metadata)) } else { Err(UpstreamError::NotFound) }
    })
    .await?;
    let tag = entity_tag(&metadata);
    let validator = Validator { etag: Some(tag.clone()), last_modified: Some(last_modified(&metadata)) };
    let size = metadata.len();
    let run = match request.part {
        Part::Head | Part::First => {
            return Ok(Found::Head(Head { size: Some(size), validator, kind: Kind::File }));
        }
        Part::UnlessStill(known) if known.etag.as_deref() == Some(&tag) => return Ok(Found::Unchanged),
        Part::From(offset, known) if known == tag && offset <= size => ByteRange::new(offset, size),
        Part::Span(run, known) if known == tag && run.end() <= size => run,
        Part::Whole | Part::UnlessStill(_) | Part::From(..) | Part::Span(..) => ByteRange::whole(size),
    };
    let (offset, end) = (run.start(), run.end());
    let transfer = DirectoryTransfer { file: Arc::new(file), offset, end, tag };
    Ok(Found::Bytes {
        head: Head { size: Some(size), validator, kind: Kind::File },
        offset,
        end: Some(end),
        source: Source::Directory(transfer),
    })
}

fn entity_tag(metadata: &Metadata) -> String {
    format!(
        "\"{:x}.{:x}-{:x}-{:x}\"",
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len(),
        metadata.ino()
    )
}

fn last_modified(metadata: &Metadata) -> String {
    let since = Duration::from_secs(u64::try_from(metadata.mtime()).unwrap_or(0));
    httpdate::fmt_http_date(UNIX_EPOCH + since)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UpstreamError> + Send + 'static,
) -> Result<T, UpstreamError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| UpstreamError::Broken("the reading thread ended".to_owned()))?
}
