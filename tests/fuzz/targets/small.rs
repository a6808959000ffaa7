//! F10 and F12: revisions and names. What is read has one spelling.

use portcullis::domain::id::Kind;
use portcullis::domain::id::kind;
use portcullis::domain::{Epoch, GroupId, Id, MembershipId, Revision};
use portcullis::wire::{Grant, ResourceName, reserved_start};

/// Revisions and epochs are written as they were read.
pub fn f10_revision(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Revision>() {
        Ok(revision) => assert_eq!(revision.to_string(), text),
        Err(error) => {
            assert!(error.to_string().chars().count() < 1024 && !error.to_string().contains(char::is_control))
        }
    }
    if let Ok(epoch) = text.parse::<Epoch>() {
        assert_eq!(epoch.to_string(), text);
        assert_eq!(serde_json::from_value::<Epoch>(serde_json::to_value(epoch).unwrap()).unwrap(), epoch);
    }
}

/// Ids and slugs of every kind, and grants as people write them.
pub fn f12_ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    id::<kind::Organization>(text);
    id::<kind::Membership>(text);
    id::<kind::User>(text);
    id::<kind::Session>(text);
    id::<kind::Group>(text);
    id::<kind::Resource>(text);
    id::<kind::External>(text);
    id::<kind::Role>(text);
    id::<kind::Assignment>(text);
    id::<kind::PermissionSlug>(text);
    id::<kind::RoleSlug>(text);
    id::<kind::ResourceTypeSlug>(text);
    if let Some(start) = reserved_start(text) {
        assert!(text.starts_with(start));
    }
    let member = text.parse::<Grant<MembershipId>>().is_ok();
    let group = text.parse::<Grant<GroupId>>().is_ok();
    assert_eq!(member, group, "both are written alike");
    if let Ok(name) = text.parse::<ResourceName>() {
        assert_eq!(name.to_string().parse::<ResourceName>().unwrap().to_string(), name.to_string());
    }
}

fn id<K: Kind>(text: &str) {
    let quoted = serde_json::to_string(text).unwrap();
    match Id::<K>::new(text) {
        Ok(id) => {
            assert_eq!(id.as_str(), text);
            assert!(!text.is_empty() && text.len() <= K::MAX_BYTES && !text.contains(char::is_control));
            assert!(serde_json::from_str::<Id<K>>(&quoted).is_ok_and(|read| read == id));
        }
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
            assert!(serde_json::from_str::<Id<K>>(&quoted).is_err());
        }
    }
}
