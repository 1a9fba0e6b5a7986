//! What the policies permit.
//!
//! Contract: what no policy permits is denied, and what one forbids is denied whatever permits it. A policy that fails while it runs
//! denies too: it might be one that forbids. Decisions are remembered together with the policies that made them: other policies
//! begin with none. Cost: of a decision that was made before a SHA-256 of what it depends on and a look-up, without allocation; a
//! run of all policies otherwise. Left out on purpose: a context; what policies may ask is who, what and with which model.

mod entities;
mod load;

use cedar_policy::{Authorizer, Decision, PolicySet, Response, Schema};
use quick_cache::sync::Cache;

pub(crate) use self::entities::Names;
pub(crate) use self::load::{Document, read};
use crate::fingerprint::Fingerprint;
use crate::{AccessError, Action, Principal, Resource};

const SCHEMA: &str = include_str!("policy/schema.cedarschema");

/// Decisions that are remembered.
const REMEMBERED: usize = 20_000;

/// Policies that fit the schema, and what they have decided.
pub(crate) struct Policies {
    set: PolicySet,
    schema: Schema,
    names: Names,
    authorizer: Authorizer,
    decided: Cache<Fingerprint, bool>,
}

/// Why somebody may do something, or may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether they may.
    pub is_permitted: bool,
    /// The policies that decided it, by their ids, in order: those that forbid it, else those that permit it. None where no policy
    /// speaks of it.
    pub policies: Vec<String>,
    /// What failed; nothing is permitted where something did.
    pub errors: Vec<String>,
}

impl Policies {
    pub(crate) fn parse(documents: &[Document]) -> Result<Self, AccessError> {
        let wrong = |error: &dyn std::fmt::Display| AccessError::Internal(format!("the schema: {error}"));
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| wrong(&error))?;
        let names = Names::new().map_err(|error| wrong(&error))?;
        let set = load::parse(documents, &schema)?;
        if set.is_empty() {
            tracing::warn!("there is no policy: nothing is permitted");
        }
        Ok(Self { set, schema, names, authorizer: Authorizer::new(), decided: Cache::new(REMEMBERED) })
    }

    pub(crate) fn len(&self) -> usize {
        self.set.num_of_policies()
    }

    pub(crate) fn permit(&self, principal: &Principal, action: Action, resource: &Resource<'_>) -> bool {
        let fingerprint = resource.fingerprint(principal, action);
        if let Some(is_permitted) = self.decided.get(&fingerprint) {
            return is_permitted;
        }
        let explanation = self.explain(principal, action, resource);
        for error in &explanation.errors {
            tracing::error!(%principal, %action, error, "policies cannot be asked; it is denied");
        }
        self.decided.insert(fingerprint, explanation.is_permitted);
        explanation.is_permitted
    }

    pub(crate) fn explain(
        &self,
        principal: &Principal,
        action: Action,
        resource: &Resource<'_>,
    ) -> Explanation {
        match self.ask(principal, action, resource) {
            Ok(response) => explained(&response),
            Err(error) => {
                Explanation { is_permitted: false, policies: Vec::new(), errors: vec![error.to_string()] }
            }
        }
    }

    fn ask(
        &self,
        principal: &Principal,
        action: Action,
        resource: &Resource<'_>,
    ) -> Result<Response, entities::Misfit> {
        let (request, entities) = self.names.request(principal, action, resource, &self.schema)?;
        Ok(self.authorizer.is_authorized(&request, &self.set, &entities))
    }

    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.decided.len()
    }
}

fn explained(response: &Response) -> Explanation {
    let diagnostics = response.diagnostics();
    let mut policies: Vec<String> = diagnostics.reason().map(ToString::to_string).collect();
    policies.sort_unstable();
    let errors: Vec<String> = diagnostics.errors().map(ToString::to_string).collect();
    Explanation {
        is_permitted: response.decision() == Decision::Allow && errors.is_empty(),
        policies,
        errors,
    }
}
