//! Settings of the agent tree as people type and read them: what is allowed is told by the API's own schema.
//!
//! Invariant: what is typed is read as the API reads it, or refused with what is allowed.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Map, Value, json};
use utoipa::PartialSchema as _;

use crate::config::value::byte_count;
use crate::policy::tree::setting::{Resolved, Setting, Values};

/// A setting and its value, as `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Assigned {
    /// The setting.
    pub setting: Setting,
    /// Its value, which is one that it may have.
    pub value: Value,
}

/// Reads a setting's name, and offers all of them.
pub fn setting() -> impl TypedValueParser<Value = Setting> {
    PossibleValuesParser::new(Setting::ALL.map(Setting::name)).try_map(|name| {
        Setting::ALL.into_iter().find(|setting| setting.name() == name).ok_or("this is no setting")
    })
}

/// Reads `NAME=VALUE`.
pub fn assigned(text: &str) -> Result<Assigned, String> {
    let (name, value) = text.split_once('=').ok_or("it is written NAME=VALUE, such as scope=patterns")?;
    let found = Setting::ALL.into_iter().find(|setting| setting.name() == name.trim());
    let setting =
        found.ok_or_else(|| format!("there is no setting '{name}': 'forebay settings names' lists all"))?;
    Ok(Assigned { setting, value: read(setting, value.trim())? })
}

/// Reads a value: a word, a number, `true` or `false`, or a table as TOML or JSON has it.
pub fn read(setting: Setting, text: &str) -> Result<Value, String> {
    let toml = || toml::from_str::<Map<String, Value>>(&format!("value = {text}")).ok()?.remove("value");
    let bytes = || setting.name().contains("bytes").then(|| byte_count(text).ok()).flatten().map(Value::from);
    let value = serde_json::from_str(text).ok().or_else(toml).or_else(bytes).unwrap_or_else(|| json!(text));
    match serde_json::from_value::<Values>(json!({ setting.name(): value })) {
        Ok(_) => Ok(value),
        Err(error) => {
            // What serde calls types says nothing to who typed a value; what a type says of its bounds does.
            let error = error.to_string();
            let bounds = !["invalid type", "unknown variant", "data did not match"]
                .iter()
                .any(|own| error.starts_with(own));
            let why = if bounds { format!(": {error}") } else { String::new() };
            Err(format!("{setting}: '{text}' is not allowed{why}; allowed: {}", allowed(setting)))
        }
    }
}

/// What is set, of settings with their values.
pub fn values(assigned: &[Assigned]) -> Values {
    let each = assigned.iter().map(|Assigned { setting, value }| (setting.name().to_owned(), value.clone()));
    serde_json::from_value(Value::Object(each.collect())).expect("each value was read as one of its setting")
}

/// A value as people read it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => inner(other),
    }
}

/// The same within a table.
fn inner(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(inner).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            // What kind of table it is comes first.
            let (kind, rest): (Vec<_>, Vec<_>) = members.iter().partition(|(name, _)| *name == "kind");
            let members = kind.into_iter().chain(rest);
            let members: Vec<_> = members.map(|(name, value)| format!("{name} = {}", inner(value))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        other => other.to_string(),
    }
}

/// What a setting's value is where nothing is set.
pub fn default(setting: Setting) -> String {
    let all = serde_json::to_value(Resolved::default().values()).unwrap_or_default();
    shown(&all[setting.name()])
}

/// What a setting is, in words.
pub fn described(setting: Setting) -> String {
    schema(setting)["description"].as_str().unwrap_or_default().to_owned()
}

/// What values a setting may have.
pub fn allowed(setting: Setting) -> String {
    told(&schema(setting)).unwrap_or_else(|| format!("text such as {}", default(setting)))
}

fn schema(setting: Setting) -> Value {
    let all = serde_json::to_value(Values::schema()).unwrap_or_default();
    all["properties"][setting.name()].clone()
}

/// What a schema allows; `None` where only examples could say it.
fn told(schema: &Value) -> Option<String> {
    if let Some(kinds) = schema["oneOf"].as_array() {
        return Some(kinds.iter().map(told).collect::<Option<Vec<_>>>()?.join(" or "));
    }
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.iter().map(shown).collect::<Vec<_>>().join(", "));
    }
    match schema["type"].as_str()? {
        "boolean" => Some("true, false".to_owned()),
        "integer" => Some(format!("{} to {}", schema["minimum"], schema["maximum"])),
        "object" => Some(format!("{{ kind = {}, ... }}", schema["properties"]["kind"]["enum"][0])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_default_is_read_as_it_and_all_settings_say_what_is_allowed_r5_2() {
        for setting in Setting::ALL {
            let value = read(setting, &default(setting)).unwrap();
            let shown = serde_json::to_value(Resolved::default().values()).unwrap()[setting.name()].clone();
            assert_eq!(value, shown, "{setting}");
            assert!(!allowed(setting).is_empty() && !described(setting).is_empty(), "{setting}");
            assert!(read(setting, "no such thing").is_err(), "{setting}");
        }
        assert_eq!(read(Setting::BytesPerSec, "10 MiB").unwrap(), 10 << 20);
        assert_eq!(allowed(Setting::Enforce), "strict, report");
        let daily = "{ kind = \"daily\", at = \"02:30\", window_mins = 60 }";
        let value = read(Setting::Schedule, daily).unwrap();
        assert_eq!(read(Setting::Schedule, &value.to_string()).unwrap(), value, "as JSON too");
        let refused = read(Setting::Scope, "every").unwrap_err();
        assert_eq!(
            refused,
            "scope: 'every' is not allowed; allowed: patterns, patterns-engines-drivers, all"
        );
        let refused = read(Setting::Schedule, "{ kind = \"interval\", every_mins = 0 }").unwrap_err();
        assert!(refused.contains("an interval is 1 to 10080 minutes"), "{refused}");
        assert!(assigned("skope=all").is_err() && assigned("scope").is_err());
        assert_eq!(assigned("scope=all").unwrap().value, "all");
    }
}
