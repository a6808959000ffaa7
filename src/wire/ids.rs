//! Ids for rows that were written without one: the same row gets the same id in every process and after every reload.

use aws_lc_rs::digest::{Context, SHA256};

use crate::domain::{Id, IdError, RoleId, RoleSlug, id::Kind};

/// `<prefix>_` and the first 128 bits of SHA-256 over the parts, each with its length, in hexadecimal.
///
/// Two rows with different parts have different ids: a collision would have to be searched for, and two ids that meet are reported as
/// duplicates.
pub(super) fn derived<K: Kind>(prefix: &str, parts: &[&str]) -> Result<Id<K>, IdError> {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut text = format!("{prefix}_");
    for byte in context.finish().as_ref().iter().take(16) {
        text.push_str(&format!("{byte:02x}"));
    }
    Id::new(&text)
}

/// `role_<slug>`: slugs of environment roles are unique already.
pub(super) fn environment_role(slug: &RoleSlug) -> Result<RoleId, IdError> {
    RoleId::new(&format!("role_{slug}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ResourceId;

    #[test]
    fn derived_ids_are_stable_and_tell_their_parts_apart() {
        let id = |parts: &[&str]| derived::<crate::domain::id::kind::Resource>("authz_resource", parts).unwrap();
        let known: ResourceId = id(&["org_acme", "project", "42"]);
        assert_eq!(known.as_str(), "authz_resource_90d8383059c7812de786f8fc21035f60");
        assert_ne!(id(&["a", "bc"]), id(&["ab", "c"]));
    }
}
