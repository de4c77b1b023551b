//! Domains by their paths: the API knows them by numbers, people do not.

use std::collections::HashMap;

use crate::admin::model::domains::{Domain, DomainsAsked};
use crate::cli::Failed;
use crate::cli::api::call::{Api, asking};
use crate::policy::outline::path::DomainPath;
use crate::policy::tree::id::DomainId;

/// The domain of a path.
pub fn domain(api: &Api, path: &DomainPath) -> Result<Domain, Failed> {
    let asked = DomainsAsked { path: Some(path.to_string()), ..DomainsAsked::default() };
    let found = api.all::<Domain>(&asking("domains", &asked)?)?;
    let missing = || Failed::new(format!("there is no domain '{path}': 'forebay domains list' shows all"));
    found.into_iter().next().ok_or_else(missing)
}

/// The paths of all domains.
#[derive(Debug)]
pub struct Paths(HashMap<DomainId, String>);

impl Paths {
    /// Asks for them.
    pub fn all(api: &Api) -> Result<Self, Failed> {
        let all = api.all::<Domain>("domains")?;
        Ok(Self(all.into_iter().map(|domain| (domain.id, domain.path)).collect()))
    }

    /// That of a domain; its number, where it was made since.
    pub fn of(&self, domain: DomainId) -> String {
        self.0.get(&domain).cloned().unwrap_or_else(|| format!("domain {domain}"))
    }
}
