//! The time zone of a name: from the machine's database, or where it has none from the one that is built in.
//!
//! Invariant: a name means the same to the relay and to the agent as long as their databases do; the library keeps what it has read.

use jiff::tz::TimeZone;

use crate::policy::tree::value::ZoneName;

/// The zone of this name; `None` where no database has it.
pub fn named(name: &ZoneName) -> Option<TimeZone> {
    TimeZone::get(name.as_str()).ok()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZoneDatabase;

    use super::*;

    #[test]
    fn zones_are_there_on_a_machine_without_a_database_r9_2() {
        let built_in = TimeZoneDatabase::bundled();
        for name in ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Argentina/Buenos_Aires"] {
            assert!(built_in.get(name).is_ok(), "{name} is not built in");
            let zone = named(&ZoneName::parse(name).unwrap());
            assert_eq!(zone.unwrap().iana_name(), Some(name));
        }
        assert_eq!(named(&ZoneName::parse("Europe/Atlantis").unwrap()), None);
    }
}
