//! The components of an update: what each tree has that is new, taken file by file, and made a set as one.
//!
//! Never runs a component's command. Invariant: a new set is there only when all that is wanted of all trees came.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::Path;

use bytes::Bytes;

use crate::agent::command::{self, Told as ToldProgram};
use crate::agent::fetch::{Fetch, signature};
use crate::agent::install::{Made, Taken, install, present};
use crate::agent::installed::{Has, Installed};
use crate::agent::manifests;
use crate::agent::progress::{Progress, Tell};
use crate::agent::sources::Source;
use crate::agent::staging::Staging;
use crate::agent::told::{Reason, ToldTree};
use crate::agent::update::Update;
use crate::agent::wants::{File, Increments, Shown, Want, wants};
use crate::base::tree::TreeName;
use crate::policy::sources::Kind;

/// Bytes that are left free on the disk: what is remembered, and the manifests, want some.
const ROOM_LEFT: u64 = 4 << 20;

/// What is wanted of a tree, and from where.
struct Wanted {
    wants: Vec<Want>,
    components: Vec<Source>,
    programs: Vec<Source>,
    manifest: Bytes,
}

impl Update<'_> {
    /// Takes what is new of all trees, whole or not at all; gives the new set, if there is one.
    pub(super) async fn components(
        &mut self,
        installed: &Installed,
        tell: &mut Tell<'_>,
    ) -> Result<Option<Installed>, String> {
        let ground = self.ground.clone();
        let there = present(&ground.folder, installed.clone());
        let mut wanted: BTreeMap<TreeName, Wanted> = BTreeMap::new();
        for tree in self.told.trees.clone() {
            let asked_for = ground.settings.trees.as_ref().is_none_or(|trees| trees.contains(&tree.name));
            if asked_for && let Some(found) = self.wanted(&tree, &there, tell).await? {
                wanted.insert(tree.name, found);
            }
        }
        let staging = Staging::new(ground.folder.place().disk().clone(), ground.folder.place().staging());
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let names = wanted.values().flat_map(|wanted| &wanted.wants).flat_map(staged);
        ground.folder.sweep(installed.number, &names.collect()).map_err(|error| failed(&error))?;
        let files = wanted.values().map(|wanted| wanted.wants.len()).sum();
        if files == 0 {
            return Ok(None);
        }
        let bytes = Self::missing(&staging, wanted.values().flat_map(|wanted| &wanted.wants))?;
        tell(Progress::Wanted { files, bytes });
        check_room(ground.folder.place().path(), bytes)?;
        let mut taken = Vec::new();
        for from in wanted.values() {
            for want in &from.wants {
                let sources = match Kind::of(want.class) {
                    Kind::Programs => &from.programs,
                    Kind::Components | Kind::AgentSettings => &from.components,
                };
                let has = there.component(&want.tree, &want.component);
                taken.push(self.take(&staging, want, sources, has, tell).await?);
            }
        }
        let manifests = wanted.into_iter().map(|(tree, wanted)| (tree, wanted.manifest)).collect();
        let built = tokio::task::spawn_blocking(move || {
            let set = install(&ground.folder, &there, &taken, &manifests, ground.clock.wall())?;
            // What was staged is in the set.
            ground.folder.sweep(set.number, &HashSet::new()).map(|()| set)
        });
        let built = built.await.map_err(|_| "the agent ends".to_owned())?;
        built.map(Some).map_err(|error| failed(&error))
    }

    /// What is wanted of a tree; nothing where nobody is told to serve it.
    async fn wanted(
        &self,
        tree: &ToldTree,
        there: &Installed,
        tell: &mut Tell<'_>,
    ) -> Result<Option<Wanted>, String> {
        let asking = self.asking();
        let asked = |told: &[_]| told.iter().map(|told| asking.source(told)).collect::<Vec<_>>();
        let (components, programs) = (asked(&tree.components), asked(&tree.programs));
        let sources = if components.is_empty() { &programs } else { &components };
        if sources.is_empty() {
            return Ok(None);
        }
        let (client, folder) = (&self.ground.client, &self.ground.folder);
        let given = manifests::take(client, folder, &tree.name, sources, tell).await?;
        let shown = match sources[given.source].reason {
            Reason::Relay => Shown::Filtered,
            Reason::Customised | Reason::Upstream | Reason::Other => Shown::Whole(self.told.settings.scope),
        };
        let settings = &self.ground.settings;
        let increments = if settings.merge.is_some() { Increments::Taken } else { Increments::Not };
        let mut wants = wants(&tree.name, &given.manifest, shown, settings, increments, there);
        // What nobody is told to serve is not wanted.
        wants.retain(|want| match Kind::of(want.class) {
            Kind::Programs => !programs.is_empty(),
            Kind::Components | Kind::AgentSettings => !components.is_empty(),
        });
        let manifest = given.manifest.bytes().clone();
        Ok(Some(Wanted { wants, components, programs, manifest }))
    }

    /// Bytes that are to come.
    fn missing<'w>(staging: &Staging, wants: impl Iterator<Item = &'w Want>) -> Result<u64, String> {
        let mut bytes = 0;
        for want in wants {
            let file = want.increment.as_ref().unwrap_or(&want.package);
            let key = Staging::key(&want.tree, &want.version, file);
            let there = staging.there(&key).map_err(|error| format!("{}: {error}", file.path))?;
            bytes += file.size.saturating_sub(there);
        }
        Ok(bytes)
    }

    async fn take(
        &mut self,
        staging: &Staging,
        want: &Want,
        sources: &[Source],
        has: Option<&Has>,
        tell: &mut Tell<'_>,
    ) -> Result<Taken, String> {
        if let (Some(increment), Some(has)) = (&want.increment, has) {
            match self.take_merged(staging, want, increment, sources, has, tell).await {
                Ok(taken) => return Ok(taken),
                Err(reason) => tell(Progress::NotMerged { component: want.component.to_string(), reason }),
            }
        }
        self.take_file(staging, want, &want.package, sources, tell).await
    }

    async fn take_merged(
        &mut self,
        staging: &Staging,
        want: &Want,
        increment: &File,
        sources: &[Source],
        has: &Has,
        tell: &mut Tell<'_>,
    ) -> Result<Taken, String> {
        let Some(program) = &self.ground.settings.merge else { return Err("no program merges".into()) };
        let came = self.take_file(staging, want, increment, sources, tell).await?;
        let place = self.ground.folder.place();
        let old = place
            .version(self.ground.installed().map_err(|error| error.to_string())?.number)
            .join(has.place());
        let name = format!(
            "{}.{}.merged",
            Staging::key(&want.tree, &want.version, &want.package),
            std::process::id()
        );
        // A name of this process alone: a program of one that was killed may still be writing.
        let new = place.staging().join(name);
        place.disk().remove_if_there(&new).map_err(|error| error.to_string())?;
        let told = ToldProgram {
            arguments: vec![old.into(), came.file.clone().into(), new.clone().into()],
            variables: vec![
                ("COMPONENT", (&*want.component).into()),
                ("FROM", (&*has.version).into()),
                ("VERSION", (&*want.version).into()),
            ],
        };
        let within = self.ground.settings.command;
        command::run(program, told, within).await.map_err(|error| error.to_string())?;
        let (size, hash) = staging.seal(&new).map_err(|error| format!("{}: {error}", new.display()))?;
        if size == 0 {
            return Err(format!("{} made an empty file", program.path.display()));
        }
        Ok(Taken { file: new, size, hash, made: Made::Merged, signature: None, ..came })
    }

    /// Takes a file and its signature, and checks it by that.
    async fn take_file(
        &mut self,
        staging: &Staging,
        want: &Want,
        file: &File,
        sources: &[Source],
        tell: &mut Tell<'_>,
    ) -> Result<Taken, String> {
        let at_disk = |error: std::io::Error| format!("{}: {error}", file.path);
        let key = Staging::key(&want.tree, &want.version, file);
        let mut partial = staging.open(&key).map_err(at_disk)?;
        tell(Progress::File {
            component: want.component.to_string(),
            version: want.version.to_string(),
            path: file.path.clone(),
            size: file.size,
            there: partial.len(),
            increment: *file != want.package,
        });
        let fetch = Fetch { client: &self.ground.client, sources, path: file.path.as_str(), size: file.size };
        let whole = fetch.take(&mut partial, tell).await.map_err(|error| error.to_string())?;
        if let Some(source) = whole.source {
            *self.came.entry(sources[source].base.clone()).or_default() += whole.came;
        }
        let sealed = tokio::task::spawn_blocking(move || partial.seal().map(|hash| (hash, partial)));
        let (hash, partial) = sealed.await.map_err(|_| "the agent ends".to_owned())?.map_err(at_disk)?;
        let signature = self.signature(file, sources, whole.source).await?;
        if let Err(reason) = self.verify(staging, &key, want, partial.path(), signature.as_ref()).await {
            partial.discard().map_err(at_disk)?;
            return Err(format!("{}: {reason}", file.path));
        }
        let file_at = partial.path().clone();
        Ok(Taken { want: want.clone(), file: file_at, size: file.size, hash, made: Made::Whole, signature })
    }

    /// The signature beside a file: from the source that gave the file, else from whichever has it.
    async fn signature(
        &self,
        file: &File,
        sources: &[Source],
        gave: Option<usize>,
    ) -> Result<Option<Bytes>, String> {
        let Some(path) = file.path.signature() else { return Ok(None) };
        let mut tried = Vec::new();
        let first = gave.map(|at| &sources[at]);
        let others = sources.iter().enumerate().filter(|(at, _)| Some(*at) != gave).map(|(_, source)| source);
        for source in first.into_iter().chain(others) {
            match signature(&self.ground.client, source, path.as_str()).await {
                Ok(signature) => return Ok(signature),
                Err(reason) => tried.push(format!("{}: {reason}", source.url(path.as_str()))),
            }
        }
        Err(tried.join("; "))
    }

    async fn verify(
        &self,
        staging: &Staging,
        key: &str,
        want: &Want,
        file: &Path,
        signature: Option<&Bytes>,
    ) -> Result<(), String> {
        let Some(program) = &self.ground.settings.verify else { return Ok(()) };
        let Some(signature) = signature else { return Err("no source has a signature for it".into()) };
        let beside = staging.beside(key, signature).map_err(|error| error.to_string())?;
        let told = ToldProgram {
            arguments: vec![file.into(), beside.into()],
            variables: vec![("COMPONENT", (&*want.component).into()), ("VERSION", (&*want.version).into())],
        };
        let checked = command::run(program, told, self.ground.settings.command).await;
        checked.map_err(|error| format!("it is refused: {error}"))
    }
}

/// The names in `staging/` that an update may want.
fn staged(want: &Want) -> Vec<OsString> {
    let files = [Some(&want.package), want.increment.as_ref()];
    let keys = files.into_iter().flatten().map(|file| Staging::key(&want.tree, &want.version, file));
    keys.flat_map(|key| [format!("{key}.part").into(), format!("{key}.json").into()]).collect()
}

/// Whether so many bytes have room on the disk.
fn check_room(folder: &Path, bytes: u64) -> Result<(), String> {
    // A file system that does not say is asked by writing.
    let Ok(stat) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= bytes.saturating_add(ROOM_LEFT) {
        return Ok(());
    }
    Err(format!("the disk has {free} bytes free, {bytes} are to come"))
}
