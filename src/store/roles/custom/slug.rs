//! Slugs of custom roles: what may be supplied, and what is made up (WorkOS contract R22).

use crate::domain::{IdError, RoleSlug};

/// What every supplied slug begins with.
const PREFIX: &str = "org-";
/// Characters of a generated slug that are left to chance.
const CHANCE: usize = 6;
/// Bytes of a slug.
const LONGEST: usize = 48;

/// Whether the slug may be supplied for a custom role: `org-`, then letters, digits and separators, no two of which stand together and
/// none at the end.
pub(super) fn is_sound(slug: &RoleSlug) -> bool {
    let Some(rest) = slug.as_str().strip_prefix(PREFIX) else { return false };
    rest.split(['-', '_']).all(|word| !word.is_empty())
}

/// The name in lower case with `-` between its words, and six random letters and digits.
///
/// # Errors
/// Never in practice.
pub(super) fn generate(name: &str) -> Result<RoleSlug, IdError> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let lower = name.to_lowercase();
    let words = lower.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut slug: String = words.collect::<Vec<_>>().join("-").chars().take(LONGEST - CHANCE - 1).collect();
    if slug.is_empty() {
        "role".clone_into(&mut slug);
    }
    if !slug.ends_with('-') {
        slug.push('-');
    }
    let random: u32 = rand::random();
    for place in 0..CHANCE {
        let letter = LETTERS.get((random >> (5 * place)) as usize % LETTERS.len()).copied().unwrap_or(b'a');
        slug.push(char::from(letter));
    }
    RoleSlug::new(&slug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supplied_slug_begins_with_org_and_keeps_its_separators_apart() {
        for (slug, sound) in [
            ("org-auditor", true),
            ("org-a_b-2", true),
            ("auditor", false),
            ("org-", false),
            ("org--a", false),
            ("org-a_-b", false),
            ("org-a-", false),
            ("org_a", false),
        ] {
            assert_eq!(is_sound(&slug.parse().unwrap()), sound, "{slug}");
        }
    }

    #[test]
    fn a_generated_slug_is_the_name_and_six_characters() {
        for (name, start) in [
            ("Billing  Admin!", "billing-admin-"),
            ("日本", "role-"),
            ("a", "a-"),
            ("Very long name of a role that nobody can remember", "very-long-name-of-a-role-that-nobody-can-"),
        ] {
            let slug = generate(name).unwrap();
            assert!(slug.as_str().starts_with(start) && slug.as_str().len() == start.len() + 6, "{slug}");
        }
    }
}
