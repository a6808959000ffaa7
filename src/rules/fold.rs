//! Text as a reader sees it that ignores case.

/// `text` without case: two texts that any usual reader takes for equal but for case fold to the same. The detour through upper case
/// catches letters such as `ſ`, which lower-casing alone leaves alone, as the JSON reader of Go does.
pub(super) fn fold_case(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::fold_case;

    #[test]
    fn letters_that_readers_confuse_fold_to_one() {
        for (one, other) in [("Admin", "aDMIN"), ("\u{17f}et", "Set"), ("\u{212a}ey", "key"), ("É", "é"), ("ς", "σ")]
        {
            assert_eq!(fold_case(one), fold_case(other));
        }
        assert_ne!(fold_case("a-b"), fold_case("a_b"));
    }
}
