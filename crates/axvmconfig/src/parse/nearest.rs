//! What a misspelt word was meant to be.

use alloc::vec::Vec;

/// Longer words are not worth the time.
const MAX_LEN: usize = 64;

/// The candidate that `word` most likely means; `None` where none is like it.
pub(super) fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    if word.len() > MAX_LEN {
        return None;
    }
    // A third of the letters may be wrong, but never all of a short word.
    let tolerance = (word.len() / 3).max(1);
    candidates
        .iter()
        .map(|&candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= tolerance)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many bytes must be inserted, removed or replaced to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    // Row by row of the table of distances between the beginnings of both.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut left = i + 1;
        next.push(left);
        for (above, to) in row.windows(2).zip(b.bytes()) {
            let &[diagonal, up] = above else { continue };
            let replaced = diagonal + usize::from(from != to);
            left = replaced.min(up + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("cpu_num", "cpu_num"), 0);
    }

    #[test]
    fn nearest_finds_typos_and_nothing_far() {
        let keys = ["id", "name", "cpu_num", "phys_cpu_ids", "phys_cpu_sets"];
        assert_eq!(nearest("cpu_nums", &keys), Some("cpu_num"));
        assert_eq!(nearest("phys_cpu_id", &keys), Some("phys_cpu_ids"));
        assert_eq!(nearest("nmae", &keys), None);
        assert_eq!(nearest("nam", &keys), Some("name"));
        assert_eq!(nearest("color", &keys), None);
        assert_eq!(nearest(&"x".repeat(1000), &keys), None);
        assert_eq!(nearest("anything", &[]), None);
    }
}
