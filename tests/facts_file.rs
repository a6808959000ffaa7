//! A facts file is taken as a whole or not at all, however it is replaced, and every problem in it is reported with its place.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stand outside of test functions")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use portcullis::domain::Revision;
use portcullis::source::{Complete, FileSource, Organizations, Source, SourceError, Update};
use tempfile::TempDir;

const ONE: &str = "version: 1\nmodel: {roles: [{slug: member}]}\norganizations: [{id: org_1}]\n";
const TWO: &str = "version: 1\nmodel: {roles: [{slug: member}]}\norganizations: [{id: org_1}, {id: org_2}]\n";
const BAD: &str =
    "version: 1\nmodel: {roles: [{slug: member}]}\norganizations: [{id: org_1, memberships: [{id: om_1}]}]\n";

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

/// Puts `text` in place of the file as a careful program does: written beside it, then renamed.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    write(&beside, text);
    fs::rename(beside, path).unwrap();
}

/// Pulls, and expects new facts: their revision and organizations.
#[track_caller]
fn changed(update: Result<Update, SourceError>) -> (Revision, Vec<String>) {
    match update {
        Ok(Update::Complete(Complete { revision, organizations: Organizations::All(all), .. })) => {
            (revision, all.iter().map(|(id, _)| id.to_string()).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn problems(update: Result<Update, SourceError>) -> Vec<String> {
    match update {
        Err(SourceError::Refused { problems, .. }) => problems.0.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_one_new_revision_and_no_change_is_none() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("facts.yaml");
    write(&path, ONE);
    let source = FileSource::new(&path);
    let (first, organizations) = changed(source.pull(None).await);
    assert_eq!((first.seq, organizations.len()), (1, 1));
    assert_eq!(source.pull(Some(&first)).await.unwrap(), Update::Unchanged);
    replace(&path, ONE);
    assert_eq!(source.pull(Some(&first)).await.unwrap(), Update::Unchanged, "another file, the same content");
    replace(&path, TWO);
    let (second, organizations) = changed(source.pull(Some(&first)).await);
    assert_eq!(organizations, ["org_1", "org_2"]);
    assert_eq!((second.epoch, second.seq), (first.epoch, 2));
    write(&path, ONE);
    let (third, _) = changed(source.pull(Some(&second)).await);
    assert_eq!(third.seq, 3, "back to the first content is a step forward");
    assert_eq!(changed(source.pull(None).await).0, third, "who knows nothing is told everything");
}

#[tokio::test(start_paused = true)]
async fn the_same_content_has_the_same_revision_in_every_process() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("facts.yaml");
    write(&path, ONE);
    let revision = changed(FileSource::new(&path).pull(None).await).0;
    assert_eq!(changed(FileSource::new(&path).pull(None).await).0, revision);
    write(&path, TWO);
    assert_ne!(changed(FileSource::new(&path).pull(None).await).0.epoch, revision.epoch);
}

#[tokio::test(start_paused = true)]
async fn a_bad_file_is_refused_again_and_again_until_it_is_good() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("facts.yaml");
    write(&path, ONE);
    let source = FileSource::new(&path);
    let (first, _) = changed(source.pull(None).await);
    write(&path, BAD);
    let expected = format!("{}:3:43: missing key `user`", path.display());
    for _ in 0..3 {
        assert_eq!(problems(source.pull(Some(&first)).await), [expected.as_str()], "it must not count as unchanged");
    }
    write(&path, ONE);
    assert_eq!(source.pull(Some(&first)).await.unwrap(), Update::Unchanged, "the content in force is back");
    fs::remove_file(&path).unwrap();
    let error = source.pull(Some(&first)).await.unwrap_err();
    assert!(matches!(error, SourceError::Unavailable { .. }), "{error}");
    write(&path, TWO);
    assert_eq!(changed(source.pull(Some(&first)).await).0.seq, 2);
}

#[tokio::test(start_paused = true)]
async fn all_problems_are_reported_at_once_with_their_places() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("facts.yaml");
    write(&directory.path().join("model.yaml"), "roles: [{slug: member}, {slug: Boss}]\n");
    write(&path, "version: 1\nmodel: model.yaml\norganizations:\n- {id: org_1, colour: red}\n- {id: ''}\n");
    let found = problems(FileSource::new(&path).pull(None).await);
    let at = directory.path().display();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].starts_with(&format!("{at}/facts.yaml:4:15: unknown key `colour`")), "{found:#?}");
    assert!(found[1].starts_with(&format!("{at}/facts.yaml:5:8: organization is empty")), "{found:#?}");
    assert!(found[2].starts_with(&format!("{at}/model.yaml:1:32: role `Boss` contains 'B'")), "{found:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_model_file_is_watched_too() {
    let directory = TempDir::new().unwrap();
    let (path, model) = (directory.path().join("facts.yaml"), directory.path().join("model.yaml"));
    write(&path, "version: 1\nmodel: model.yaml\norganizations: [{id: org_1}]\n");
    let source = FileSource::new(&path);
    assert!(source.pull(None).await.is_err(), "the model file is missing");
    write(&model, "roles: [{slug: member}]");
    let (first, _) = changed(source.pull(None).await);
    assert_eq!(source.pull(Some(&first)).await.unwrap(), Update::Unchanged);
    write(&model, "roles: [{slug: member}, {slug: admin}]");
    assert_eq!(changed(source.pull(Some(&first)).await).0.seq, 2);
}

#[tokio::test(start_paused = true)]
async fn swapped_symbolic_links_are_followed() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (version, text) in [("v1", ONE), ("v2", TWO)] {
        fs::create_dir(at(version)).unwrap();
        write(&at(version).join("facts.yaml"), text);
    }
    symlink("v1", at("..data")).unwrap();
    symlink("..data/facts.yaml", at("facts.yaml")).unwrap();
    let source = FileSource::new(at("facts.yaml"));
    let (first, organizations) = changed(source.pull(None).await);
    assert_eq!(organizations.len(), 1);
    symlink("v2", at("..new")).unwrap();
    fs::rename(at("..new"), at("..data")).unwrap();
    assert_eq!(changed(source.pull(Some(&first)).await).1.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn json_is_read_like_yaml() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("facts.json");
    write(&path, r#"{"version": 1, "model": {}, "organizations": [{"id": "org_1"}, {"id": "org_2"}]}"#);
    assert_eq!(changed(FileSource::new(&path).pull(None).await).1, ["org_1", "org_2"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_text_or_no_file_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("facts.yaml");
    let pull = async || FileSource::new(&path).pull(None).await;
    fs::write(&path, b"version: \xff").unwrap();
    assert_eq!(problems(pull().await), [format!("{}:1:1: not UTF-8 text", path.display())]);
    fs::write(&path, "").unwrap();
    assert!(matches!(pull().await, Err(SourceError::Refused { .. })));
    let file = fs::File::create(&path).unwrap();
    file.set_len(64 * 1024 * 1024 + 1).unwrap();
    assert!(matches!(pull().await, Err(SourceError::TooLarge { .. })));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(pull().await, Err(SourceError::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn one_organization_can_be_fetched_by_itself() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("facts.yaml");
    write(&path, TWO);
    let source = FileSource::new(&path);
    assert!(source.fetch(&"org_2".parse().unwrap()).await.unwrap().is_some());
    assert!(source.fetch(&"org_3".parse().unwrap()).await.unwrap().is_none());
}
