//! `GET /api/v1/openapi.json`: what the API is, for programs that are made of such documents (`OpenAPI` 3.1).
//!
//! It is made of the calls themselves, when it is first asked for. Invariant: it names each call with its role, and each answer that a call may
//! give, also those that are given before a handler is asked.

use std::collections::BTreeMap;

use axum::extract;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::json;
use utoipa::openapi::path::{HttpMethod, Operation, PathItem};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, Info, OpenApi, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::{IntoParams, IntoResponses, PartialSchema as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::admin::model::agents::Sort;
use crate::admin::model::change::Made;
use crate::admin::model::problem::ProblemDetails;
use crate::admin::{State, routes};
use crate::policy::administrator::{Role, TokenName};
use crate::policy::scope::Scope;
use crate::policy::tree::file::FileName;
use crate::policy::tree::id::{AgentId, DomainId, EnrolmentId};
use crate::policy::tree::keys::Standing;

/// What a problem is written as.
const PROBLEM: &str = "application/problem+json";

/// The document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "relay", operation_id = "show_document", security(()), responses(
    (status = 200, description = "This document.", body = serde_json::Value),
))]
pub async fn show(extract::State(state): extract::State<State>) -> impl IntoResponse {
    // It is the same for as long as the relay runs, and given to whoever asks.
    let text = state.document.get_or_init(|| {
        let (_, document) = routes::all(&state);
        serde_json::to_vec(&document).unwrap_or_default().into()
    });
    ([(header::CONTENT_TYPE, "application/json")], text.clone())
}

macro_rules! problems {
    ($( $name:ident $status:literal $when:literal; )+) => {
        $(
            #[doc = $when]
            #[derive(Debug)]
            pub struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    let answer = Ref::from_response_name(stringify!($name));
                    BTreeMap::from([(stringify!($status).to_owned(), answer.into())])
                }
            }
        )+

        /// Answers that many calls may give: a name in the document, a status, when.
        const PROBLEMS: &[(&str, u16, &str)] = &[$( (stringify!($name), $status, $when), )+];
    };
}

problems! {
    Malformed 400 "The request cannot be read: its path, its query, a field of its head or the JSON in its body.";
    Unknown 401 "No token was shown, or none of this relay's, or one that counts no more.";
    Forbidden 403 "The role is not enough, or a web page may have sent the request.";
    Missing 404 "There is no such thing.";
    Late 408 "The request did not arrive in time.";
    Conflict 409 "What is there stands against it; or a scope would be widened to `all`, and it has to be confirmed.";
    Changed 412 "Somebody has changed it since: the changes that came between are told.";
    TooLarge 413 "The body is too large.";
    MediaType 415 "The body is not said to be of the media type that the call takes.";
    Misdirected 421 "The host that was asked for is a name: without TLS, the relay is asked by an address.";
    Unprocessable 422 "The request says what cannot be.";
    Required 428 "If-Match is needed: it says what was seen last.";
    Failures 429 "Too many logins from this address failed: the next one is heard after a while.";
    Failed 500 "The relay could not do it, though the request was right: the disk says no, or a file is damaged.";
    Busy 503 "The relay has too much of this to do at the moment, or it stops.";
}

/// What keeps a change of the agent tree from being made that is right in itself.
#[derive(Debug)]
pub struct Unmade;

impl IntoResponses for Unmade {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        Failed::responses().into_iter().chain(Busy::responses()).collect()
    }
}

/// What comes of each change of the agent tree.
#[derive(Debug)]
pub struct Changes;

impl IntoResponses for Changes {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let made = ContentBuilder::new().schema(Some(Ref::from_schema_name(Made::name()))).build();
        let made =
            ResponseBuilder::new().description("What was changed.").content("application/json", made).build();
        Unmade::responses().into_iter().chain([("200".to_owned(), made.into())]).collect()
    }
}

/// What paths of domains name.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OfDomain {
    /// The domain's number.
    pub domain: DomainId,
}

/// What paths of agents name.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OfAgent {
    /// The agent's id.
    pub agent: AgentId,
}

/// The field by which a change says what it was made of.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IfMatch {
    /// The entity tag that was seen last.
    #[param(rename = "If-Match")]
    pub if_match: Option<String>,
}

/// Given to whoever asks, whatever for.
const ALWAYS: &[&str] = &["Forbidden", "Late", "Misdirected"];

/// Given where a role is needed.
const BEHIND_A_ROLE: &[&str] = &["Unknown", "Failures"];

/// Given where there is a body in JSON.
const WITH_A_BODY: &[&str] = &["Malformed", "TooLarge", "MediaType", "Unprocessable"];

/// What stands in the document besides the calls.
pub(super) fn begin() -> OpenApi {
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("NAME~SECRET")
        .description(Some(
            "A token of the relay's: the first start prints one, POST /api/v1/tokens and `forebay admin-token` make more. A requirement \
             names the least role.",
        ))
        .build();
    let certificate = SecurityScheme::MutualTls {
        description: Some("A client certificate with a name that `[[admin.tls.client]]` knows.".to_owned()),
        deprecated: None,
        extensions: None,
    };
    let mut schemas = Vec::new();
    ProblemDetails::schemas(&mut schemas);
    schemas.push((ProblemDetails::name().into_owned(), ProblemDetails::schema()));
    schemas.extend([
        named::<Made>(),
        named::<TokenName>(),
        named::<AgentId>(),
        named::<DomainId>(),
        named::<EnrolmentId>(),
        named::<FileName>(),
        named::<Scope>(),
        named::<Standing>(),
        named::<Sort>(),
    ]);
    let components = PROBLEMS.iter().fold(ComponentsBuilder::new(), |components, (name, status, when)| {
        components.response(*name, problem(*status, when))
    });
    let components = components
        .schemas_from_iter(schemas)
        .security_scheme("token", SecurityScheme::Http(token))
        .security_scheme("certificate", certificate)
        .build();
    let mut info = Info::new("Forebay", env!("CARGO_PKG_VERSION"));
    info.description =
        Some("The administrators' API of Forebay, an update relay for fleets of security agents.".to_owned());
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// What paths and queries are made of: bodies name what they hold by themselves.
fn named<T: ToSchema>() -> (String, RefOr<Schema>) {
    (T::name().into_owned(), T::schema())
}

fn problem(status: u16, when: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemDetails::name())));
    let content = content.example(Some(json!({
        "type": "about:blank",
        "title": axum::http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or_default(),
        "status": status,
        "detail": when,
        "instance": "/api/v1/domains/7",
    })));
    ResponseBuilder::new().description(when).content(PROBLEM, content.build()).build()
}

/// Says of calls which role they need, and names the answers that come of it.
pub(super) fn behind(mut calls: OpenApiRouter<State>, role: Role) -> OpenApiRouter<State> {
    for (_, operation) in operations(calls.get_openapi_mut()) {
        let needed = |scheme: &str| SecurityRequirement::new(scheme, [role.name()]);
        operation.security = Some(vec![needed("token"), needed("certificate")]);
        answers(operation, BEHIND_A_ROLE);
    }
    calls
}

/// Names answers that any call may give, and those that follow of what it takes.
pub(super) fn finish(document: &mut OpenApi) {
    for (_, operation) in operations(document) {
        answers(operation, ALWAYS);
        if operation.request_body.is_some() {
            answers(operation, WITH_A_BODY);
        }
        if operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty()) {
            answers(operation, &["Malformed"]);
        }
    }
}

fn answers(operation: &mut Operation, names: &[&str]) {
    for (name, status, _) in PROBLEMS.iter().filter(|(name, ..)| names.contains(name)) {
        let answer = RefOr::Ref(Ref::from_response_name(*name));
        operation.responses.responses.entry(status.to_string()).or_insert(answer);
    }
}

/// All calls of a document, with their methods.
fn operations(document: &mut OpenApi) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    document.paths.paths.values_mut().flat_map(|item: &mut PathItem| {
        let all = [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Put, &mut item.put),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Delete, &mut item.delete),
            (HttpMethod::Patch, &mut item.patch),
        ];
        all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
    })
}
