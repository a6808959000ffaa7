//! `verify: live`: what the facts allow is asked again at the server that they come from, at the time of the request, and that answer is the
//! last word. What the facts deny is not asked: the server could only say what will be in the facts a moment later.

use std::sync::Arc;

use super::Gate;
use crate::domain::requirement::Asks;
use crate::domain::{
    Ask, Denial, DenyReason, MembershipId, Principal, Requirement, ResourceRef, ResourceTypeSlug, Scope,
};
use crate::domain::{OrganizationId, decision};
use crate::live::View;
use crate::rules::{Route, Verify};
use crate::source::Check;

/// What the server is to be asked.
pub(super) struct Questions<'a> {
    organization: OrganizationId,
    membership: MembershipId,
    /// What the facts grant.
    asks: Asks<'a>,
    /// Whether one yes is enough.
    any: bool,
}

impl Gate {
    /// A gate that asks `check` where a route says `verify: live`. Without it such routes are refused.
    #[must_use]
    pub fn with_check(mut self, check: Arc<dyn Check>) -> Self {
        self.check = Some(check);
        self
    }

    /// Asks the server.
    ///
    /// # Errors
    /// `not_granted` when it says no, `facts_unavailable` when it says nothing.
    pub(super) async fn verify(&self, questions: &Questions<'_>) -> Result<(), Denial> {
        let Some(check) = &self.check else {
            return Err(Denial::because(DenyReason::FactsUnavailable, "there is no server that could confirm it"));
        };
        let organization = ResourceTypeSlug::organization();
        let refused = || Denial::because(DenyReason::NotGranted, "the facts grant it, and the server does not");
        let mut denial = None;
        for ask in &questions.asks {
            let resource = ask.resource.clone().unwrap_or_else(|| ResourceRef::External {
                resource_type: &organization,
                external_id: questions.organization.as_str().into(),
            });
            let said = match check.check(&questions.membership, ask.permission, &resource).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(refused()),
                Err(error) => Err(Denial::because(DenyReason::FactsUnavailable, unconfirmed(&error))),
            };
            match said {
                Ok(()) if questions.any => return Ok(()),
                Ok(()) => {}
                Err(first) if !questions.any => return Err(first),
                // A no is an answer; that there is none only counts when there is nothing else.
                Err(other) if denial.is_none() || !other.reason.is_outage() => denial = Some(other),
                Err(_) => {}
            }
        }
        match denial {
            Some(denial) => Err(denial),
            None if questions.any || questions.asks.is_empty() => Err(refused()),
            None => Ok(()),
        }
    }
}

/// What has to be asked about a request that the facts in `view` allow; `None` where they have the last word.
pub(super) fn questions<'a>(
    route: &Route,
    requirement: &Requirement<'a>,
    principal: Option<&Principal>,
    membership: Option<&MembershipId>,
    view: Option<&View>,
) -> Result<Option<Questions<'a>>, Denial> {
    if route.verify == Verify::Facts || requirement.asks().is_empty() {
        return Ok(None);
    }
    let missing =
        || Denial::because(DenyReason::FactsUnavailable, "it is not known whose permission is to be confirmed");
    let (principal, view) = principal.zip(view).ok_or_else(missing)?;
    let caller = principal.caller();
    let is_granted = |ask: &&Ask<'a>| decision::judge(ask, caller, view.facts()).is_ok();
    Ok(Some(Questions {
        organization: principal.organization.clone().ok_or_else(missing)?,
        membership: membership.cloned().ok_or_else(missing)?,
        asks: requirement.asks().iter().filter(is_granted).cloned().collect(),
        any: matches!(requirement.scope, Scope::Any(_)),
    }))
}

fn unconfirmed(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
