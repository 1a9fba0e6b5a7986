//! What somebody would do, and with what.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::fingerprint::{Fingerprint, Fingerprinter};
use crate::models::ModelFacts;
use crate::{Denied, Principal};

/// What somebody would do: an action of the policies, by the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask a model.
    Predict,
    /// Read what a model, or the server, says of itself.
    ReadMetadata,
    /// Add a version of a model.
    Upload,
    /// Remove one.
    Delete,
    /// Begin, see and end batch jobs with a model; see those of a server.
    RunBatch,
    /// See, pause and resume the streams that ask a model.
    ManageStream,
    /// Change what is served and how: load and unload, lead traffic, settings of a model or of the server.
    Admin,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 7] = [
        Self::Predict,
        Self::ReadMetadata,
        Self::Upload,
        Self::Delete,
        Self::RunBatch,
        Self::ManageStream,
        Self::Admin,
    ];

    /// Its name in policies and in the audit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "Predict",
            Self::ReadMetadata => "ReadMetadata",
            Self::Upload => "Upload",
            Self::Delete => "Delete",
            Self::RunBatch => "RunBatch",
            Self::ManageStream => "ManageStream",
            Self::Admin => "Admin",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Predict => "predict with",
            Self::ReadMetadata => "read of",
            Self::Upload => "upload",
            Self::Delete => "delete",
            Self::RunBatch => "run batch jobs with",
            Self::ManageStream => "manage streams of",
            Self::Admin => "administer",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|action| action.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("'{text}' is no action: use one of {known}")
        })
    }
}

/// With what somebody would do it.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// The server as a whole.
    Server,
    /// A model, whether there is one or not.
    Model {
        /// Its name.
        name: &'a str,
        /// The tenant that it belongs to.
        tenant: Option<&'a str>,
        /// Its labels: tags of the entity in policies.
        labels: &'a BTreeMap<String, String>,
    },
}

/// Names come from clients.
const LONGEST: usize = 128;

impl<'a> Resource<'a> {
    /// A model of which this is known.
    #[must_use]
    pub fn model(name: &'a str, facts: ModelFacts<'a>) -> Self {
        Self::Model { name, tenant: facts.tenant, labels: facts.labels }
    }

    /// The refusal: the same whether there is such a model or not.
    pub(crate) fn denied(&self, action: Action) -> Denied {
        let words = action.words();
        Denied::Forbidden(match self {
            Self::Server => format!("{words} this server"),
            Self::Model { name, .. } => {
                let name: String = name.chars().take(LONGEST).collect();
                format!("{words} model '{name}', or there is none")
            }
        })
    }

    /// What a decision depends on.
    pub(crate) fn fingerprint(&self, principal: &Principal, action: Action) -> Fingerprint {
        let mut fingerprinter = Fingerprinter::new();
        fingerprinter.bytes(principal.fingerprint()).text(action.as_str());
        if let Self::Model { name, tenant, labels } = self {
            fingerprinter.text(name).optional(*tenant).length(labels.len());
            for (key, value) in *labels {
                fingerprinter.text(key).text(value);
            }
        }
        fingerprinter.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_about_one_thing() {
        let who = Principal::anonymous();
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let [none, one, other] = [labels(&[]), labels(&[("a", "b")]), labels(&[("a", "c")])];
        let model = |name, tenant, labels| Resource::Model { name, tenant, labels };
        let all = [
            Resource::Server.fingerprint(&who, Action::ReadMetadata),
            model("m", None, &none).fingerprint(&who, Action::ReadMetadata),
            model("m", None, &none).fingerprint(&who, Action::Predict),
            model("n", None, &none).fingerprint(&who, Action::Predict),
            model("m", Some("t"), &none).fingerprint(&who, Action::Predict),
            model("m", None, &one).fingerprint(&who, Action::Predict),
            model("m", None, &other).fingerprint(&who, Action::Predict),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn an_action_has_the_name_that_policies_have() {
        assert!(Action::ALL.into_iter().all(|action| action.as_str().parse() == Ok(action)));
        assert_eq!("readmetadata".parse(), Ok(Action::ReadMetadata));
        assert!("Fly".parse::<Action>().unwrap_err().contains("Predict, ReadMetadata"));
    }

    #[test]
    fn a_refusal_quotes_a_name_up_to_a_length() {
        let (name, labels) = ("x".repeat(10_000), BTreeMap::new());
        let denied = Resource::Model { name: &name, tenant: None, labels: &labels }.denied(Action::Delete);
        assert!(denied.to_string().len() < 200, "{denied}");
    }
}
