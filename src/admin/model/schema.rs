//! How values that the policy knows look in the API's document: those whose form no derived schema could say.
//!
//! Invariant: what a schema allows, the value's own reader takes, but for what only the whole agent tree can tell.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::policy::administrator::Role;
use crate::policy::tree::id::ID_BYTES_MAX;

/// Words.
fn words(words: &[&str], description: &str) -> RefOr<Schema> {
    let words = words.iter().map(|word| serde_json::Value::from(*word));
    let object = text(description).enum_values(Some(words)).build();
    RefOr::T(Schema::Object(object))
}

fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).description(Some(description))
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

/// A name that is spelled as agents' ids are.
#[derive(Debug)]
pub struct Name;

schemas! {
    Role = words(&Role::ALL.map(Role::name), "What somebody may do; each role may do what those before it may.");
    Name = RefOr::T(Schema::Object(
        text("1 to 63 of a-z, 0-9, '.', '-', '_' and ':', beginning with a letter or digit.")
            .pattern(Some("^[a-z0-9][a-z0-9._:-]*$"))
            .min_length(Some(1))
            .max_length(Some(ID_BYTES_MAX))
            .build(),
    ));
}
