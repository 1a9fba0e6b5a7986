//! Who asks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::Denied;
use crate::fingerprint::{Fingerprint, Fingerprinter};

/// How somebody showed who they are. Policies know each kind as an entity type of its own, so that a key that is called as a user is
/// not that user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// By a token of an OpenID provider: `Vespid::User`.
    Oidc,
    /// By an API key: `Vespid::ApiKey`.
    ApiKey,
    /// By a client's certificate: `Vespid::Certificate`.
    Certificate,
    /// Not at all: `Vespid::Anonymous`.
    Anonymous,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Oidc, Self::ApiKey, Self::Certificate, Self::Anonymous];

    /// As it stands in the log and in policies' `kind`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::ApiKey => "api_key",
            Self::Certificate => "certificate",
            Self::Anonymous => "anonymous",
        }
    }

    /// The entity type of policies.
    #[must_use]
    pub const fn entity_type(self) -> &'static str {
        match self {
            Self::Oidc => "Vespid::User",
            Self::ApiKey => "Vespid::ApiKey",
            Self::Certificate => "Vespid::Certificate",
            Self::Anonymous => "Vespid::Anonymous",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// As it stands in the log, or `user` for who has a token.
impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        named.or((text == "user").then_some(Self::Oidc)).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("'{text}' is no kind of principal: use one of {known}")
        })
    }
}

/// What is known of somebody: a [`Principal`] is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// How they showed who they are.
    pub kind: Kind,
    /// Who they are: the token's subject (behind the provider's prefix), the key's or the certificate's name.
    pub id: String,
    /// Who says so, of a token.
    pub issuer: Option<String>,
    /// The tenant that they belong to.
    pub tenant: Option<String>,
    /// Their roles.
    pub roles: Vec<String>,
}

/// Who asks. A clone shares it.
#[derive(Clone)]
pub struct Principal(Arc<Inner>);

struct Inner {
    identity: Identity,
    fingerprint: Fingerprint,
    /// When what they showed is good no more.
    until: Option<SystemTime>,
}

impl Principal {
    /// Whoever this is, for ever. Roles are in order, each once; a tenant without a name is none.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self::until(identity, None)
    }

    /// Whoever this is, until then.
    #[must_use]
    pub fn until(mut identity: Identity, until: Option<SystemTime>) -> Self {
        identity.tenant = identity.tenant.filter(|tenant| !tenant.is_empty());
        identity.roles.sort_unstable();
        identity.roles.dedup();
        let mut fingerprinter = Fingerprinter::new();
        fingerprinter
            .text(identity.kind.as_str())
            .text(&identity.id)
            .optional(identity.issuer.as_deref())
            .optional(identity.tenant.as_deref())
            .length(identity.roles.len());
        for role in &identity.roles {
            fingerprinter.text(role);
        }
        Self(Arc::new(Inner { identity, fingerprint: fingerprinter.finish(), until }))
    }

    /// Somebody without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        let (kind, id) = (Kind::Anonymous, "anonymous".to_owned());
        Self::new(Identity { kind, id, issuer: None, tenant: None, roles: Vec::new() })
    }

    /// How they showed who they are.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.identity.kind
    }

    /// Who they are.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.identity.id
    }

    /// The provider whose token they have.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.0.identity.issuer.as_deref()
    }

    /// Their tenant.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.0.identity.tenant.as_deref()
    }

    /// Their roles, in order.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.0.identity.roles
    }

    /// When what they showed, a token or a key, is good no more. Who asks more than once with it is to be refused from then on.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.until
    }

    /// What they are told from then on.
    #[must_use]
    pub fn expired(&self) -> Denied {
        match self.kind() {
            Kind::ApiKey => Denied::ExpiredApiKey,
            _ => Denied::Expired,
        }
    }

    /// Sees whether what they showed is still good.
    ///
    /// # Errors
    /// [`Principal::expired`].
    pub(crate) fn is_current(&self, now: SystemTime) -> Result<(), Denied> {
        match self.0.until {
            Some(until) if until <= now => Err(self.expired()),
            _ => Ok(()),
        }
    }

    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.0.fingerprint
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.0.fingerprint == other.0.fingerprint
    }
}

impl Eq for Principal {}

/// As the log has it: `oidc 'alice' of tenant 'acme'`.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}'", self.kind(), self.id().escape_debug())?;
        match self.tenant() {
            Some(tenant) => write!(f, " of tenant '{}'", tenant.escape_debug()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.identity.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Identity {
        Identity {
            kind: Kind::Oidc,
            id: "alice".to_owned(),
            issuer: Some("https://id.example".to_owned()),
            tenant: Some("acme".to_owned()),
            roles: vec!["b".to_owned(), "a".to_owned(), "b".to_owned()],
        }
    }

    #[test]
    fn whoever_differs_in_anything_is_somebody_else() {
        let one = Principal::new(alice());
        assert_eq!(one, Principal::new(alice()));
        assert_eq!(one.roles(), ["a", "b"]);
        let nameless = Principal::new(Identity { tenant: Some(String::new()), ..alice() });
        assert_eq!(nameless.tenant(), None);
        for other in [
            Identity { kind: Kind::ApiKey, ..alice() },
            Identity { id: "bob".to_owned(), ..alice() },
            Identity { issuer: None, ..alice() },
            Identity { tenant: None, ..alice() },
            Identity { tenant: Some("other".to_owned()), ..alice() },
            Identity { roles: vec!["a".to_owned()], ..alice() },
            Identity { roles: vec!["ab".to_owned()], ..alice() },
        ] {
            assert_ne!(one, Principal::new(other.clone()), "{other:?}");
        }
    }

    #[test]
    fn a_kind_has_one_name_and_users_two() {
        assert!(Kind::ALL.into_iter().all(|kind| kind.as_str().parse() == Ok(kind)));
        assert_eq!("user".parse(), Ok(Kind::Oidc));
        assert!("robot".parse::<Kind>().unwrap_err().contains("api_key"));
    }

    #[test]
    fn the_log_has_one_line_of_it() {
        assert_eq!(Principal::new(alice()).to_string(), "oidc 'alice' of tenant 'acme'");
        let forged = Identity { id: "x'\nadmin".to_owned(), tenant: None, ..alice() };
        assert_eq!(Principal::new(forged).to_string(), r"oidc 'x\'\nadmin'");
    }
}
