//! F7 to F9: facts from the feed, as documents, and from the disk.

use std::fmt::Debug;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use portcullis::app;
use portcullis::domain::{
    Catalog, CatalogRecord, CatalogRows, Clock, Delta, Digest, Epoch, Keep, MembershipId, OrganizationId,
    OrganizationRecord, OrganizationRows, PermissionSlug, ResourceRef, Revision, Shard, UnixSeconds,
};
use portcullis::live::{self, World};
use portcullis::sync::persist::{self, PersistError};
use portcullis::telemetry::Metrics;
use portcullis::wire::feed::{CatalogAnswer, Down, Frame, HeadAnswer, OrganizationAnswer, Up};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A message of the feed: read back as it was written, and in force as a whole or not at all.
pub fn f07_feed(bytes: &[u8]) {
    written_as_read::<Up>(bytes);
    written_as_read::<HeadAnswer>(bytes);
    written_as_read::<CatalogAnswer>(bytes);
    written_as_read::<OrganizationAnswer>(bytes);
    let Some(Down::Frame(Frame { epoch, transactions, .. })) = written_as_read::<Down>(bytes) else { return };
    let world = world();
    world.install_catalog(Revision { epoch: Epoch(1), seq: 1 }, &CatalogRows::default()).unwrap();
    for packed in &transactions {
        let Ok(transaction) = packed.unpack() else { return };
        let before = world.revision();
        let applied = world.apply(epoch, &transaction);
        let expected = if applied.is_ok() { Some(Revision { epoch, seq: packed.seq }) } else { before };
        assert_eq!(world.revision(), expected, "{applied:?}");
    }
}

/// What was read is written and read again as the same.
pub fn written_as_read<T: DeserializeOwned + Serialize + Debug>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_string(&read).unwrap();
    let again: T = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(serde_json::to_string(&again).unwrap(), written);
    Some(read)
}

#[derive(Deserialize)]
struct Documents {
    catalog: CatalogRows,
    facts: OrganizationRows,
    #[serde(default)]
    declared: Vec<portcullis::domain::Change<CatalogRecord>>,
    #[serde(default)]
    changed: Vec<portcullis::domain::Change<OrganizationRecord>>,
}

/// Documents of facts: built at once or by changes, they say the same; and refused, they leave what was there.
pub fn f08_rows(bytes: &[u8]) {
    let Ok(Documents { catalog, facts, declared, changed }) = serde_json::from_slice(bytes) else { return };
    let organization = OrganizationId::new("org_1").unwrap();
    let Ok(catalog) = Catalog::build(&catalog).map(|built| built.value) else { return };
    assert_eq!(Digest::of_catalog(&catalog.rows()), catalog.digest());
    let Ok(shard) = Shard::build(&catalog, &organization, &facts, Keep::default()).map(|built| built.value) else {
        return;
    };
    as_if_built(&catalog, &organization, &shard);
    let before = (shard.digest(&catalog), answers(&catalog, &shard));
    let Ok(next) = catalog.advance(&Delta::Changes(declared)).map(|built| built.value) else { return };
    assert_eq!(Digest::of_catalog(&next.rows()), next.digest());
    if let Ok(advanced) = shard.advance(&next, &Delta::Changes(changed)) {
        as_if_built(&next, &organization, &advanced.value);
    }
    assert_eq!(before, (shard.digest(&catalog), answers(&catalog, &shard)), "what it was made from has changed");
}

/// A shard says what the shard of its rows says.
fn as_if_built(catalog: &Catalog, organization: &OrganizationId, shard: &Shard) {
    let rows = shard.rows(catalog);
    assert_eq!(Digest::of_organization(organization, &rows), shard.digest(catalog));
    let built = Shard::build(catalog, organization, &rows, Keep::default()).unwrap().value;
    assert_eq!(built.digest(catalog), shard.digest(catalog));
    assert_eq!(answers(catalog, &built), answers(catalog, shard));
}

fn answers(catalog: &Catalog, shard: &Shard) -> Vec<bool> {
    let mut answers = Vec::new();
    for member in ["om_1", "om_2", "om_3"] {
        let member = MembershipId::new(member).unwrap();
        answers.push(shard.has_member(&member));
        for permission in ["project:edit", "project:view"] {
            let permission = PermissionSlug::new(permission).unwrap();
            for resource in ["root", "r1", "r2"] {
                answers.push(shard.check(catalog, &member, &permission, &ResourceRef::Id(resource.into())));
            }
        }
    }
    answers
}

const SECRET: &str = "sync_secret";
const STORE: &str = "https://store.test";

/// A file of facts: taken as a whole when it is sealed, and not at all otherwise. Inputs that begin with `S` are sealed first.
pub fn f09_disk(bytes: &[u8]) {
    let content = match bytes.split_first() {
        Some((b'S', lines)) => [lines, &seal(lines)].concat(),
        _ => bytes.to_vec(),
    };
    let world = world();
    match restore(&content, &world) {
        Ok(restored) => {
            let (lines, found) = content.split_at(content.len() - 32);
            assert_eq!(seal(lines), found, "facts without a seal are in force");
            // One that is there twice counts twice.
            assert!(restored.is_some_and(|count| count >= world.organizations().len()));
            assert!(world.revision().is_some() && world.freshness(Standing.uptime()).age.is_some());
        }
        Err(error @ (PersistError::Exposed | PersistError::Taken | PersistError::Io(_))) => {
            panic!("not tried: {error}")
        }
        Err(error) => assert!(!world.has_facts() && world.organizations().is_empty(), "in force by halves: {error}"),
    }
}

/// What comes of a file with this content: how many organizations it has.
pub fn restore(content: &[u8], world: &World) -> Result<Option<usize>, PersistError> {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().unwrap();
    }
    FOLDER.with(|folder| {
        let file = folder.path().join("facts");
        std::fs::write(&file, content).unwrap();
        // As a sidecar writes it; any other is not even read.
        std::fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        let (folder, key, store) = (folder.path().to_owned(), SECRET.to_owned(), STORE.to_owned());
        persist::restore(&persist::Settings { folder, key, store }, world, &Standing)
    })
}

/// The seal as the documentation of the format has it.
pub fn seal(lines: &[u8]) -> Vec<u8> {
    let purpose = format!("portcullis facts on disk\n{STORE}");
    let key = sign(&Key::new(HMAC_SHA256, SECRET.as_bytes()), purpose.as_bytes());
    sign(&Key::new(HMAC_SHA256, key.as_ref()), lines).as_ref().to_vec()
}

/// A clock that stands still.
struct Standing;

impl Clock for Standing {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(1_800_000_000)
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(100_000)
    }
}

pub fn world() -> World {
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    let metrics = METRICS.get_or_init(|| Arc::new(app::metrics().unwrap()));
    World::new(live::Settings::default(), Arc::new(Standing), Arc::clone(metrics), Box::new(|_| {})).0
}
