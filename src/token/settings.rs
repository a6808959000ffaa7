//! What an operator decides about tokens: one [`IssuerSettings`] for each entry of `tokens:`.
//!
//! `config` fills these in; [`Settings::problems`] says what does not go together, so that `validate` can report it.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use jsonwebtoken::Algorithm;

use super::credential::CredentialSource;
use crate::domain::OrganizationId;

/// The algorithms that a token may be signed with. Symmetric ones are not among them: whoever can verify could also
/// mint.
pub const SUPPORTED: [Algorithm; 7] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Everything configured about tokens.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The entries of `tokens:`, in their order.
    pub issuers: Vec<IssuerSettings>,
}

/// One entry of `tokens:`: whom to believe, and what.
#[derive(Debug, Clone)]
pub struct IssuerSettings {
    /// The name used in logs, metrics and routes.
    pub name: Arc<str>,
    /// The texts of `iss` that select this entry, compared byte for byte.
    pub issuers: Vec<String>,
    /// For whom the token has to be.
    pub audience: Audience,
    /// Claims that have to be there.
    pub required_claims: Vec<RequiredClaim>,
    /// The organizations that this issuer may speak for.
    pub organizations: Organizations,
    /// Where the keys come from.
    pub keys: KeySource,
    /// The algorithms this issuer signs with.
    pub algorithms: Vec<Algorithm>,
    /// Where in a request its tokens are looked for.
    pub from: Vec<CredentialSource>,
    /// How far the issuer's clock may be off; at most [`IssuerSettings::MOST_LEEWAY`].
    pub leeway: Duration,
    /// The longest `exp - iat`; `None` = not checked. When it is checked, a token without `iat` is refused.
    pub max_lifetime: Option<Duration>,
    /// Which claim says what.
    pub claims: ClaimNames,
    /// Further claims to keep in `Principal::claims`, because a rule refers to them. Everything else is forgotten.
    pub keep: Vec<String>,
}

/// `audience:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// `aud` is not looked at. ID tokens are then refused by their own claims, and [`IssuerSettings::required_claims`]
    /// has to say what makes an access token.
    None,
    /// `aud`, or one of its entries, is one of these.
    AnyOf(Vec<String>),
}

/// One entry of `required_claims:`.
#[derive(Debug, Clone, PartialEq)]
pub struct RequiredClaim {
    /// The claim, which has to be present and not null.
    pub name: String,
    /// When not empty, the claim, or one entry of it when it is an array, has to be one of these texts, numbers or
    /// booleans.
    pub values: Vec<serde_json::Value>,
}

/// `organizations:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Organizations {
    /// Any.
    Any,
    /// These. A token without an organization passes: it speaks for none.
    Only(Vec<OrganizationId>),
    /// Those whose id begins with this text. A token without an organization passes.
    Prefix(String),
}

/// Where an issuer's key set comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Fetched from here.
    Url(JwksUrl),
    /// Read from this file, again whenever it changed.
    File(PathBuf),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => fmt::Display::fmt(url, f),
            Self::File(path) => fmt::Display::fmt(&path.display(), f),
        }
    }
}

/// `claims:`: the names of the claims that Portcullis reads. Top-level members only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNames {
    /// The person.
    pub user: String,
    /// The selected organization.
    pub organization: String,
    /// The membership of the person in it.
    pub membership: String,
    /// Organization-wide permissions: an array of slugs.
    pub permissions: String,
    /// The organization role of highest priority.
    pub role: String,
    /// All organization roles: an array of slugs.
    pub roles: String,
    /// The login session.
    pub session: String,
}

impl Default for ClaimNames {
    /// As WorkOS AuthKit names them.
    fn default() -> Self {
        Self {
            user: "sub".into(),
            organization: "org_id".into(),
            membership: "organization_membership_id".into(),
            permissions: "permissions".into(),
            role: "role".into(),
            roles: "roles".into(),
            session: "sid".into(),
        }
    }
}

impl Settings {
    /// Every place that any issuer's tokens may stand in, each once.
    pub fn sources(&self) -> Vec<CredentialSource> {
        let mut sources: Vec<CredentialSource> = Vec::new();
        for source in self.issuers.iter().flat_map(|issuer| &issuer.from) {
            if !sources.contains(source) {
                sources.push(source.clone());
            }
        }
        sources
    }

    /// The entry called `name`.
    pub fn issuer(&self, name: &str) -> Option<&IssuerSettings> {
        self.issuers.iter().find(|issuer| &*issuer.name == name)
    }

    /// Everything that does not go together, one sentence each; empty when all is well.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut names = HashSet::new();
        let mut texts = HashSet::new();
        for issuer in &self.issuers {
            let name = &issuer.name;
            if name.is_empty() {
                problems.push("an issuer has an empty `name`".to_owned());
            }
            if !names.insert(name) {
                problems.push(format!("issuer `{name}` is there twice"));
            }
            for text in &issuer.issuers {
                if !texts.insert(text) {
                    problems.push(format!(
                        "issuer `{name}`: `{text}` is already the `issuer` of another entry, or given twice"
                    ));
                }
            }
            problems.extend(issuer.problems().into_iter().map(|problem| format!("issuer `{name}`: {problem}")));
        }
        problems
    }
}

impl IssuerSettings {
    /// The most that [`IssuerSettings::leeway`] may be.
    pub const MOST_LEEWAY: Duration = Duration::from_secs(60);

    /// The single algorithm that a key of this issuer is for when the key itself does not say, from among `candidates`.
    pub(super) fn only_algorithm(algorithms: &[Algorithm], candidates: &[Algorithm]) -> Option<Algorithm> {
        let mut found = algorithms.iter().copied().filter(|algorithm| candidates.contains(algorithm));
        let only = found.next()?;
        found.all(|other| other == only).then_some(only)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut unless = |good: bool, problem: &dyn Fn() -> String| {
            if !good {
                problems.push(problem());
            }
        };
        unless(!self.issuers.is_empty() && self.issuers.iter().all(|text| !text.is_empty()), &|| {
            "`issuer` is empty".into()
        });
        unless(!self.algorithms.is_empty(), &|| "`algorithms` is empty".into());
        for algorithm in &self.algorithms {
            unless(SUPPORTED.contains(algorithm), &|| {
                format!("algorithm `{algorithm:?}` is not supported, expected one of {SUPPORTED:?}")
            });
        }
        match &self.audience {
            Audience::None => unless(!self.required_claims.is_empty(), &|| {
                "`audience: none` needs `required_claims` that tell an access token from other kinds".into()
            }),
            Audience::AnyOf(texts) => {
                unless(!texts.is_empty() && texts.iter().all(|text| !text.is_empty()), &|| {
                    "`audience` is empty".into()
                });
            }
        }
        for claim in &self.required_claims {
            unless(!claim.name.is_empty(), &|| "`required_claims` has an empty name".into());
            let scalar = |value: &serde_json::Value| value.is_string() || value.is_number() || value.is_boolean();
            unless(claim.values.iter().all(scalar), &|| {
                format!("a required value of claim `{}` is not a text, number or boolean", claim.name)
            });
        }
        unless(
            match &self.organizations {
                Organizations::Any => true,
                Organizations::Only(ids) => !ids.is_empty(),
                Organizations::Prefix(text) => !text.is_empty(),
            },
            &|| "`organizations` is empty, expected `any`, ids or a prefix".into(),
        );
        unless(!self.from.is_empty(), &|| "`from` is empty".into());
        unless(self.leeway <= Self::MOST_LEEWAY, &|| {
            format!("`leeway` is {} s, at most {} s are allowed", self.leeway.as_secs(), Self::MOST_LEEWAY.as_secs())
        });
        let ClaimNames { user, organization, membership, permissions, role, roles, session } = &self.claims;
        for name in [user, organization, membership, permissions, role, roles, session] {
            unless(!name.is_empty(), &|| "`claims` has an empty name".into());
        }
        problems
    }
}

/// Where a key set may be fetched from: `https`, or `http` on the loopback interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl(Uri);

/// Why a text is not a [`JwksUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` {problem}")]
pub struct JwksUrlError {
    url: String,
    problem: &'static str,
}

impl JwksUrl {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`JwksUrlError`] when it is not an absolute URL, carries a password, or is plain `http` to another host.
    pub fn new(text: &str) -> Result<Self, JwksUrlError> {
        let refuse = |problem| JwksUrlError { url: text.to_owned(), problem };
        let url: Uri = text.parse().map_err(|_| refuse("is not a URL"))?;
        let authority = url.authority().ok_or_else(|| refuse("is not an absolute URL"))?;
        if authority.as_str().contains('@') {
            return Err(JwksUrlError {
                url: "…".into(),
                problem: "carries a user name or password, which is not supported",
            });
        }
        match url.scheme_str() {
            Some("https") => Ok(Self(url)),
            Some("http") if is_loopback(authority.host()) => Ok(Self(url)),
            Some("http") => Err(refuse("is plain http to another host, expected https")),
            _ => Err(refuse("has another scheme than https")),
        }
    }

    /// The URL.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::token) fn good() -> IssuerSettings {
        IssuerSettings {
            name: "authkit".into(),
            issuers: vec!["https://issuer.test".into()],
            audience: Audience::None,
            required_claims: vec![RequiredClaim { name: "sid".into(), values: vec![] }],
            organizations: Organizations::Any,
            keys: KeySource::File("keys.json".into()),
            algorithms: vec![Algorithm::RS256],
            from: vec!["header:authorization".parse().unwrap()],
            leeway: Duration::from_secs(60),
            max_lifetime: None,
            claims: ClaimNames::default(),
            keep: vec![],
        }
    }

    #[test]
    fn each_contradiction_is_reported() {
        type Break = fn(&mut IssuerSettings);
        let table: [(Break, &str); 11] = [
            (|issuer| issuer.issuers.clear(), "`issuer` is empty"),
            (|issuer| issuer.issuers.push("https://issuer.test".into()), "given twice"),
            (|issuer| issuer.algorithms.clear(), "`algorithms` is empty"),
            (|issuer| issuer.algorithms.push(Algorithm::HS256), "`HS256` is not supported"),
            (|issuer| issuer.required_claims.clear(), "needs `required_claims`"),
            (|issuer| issuer.audience = Audience::AnyOf(vec![]), "`audience` is empty"),
            (|issuer| issuer.required_claims[0].values = vec![serde_json::json!([1])], "not a text"),
            (|issuer| issuer.organizations = Organizations::Prefix(String::new()), "`organizations` is empty"),
            (|issuer| issuer.from.clear(), "`from` is empty"),
            (|issuer| issuer.leeway = Duration::from_millis(60_001), "`leeway` is 60 s"),
            (|issuer| issuer.claims.user.clear(), "`claims` has an empty name"),
        ];
        for (break_it, expected) in table {
            let mut issuer = good();
            break_it(&mut issuer);
            let problems = Settings { issuers: vec![issuer] }.problems();
            assert!(problems.len() == 1 && problems[0].contains(expected), "{expected}: {problems:?}");
        }
        assert_eq!(Settings { issuers: vec![good()] }.problems(), Vec::<String>::new());
    }

    #[test]
    fn two_entries_may_not_share_a_name_or_an_issuer() {
        let problems = Settings { issuers: vec![good(), good()] }.problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for good in
            ["https://api.workos.com/sso/jwks/c", "http://127.0.0.1:1/j", "http://[::1]:1/", "http://localhost/"]
        {
            assert!(JwksUrl::new(good).is_ok(), "{good}");
        }
        for bad in
            ["http://example.com/", "http://127.0.0.1.example.com/", "ftp://localhost/", "/jwks", "https://u:p@host/"]
        {
            assert!(JwksUrl::new(bad).is_err(), "{bad}");
        }
        assert!(!JwksUrl::new("https://u:secret@host/").unwrap_err().to_string().contains("secret"));
    }
}
