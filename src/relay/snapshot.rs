//! What a tree shows at one moment: its kept generations, and the manifest that each scope sees of them.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::base::path::TreePath;
use crate::config::settings::TreeSettings;
use crate::manifest::view::{ServerLines, render};
use crate::policy::scope::Scope;
use crate::relay::entry::{State, entity_tag};
use crate::relay::generation::{Generation, Listed};

/// The kept generations, the newest first; never empty. Immutable: a request keeps the one that it began with.
#[derive(Debug)]
pub struct Snapshot {
    published: Vec<Arc<Published>>,
}

/// A generation that agents may see.
#[derive(Debug)]
pub struct Published {
    /// The generation.
    pub generation: Arc<Generation>,
    views: [View; Scope::ALL.len()],
}

/// The manifest for one scope.
#[derive(Clone, Debug)]
pub struct View {
    /// What the agent gets.
    pub bytes: Bytes,
    /// Its strong entity tag.
    pub etag: HeaderValue,
}

impl Snapshot {
    /// A snapshot of these generations, the newest first; `None` where there are none.
    pub fn new(published: Vec<Arc<Published>>) -> Option<Self> {
        (!published.is_empty()).then_some(Self { published })
    }

    /// The newest generation.
    pub fn current(&self) -> &Arc<Published> {
        &self.published[0]
    }

    /// All kept generations, the newest first.
    pub fn published(&self) -> &[Arc<Published>] {
        &self.published
    }

    /// Finds a file for an agent: in the generation that it is on, else in the newest that names it. Of generations with
    /// the same manifest the newest counts: it was made for files that the others lack.
    pub fn find(&self, path: &TreePath, pinned: impl Fn(&Generation) -> bool) -> Option<&Listed> {
        let own = self.published.iter().find(|published| pinned(&published.generation));
        let manifest = own.map(|own| own.generation.head().manifest);
        let own = self.published.iter().find(|p| Some(p.generation.head().manifest) == manifest);
        own.into_iter().chain(&self.published).find_map(|published| published.generation.listed(path))
    }
}

impl Published {
    /// Makes the views of a generation. Takes milliseconds for a large manifest: not on a data worker.
    pub fn new(generation: Arc<Generation>, settings: &TreeSettings) -> Self {
        let public_base = settings.server_base();
        let views = Scope::ALL.map(|scope| {
            let servers = public_base.as_deref().map_or(ServerLines::CommentedOut, ServerLines::Base);
            let withheld = |path: &TreePath| {
                generation.listed(path).is_some_and(|listed| matches!(**listed.entry.state(), State::Absent))
            };
            let bytes =
                render(generation.manifest(), servers, &settings.links, &withheld, |class| scope.sees(class));
            let number = generation.number().to_string();
            let hash = blake3::hash(&bytes).to_hex();
            let etag =
                entity_tag(&[generation.tree().as_str(), "manifest", &number, scope.name(), hash.as_str()]);
            View { bytes, etag }
        });
        Self { generation, views }
    }

    /// The manifest that a scope sees.
    pub fn view(&self, scope: Scope) -> &View {
        let index = Scope::ALL.iter().position(|known| *known == scope);
        &self.views[index.expect("every scope has a view")]
    }
}
