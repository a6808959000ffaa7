//! What was written once is read for ever, and as nothing else: the committed examples of each format.

use std::fs;
use std::path::Path;

use portcullis::wire::feed::{CatalogAnswer, Down, HeadAnswer, OrganizationAnswer, Up};

use crate::targets::facts::{restore, seal, world, written_as_read};

fn example(target: &str, name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target).join(name)).unwrap()
}

/// The example of a file, without the letter that asks for a seal, and with one.
fn sealed(name: &str) -> Vec<u8> {
    let lines = example("f09_disk", name).split_off(1);
    [&*lines, &seal(&lines)].concat()
}

#[test]
fn messages_of_the_feed_are_read() {
    let feed = |name| example("f07_feed", name);
    for name in ["frame", "gap", "reset", "resumed", "resync", "subscribed", "echo", "digest", "two"] {
        assert!(written_as_read::<Down>(&feed(name)).is_some(), "{name}");
    }
    for name in ["resume", "subscribe", "nonce"] {
        assert!(written_as_read::<Up>(&feed(name)).is_some(), "{name}");
    }
    assert!(written_as_read::<HeadAnswer>(&feed("head")).is_some());
    assert!(written_as_read::<CatalogAnswer>(&feed("catalog")).is_some());
    for name in ["organization", "organization_facts"] {
        assert!(written_as_read::<OrganizationAnswer>(&feed(name)).is_some(), "{name}");
    }
}

#[test]
fn facts_on_disk_are_read() {
    let world = world();
    assert_eq!(restore(&sealed("lines"), &world).unwrap(), Some(2));
    assert_eq!(world.revision().unwrap().to_string(), "r1.0000000000000001.7");
}

/// Every beginning of a file, and the file with any one bit another one: nothing of it is in force.
#[test]
fn a_file_that_is_not_whole_is_no_file() {
    let whole = sealed("no_organizations");
    let world = world();
    let is_refused = |content: &[u8], what: &dyn Fn() -> String| {
        assert!(restore(content, &world).is_err(), "{}", what());
        assert!(world.revision().is_none(), "{}", what());
    };
    for length in 0..whole.len() {
        is_refused(&whole[..length], &|| format!("the first {length} bytes"));
    }
    let mut changed = whole.clone();
    for bit in 0..whole.len() * 8 {
        changed[bit / 8] ^= 1 << (bit % 8);
        is_refused(&changed, &|| format!("bit {bit}"));
        changed[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(restore(&whole, &world).is_ok());
}
