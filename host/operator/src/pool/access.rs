//! Who the pods of a pool are, and where they are found.

use k8s_openapi::api::core::v1::{Service, ServiceAccount, ServicePort, ServiceSpec};
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use vespid_resources::{ModelPool, names};

use crate::metadata::{self, Component};

fn named(pool: &ModelPool) -> kube::core::ObjectMeta {
    metadata::of(pool, Component::Pool, names::of_pool(&pool.name_any()))
}

/// The account of the pods.
pub(super) fn account(pool: &ModelPool) -> ServiceAccount {
    ServiceAccount {
        metadata: named(pool),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// What the account may do: watch models, and write what this pod says of them.
pub(super) fn binding(pool: &ModelPool, role: &str) -> RoleBinding {
    RoleBinding {
        metadata: named(pool),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: role.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: names::of_pool(&pool.name_any()),
            namespace: pool.namespace(),
            ..Subject::default()
        }]),
    }
}

/// The Service, whose EndpointSlices tell the gateway and the pods of the pods.
pub(super) fn service(pool: &ModelPool) -> Service {
    let port = |(name, number): (&str, u16)| ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    Service {
        metadata: named(pool),
        spec: Some(ServiceSpec {
            selector: metadata::selector(Component::Pool, &pool.name_any()).match_labels,
            ports: Some([names::HTTP_PORT, names::GRPC_PORT, names::ADMIN_PORT].map(port).to_vec()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
