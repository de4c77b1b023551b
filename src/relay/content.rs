//! Bytes that were opened to be served, wherever they are.

use bytes::Bytes;

use crate::relay::cache::arrival::Arriving;
use crate::relay::follow::Follower;
use crate::store::blobs::OpenBlob;

/// Bytes, opened.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Bytes(Bytes),
    /// In the store.
    Blob(OpenBlob),
    /// On their way.
    Fill(Follower),
    /// On their way into the general cache.
    Arriving(Arriving),
}
