//! Tokens: minted for memberships from their current roles, with the keys to verify them by (WorkOS contract, section 5).

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sqlx::{AnyConnection, Row};

use super::api::Operation;
use super::error::StoreError;
use super::extract::{Body, Path};
use super::keys::{Author, Scope};
use super::sessions::{NewSession, Session};
use super::template::{Template, TemplateError};
use super::time::Millis;
use super::transaction::{Reply, Transaction, Write};
use super::writer::Committed;
use super::{Store, memberships};
use crate::domain::{MembershipId, SessionId, UnixSeconds};
use crate::token::{Issuer, NewToken};

/// Larger tokens do not fit into what browsers keep in a cookie, together with its name and attributes.
const LARGE_TOKEN_BYTES: usize = 3 * 1024;

pub(super) fn operations() -> Vec<Operation> {
    const TEMPLATE: &str = "/user_management/jwt_template";
    vec![
        Operation::get("/sso/jwks/{client_id}", "getJwks", key_set).needs(Scope::Open).gives::<KeySet>(200),
        Operation::post("/portcullis/v1/tokens", "mintToken", mint)
            .needs(Scope::Mint)
            .takes::<NewTokenRequest>()
            .gives::<MintedToken>(200),
        Operation::get(TEMPLATE, "getJwtTemplate", template).gives::<JwtTemplate>(200),
        Operation::put(TEMPLATE, "updateJwtTemplate", set_template).takes::<NewTemplate>().gives::<JwtTemplate>(200),
    ]
}

/// Who signs the tokens of a store.
pub struct Signing {
    client_id: String,
    lifetime: Duration,
    current: Issuer,
    keys: KeySet,
}

/// A key set (RFC 7517 §5).
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct KeySet {
    /// The keys: the one that signs now, then one that signs next or signed before.
    keys: Vec<Map<String, Value>>,
}

/// Whom a token is for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct NewTokenRequest {
    organization_membership_id: MembershipId,
}

/// A new token.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MintedToken {
    /// The token.
    access_token: String,
    /// Its session, to be revoked by.
    session_id: String,
    /// Until when it is valid.
    expires_at: Millis,
    /// What is odd about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// The template that tokens are made with.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "object", rename = "jwt_template")]
pub struct JwtTemplate {
    /// The text of a JSON object with `{{ path || fallback }}` in it.
    content: String,
    /// When it was first set.
    created_at: Millis,
    /// When it was last changed.
    updated_at: Millis,
}

/// A template to be.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct NewTemplate {
    content: String,
}

impl Signing {
    /// Tokens of `client_id` that are valid for `lifetime`, signed by `current`. The keys of `next` are published beside the current
    /// ones: they are known everywhere before they are used, or while tokens are valid that they signed before.
    ///
    /// # Errors
    /// Never in practice: keys always serialize.
    pub fn new(
        client_id: String,
        lifetime: Duration,
        current: Issuer,
        next: Option<&Issuer>,
    ) -> Result<Self, serde_json::Error> {
        let keys = current.public_keys().iter().chain(next.into_iter().flat_map(Issuer::public_keys));
        let keys = keys.map(|key| serde_json::from_value(serde_json::to_value(key)?)).collect::<Result<_, _>>()?;
        Ok(Self { client_id, lifetime, current, keys: KeySet { keys } })
    }

    /// The keys that are published.
    pub fn key_set(&self) -> &KeySet {
        &self.keys
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signing")
            .field("client_id", &self.client_id)
            .field("lifetime", &self.lifetime)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

/// The issuer of this store.
///
/// # Errors
/// [`StoreError::NotFound`] when it has none.
fn signing(store: &Store) -> Result<&Signing, StoreError> {
    store.0.settings.issuer.as_deref().ok_or_else(|| StoreError::not_found("issuer", "of this store"))
}

async fn key_set(State(store): State<Store>, Path(client): Path<String>) -> Result<impl IntoResponse, StoreError> {
    let signing = signing(&store)?;
    if signing.client_id != client {
        return Err(StoreError::not_found("client", client));
    }
    Ok(([(CACHE_CONTROL, "public, max-age=60")], axum::Json(signing.keys.clone())))
}

/// The session is written first: what the token says is then at least as new as the session it names.
async fn mint(
    State(store): State<Store>,
    author: Author,
    Body(request): Body<NewTokenRequest>,
) -> Result<impl IntoResponse, StoreError> {
    let signing = signing(&store)?;
    let membership = request.organization_membership_id;
    let session = NewSession { membership: membership.clone(), lifetime: signing.lifetime };
    let committed = store.write(author, session).await?;
    let session: Session = serde_json::from_value(committed.reply.body.unwrap_or_default())?;
    let token = token(&store, signing, &membership, &session).await?;
    let access_token = signing.current.mint(&token).map_err(|error| StoreError::Internal(Box::new(error)))?;
    let bytes = access_token.len();
    let warning = (bytes > LARGE_TOKEN_BYTES).then(|| {
        tracing::warn!(membership = membership.as_str(), bytes, "a token is larger than browsers keep in a cookie");
        format!("the token has {bytes} bytes; browsers keep about 4 KB in a cookie")
    });
    let minted = MintedToken { access_token, session_id: session.id, expires_at: session.expires_at, warning };
    let answer = Committed { reply: Reply::ok(&minted)?, revision: committed.revision };
    Ok(([(CACHE_CONTROL, "no-store")], answer))
}

/// What a token for `membership` says as of now.
async fn token(
    store: &Store,
    signing: &Signing,
    membership: &MembershipId,
    session: &Session,
) -> Result<NewToken, StoreError> {
    let mut connection = store.read().await?;
    let row = memberships::find(&mut connection, membership).await?;
    let further = match current_template(&mut connection).await? {
        None => Map::new(),
        Some(template) => {
            let known = known(&mut connection, membership).await?;
            let rendered = Template::parse(&template.content).and_then(|template| template.render(&known));
            rendered.map_err(|error| refused("jwt_template", &error))?
        }
    };
    drop(connection);
    let view = store.view(&row.organization).await?;
    let claims = view.shard.claims(&view.catalog, membership);
    let claims = claims.ok_or_else(|| StoreError::not_found("organization membership", membership))?;
    let issued_at = UnixSeconds(session.created_at.seconds());
    let mut token = NewToken::of(claims.member.user, issued_at);
    token.session = Some(SessionId::new(&session.id)?);
    token.organization = Some(claims.organization);
    token.membership = Some(claims.member.id);
    token.role = claims.role;
    token.roles = claims.roles;
    token.permissions = claims.permissions;
    token.lifetime = signing.lifetime;
    token.further.insert("client_id".to_owned(), signing.client_id.clone().into());
    token.further.insert("auth_time".to_owned(), issued_at.0.into());
    token.further.extend(further);
    Ok(token)
}

/// What a template may speak of.
async fn known(connection: &mut AnyConnection, membership: &MembershipId) -> Result<Value, StoreError> {
    let statement = "SELECT m.id, m.organization_id, m.user_id, m.status, m.directory_managed, m.custom_attributes, \
                     u.email, u.first_name, u.last_name, u.name AS user_name, u.profile_picture_url, u.email_verified, \
                     u.external_id AS user_external_id, u.metadata AS user_metadata, u.locale, \
                     o.name, o.external_id, o.metadata, o.domains \
                     FROM memberships m JOIN users u ON u.id = m.user_id JOIN organizations o ON o.id = m.organization_id \
                     WHERE m.id = $1";
    let row = sqlx::query(statement).bind(membership.clone()).fetch_one(connection).await?;
    let text = |name: &str| row.try_get::<Option<String>, _>(name);
    let json =
        |name: &str| -> Result<Value, StoreError> { Ok(serde_json::from_str(&row.try_get::<String, _>(name)?)?) };
    let flag = |name: &str| row.try_get::<i64, _>(name).map(|flag| flag != 0);
    Ok(json!({
        "user": {
            "id": text("user_id")?,
            "email": text("email")?,
            "first_name": text("first_name")?,
            "last_name": text("last_name")?,
            "name": text("user_name")?,
            "profile_picture_url": text("profile_picture_url")?,
            "email_verified": flag("email_verified")?,
            "external_id": text("user_external_id")?,
            "metadata": json("user_metadata")?,
            "locale": text("locale")?,
        },
        "organization": {
            "id": text("organization_id")?,
            "name": text("name")?,
            "external_id": text("external_id")?,
            "metadata": json("metadata")?,
            "domains": json("domains")?,
        },
        "organization_membership": {
            "id": text("id")?,
            "status": text("status")?,
            "directory_managed": flag("directory_managed")?,
            "custom_attributes": json("custom_attributes")?,
        },
    }))
}

async fn template(State(store): State<Store>) -> Result<axum::Json<JwtTemplate>, StoreError> {
    let mut connection = store.read().await?;
    let template = current_template(&mut connection).await?;
    template.map(axum::Json).ok_or_else(|| StoreError::not_found("JWT template", "of this environment"))
}

async fn set_template(
    State(store): State<Store>,
    author: Author,
    Body(new): Body<NewTemplate>,
) -> Result<Committed, StoreError> {
    store.write(author, new).await
}

#[async_trait]
impl Write for NewTemplate {
    async fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply, StoreError> {
        Template::parse(&self.content).map_err(|error| refused("content", &error))?;
        let before = current_template(tx.connection).await?;
        if let Some(before) = before.as_ref().filter(|before| before.content == self.content) {
            return Reply::ok(before);
        }
        let now = tx.now();
        let created_at = before.map_or(now, |before| before.created_at);
        let statement = sqlx::query(
            "UPDATE settings SET jwt_template = $1, jwt_template_created_at = $2, jwt_template_updated_at = $3 WHERE one = 1",
        );
        tx.execute(statement.bind(self.content.clone()).bind(created_at.0).bind(now.0)).await?;
        Reply::ok(&JwtTemplate { content: self.content.clone(), created_at, updated_at: now })
    }
}

async fn current_template(connection: &mut AnyConnection) -> Result<Option<JwtTemplate>, StoreError> {
    let statement = "SELECT jwt_template, jwt_template_created_at, jwt_template_updated_at FROM settings \
                     WHERE one = 1 AND jwt_template IS NOT NULL";
    let Some(row) = sqlx::query(statement).fetch_optional(connection).await? else { return Ok(None) };
    let time = |name: &str| row.try_get::<Option<i64>, _>(name).map(|time| Millis(time.unwrap_or(0)));
    Ok(Some(JwtTemplate {
        content: row.try_get("jwt_template")?,
        created_at: time("jwt_template_created_at")?,
        updated_at: time("jwt_template_updated_at")?,
    }))
}

fn refused(field: &str, error: &TemplateError) -> StoreError {
    StoreError::invalid(field, "invalid_request_parameters", format!("`{field}`: {error}"))
}
