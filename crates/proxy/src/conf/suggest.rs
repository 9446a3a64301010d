//! What a misspelt word may have been meant as.

/// "did you mean", when one of `words` is close to `word`.
pub(super) fn suggestion(word: &str, words: &[&str]) -> Option<String> {
    closest(word, words).map(|best| format!("did you mean `{best}`?"))
}

/// The one of `words` that is close enough to `word`.
fn closest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    /// Most letters that may be wrong, missing or too many.
    const DISTANCE_MAX: usize = 3;
    /// Longest word looked at, in characters: the comparison takes time with its square.
    const CHARS_MAX: usize = 40;
    if word.chars().count() > CHARS_MAX {
        return None;
    }
    let (distance, best) = words.iter().map(|other| (distance(word, other), *other)).min()?;
    (distance <= DISTANCE_MAX.min(best.len() / 2)).then_some(best)
}

/// How many letters must be changed, put in or taken out to get from one word to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, from) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(&to) {
            let up = *cell;
            let same = usize::from(!from.eq_ignore_ascii_case(to));
            left = (diagonal + same).min(up + 1).min(left + 1);
            diagonal = up;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_changed_missing_and_extra_letters() {
        for (from, to, expect) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "abc", 3),
            ("proxy_pas", "proxy_pass", 1),
            ("loaction", "location", 2),
            ("HOST", "host", 0),
        ] {
            assert_eq!(distance(from, to), expect, "{from} {to}");
        }
    }

    #[test]
    fn only_a_close_word_is_suggested() {
        const WORDS: &[&str] = &["host", "upstream", "proxy_pass"];
        assert_eq!(suggestion("proxypass", WORDS).as_deref(), Some("did you mean `proxy_pass`?"));
        assert_eq!(suggestion("hots", WORDS).as_deref(), Some("did you mean `host`?"));
        assert_eq!(suggestion("server", WORDS), None);
        assert_eq!(suggestion(&"x".repeat(100_000), WORDS), None);
    }
}
