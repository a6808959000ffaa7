//! casbin: roles within domains, a resource being a domain. It has no tree, and groups in domains would need a row for
//! each member and resource; so it is asked only about roles that a member has on the resource itself.

use ::casbin::prelude::*;
use anyhow::Result;

use crate::world::{Question, ROLES, World};

const MODEL: &str = "
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, act
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.act == p.act && g(r.sub, p.sub, r.obj)
";

pub struct Casbin {
    enforcer: Enforcer,
}

impl Casbin {
    pub async fn load(world: &World) -> Result<Self> {
        let mut enforcer = Enforcer::new(DefaultModel::from_str(MODEL).await?, MemoryAdapter::default()).await?;
        let mut policies = Vec::new();
        for (role, permissions) in ROLES {
            policies.extend((0..permissions).map(|permission| vec![role.to_owned(), format!("p{permission}")]));
        }
        enforcer.add_policies(policies).await?;
        let mut rows = Vec::new();
        for (kind, holders) in [("member", &world.members), ("group", &world.groups)] {
            for (holder, grants) in holders.iter().enumerate() {
                rows.extend(grants.iter().map(|grant| {
                    vec![
                        format!("{kind}-{holder}"),
                        ROLES[grant.role].0.to_owned(),
                        format!("resource-{}", grant.resource),
                    ]
                }));
            }
        }
        enforcer.add_grouping_policies(rows).await?;
        Ok(Self { enforcer })
    }

    pub fn prepare(&self, question: &Question) -> (String, String, String) {
        (
            format!("member-{}", question.member),
            format!("resource-{}", question.resource),
            format!("p{}", question.permission),
        )
    }

    pub fn allows(&self, (member, resource, permission): &(String, String, String)) -> bool {
        self.enforcer.enforce((member, resource, permission)).expect("the model fits the question")
    }
}
