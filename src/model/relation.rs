//! What a peer is to us.

use serde_json::Value;

use super::error::ModelError;

/// The relation a peer document states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Relation {
    /// Known, nothing more.
    #[default]
    None,
    /// The organisation this daemon belongs to.
    SelfPeer,
    /// Exchanges resources with us.
    Partner,
    /// Refused both ways.
    Blacklist,
}

impl Relation {
    /// All relations, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::None, Self::SelfPeer, Self::Partner, Self::Blacklist];

    /// The code in documents, 0 to 3.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SelfPeer => "self",
            Self::Partner => "partner",
            Self::Blacklist => "blacklist",
        }
    }

    /// The relation of a document's value: number, or name in lower or upper case; [`Relation::None`] when there is none.
    ///
    /// # Errors
    /// [`ModelError::UnknownRelation`]: guessing a relation could grant rights.
    pub fn read(value: Option<&Value>) -> Result<Self, ModelError> {
        let found = match value {
            None | Some(Value::Null) => Some(Self::None),
            Some(Value::String(name)) => Self::ALL.into_iter().find(|relation| names(name, relation.name())),
            Some(number) => Self::ALL
                .into_iter()
                .find(|relation| is_number(number, relation.code())),
        };
        found.ok_or(ModelError::UnknownRelation)
    }
}

/// Whether `given` is `name` in lower or in upper case.
pub(super) fn names(given: &str, name: &str) -> bool {
    given == name || given.bytes().eq(name.bytes().map(|byte| byte.to_ascii_uppercase()))
}

/// Whether the value is this number, also when a database turned it into a float.
pub(super) fn is_number(value: &Value, code: u8) -> bool {
    value.as_f64().is_some_and(|number| number == f64::from(code))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_names_are_read() {
        for relation in Relation::ALL {
            for value in [
                json!(relation.code()),
                json!(f64::from(relation.code())),
                json!(relation.name()),
            ] {
                assert_eq!(Relation::read(Some(&value)), Ok(relation));
            }
            assert_eq!(
                Relation::read(Some(&json!(relation.name().to_uppercase()))),
                Ok(relation)
            );
        }
        assert_eq!(Relation::read(None), Ok(Relation::None));
        assert_eq!(Relation::read(Some(&Value::Null)), Ok(Relation::None));
        for value in [
            json!(4),
            json!(-1),
            json!(1.5),
            json!("Partner"),
            json!(""),
            json!(true),
            json!([]),
        ] {
            assert_eq!(
                Relation::read(Some(&value)),
                Err(ModelError::UnknownRelation),
                "{value}"
            );
        }
    }
}
