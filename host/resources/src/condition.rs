//! Conditions: what holds for a resource, since when, and why, in a sentence.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// A status's list of conditions, one of each type.
pub type Conditions = Vec<Condition>;

/// A word for a program and a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// In CamelCase, as Kubernetes has it.
    pub reason: &'static str,
    /// What is so, and where something can be done, what.
    pub message: String,
}

impl Reason {
    /// A word and a sentence.
    #[must_use]
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Says of a condition whether it holds. The time of its last change moves where that is another answer than before, and
/// nothing else does: a status that says the same is the same, and is not written again.
pub fn set_condition(
    conditions: &mut Conditions,
    kind: &str,
    holds: bool,
    Reason { reason, message }: Reason,
    generation: Option<i64>,
) {
    let status = if holds { "True" } else { "False" };
    let before = conditions.iter().find(|condition| condition.type_ == kind);
    let since = before
        .filter(|condition| condition.status == status)
        .map_or_else(|| Time(Timestamp::now()), |condition| condition.last_transition_time.clone());
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: since,
    });
    conditions.sort_by(|one, other| one.type_.cmp(&other.type_));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_says_the_same_is_the_same() {
        let mut conditions = Conditions::new();
        set_condition(&mut conditions, "Ready", false, Reason::new("Loading", "loads"), Some(1));
        let before = conditions.clone();
        set_condition(&mut conditions, "Ready", false, Reason::new("Loading", "loads"), Some(1));
        assert_eq!(conditions, before);
        set_condition(&mut conditions, "Available", true, Reason::new("There", "is there"), Some(1));
        assert_eq!(conditions.len(), 2);
        assert_eq!(conditions[0].type_, "Available");
    }
}
