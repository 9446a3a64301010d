//! The ways of cutting an input that every parser must not notice.

/// The input cut in two at every place, the uncut input first.
pub fn at_every_byte(input: &[u8]) -> impl Iterator<Item = [&[u8]; 2]> {
    (0..input.len()).map(move |at| {
        let (first, second) = input.split_at(at);
        [first, second]
    })
}

/// The input in pieces of one byte each.
pub fn byte_by_byte(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.chunks(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_holds_the_whole_input() {
        let cuts: Vec<_> = at_every_byte(b"abc").collect();
        assert_eq!(cuts.len(), 3);
        assert!(cuts.iter().all(|cut| cut.concat() == b"abc"));
        assert_eq!(cuts[0], [&b""[..], b"abc"]);
    }
}
