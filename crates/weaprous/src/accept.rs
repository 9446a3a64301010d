//! What a client prefers: quality values of `Accept` and `Accept-Encoding` (RFC 9110 §12.4.2, §12.5).

/// Whether `Accept` ranks an HTML page above JSON. Browsers do; curl (`*/*`) and scripts do not.
pub(crate) fn prefers_html(accept: &str) -> bool {
    let html = media_quality(accept, "text", "html");
    html > 0
        && html > media_quality(accept, "application", "problem+json")
        && html >= media_quality(accept, "application", "json")
}

/// Whether `Accept` ranks JSON above an HTML page. Scripts that say so do; `*/*` does not.
pub(crate) fn prefers_json(accept: &str) -> bool {
    media_quality(accept, "application", "json") > media_quality(accept, "text", "html")
}

/// The weight of a content coding in thousandths, 0 if it is not welcome. A coding that is not listed is as welcome as
/// `*`; `identity` is always possible unless it is refused (RFC 9110 §12.5.3).
pub(crate) fn coding_weight(accept_encoding: &str, coding: &str) -> u16 {
    let listed = coding_quality(accept_encoding, coding);
    match (listed.or_else(|| coding_quality(accept_encoding, "*")), coding) {
        (None, "identity") => 1,
        (weight, "identity") if listed.is_none() => weight.unwrap_or_default().min(1),
        (weight, _) => weight.unwrap_or_default(),
    }
}

/// The weight, in thousandths, of the most specific range that covers `main/sub`; 0 if none does.
fn media_quality(accept: &str, main: &str, sub: &str) -> u16 {
    let mut best = (0, 0);
    for (range, quality) in weighted(accept) {
        let Some((range_main, range_sub)) = range.split_once('/') else { continue };
        let specificity = match (range_main, range_sub) {
            (m, s) if m.eq_ignore_ascii_case(main) && s.eq_ignore_ascii_case(sub) => 3,
            (m, "*") if m.eq_ignore_ascii_case(main) => 2,
            ("*", "*") => 1,
            _ => continue,
        };
        best = best.max((specificity, quality));
    }
    best.1
}

fn coding_quality(accept_encoding: &str, coding: &str) -> Option<u16> {
    weighted(accept_encoding).find(|(name, _)| name.eq_ignore_ascii_case(coding)).map(|(_, quality)| quality)
}

/// The members of a weighted list: `(value without parameters, weight in thousandths)`.
fn weighted(list: &str) -> impl Iterator<Item = (&str, u16)> {
    list.split(',').filter_map(|member| {
        let mut parts = member.split(';');
        let value = parts.next()?.trim();
        let weight = parts.find_map(|part| {
            let (name, weight) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| thousandths(weight.trim()))
        });
        (!value.is_empty()).then_some((value, weight.unwrap_or(1000)))
    })
}

/// `0.5` → 500. A weight that cannot be read counts as 0: not wanted is the safe reading.
fn thousandths(weight: &str) -> u16 {
    match weight.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => (value * 1000.0).round() as u16,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_prefer_html_and_tools_do_not() {
        let check = |accept: &str, expect: bool| assert_eq!(prefers_html(accept), expect, "{accept}");
        check("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true);
        check("text/html", true);
        check("*/*", false);
        check("", false);
        check("application/json", false);
        check("application/problem+json, text/html", false);
        check("text/html;q=0.5, application/json", false);
        check("TEXT/HTML", true);
        check("text/html;q=0", false);
        check("text/*", true);
        check("text/html;q=2", false);
        check(";;,,q=;text/html;q", false);
    }

    #[test]
    fn codings_have_the_weight_the_client_gives_them() {
        let check = |field: &str, gzip: u16, identity: u16| {
            let weights = (coding_weight(field, "gzip"), coding_weight(field, "identity"));
            assert_eq!(weights, (gzip, identity), "{field}");
        };
        check("gzip, deflate, br", 1000, 1);
        check("gzip;q=0", 0, 1);
        check("*", 1000, 1);
        check("*;q=0", 0, 0);
        check("br", 0, 1);
        check("", 0, 1);
        check("identity, gzip;q=0.5", 500, 1000);
        check("identity;q=0.5, gzip", 1000, 500);
        check("GZIP", 1000, 1);
        check("gzip;q=0, *", 0, 1);
        check("identity;q=0, *", 1000, 0);
    }

    #[test]
    fn only_who_prefers_json_gets_it() {
        let check = |accept: &str, expect: bool| assert_eq!(prefers_json(accept), expect, "{accept}");
        check("application/json", true);
        check("application/json, text/html;q=0.9", true);
        check("text/html, application/json", false);
        check("*/*", false);
        check("", false);
    }
}
