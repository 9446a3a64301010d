//! Which bytes may stand where (RFC 9110 §5.5, §5.6).

/// `tchar`: what tokens (methods, field names, codings) are made of.
const TCHAR: [bool; 256] = table(b"!#$%&'*+-.^_`|~");

/// What a host name is made of besides percent-encoded bytes (RFC 3986 §3.2.2), without the comma.
const REG_CHAR: [bool; 256] = table(b"-._~!$&'()*+;=");

/// Whether the byte may be part of a token.
pub(crate) const fn is_tchar(byte: u8) -> bool {
    TCHAR[byte as usize]
}

/// Whether the byte may be part of a host name.
pub(crate) const fn is_reg_char(byte: u8) -> bool {
    REG_CHAR[byte as usize]
}

/// Whether the bytes are a token: at least one, all of them `tchar`.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_tchar(byte))
}

/// Whether the bytes may be a field value: no control byte but HTAB; 0x80 and above are opaque.
#[inline]
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    is_text(bytes) || has_no_control(bytes)
}

/// Whether the bytes are at least eight, and none of them is a control byte: the usual value, seen in a few steps. It
/// may take a byte for one after a byte of 0xff.
#[inline]
fn is_text(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else { return false };
    if let (Some(first), ..=16) = (bytes.first_chunk(), bytes.len()) {
        return control_bytes(u64::from_le_bytes(*first)) | control_bytes(u64::from_le_bytes(*last)) == 0;
    }
    let (words, _) = bytes.as_chunks();
    // The last word overlaps the one before it instead of leaving a rest.
    words.iter().chain([last]).fold(0, |found, word| found | control_bytes(u64::from_le_bytes(*word))) == 0
}

/// A bit for the first control byte of a word, HTAB included; there may be more bits behind the first.
#[inline]
pub(crate) const fn control_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    // The highest bit of each byte: set by the first where the byte is below 0x20, by the second where it is 0x7f.
    let below = word.wrapping_sub(ONES * 0x20);
    let delete = word.wrapping_add(ONES);
    (below | delete) & !word & (ONES * 0x80)
}

/// Without an early exit on purpose: the loop then compiles to vector instructions.
fn has_no_control(bytes: &[u8]) -> bool {
    let refused = bytes.iter().fold(0, |refused, &byte| {
        let control = u8::from(byte < b' ') & u8::from(byte != b'\t');
        refused | control | u8::from(byte == 0x7f)
    });
    refused == 0
}

/// Whether the bytes are visible ASCII, and none of them `except`. Vectorised like the above.
pub(crate) fn is_visible_except(bytes: &[u8], except: u8) -> bool {
    let refused = bytes
        .iter()
        .fold(0, |refused, &byte| refused | u8::from(byte <= b' ') | u8::from(byte >= 0x7f) | u8::from(byte == except));
    refused == 0
}

/// Without leading and trailing SP and HTAB, and no other whitespace.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Letters, digits and these.
const fn table(extra: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < extra.len() {
        table[extra[index] as usize] = true;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at every place of values of every length that is judged in another way.
    #[test]
    fn a_value_is_judged_by_each_of_its_bytes() {
        for length in 1..40 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut value = vec![b'x'; length];
                    value[at] = byte;
                    let is_good = byte == b'\t' || !byte.is_ascii_control();
                    assert_eq!(is_field_value(&value), is_good, "{byte:#x} at {at} of {length}");
                }
            }
        }
        assert!(is_field_value(b""));
    }
}
