//! Where each kind lives in the API: group, version, plural and scope.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::Resource;

use super::{EndpointSlice, Endpoints, Node, Service, ServiceCidr};

macro_rules! resource {
    ($type:ty, $kind:literal, $group:literal, $plural:literal, $scope:ty) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }
            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }
            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Service, "Service", "", "services", NamespaceResourceScope);
resource!(
    EndpointSlice,
    "EndpointSlice",
    "discovery.k8s.io",
    "endpointslices",
    NamespaceResourceScope
);
resource!(
    Endpoints,
    "Endpoints",
    "",
    "endpoints",
    NamespaceResourceScope
);
resource!(Node, "Node", "", "nodes", ClusterResourceScope);
resource!(
    ServiceCidr,
    "ServiceCIDR",
    "networking.k8s.io",
    "servicecidrs",
    ClusterResourceScope
);
