//! What is known of a model where no cluster says it.
//!
//! Contract: the first rule whose pattern fits the name counts, whether there is such a model or not; a model that none fits has no
//! tenant and no labels. In a cluster the `Model` resource says both, and these rules are not asked.

use std::collections::BTreeMap;

use glob::Pattern;

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// Of which models something is known, and what.
#[derive(Clone, Debug)]
pub(crate) struct ModelRule {
    pub(crate) pattern: Pattern,
    pub(crate) tenant: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// What policies may ask of a model besides its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelFacts<'a> {
    /// The tenant that it belongs to.
    pub tenant: Option<&'a str>,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

impl Default for ModelFacts<'_> {
    fn default() -> Self {
        Self { tenant: None, labels: &NO_LABELS }
    }
}

/// What the first rule says that fits.
pub(crate) fn facts<'a>(rules: &'a [ModelRule], name: &str) -> ModelFacts<'a> {
    let rule = rules.iter().find(|rule| rule.pattern.matches(name));
    rule.map(|rule| ModelFacts { tenant: rule.tenant.as_deref(), labels: &rule.labels }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rule = |pattern: &str, tenant: Option<&str>| ModelRule {
            pattern: Pattern::new(pattern).unwrap(),
            tenant: tenant.map(str::to_owned),
            labels: BTreeMap::from([("rule".to_owned(), pattern.to_owned())]),
        };
        let rules = [rule("acme-public", None), rule("acme-*", Some("acme"))];
        assert_eq!(facts(&rules, "acme-public").tenant, None);
        assert_eq!(facts(&rules, "acme-iris").tenant, Some("acme"));
        assert_eq!(facts(&rules, "acme-iris").labels["rule"], "acme-*");
        assert_eq!(facts(&rules, "other"), ModelFacts::default());
    }
}
