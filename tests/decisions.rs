//! The decision engine against the reference model, on every question that can be asked of a random world.

mod reference_model;
mod worlds;

use portcullis::domain::{
    Ask, Caller, Catalog, Decision, DenyReason, Facts, Grants, Grounds, MembershipId, OrganizationId, PermissionSlug,
    Requirement, ResourceRef, ResourceTypeSlug, Scope, Shard, UserId, decide,
};
use proptest::prelude::*;
use reference_model::World;
use worlds::*;

/// A quarter of what proptest would run (`PROPTEST_CASES` counts): each world is asked thousands of questions.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: (config.cases / 4).max(1), ..config }
}

/// Every resource reference that could mean something, and some that cannot.
struct References {
    types: Vec<ResourceTypeSlug>,
    external: Vec<(usize, String)>,
    ids: Vec<String>,
}

impl References {
    fn of(organization: u8) -> Self {
        let mut types: Vec<ResourceTypeSlug> = (0..3).map(|place| external(place).0).collect();
        types.push(id("organization"));
        types.push(id("unheard-of"));
        let mut externals: Vec<_> = (0..=RESOURCES).map(|place| (usize::from(place % 3), external(place).1)).collect();
        externals.push((0, "x1".to_owned()));
        externals.push((3, format!("org_{organization}")));
        externals.push((3, format!("org_{}", organization + 1)));
        externals.push((4, "x0".to_owned()));
        let mut ids: Vec<_> = (0..RESOURCES).map(|place| resource(organization, place).to_string()).collect();
        ids.extend([
            root_id(organization).to_string(),
            resource(organization, 77).to_string(),
            resource(organization + 1, 0).to_string(),
            String::new(),
        ]);
        Self { types, external: externals, ids }
    }

    fn iter(&self) -> impl Iterator<Item = ResourceRef<'_>> {
        let external = self.external.iter().map(|(kind, external_id)| ResourceRef::External {
            resource_type: &self.types[*kind],
            external_id: external_id.as_str().into(),
        });
        external.chain(self.ids.iter().map(|id| ResourceRef::Id(id.as_str().into())))
    }
}

fn reason(decision: &Decision) -> Option<DenyReason> {
    match decision {
        Decision::Allow(_) => None,
        Decision::Deny(denial) => Some(denial.reason),
    }
}

fn require<'a>(permission: &'a PermissionSlug, resource: Option<ResourceRef<'a>>, grants: Grants) -> Requirement<'a> {
    Requirement { organization: None, scope: Scope::All([Ask { permission, resource, grants }].into_iter().collect()) }
}

/// Who may ask: with and without a membership claim, with another's, as another user, in no organization.
struct Caller0 {
    user: UserId,
    organization: Option<OrganizationId>,
    membership: Option<MembershipId>,
    permissions: Vec<PermissionSlug>,
}

impl Caller0 {
    fn as_caller(&self) -> Caller<'_> {
        Caller {
            user: &self.user,
            organization: self.organization.as_ref(),
            membership: self.membership.as_ref(),
            permissions: &self.permissions,
        }
    }
}

fn agree(
    world: &World,
    catalog: &Catalog,
    shard: Option<&Shard>,
    requirement: &Requirement<'_>,
    caller: Caller<'_>,
) -> Result<(), TestCaseError> {
    let decision = decide(requirement, Some(caller), Facts::Known { catalog, shard });
    let expected = world.decide(requirement, Some(caller));
    prop_assert_eq!(reason(&decision), expected, "{:?} asks {:?}", caller, requirement);
    if let (Decision::Allow(permit), Some(shard)) = (&decision, shard)
        && let Grounds::Granted(basis) = permit.grounds()
    {
        let words = shard.describe(catalog, basis);
        prop_assert!(words.claim || words.grant.is_some(), "{:?} cannot be put into words", basis);
        if let (Some(grant), Some(membership)) = (&words.grant, caller.membership) {
            prop_assert_eq!(&grant.membership, membership);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_membership_permission_and_resource_is_decided_as_the_model_decides(world in world(2), claims in any::<u8>()) {
        let (catalog, shards) = built(&world);
        for (o, shard) in (0..).zip(&shards) {
            let references = References::of(o);
            let permissions: Vec<_> = (0..PERMISSIONS + 2).map(permission).collect();
            let claimed: Vec<_> = permissions.iter().enumerate().filter(|(place, _)| claims >> place & 1 == 1).map(|(_, slug)| slug.clone()).collect();
            for place in 0..=MEMBERS {
                let caller = Caller0 {
                    // The user that the row names, where there is a row.
                    user: shard.rows(&catalog).members.iter().find(|row| row.id == membership(o, place)).map_or(user(place), |row| row.user.clone()),
                    organization: Some(organization(o)),
                    membership: Some(membership(o, place)),
                    permissions: claimed.clone(),
                };
                let caller = caller.as_caller();
                for permission in &permissions {
                    for grants in [Grants::Token, Grants::Live, Grants::Both] {
                        agree(&world, &catalog, Some(shard), &require(permission, None, grants), caller)?;
                        for resource in references.iter() {
                            agree(&world, &catalog, Some(shard), &require(permission, Some(resource), grants), caller)?;
                        }
                    }
                    for resource in references.iter() {
                        let model = world.model(o.into());
                        let membership = membership(o, place);
                        prop_assert_eq!(
                            shard.check(&catalog, &membership, permission, &resource),
                            model.check(&membership, permission, &resource),
                            "check {} {} {}", membership, permission, resource
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn identities_that_do_not_fit_are_refused_as_the_model_refuses(
        world in world(2),
        user_place in 0..MEMBERS,
        token_organization in prop::option::weighted(0.9, 0..3_u8),
        token_membership in prop::option::of((0..2_u8, 0..=MEMBERS)),
        value in prop::option::of(0..3_u8),
        asks in prop::collection::vec((0..=PERMISSIONS, prop::option::of(0..=RESOURCES), 0..3_u8), 1..4),
        claims in any::<u8>(),
        any in any::<bool>(),
    ) {
        let (catalog, shards) = built(&world);
        let caller = Caller0 {
            user: user(user_place),
            organization: token_organization.map(organization),
            membership: token_membership.map(|(o, place)| membership(o, place)),
            permissions: (0..PERMISSIONS).filter(|place| claims >> place & 1 == 1).map(permission).collect(),
        };
        let named: Vec<_> = asks.iter().map(|&(p, r, g)| (permission(p), r.map(external), g)).collect();
        let asks = named.iter().map(|(permission, resource, grants)| Ask {
            permission,
            resource: resource.as_ref().map(|(resource_type, external_id)| ResourceRef::External { resource_type, external_id: external_id.as_str().into() }),
            grants: [Grants::Token, Grants::Live, Grants::Both][usize::from(*grants)],
        });
        let scope = if any { Scope::Any(asks.collect()) } else { Scope::All(asks.collect()) };
        let requirement = Requirement { organization: value.map(|place| organization(place).to_string().into()), scope };
        let shard = token_organization.and_then(|place| shards.get(usize::from(place)));
        agree(&world, &catalog, shard, &requirement, caller.as_caller())?;
    }

    #[test]
    fn discovery_finds_exactly_what_check_finds(world in world(1)) {
        use portcullis::domain::discover::Within;

        let (catalog, shards) = built(&world);
        let shard = &shards[0];
        let references = References::of(0);
        let rows = shard.rows(&catalog);
        for resource in references.iter() {
            for place in 0..=MEMBERS {
                let membership = membership(0, place);
                let found = shard.effective_permissions(&catalog, &membership, &resource);
                let expected: Vec<_> = (0..PERMISSIONS + 2).map(permission).filter(|slug| shard.check(&catalog, &membership, slug, &resource)).collect();
                prop_assert_eq!(found, expected);
            }
            for place in 0..=PERMISSIONS {
                let slug = permission(place);
                let found = shard.who_has_access(&catalog, &slug, Some(&resource));
                let found: Vec<_> = found.into_iter().map(|access| access.member.id).collect();
                let mut expected: Vec<_> = rows.members.iter().map(|row| row.id.clone()).filter(|id| shard.check(&catalog, id, &slug, &resource)).collect();
                let mut sorted = found.clone();
                sorted.sort();
                expected.sort();
                prop_assert_eq!(sorted, expected);
            }
        }
        for place in 0..MEMBERS {
            let (membership, slug) = (membership(0, place), permission(place % PERMISSIONS));
            let allowed = |row: &portcullis::domain::record::Resource| {
                !row.resource_type.is_organization() && shard.check(&catalog, &membership, &slug, &ResourceRef::Id(row.id.as_str().into()))
            };
            let everywhere = shard.reachable(&catalog, &membership, &slug, &Within::All);
            prop_assert_eq!(&everywhere, &rows.resources.iter().filter(|row| allowed(row)).cloned().collect::<Vec<_>>());
            for top in &rows.resources {
                let reference = ResourceRef::Id(top.id.as_str().into());
                let children = shard.reachable(&catalog, &membership, &slug, &Within::Children(reference.clone()));
                let parent = |row: &portcullis::domain::record::Resource| {
                    rows.resources.iter().find(|other| Some(&other.id) == row.parent.as_ref()).map_or(root_id(0), |parent| parent.id.clone())
                };
                let expected: Vec<_> = rows.resources.iter().filter(|row| allowed(row) && parent(row) == top.id).cloned().collect();
                prop_assert_eq!(children, expected);
                let below = shard.reachable(&catalog, &membership, &slug, &Within::Descendants(reference));
                let is_below = |row: &portcullis::domain::record::Resource| {
                    let mut at = row.clone();
                    while parent(&at) != root_id(0) {
                        let id = parent(&at);
                        if id == top.id { return true; }
                        at = rows.resources.iter().find(|other| other.id == id).unwrap().clone();
                    }
                    top.id == root_id(0)
                };
                let expected: Vec<_> = rows.resources.iter().filter(|row| allowed(row) && is_below(row)).cloned().collect();
                prop_assert_eq!(below, expected);
            }
        }
    }
}
