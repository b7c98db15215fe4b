//! What somebody may have meant who names a Service that is not there.

use crate::model::ObjectName;

/// A sentence that says so, with the nearest names.
pub fn no_such_service<'a>(
    asked: &ObjectName,
    services: impl Iterator<Item = &'a ObjectName>,
) -> String {
    let near = nearest(asked, services);
    let mut text = format!("there is no Service {asked} that this node knows of");
    if !near.is_empty() {
        let names: Vec<String> = near.iter().map(ToString::to_string).collect();
        text += &format!("; did you mean {}?", names.join(" or "));
    }
    // The agent may have read manifests instead, but who asks need not know that.
    text + " (Services with the label service.kubernetes.io/service-proxy-name are another proxy's, and not \
            watched)"
}

/// The best three, the same name in other namespaces first.
fn nearest<'a>(
    asked: &ObjectName,
    services: impl Iterator<Item = &'a ObjectName>,
) -> Vec<&'a ObjectName> {
    let mut scored: Vec<_> = services
        .filter_map(|name| {
            let of_name = distance(&asked.name, &name.name)?;
            // Another namespace altogether is one mistake, a mistyped one is so many as it has.
            let of_namespace =
                distance(&asked.namespace, &name.namespace).unwrap_or(OTHER_NAMESPACE);
            Some((of_name * 2 + of_namespace, name))
        })
        .collect();
    scored.sort();
    scored
        .into_iter()
        .take(TOLD)
        .map(|(_, name)| name)
        .collect()
}

/// Letters left out, too many, wrong or swapped; none if it is another word.
fn distance(asked: &str, other: &str) -> Option<usize> {
    let longest = asked.chars().count().max(other.chars().count());
    let distance = strsim::damerau_levenshtein(asked, other);
    (distance <= (longest / 3).max(1)).then_some(distance)
}

const OTHER_NAMESPACE: usize = 3;
const TOLD: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn near(asked: &str) -> Vec<String> {
        let parse = |text: &str| {
            let (namespace, name) = text.split_once('/').unwrap();
            ObjectName::new(namespace, name)
        };
        let known = [
            "shop/web",
            "shop/web-admin",
            "shop/cart",
            "test/web",
            "kube-system/kube-dns",
        ]
        .map(parse);
        let asked = parse(asked);
        let found = nearest(&asked, known.iter());
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn mistyped_names_and_other_namespaces_are_found() {
        assert_eq!(near("shop/wbe"), ["shop/web", "test/web"]);
        assert_eq!(near("default/cart"), ["shop/cart"]);
        assert_eq!(near("shp/web"), ["shop/web", "test/web"]);
        assert_eq!(near("kubesystem/kube-dns"), ["kube-system/kube-dns"]);
        assert_eq!(near("shop/webadmin"), ["shop/web-admin"]);
        assert!(near("shop/postgres").is_empty());
    }
}
