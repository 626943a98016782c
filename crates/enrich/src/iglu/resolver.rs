//! Whom to ask for a schema that the recipe does not have, and in which order.
//!
//! Part of a recipe, since the answers depend on it: two recipes with other registries may end with other outcomes. The
//! asking itself is the business of `assets`, and so are API keys, which no outcome depends on. Snowplow:
//! enrich-core.md 4.3 and 4.4.

use model::iglu::SchemaKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The registries on the network, and which of their answers hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Resolver {
    /// Under which number answers are kept. Within one epoch an absence stays an absence; the next one asks again.
    pub epoch: u64,
    /// In the order of the configuration; names are unique.
    pub repositories: Vec<Repository>,
    /// Names of repositories whose schemas came into the recipe with the local ones; a look-up history lists them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embedded: Vec<String>,
}

/// A registry on the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Repository {
    /// What it is called in a look-up history.
    pub name: String,
    /// Smaller ones are asked first.
    pub priority: i64,
    /// A vendor that starts with one of these texts is asked here before anywhere else, whatever the priorities.
    pub vendor_prefixes: Vec<String>,
    /// The base, without a slash at the end: a schema lies at `<uri>/schemas/<vendor>/<name>/<format>/<version>`.
    pub uri: String,
}

impl Resolver {
    /// The registries in the order in which they are asked for a key. None is left out.
    pub fn order(&self, key: &SchemaKey) -> Vec<&Repository> {
        let mut order: Vec<&Repository> = self.repositories.iter().collect();
        order.sort_by_key(|repository| (!repository.owns(key.vendor()), repository.priority));
        order
    }

    /// The name under which this resolver's answers are kept: SHA-256 of its registries, 64 hex digits. The epoch has no
    /// part in it.
    pub fn digest(&self) -> String {
        let text = serde_json::to_string(&self.repositories).expect("texts and numbers print");
        Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Repository {
    fn owns(&self, vendor: &str) -> bool {
        // Text prefixes, as Snowplow's: `com.acme` also stands for `com.acmeplus`.
        self.vendor_prefixes.iter().any(|prefix| vendor.starts_with(prefix.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str, priority: i64, prefixes: &[&str]) -> Repository {
        Repository {
            name: name.to_owned(),
            priority,
            vendor_prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
            uri: format!("http://{name}.example"),
        }
    }

    #[test]
    fn prefixes_come_before_priorities_and_nobody_is_left_out() {
        let resolver = Resolver {
            epoch: 1,
            repositories: vec![
                repository("last", 9, &[]),
                repository("first-of-equals", 3, &["org.example"]),
                repository("second-of-equals", 3, &[]),
                repository("acme", 100, &["com.acme", "io.acme"]),
            ],
            embedded: Vec::new(),
        };
        let order = |vendor: &str| -> Vec<String> {
            let key = SchemaKey::parse(&format!("iglu:{vendor}/a/jsonschema/1-0-0")).unwrap();
            resolver.order(&key).iter().map(|repository| repository.name.clone()).collect()
        };
        let acme = ["acme", "first-of-equals", "second-of-equals", "last"];
        assert_eq!(order("com.acme"), acme);
        assert_eq!(order("com.acmeplus.shop"), acme);
        assert_eq!(order("io.acme"), acme);
        let others = ["first-of-equals", "second-of-equals", "last", "acme"];
        assert_eq!(order("org.example"), others);
        assert_eq!(order("com.acm"), others);
    }

    #[test]
    fn answers_are_kept_by_the_registries_alone() {
        let resolver = Resolver {
            epoch: 1,
            repositories: vec![repository("a", 0, &[])],
            embedded: Vec::new(),
        };
        let later = Resolver { epoch: 2, ..resolver.clone() };
        assert_eq!(later.digest(), resolver.digest());
        let other = Resolver { repositories: vec![repository("a", 1, &[])], ..resolver.clone() };
        assert_ne!(other.digest(), resolver.digest());
        assert_eq!(resolver.digest().len(), 64);
    }
}
