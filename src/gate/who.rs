//! Who can make a request, by the facts.

use schemars::JsonSchema;
use serde::Deserialize;

use super::explain::{ExplainRequest, Question, QuestionError};
use super::summary::{Access, RouteSummary, WhoAnswer};
use super::{Gate, find, split_target};
use crate::domain::{ExternalId, Grants, PermissionSlug, ResourceRef, ResourceTypeSlug};
use crate::rules::{Access as Needs, AskTemplate, Route, RouteMatch, Sources};

/// Who could make a request.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhoRequest {
    /// The method.
    pub method: String,
    /// A URL, or a path and query.
    pub url: String,
    /// Ask about this route, whatever the URL matches.
    pub route: Option<String>,
    /// `type:external id`: ask about this resource, whatever the rule takes from the request.
    pub resource: Option<String>,
}

/// One thing that somebody has to hold.
struct Wanted<'a> {
    permission: &'a PermissionSlug,
    resource: Option<ResourceRef<'a>>,
    /// Whether an organization-wide grant counts as the token carries it.
    by_claim: bool,
}

impl Gate {
    /// Who can make `request`, by the facts.
    ///
    /// # Errors
    /// [`QuestionError`] when the question makes no sense, or the request does not say which resource it is about.
    pub fn who(&self, request: &WhoRequest) -> Result<WhoAnswer, QuestionError> {
        let in_force = self.in_force.load_full();
        let rules = &in_force.rules;
        let asked = ExplainRequest { method: request.method.clone(), url: request.url.clone(), ..Default::default() };
        let question = Question::new(&asked)?;
        let view = question.view();
        let (raw_path, query) = split_target(view.target);
        let path = rules.table.path(raw_path).map_err(|bad| QuestionError::refused(&bad.into()))?;
        let found = find(&rules.table, &view, &path).map_err(|denial| QuestionError::refused(&denial))?;
        let route = match (&request.route, &found) {
            (Some(id), _) => rules.table.route(id).ok_or_else(|| QuestionError::UnknownRoute(id.clone()))?,
            (None, Some(found)) => found.route(),
            (None, None) => return Err(QuestionError::NoRoute),
        };
        let named = request.resource.as_deref().map(named_resource).transpose()?;
        let query = query.and_then(|query| std::str::from_utf8(query).ok());
        let sources = Sources { query, headers: view.headers, claims: None, body: None };
        let matched = found.as_ref().filter(|found| found.route().index == route.index);
        let wanted = match &named {
            Some(named) => on_resource(route, named),
            None => as_requested(route, matched, &sources)?,
        };
        let access = self.access(&wanted);
        Ok(WhoAnswer { route: RouteSummary::of(route), note: note(route), access })
    }

    fn access(&self, wanted: &[Wanted<'_>]) -> Vec<Access> {
        let mut access = Vec::new();
        for organization in self.world.organizations() {
            let Some(view) = self.ready(&organization) else { continue };
            let Some(shard) = view.shard() else { continue };
            for Wanted { permission, resource, by_claim } in wanted {
                for found in shard.who_has_access(view.catalog(), permission, resource.as_ref()) {
                    let description = shard.describe(view.catalog(), &found.basis);
                    let by = if *by_claim && found.basis.is_organization_wide() {
                        format!("its token's claim, when minted with {description}")
                    } else {
                        description.to_string()
                    };
                    access.push(Access {
                        organization: organization.clone(),
                        membership: found.member.id.to_string(),
                        user: found.member.user.to_string(),
                        permission: match resource {
                            Some(resource) => format!("{permission} on {resource}"),
                            None => permission.to_string(),
                        },
                        by,
                    });
                }
            }
        }
        access
            .sort_by(|one, other| (&one.organization, &one.membership).cmp(&(&other.organization, &other.membership)));
        access
    }
}

/// What `route` asks for, its resources replaced by the one that the question names.
fn on_resource<'a>(route: &'a Route, named: &'a (ResourceTypeSlug, ExternalId)) -> Vec<Wanted<'a>> {
    let (resource_type, external_id) = named;
    let resource = || ResourceRef::External { resource_type, external_id: external_id.as_str().into() };
    let wanted = |ask: &'a AskTemplate| Wanted {
        permission: &ask.permission,
        resource: ask.resource.as_ref().map(|_| resource()),
        by_claim: ask.grants == Grants::Token,
    };
    route.asks().iter().map(wanted).collect()
}

/// What `route` asks for, with the values of the request.
fn as_requested<'a>(
    route: &'a Route,
    matched: Option<&'a RouteMatch<'a, 'a>>,
    sources: &Sources<'a>,
) -> Result<Vec<Wanted<'a>>, QuestionError> {
    let Some(matched) = matched else {
        let plain = |ask: &'a AskTemplate| {
            let by_claim = ask.grants == Grants::Token;
            ask.resource.is_none().then_some(Wanted { permission: &ask.permission, resource: None, by_claim })
        };
        let wanted: Option<Vec<_>> = route.asks().iter().map(plain).collect();
        return wanted.ok_or_else(|| QuestionError::Values("the URL is not one of this route".to_owned()));
    };
    let requirement = matched.requirement(sources).map_err(|denial| QuestionError::values(&denial))?;
    let asks = requirement.asks().iter();
    Ok(asks
        .map(|ask| Wanted {
            permission: ask.permission,
            resource: ask.resource.clone(),
            by_claim: ask.grants == Grants::Token,
        })
        .collect())
}

fn note(route: &Route) -> &'static str {
    match &route.access {
        Needs::Public => "public: everybody, also without a token",
        Needs::Authenticated => "everybody with a valid token",
        Needs::Any(_) => "holding any one of the permissions is enough",
        Needs::All(asks) if asks.len() > 1 => "every permission is needed; who is listed for one may lack another",
        Needs::All(_) => "a permission that a token carries stays good until the token ends",
    }
}

fn named_resource(text: &str) -> Result<(ResourceTypeSlug, ExternalId), QuestionError> {
    let wrong = || QuestionError::Resource(text.escape_debug().to_string());
    let (resource_type, external_id) = text.split_once(':').ok_or_else(wrong)?;
    Ok((ResourceTypeSlug::new(resource_type).map_err(|_| wrong())?, ExternalId::new(external_id).map_err(|_| wrong())?))
}
