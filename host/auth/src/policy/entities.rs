//! A request in the policies' words.

use std::collections::{BTreeMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression, Schema,
};

use crate::{Action, Kind, Principal, Resource};

const SERVER: &str = "server";

/// The names of entity types, read once.
pub(crate) struct Names {
    user: EntityTypeName,
    api_key: EntityTypeName,
    certificate: EntityTypeName,
    anonymous: EntityTypeName,
    role: EntityTypeName,
    tenant: EntityTypeName,
    model: EntityTypeName,
    server: EntityTypeName,
    action: EntityTypeName,
}

/// A request that does not fit the schema: an action on what it is not for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Misfit(String);

fn misfit(error: impl std::error::Error) -> Misfit {
    Misfit(error.to_string())
}

type Attributes = Vec<(String, RestrictedExpression)>;

impl Names {
    pub(super) fn new() -> Result<Self, Misfit> {
        Ok(Self {
            user: name(Kind::Oidc.entity_type())?,
            api_key: name(Kind::ApiKey.entity_type())?,
            certificate: name(Kind::Certificate.entity_type())?,
            anonymous: name(Kind::Anonymous.entity_type())?,
            role: name("Vespid::Role")?,
            tenant: name("Vespid::Tenant")?,
            model: name("Vespid::Model")?,
            server: name("Vespid::Server")?,
            action: name("Vespid::Action")?,
        })
    }

    pub(super) fn request(
        &self,
        principal: &Principal,
        action: Action,
        resource: &Resource<'_>,
        schema: &Schema,
    ) -> Result<(Request, Entities), Misfit> {
        let who = self.principal(principal)?;
        let what = self.resource(resource)?;
        let action = uid(&self.action, action.as_str());
        let request = Request::new(who.uid(), action, what.uid(), Context::empty(), Some(schema));
        let entities = Entities::from_entities([who, what], Some(schema)).map_err(misfit)?;
        Ok((request.map_err(misfit)?, entities))
    }

    fn principal(&self, principal: &Principal) -> Result<Entity, Misfit> {
        let kind = match principal.kind() {
            Kind::Oidc => &self.user,
            Kind::ApiKey => &self.api_key,
            Kind::Certificate => &self.certificate,
            Kind::Anonymous => &self.anonymous,
        };
        let roles = principal.roles().iter();
        let mut attributes: Attributes = vec![
            ("id".to_owned(), text(principal.id())),
            ("kind".to_owned(), text(principal.kind().as_str())),
            ("roles".to_owned(), RestrictedExpression::new_set(roles.clone().map(|role| text(role)))),
        ];
        add(&mut attributes, "tenant", principal.tenant());
        add(&mut attributes, "issuer", principal.issuer());
        let mut parents: HashSet<EntityUid> = roles.map(|role| uid(&self.role, role)).collect();
        parents.extend(principal.tenant().map(|tenant| uid(&self.tenant, tenant)));
        Entity::new_with_tags(uid(kind, principal.id()), attributes, parents, []).map_err(misfit)
    }

    fn resource(&self, resource: &Resource<'_>) -> Result<Entity, Misfit> {
        match resource {
            Resource::Server => Ok(Entity::with_uid(uid(&self.server, SERVER))),
            Resource::Model { name, tenant, labels } => self.model(name, *tenant, labels),
        }
    }

    fn model(
        &self,
        name: &str,
        tenant: Option<&str>,
        labels: &BTreeMap<String, String>,
    ) -> Result<Entity, Misfit> {
        let tenant = tenant.filter(|tenant| !tenant.is_empty());
        let mut attributes: Attributes = vec![("name".to_owned(), text(name))];
        add(&mut attributes, "tenant", tenant);
        let parents = tenant.map(|tenant| uid(&self.tenant, tenant));
        let tags = labels.iter().map(|(key, value)| (key.clone(), text(value)));
        Entity::new_with_tags(uid(&self.model, name), attributes, parents, tags).map_err(misfit)
    }
}

fn name(text: &str) -> Result<EntityTypeName, Misfit> {
    text.parse().map_err(misfit)
}

fn add(attributes: &mut Attributes, name: &str, value: Option<&str>) {
    attributes.extend(value.map(|value| (name.to_owned(), text(value))));
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn uid(name: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
}
