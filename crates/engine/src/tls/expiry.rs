//! Until when a certificate is valid: the one thing in it that the libraries here tell nobody (RFC 5280 §4.1.2.5).

use super::certificates::read_pair;
use super::{CertificateFiles, TlsError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tags of DER (X.690).
const SEQUENCE: u8 = 0x30;
const EXPLICIT_0: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Years of two digits from here on are of the last century.
const CENTURY_TURN: u64 = 50;

impl CertificateFiles {
    /// Reads both files, as a listener would, and tells until when all certificates of the chain are valid.
    ///
    /// # Errors
    /// One of the files cannot be read or holds something else, or the key is not that of the certificate.
    pub fn valid_until(&self) -> Result<SystemTime, TlsError> {
        let provider = rustls::crypto::ring::default_provider();
        let pair = read_pair(&self.chain, &self.key, &provider)?;
        let ends = pair.cert.iter().map(|certificate| {
            not_after(certificate).ok_or_else(|| TlsError::content(&self.chain, "holds a certificate without an end"))
        });
        let ends = ends.collect::<Result<Vec<u64>, _>>()?;
        let first = ends.into_iter().min().ok_or_else(|| TlsError::content(&self.chain, "holds no certificate"))?;
        Ok(UNIX_EPOCH + Duration::from_secs(first))
    }
}

/// The end of a certificate, in seconds since 1970.
fn not_after(der: &[u8]) -> Option<u64> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (body, _) = expect(certificate, SEQUENCE)?;
    let body = match element(body)? {
        (EXPLICIT_0, _, rest) => rest, // the version
        _ => body,
    };
    let (_, _, body) = element(body)?; // the serial number
    let (_, body) = expect(body, SEQUENCE)?; // the algorithm
    let (_, body) = expect(body, SEQUENCE)?; // the issuer
    let (validity, _) = expect(body, SEQUENCE)?;
    let (_, _, validity) = element(validity)?; // the beginning
    let (tag, end, _) = element(validity)?;
    seconds(tag, end)
}

fn expect(input: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    element(input).filter(|(tag, ..)| *tag == wanted).map(|(_, content, rest)| (content, rest))
}

/// Tag, content and what follows.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, short], rest) = input.split_first_chunk::<2>()?;
    let (length, rest) = if short < 0x80 {
        (usize::from(short), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
        if bytes.len() > size_of::<u32>() {
            return None;
        }
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn seconds(tag: u8, text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (if year < CENTURY_TURN { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(&rest[at..at + 2]));
    if !(1970..).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(((days_before(year, month) + day - 1) * 24 + hour) * 3600 + minute * 60 + second)
}

/// Days from 1970 to the first of a month (Howard Hinnant's `days_from_civil`, years that begin in March).
fn days_before(year: u64, month: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn moments_are_seconds_since_1970() {
        for (tag, text, expect) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "000229120000Z", Some(951_825_600)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "19691231235959Z", None),
            (UTC_TIME, "20500101000000Z", None),
            (UTC_TIME, "001301000000Z", None),
            (UTC_TIME, "0001010000Z", None),
            (UTC_TIME, "00010100000a", None),
            (SEQUENCE, "000101000000Z", None),
        ] {
            assert_eq!(seconds(tag, text.as_bytes()), expect, "{text}");
        }
    }

    #[test]
    fn the_end_of_a_certificate_is_found_and_no_cut_one_is_misread() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2051, 3, 4);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let end = 2_561_500_800;
        assert_eq!(not_after(&der), Some(end));
        for length in 0..der.len() {
            assert_eq!(not_after(&der[..length]), None, "{length}");
        }
        for at in 0..der.len() {
            let mut other = der.clone();
            other[at] ^= 0xff;
            let _ = not_after(&other); // whatever it says, it does not panic
        }
    }
}
