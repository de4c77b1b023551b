//! The actions that say how agents come into the tree and what they are known by, and what is kept for them there: keys,
//! enrolments, address ranges, the customised list, settings files.
//!
//! Invariant: no certificate is two agents', and what names a domain goes with it.

use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::policy::sources::{Customised, Entry};
use crate::policy::tree::apply::Draft;
use crate::policy::tree::enrolment::{ENROLMENTS_MAX, Enrolment};
use crate::policy::tree::file::{Content, FILE_BYTES_MAX, FILES_MAX, FileName, SettingsFile};
use crate::policy::tree::id::{AgentId, DomainId, EnrolmentId};
use crate::policy::tree::keys::{Key, Keys, Standing};
use crate::policy::tree::refused::Refused;
use crate::policy::tree::setting::Values;
use crate::policy::tree::{Agent, RANGES_MAX};

impl Draft {
    pub(super) fn give_key(&mut self, id: &AgentId, key: Key) -> Result<(), Refused> {
        if let Key::Certificate(fingerprint) = key
            && let Some(taken_by) = self.tree.agent_with(fingerprint).filter(|other| *other != id)
        {
            return Err(Refused::CertificateTaken(*taken_by));
        }
        let agent = self.agent(id)?;
        let keys = agent.keys.unwrap_or_default().with(key);
        let agent = Agent { keys: Some(keys), ..agent.clone() };
        self.put_agent(id, Some(agent));
        Ok(())
    }

    pub(super) fn revoke(&mut self, id: &AgentId) -> Result<(), Refused> {
        let agent = Agent { keys: Some(Keys::revoked()), ..self.agent(id)?.clone() };
        self.put_agent(id, Some(agent));
        Ok(())
    }

    pub(super) fn readmit(&mut self, id: &AgentId) -> Result<(), Refused> {
        let agent = self.agent(id)?;
        if agent.is_revoked() {
            let agent = Agent { keys: None, ..agent.clone() };
            self.put_agent(id, Some(agent));
        }
        Ok(())
    }

    pub(super) fn add_enrolment(&mut self, id: &EnrolmentId, enrolment: &Enrolment) -> Result<(), Refused> {
        self.domain(enrolment.domain)?;
        if self.tree.enrolment(id).is_some() {
            return Err(Refused::EnrolmentExists(id.clone()));
        }
        check_max("enrolments", self.tree.enrolments.len(), ENROLMENTS_MAX)?;
        self.put_enrolment(id, Some(enrolment.clone()));
        Ok(())
    }

    pub(super) fn remove_enrolment(&mut self, id: &EnrolmentId) -> Result<(), Refused> {
        self.tree.enrolment(id).ok_or_else(|| Refused::NoEnrolment(id.clone()))?;
        self.put_enrolment(id, None);
        Ok(())
    }

    /// An agent that is there already is let in where somebody put it into the enrolment's domain, or one within, and it never had a key:
    /// else who has a domain's token could become any agent of it, and who was shut out could let itself in.
    pub(super) fn enrol(
        &mut self,
        by: &EnrolmentId,
        id: &AgentId,
        key: Key,
        at: Timestamp,
    ) -> Result<(), Refused> {
        let enrolment = self.tree.enrolment(by).ok_or_else(|| Refused::NoEnrolment(by.clone()))?;
        if enrolment.is_over(at) {
            return Err(Refused::EnrolmentOver(by.clone(), enrolment.until));
        }
        let Some(left) = enrolment.left.checked_sub(1) else {
            return Err(Refused::EnrolmentSpent(by.clone()));
        };
        let enrolment = Enrolment { left, ..enrolment.clone() };
        match self.tree.agent(id) {
            None => self.add_agent(id, enrolment.domain, &Values::default())?,
            Some(agent) => {
                let within = self.tree.line(agent.domain).any(|(above, _)| above == enrolment.domain);
                if agent.keys.is_some() || !within {
                    return Err(Refused::Enrolled(*id));
                }
            }
        }
        self.give_key(id, key)?;
        self.put_enrolment(by, Some(enrolment));
        Ok(())
    }

    pub(super) fn set_range(&mut self, from: IpNet, domain: Option<DomainId>) -> Result<(), Refused> {
        let Some(domain) = domain else {
            self.tree.ranges.get(&from).ok_or(Refused::NoRange(from))?;
            self.put_range(from, None);
            return Ok(());
        };
        self.domain(domain)?;
        check_range(from)?;
        if !self.tree.ranges.contains_key(&from) {
            check_max("address ranges", self.tree.ranges.len(), RANGES_MAX)?;
        }
        self.put_range(from, Some(domain));
        Ok(())
    }

    pub(super) fn set_customised(&mut self, entries: &[Entry]) -> Result<(), Refused> {
        self.tree.customised = Arc::new(Customised::new(entries.to_vec())?);
        Ok(())
    }

    pub(super) fn put_file(
        &mut self,
        domain: Option<DomainId>,
        name: &FileName,
        content: Option<Content>,
    ) -> Result<(), Refused> {
        if let Some(domain) = domain {
            self.domain(domain)?;
        }
        let at = (domain, name.clone());
        let before = self.tree.files.get(&at).copied();
        content.map_or(Ok(()), |content| check_file(name, content))?;
        let file = match (content, before) {
            (None, None) => return Err(Refused::NoFile(name.clone())),
            (None, Some(_)) => None,
            (Some(content), Some(before)) if before.content == content => return Ok(()),
            (Some(content), Some(before)) => {
                Some(SettingsFile { version: before.version.saturating_add(1), content })
            }
            (Some(content), None) => {
                check_max("settings files", self.tree.files.len(), FILES_MAX)?;
                Some(SettingsFile { version: 1, content })
            }
        };
        self.put_settings_file(at, file);
        Ok(())
    }

    /// Takes away what names a domain that goes.
    pub(super) fn forget(&mut self, domain: DomainId) {
        let enrolments = self.tree.enrolments().filter(|(_, enrolment)| enrolment.domain == domain);
        for id in enrolments.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.put_enrolment(&id, None);
        }
        let ranges = self.tree.ranges().filter(|(_, of)| *of == domain);
        for (from, _) in ranges.collect::<Vec<_>>() {
            self.put_range(from, None);
        }
        let names: Vec<_> = self.tree.files_at(Some(domain)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.put_settings_file((Some(domain), name), None);
        }
    }

    fn put_enrolment(&mut self, id: &EnrolmentId, enrolment: Option<Enrolment>) {
        self.touched.enrolments.push(id.clone());
        self.tree.put_enrolment(id, enrolment);
    }

    fn put_range(&mut self, from: IpNet, domain: Option<DomainId>) {
        self.touched.ranges.push(from);
        self.tree.put_range(from, domain);
    }

    fn put_settings_file(&mut self, at: (Option<DomainId>, FileName), file: Option<SettingsFile>) {
        self.tree.put_file(at.clone(), file);
        self.touched.files.push(at);
    }
}

impl Agent {
    /// Whether the agent was shut out.
    pub fn is_revoked(&self) -> bool {
        self.keys.is_some_and(|keys| keys.standing == Standing::Revoked)
    }
}

/// Whether addresses may be a domain's.
pub(in crate::policy) fn check_range(from: IpNet) -> Result<(), Refused> {
    if from.trunc() != from {
        return Err(Refused::RangeBits { range: from });
    }
    if let IpNet::V6(prefix) = from
        && prefix.prefix_len() >= 96
        && prefix.network().to_ipv4_mapped().is_some()
    {
        return Err(Refused::RangeMapped(from));
    }
    Ok(())
}

/// Whether a settings file may be that large.
pub(in crate::policy) fn check_file(name: &FileName, content: Content) -> Result<(), Refused> {
    let bytes = content.bytes;
    if bytes > FILE_BYTES_MAX { Err(Refused::FileBytes { name: name.clone(), bytes }) } else { Ok(()) }
}

pub(super) fn check_max(what: &'static str, count: usize, max: usize) -> Result<(), Refused> {
    if count < max { Ok(()) } else { Err(Refused::Max { what, max }) }
}

#[cfg(test)]
pub(in crate::policy) mod tests;
