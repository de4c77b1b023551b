//! `/api/v1/files`: agent settings files, at the root and at domains (R5.6).
//!
//! Their bytes may hold what not everybody may read, so that operators alone are given them.

use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, extract};
use serde::{Deserialize, Serialize};
use tracing::error;
use utoipa::IntoParams;

use crate::admin::State;
use crate::admin::access::Administrator;
use crate::admin::api::change::{current, make};
use crate::admin::api::domains::{made, numbered};
use crate::admin::api::{blocking, page};
use crate::admin::document::{Changes, Conflict, Failed, Missing, Unprocessable};
use crate::admin::model::admission::File;
use crate::admin::model::change::Made;
use crate::admin::model::page::{Page, Part};
use crate::admin::problem::Problem;
use crate::policy::tree::Tree;
use crate::policy::tree::change::Action;
use crate::policy::tree::file::{FILE_BYTES_MAX, FileName, SettingsFile};
use crate::policy::tree::id::DomainId;

/// Where a file stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct At {
    /// The domain; the root where nothing is said.
    #[param(minimum = 1)]
    pub domain: Option<u32>,
}

impl At {
    fn place(self) -> Result<Option<DomainId>, Problem> {
        self.domain.map(numbered).transpose()
    }
}

/// All files, with where each stands.
#[utoipa::path(get, path = "/api/v1/files", tag = "files", operation_id = "list_files", params(Part), responses(
    (status = 200, description = "The files.", body = Page<File>),
    Unprocessable,
))]
pub async fn list(
    extract::State(state): extract::State<State>,
    Query(part): Query<Part>,
) -> Result<Json<Page<File>>, Problem> {
    let limit = page::limit(part.limit)?;
    let after = page::after::<(Option<DomainId>, FileName)>(part.cursor.as_deref())?;
    let tree = current(&state);
    let all = tree
        .tree()
        .files()
        .filter(|(domain, name, _)| after.as_ref().is_none_or(|(at, last)| (domain, *name) > (at, last)));
    let mut items: Vec<_> =
        all.take(limit + 1).map(|(domain, name, file)| told(domain, name, file)).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).and_then(|last| page::next(&(last.domain, &last.name)));
    Ok(Json(Page { items, next, total: Some(tree.tree().files().count() as u64) }))
}

/// A file's bytes.
#[utoipa::path(get, path = "/api/v1/files/{name}", tag = "files", operation_id = "show_file",
    params(At, ("name" = FileName, Path, description = "The file's name.")),
    responses(
        (status = 200, description = "Its bytes.", body = Vec<u8>, content_type = "application/octet-stream",
            headers(("ETag" = String, description = "The hash of its bytes."))),
        Missing, Unprocessable, Failed,
    ))]
pub async fn show(
    extract::State(state): extract::State<State>,
    Path(name): Path<FileName>,
    Query(at): Query<At>,
) -> Result<Response, Problem> {
    let place = at.place()?;
    let live = state.live.load_full();
    let file =
        current(&state).tree().files_at(place).find(|(other, _)| **other == name).map(|(_, file)| *file);
    let file = file.ok_or_else(|| Problem::missing(format!("there is no settings file '{name}' there")))?;
    let bytes = live.agents.content(file.content).await.map_err(|failed| {
        error!(%name, error = %failed, "a settings file cannot be read");
        Problem::failed("the settings file cannot be read")
    })?;
    let tag = format!("\"{}\"", file.content.hash);
    let head = [(header::CONTENT_TYPE, "application/octet-stream"), (header::ETAG, &tag)];
    Ok((head, bytes).into_response())
}

/// Puts a file there, in place of the one of this name; its version is counted on where its bytes are others.
#[utoipa::path(put, path = "/api/v1/files/{name}", tag = "files", operation_id = "put_file",
    params(At, ("name" = FileName, Path, description = "The file's name.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "Its bytes, at most a mebibyte."),
    responses(Changes, Missing, Conflict))]
pub async fn put(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(name): Path<FileName>,
    Query(at): Query<At>,
    bytes: Bytes,
) -> Result<Json<Made>, Problem> {
    let domain = at.place()?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let detail = format!("a settings file has at most {FILE_BYTES_MAX} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    if domain.is_some_and(|domain| current(&state).tree().domain(domain).is_none()) {
        return Err(Problem::missing("there is no such domain"));
    }
    let live = state.live.load_full();
    let kept = blocking(move || live.agents.state().contents().put(&bytes)).await?;
    let content = kept.map_err(|failed| {
        error!(%name, error = %failed, "a settings file cannot be written");
        Problem::failed("the settings file cannot be written")
    })?;
    let plan =
        move |_: &Tree| Ok(vec![Action::PutFile { domain, name: name.clone(), content: Some(content) }]);
    Ok(Json(made(&make(&state, &asks, None, None, plan).await?)))
}

/// Takes a file away.
#[utoipa::path(delete, path = "/api/v1/files/{name}", tag = "files", operation_id = "remove_file",
    params(At, ("name" = FileName, Path, description = "The file's name.")),
    responses(Changes, Missing, Unprocessable))]
pub async fn remove(
    extract::State(state): extract::State<State>,
    Extension(asks): Extension<Administrator>,
    Path(name): Path<FileName>,
    Query(at): Query<At>,
) -> Result<Json<Made>, Problem> {
    let domain = at.place()?;
    let plan = move |_: &Tree| Ok(vec![Action::PutFile { domain, name: name.clone(), content: None }]);
    Ok(Json(made(&make(&state, &asks, None, None, plan).await?)))
}

fn told(domain: Option<DomainId>, name: &FileName, file: &SettingsFile) -> File {
    let (version, content) = (file.version, file.content);
    File { domain, name: name.clone(), version, bytes: content.bytes, hash: content.hash }
}
