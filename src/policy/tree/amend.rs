//! Making many things of the tree what they are to be, all at once: names, certificates and places may pass from one to another, in
//! whatever circle, since nothing is judged before everything is there.
//!
//! Invariant: what comes of it is a tree that single actions could have left, but for the marks of future values, which it sets.

use crate::policy::tree::admit::{check_file, check_max, check_range};
use crate::policy::tree::apply::{Draft, height};
use crate::policy::tree::difference::{Difference, Touched};
use crate::policy::tree::enrolment::ENROLMENTS_MAX;
use crate::policy::tree::file::FILES_MAX;
use crate::policy::tree::id::{AgentId, DomainId};
use crate::policy::tree::keys::{Keys, Standing};
use crate::policy::tree::refused::Refused;
use crate::policy::tree::{AGENTS_MAX, Agent, DEPTH_MAX, DOMAINS_MAX, Domain, RANGES_MAX, Tree};

impl Draft {
    pub(super) fn amend(&mut self, differences: &[Difference]) -> Result<(), Refused> {
        check_once(differences)?;
        check_numbers(&self.tree, differences)?;
        let after = self.tree.replayed(differences.iter().cloned())?;
        check_counts(&after)?;
        for difference in differences {
            match difference {
                Difference::Domain { id, after: Some(domain), .. } => check_domain(&after, *id, domain)?,
                Difference::Agent { id, after: Some(agent), .. } => {
                    check_keys(&self.tree, &after, id, agent)?;
                }
                Difference::Range { from, after: Some(_), .. } => check_range(*from)?,
                Difference::File { name, after: Some(file), .. } => check_file(name, file.content)?,
                // What is removed was judged with what it left; a list and an enrolment are whole by themselves.
                _ => {}
            }
        }
        self.tree = after;
        for difference in differences {
            touch(&mut self.touched, difference);
        }
        Ok(())
    }
}

/// Of what is said twice, one would be passed over.
fn check_once(differences: &[Difference]) -> Result<(), Refused> {
    let mut named = Touched::default();
    for difference in differences {
        touch(&mut named, difference);
    }
    named.twice().map_or(Ok(()), |twice| Err(twice.into()))
}

/// New domains have the numbers that come next, none left out.
fn check_numbers(tree: &Tree, differences: &[Difference]) -> Result<(), Refused> {
    let new = differences.iter().filter_map(|difference| match difference {
        Difference::Domain { id, before: None, after: Some(_) } => Some(*id),
        _ => None,
    });
    let mut new: Vec<_> = new.collect();
    new.sort_unstable();
    let mut next = tree.next_domain();
    for given in new {
        if given != next {
            return Err(Refused::Number { given, next });
        }
        next = next.after();
    }
    Ok(())
}

fn check_counts(after: &Tree) -> Result<(), Refused> {
    for (what, count, max) in [
        ("domains", after.domain_count(), DOMAINS_MAX),
        ("agents", after.agent_count(), AGENTS_MAX),
        ("address ranges", after.ranges.len(), RANGES_MAX),
        ("enrolments", after.enrolments.len(), ENROLMENTS_MAX),
        ("settings files", after.files.len(), FILES_MAX),
    ] {
        // The check is of whether one more may come.
        check_max(what, count.saturating_sub(1), max)?;
    }
    Ok(())
}

/// Its place was judged as it was put there; how deep what it holds stands now, was not.
fn check_domain(after: &Tree, id: DomainId, domain: &Domain) -> Result<(), Refused> {
    if after.line(id).count() + height(after, id) > DEPTH_MAX + 1 {
        return Err(Refused::TooDeep(id));
    }
    match domain.started_with.settings().find(|setting| !domain.values.holds(*setting)) {
        Some(setting) => Err(Refused::StartedWithout { domain: id, setting }),
        None => Ok(()),
    }
}

/// Who is shut out has no keys, and a certificate is one agent's, also where an agent that is not named had it.
fn check_keys(before: &Tree, after: &Tree, id: &AgentId, agent: &Agent) -> Result<(), Refused> {
    let Some(keys) = agent.keys else { return Ok(()) };
    if keys == Keys::default() || (keys.standing == Standing::Revoked && keys != Keys::revoked()) {
        return Err(Refused::KeysAndStanding(*id));
    }
    let Some(certificate) = keys.certificate else { return Ok(()) };
    let has = |other: &AgentId| {
        let keys = after.agent(other).and_then(|agent| agent.keys);
        keys.is_some_and(|keys| keys.certificate == Some(certificate))
    };
    let holders = [before.agent_with(certificate), after.agent_with(certificate)];
    match holders.into_iter().flatten().find(|other| *other != id && has(other)) {
        Some(other) => Err(Refused::CertificateTaken(*other)),
        None => Ok(()),
    }
}

fn touch(touched: &mut Touched, difference: &Difference) {
    match difference {
        // These are always compared.
        Difference::Root { .. } | Difference::Future { .. } | Difference::Customised { .. } => {}
        Difference::Domain { id, .. } => touched.domains.push(*id),
        Difference::Agent { id, .. } => touched.agents.push(*id),
        Difference::Enrolment { id, .. } => touched.enrolments.push(id.clone()),
        Difference::Range { from, .. } => touched.ranges.push(*from),
        Difference::File { domain, name, .. } => touched.files.push((*domain, name.clone())),
    }
}
