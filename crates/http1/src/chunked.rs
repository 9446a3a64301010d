//! Chunk-size lines and what they may cost (RFC 9112 §7.1).

use crate::ErrorKind;
use crate::ascii::is_tchar;

/// Most hexadecimal digits of a chunk size: 64 bits, leading zeros included.
const SIZE_DIGITS_MAX: usize = 16;

/// How many bytes of framing a body may carry beyond what its data excuses. Tiny chunks with long
/// extensions would otherwise let a sender make us read a hundred bytes per byte of body.
const OVERHEAD_BYTES_MAX: u64 = 16 * 1024;

/// Framing bytes excused per chunk: the size, two line ends and a short extension.
const OVERHEAD_EXCUSED_PER_CHUNK: u64 = 16;

/// Framing spent so far, less what the data excused.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Overhead(u64);

impl Overhead {
    /// Accounts for one chunk.
    pub(crate) fn add(&mut self, line_len: usize, size: u64) -> Result<(), ErrorKind> {
        let excused = size.saturating_mul(2).saturating_add(OVERHEAD_EXCUSED_PER_CHUNK);
        self.0 = (self.0 + line_len as u64).saturating_sub(excused);
        if self.0 > OVERHEAD_BYTES_MAX {
            return Err(ErrorKind::ChunkOverhead);
        }
        Ok(())
    }
}

/// Reads a chunk-size line without its CRLF. Extensions are checked and forgotten.
pub(crate) fn size_line(line: &[u8]) -> Result<u64, ErrorKind> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits == 0 || digits > SIZE_DIGITS_MAX {
        return Err(ErrorKind::ChunkSize);
    }
    let size = line[..digits].iter().fold(0, |size, &digit| size << 4 | u64::from(hex_value(digit)));
    let rest = &line[digits..];
    match skip_blanks(rest) {
        _ if rest.is_empty() => Ok(size),
        [b';', ..] => extensions(rest).map(|()| size),
        _ => Err(ErrorKind::ChunkSize),
    }
}

/// `*( BWS ";" BWS name [ BWS "=" BWS value ] )` with nothing left over (RFC 9112 §7.1.1).
fn extensions(mut rest: &[u8]) -> Result<(), ErrorKind> {
    while !rest.is_empty() {
        let [b';', after @ ..] = skip_blanks(rest) else {
            return Err(ErrorKind::ChunkExtension);
        };
        rest = token(skip_blanks(after))?;
        if let [b'=', value @ ..] = skip_blanks(rest) {
            rest = match skip_blanks(value) {
                [b'"', quoted @ ..] => quoted_string(quoted)?,
                value => token(value)?,
            };
        }
    }
    Ok(())
}

/// What follows a token.
fn token(bytes: &[u8]) -> Result<&[u8], ErrorKind> {
    match bytes.iter().take_while(|&&byte| is_tchar(byte)).count() {
        0 => Err(ErrorKind::ChunkExtension),
        len => Ok(&bytes[len..]),
    }
}

/// What follows the closing quote.
fn quoted_string(mut rest: &[u8]) -> Result<&[u8], ErrorKind> {
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Ok(after),
            [b'\\', escaped, after @ ..] if is_text(*escaped) => after,
            [b'\\', ..] => return Err(ErrorKind::ChunkExtension),
            [byte, after @ ..] if is_text(*byte) => after,
            _ => return Err(ErrorKind::ChunkExtension),
        };
    }
}

/// HTAB, SP, visible ASCII and opaque bytes.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn skip_blanks(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_hexadecimal_and_fit_64_bits() {
        let good = [("0", 0), ("000", 0), ("5", 5), ("0005", 5), ("aB", 0xab), ("ffffffffffffffff", u64::MAX)];
        for (line, size) in good {
            assert_eq!(size_line(line.as_bytes()), Ok(size), "{line}");
        }
        for bad in [
            "",
            "0x5",
            "+5",
            "-5",
            "5_0",
            " 5",
            "5 ",
            "5\t",
            "g",
            "5 5",
            "\r5",
            "10000000000000000",
            "00000000000000005",
        ] {
            assert_eq!(size_line(bad.as_bytes()), Err(ErrorKind::ChunkSize), "{bad:?}");
        }
    }

    #[test]
    fn extensions_follow_the_grammar() {
        for good in [
            "5;a",
            "5;a=b",
            "5 ; a = b",
            "5;a;b=c;d",
            "5;a=\"b c\"",
            "5;a=\"\\\"\\\\\"",
            "5;a=\"\"",
            "5; some; parameters=stuff",
            "5;a=\"\u{e9};\"",
        ] {
            assert_eq!(size_line(good.as_bytes()), Ok(5), "{good:?}");
        }
        for bad in [
            "5;",
            "5;;",
            "5;a;",
            "5;a=",
            "5;=b",
            "5;a b",
            "5;a=b c",
            "5;a=\"b",
            "5;a=\"b\\",
            "5;a=\"b\"c",
            "5;a\0",
            "5;a\rb",
            "5;a=\"\n\"",
            "5;a=\"\r\"",
            "5;a ",
            "5;\u{e9}",
        ] {
            assert_eq!(size_line(bad.as_bytes()), Err(ErrorKind::ChunkExtension), "{bad:?}");
        }
    }

    #[test]
    fn overhead_is_bounded_but_data_excuses_it() {
        let mut tiny = Overhead::default();
        let chunks = (0..100_000).take_while(|_| tiny.add(1000, 1).is_ok()).count();
        assert_eq!(chunks, 16);
        let mut plain = Overhead::default();
        assert!((0..100_000).all(|_| plain.add(1, 1).is_ok()));
    }
}
