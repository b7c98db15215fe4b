//! Metadata read down to what is used; `managedFields` and other people's annotations are
//! skipped by the parser and never allocated.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// Label of a slice: the Service that it belongs to.
pub(in crate::cluster) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Label of a Service that another proxy serves.
pub(in crate::cluster) const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Label of objects that belong to a headless Service.
pub(in crate::cluster) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// Annotation of a slice: when that happened which it was last written for.
pub(in crate::cluster) const TRIGGER_TIME: &str =
    "endpoints.kubernetes.io/last-change-trigger-time";

/// Prefixes of the annotations that this agent reads.
const KEPT_ANNOTATIONS: [&str; 3] = ["ipvs-agent.io/", "kube-router.io/", TRIGGER_TIME];

/// Reads `null` as the default, which `#[serde(default)]` does for absent fields only.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether a map has entries, none of which is kept.
pub(super) fn is_given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let map = Option::<BTreeMap<String, IgnoredAny>>::deserialize(deserializer)?;
    Ok(map.is_some_and(|map| !map.is_empty()))
}

/// Metadata with the labels and annotations that this agent reads.
pub(super) fn slim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    Ok(Option::<Slim<KnownLabels>>::deserialize(deserializer)?
        .unwrap_or_default()
        .into())
}

/// Metadata with every label: topology keys of a Node are a matter of configuration.
pub(super) fn with_all_labels<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<ObjectMeta, D::Error> {
    Ok(Option::<Slim<AllLabels>>::deserialize(deserializer)?
        .unwrap_or_default()
        .into())
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase", bound = "L: Keep")]
struct Slim<L> {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    uid: Option<String>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    labels: Kept<L>,
    annotations: Kept<KnownAnnotations>,
}

// Not derived: the derive would ask for `L: Default`.
impl<L> Default for Slim<L> {
    fn default() -> Self {
        Self {
            name: None,
            namespace: None,
            resource_version: None,
            uid: None,
            creation_timestamp: None,
            deletion_timestamp: None,
            labels: Kept::default(),
            annotations: Kept::default(),
        }
    }
}

impl<L> From<Slim<L>> for ObjectMeta {
    fn from(slim: Slim<L>) -> Self {
        Self {
            name: slim.name,
            namespace: slim.namespace,
            resource_version: slim.resource_version,
            uid: slim.uid,
            // An odd timestamp counts as none: these are not worth a refusal.
            creation_timestamp: time(slim.creation_timestamp),
            deletion_timestamp: time(slim.deletion_timestamp),
            labels: slim.labels.into_option(),
            annotations: slim.annotations.into_option(),
            ..Self::default()
        }
    }
}

fn time(text: Option<String>) -> Option<Time> {
    text.and_then(|text| text.parse().ok()).map(Time)
}

/// Says which keys of a map are kept.
trait Keep {
    fn keep(key: &str) -> bool;
}

struct KnownLabels;
struct AllLabels;
struct KnownAnnotations;

impl Keep for KnownLabels {
    fn keep(key: &str) -> bool {
        [SERVICE_NAME_LABEL, PROXY_NAME_LABEL, HEADLESS_LABEL].contains(&key)
    }
}

impl Keep for AllLabels {
    fn keep(_: &str) -> bool {
        true
    }
}

impl Keep for KnownAnnotations {
    fn keep(key: &str) -> bool {
        KEPT_ANNOTATIONS
            .iter()
            .any(|prefix| key.starts_with(prefix))
    }
}

/// A map of text of which only some keys are stored.
struct Kept<K> {
    map: BTreeMap<String, String>,
    keep: std::marker::PhantomData<K>,
}

impl<K> Default for Kept<K> {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            keep: std::marker::PhantomData,
        }
    }
}

impl<K> Kept<K> {
    fn into_option(self) -> Option<BTreeMap<String, String>> {
        (!self.map.is_empty()).then_some(self.map)
    }
}

impl<'de, K: Keep> Deserialize<'de> for Kept<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeptVisitor(Self::default()))
    }
}

struct KeptVisitor<K>(Kept<K>);

impl<'de, K: Keep> Visitor<'de> for KeptVisitor<K> {
    type Value = Kept<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of text")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(self.0)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(self.0)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Self::Value, A::Error> {
        while let Some(key) = access.next_key::<String>()? {
            if K::keep(&key) {
                let value = access.next_value::<Option<String>>()?.unwrap_or_default();
                self.0.map.insert(key, value);
            } else {
                access.next_value::<IgnoredAny>()?;
            }
        }
        Ok(self.0)
    }
}
