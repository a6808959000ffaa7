//! Session tokens as an identity provider would sign them: RS256, about 1.1 kB, ten permissions.

use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use portcullis::domain::{MembershipId, OrganizationId, PermissionSlug, RoleSlug, SessionId, UnixSeconds, UserId};
use portcullis::token::{Algorithm, Issuer, NewToken};

/// The issuer that the configuration of the measured sidecar trusts.
pub const ISSUER: &str = "https://issuer.example/user_management/client_01HBENCHMARK";
/// The organization that every token is for.
pub const ORGANIZATION: &str = "org_01HBENCHMARKBENCHMARKBENCHM";
/// The organization-wide permissions in every token.
pub const PERMISSIONS: [&str; 10] = [
    "project:view",
    "project:create",
    "workspace:view",
    "workspace:create",
    "report:view",
    "report:export",
    "member:view",
    "member:invite",
    "billing:view",
    "audit:view",
];

/// Signs tokens.
pub struct Mint {
    issuer: Issuer,
    permissions: Vec<PermissionSlug>,
    now: UnixSeconds,
}

impl Mint {
    /// A mint with a new RSA-2048 key.
    pub fn new() -> Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the sidecar under test judges tokens by the clock of the machine"
        )]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        Ok(Self {
            issuer: Issuer::ephemeral(ISSUER, Algorithm::RS256)?,
            permissions: PERMISSIONS.iter().map(|slug| slug.parse()).collect::<Result<_, _>>()?,
            now: UnixSeconds(now.try_into()?),
        })
    }

    /// The key set to verify the tokens by, a JSON document.
    pub fn key_set(&self) -> Result<String> {
        Ok(self.issuer.jwks()?)
    }

    /// So many different tokens, of `members` members in turn, signed on all cores.
    pub fn tokens(&self, count: usize, members: usize) -> Result<Vec<String>> {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let sign = |worker: usize| -> Result<Vec<String>> {
            (worker..count).step_by(workers).map(|serial| self.token(serial % members, serial)).collect()
        };
        let shares: Vec<Vec<String>> = thread::scope(|scope| {
            let signing: Vec<_> = (0..workers).map(|worker| scope.spawn(move || sign(worker))).collect();
            signing.into_iter().map(|worker| worker.join().expect("signing does not panic")).collect::<Result<_>>()
        })?;
        Ok((0..count).map(|serial| shares[serial % workers][serial / workers].clone()).collect())
    }

    /// The token of a member, valid for an hour; tokens with different serial numbers differ.
    fn token(&self, member: usize, serial: usize) -> Result<String> {
        let member_role: RoleSlug = "member".parse()?;
        let token = NewToken {
            session: Some(SessionId::new(&format!("session_{serial:026}"))?),
            organization: Some(OrganizationId::new(ORGANIZATION)?),
            membership: Some(MembershipId::new(&membership(member))?),
            role: Some(member_role.clone()),
            roles: vec![member_role],
            permissions: self.permissions.clone(),
            lifetime: Duration::from_secs(3600),
            ..NewToken::of(UserId::new(&user(member))?, self.now)
        };
        Ok(self.issuer.mint(&token)?)
    }
}

/// The id of the user with this number.
pub fn user(number: usize) -> String {
    format!("user_{number:026}")
}

/// The id of the membership of the user with this number.
pub fn membership(number: usize) -> String {
    format!("om_{number:026}")
}
