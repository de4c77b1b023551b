//! How values that the policy knows look in the API's document: those whose form no derived schema could say.
//!
//! Invariant: what a schema allows, the value's own reader takes, but for what only the whole agent tree can tell.

use serde_json::{Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use crate::base::tally::Went;
use crate::manifest::catalogue::Class;
use crate::policy::administrator::{Role, TokenName};
use crate::policy::check_in::Why;
use crate::policy::scope::Scope;
use crate::policy::tree::file::FileName;
use crate::policy::tree::id::{AgentId, DomainId, DomainName, EnrolmentId};
use crate::policy::tree::keys::Standing;
use crate::policy::tree::setting::{Setting, Values};
use crate::policy::tree::value::RATE_MAX;

/// A schema that is written as such.
fn written(schema: Value) -> RefOr<Schema> {
    serde_json::from_value(schema).expect("a test reads each schema that is written here")
}

fn words(words: &[&str], description: &str) -> RefOr<Schema> {
    written(json!({ "type": "string", "enum": words, "description": description }))
}

/// Text that is spelled as agents' ids are.
fn id(description: &str) -> RefOr<Schema> {
    written(json!({
        "type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9][a-z0-9._:-]*$", "description": description
    }))
}

macro_rules! schemas {
    ($( $kind:ty = $schema:expr; )+) => {
        $(
            impl PartialSchema for $kind {
                fn schema() -> RefOr<Schema> {
                    $schema
                }
            }

            impl ToSchema for $kind {}
        )+
    };
}

schemas! {
    Role = words(&Role::ALL.map(Role::name), "What somebody may do; each role may do what those before it may.");
    TokenName = id("A token's name.");
    AgentId = id("An agent's id.");
    EnrolmentId = id("An enrolment's id.");
    DomainId = written(json!({
        "type": "integer", "format": "int32", "minimum": 1, "maximum": 2_147_483_647, "description": "A domain's number, which it keeps."
    }));
    DomainName = written(json!({
        "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[^/\\s\\x00-\\x1f\\x7f-\\x9f]([^/\\x00-\\x1f\\x7f-\\x9f]*[^/\\s\\x00-\\x1f\\x7f-\\x9f])?$",
        "description": "A domain's name, without '/' and control characters, and with no space at an end."
    }));
    FileName = written(json!({
        "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*$", "description": "A settings file's name."
    }));
    Scope = words(&Scope::ALL.map(Scope::name), "What agents may update; each scope holds those before it.");
    Class = words(&Class::ALL.map(Class::name), "What a component is.");
    Why = words(&["start", "schedule", "notice", "update-now"], "Why an agent wanted to update.");
    Went = words(&Went::ALL.map(Went::name), "How an update went.");
    Standing = words(&["admitted", "revoked"], "Whether an agent may come in.");
    Setting = words(&Setting::ALL.map(Setting::name), "A setting of the agent tree.");
    Values = written(values());
}

/// What may be set at a node of the agent tree.
fn values() -> Value {
    let properties: serde_json::Map<_, _> =
        Setting::ALL.iter().map(|setting| (setting.name().to_owned(), value(*setting))).collect();
    json!({
        "type": "object", "properties": properties, "additionalProperties": false,
        "description": "Settings with their values.",
        "example": { "scope": "patterns", "update_now": true, "schedule": { "kind": "interval", "every_mins": 60 } }
    })
}

fn value(setting: Setting) -> Value {
    let switch = |description: &str| json!({ "type": "boolean", "description": description });
    match setting {
        Setting::Scope => {
            json!({ "type": "string", "enum": Scope::ALL.map(Scope::name), "description": "What agents may update." })
        }
        Setting::Schedule => schedule(),
        Setting::TimeZone => json!({
            "type": "string", "maxLength": 64, "pattern": "^[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z][A-Za-z0-9+_-]*)*$",
            "description": "The time zone of daily and weekly schedules, as the time zone database names it."
        }),
        Setting::RequestsPerSec => rate("Requests that an agent may send in a second."),
        Setting::BytesPerSec => rate("Bytes that an agent may be sent in a second."),
        Setting::DomainRequestsPerSec => rate("Requests that all of a domain may send in a second together."),
        Setting::DomainBytesPerSec => rate("Bytes that all of a domain may be sent in a second together."),
        Setting::DomainProgramBytesPerSec => {
            rate("Bytes of programs and hot fixes that all of a domain may be sent in a second together.")
        }
        Setting::Enforce => json!({
            "type": "string", "enum": ["strict", "report"],
            "description": "Whether agents get packages only while a check-in has opened a permission."
        }),
        Setting::Roaming => json!({
            "type": "string", "enum": ["as-declared", "always", "never"], "description": "Who says that an agent is roaming."
        }),
        Setting::ScheduledUpdates => switch("Whether agents' schedules run."),
        Setting::FallbackToActiveupdate => switch("Whether agents may update from the ActiveUpdate server."),
        Setting::RelayServesComponents => switch("Whether the relay is a source of components."),
        Setting::RelayServesSettings => switch("Whether the relay is a source of agent settings."),
        Setting::RelayServesPrograms => switch("Whether the relay is a source of programs and hot fixes."),
        Setting::UpdateNow => switch("The privilege Update Now."),
        Setting::ProxySettings => switch("The privilege Proxy settings."),
        Setting::ToggleSchedule => switch("The privilege Enable/disable schedule."),
        Setting::UpdateOnGeneration => switch("Whether agents are told of each new generation at once."),
        Setting::UpdateOnStart => switch("Whether agents update when they start."),
        Setting::ScanAfterUpdate => switch("Whether agents scan after an update."),
    }
}

fn rate(description: &str) -> Value {
    json!({
        "oneOf": [
            { "type": "integer", "format": "int64", "minimum": 1, "maximum": RATE_MAX },
            { "type": "string", "enum": ["unlimited"] }
        ],
        "description": description
    })
}

fn schedule() -> Value {
    let kind = |kind: &str| json!({ "type": "string", "enum": [kind] });
    let window = json!({ "type": "integer", "format": "int32", "minimum": 1, "maximum": 1440 });
    let at = json!({ "type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$", "maxLength": 5 });
    let object = |properties: Value, required: &[&str]| {
        json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false
        })
    };
    json!({
        "oneOf": [
            object(json!({
                "kind": kind("interval"),
                "every_mins": { "type": "integer", "format": "int32", "minimum": 1, "maximum": 10_080 },
                "agent_settings": { "type": "string", "enum": ["each_time", "once_a_day"] }
            }), &["kind", "every_mins"]),
            object(json!({ "kind": kind("daily"), "at": at, "window_mins": window }), &["kind", "at", "window_mins"]),
            object(json!({
                "kind": kind("weekly"), "at": at, "window_mins": window,
                "days": {
                    "type": "array", "minItems": 1, "maxItems": 7, "uniqueItems": true,
                    "items": { "type": "string", "enum": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] }
                }
            }), &["kind", "at", "window_mins", "days"])
        ],
        "description": "When agents update."
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_schema_that_is_written_can_be_read_and_names_the_values_words() {
        let shown = serde_json::to_value(Values::schema()).unwrap();
        assert_eq!(shown["properties"].as_object().unwrap().len(), Setting::ALL.len());
        assert_eq!(shown["additionalProperties"], false);
        let kinds = shown["properties"]["schedule"]["oneOf"].as_array().unwrap();
        assert_eq!(kinds.len(), 3, "{shown}");
        for schema in [
            Role::schema(),
            TokenName::schema(),
            AgentId::schema(),
            EnrolmentId::schema(),
            DomainId::schema(),
            DomainName::schema(),
            FileName::schema(),
            Setting::schema(),
        ] {
            let shown = serde_json::to_value(schema).unwrap();
            assert!(shown["description"].is_string(), "{shown}");
        }
        let of =
            |words: RefOr<Schema>| serde_json::to_value(words).unwrap()["enum"].as_array().unwrap().clone();
        for class in of(Class::schema()) {
            serde_json::from_value::<Class>(class).unwrap();
        }
        for why in of(Why::schema()) {
            serde_json::from_value::<Why>(why).unwrap();
        }
        for standing in of(Standing::schema()) {
            serde_json::from_value::<Standing>(standing).unwrap();
        }
    }
}
