//! Which route a path belongs to: a tree of segments, matched with the most specific pattern first.
//!
//! Patterns: `/users/me` (literal), `/users/{id}` (one whole segment, never empty), `/files/{path..}` (the rest,
//! perhaps empty, its segments joined by `/`). At every segment a literal beats a parameter and a parameter beats a
//! rest; a dead end goes back to the next best. `/a` and `/a/` are two paths. Segments are split first and decoded
//! once after that, so `%2F` never becomes a separator.

use crate::percent::{self, PercentError};
use engine::Method;
use std::borrow::Cow;
use std::panic::Location;

/// Most segments of a path; no sane path has more, and each costs a look-up.
pub const SEGMENTS_MAX: usize = 256;

/// Why a pattern was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The pattern cannot be read.
    #[error("route pattern `{pattern}`: {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two routes answer the same requests.
    #[error(
        "routes `{first}` ({first_place}) and `{second}` ({second_place}) both answer {method}; remove one or change \
         its pattern"
    )]
    Conflict {
        /// The pattern that was there.
        first: String,
        /// The pattern that came later.
        second: String,
        /// The line that added the first.
        first_place: &'static Location<'static>,
        /// The line that added the second.
        second_place: &'static Location<'static>,
        /// A method both answer.
        method: Method,
    },
}

/// Why a path matches nothing and never could.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPath {
    #[error("path: {0}")]
    Percent(#[from] PercentError),
    #[error("path holds a `.` or `..` segment")]
    DotSegment,
    #[error("path holds an encoded slash where it would be ambiguous")]
    EncodedSlash,
    #[error("path has more than {SEGMENTS_MAX} segments")]
    TooManySegments,
    #[error("path does not begin with `/`")]
    NoSlash,
}

/// Values by pattern and method.
#[derive(Debug)]
pub(crate) struct Router<T> {
    nodes: Vec<Node>,
    leaves: Vec<Leaf<T>>,
}

#[derive(Debug, Default)]
struct Node {
    literals: Vec<(String, usize)>,
    parameter: Option<usize>,
    /// The leaf of paths that end here.
    end: Option<usize>,
    /// The leaf of paths that go on in any way.
    rest: Option<usize>,
}

/// All routes of one shape.
#[derive(Debug)]
pub(crate) struct Leaf<T> {
    routes: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    method: Method,
    value: T,
    pattern: String,
    place: &'static Location<'static>,
}

/// What a path leads to.
#[derive(Debug)]
pub(crate) struct Match<'a, T> {
    pub(crate) leaf: &'a Leaf<T>,
    /// Decoded values in the order of the pattern.
    pub(crate) params: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
    Rest(String),
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], leaves: Vec::new() }
    }
}

impl<T> Router<T> {
    /// As [`Router::insert_from`], from where this is called.
    #[track_caller]
    pub(crate) fn insert(&mut self, pattern: &str, method: Method, value: T) -> Result<(), RouteError> {
        self.insert_from(pattern, method, value, Location::caller())
    }

    /// Adds a route for one method; `place` is the line that wants it.
    ///
    /// # Errors
    /// The pattern is malformed, or a route of the same shape answers this method already.
    pub(crate) fn insert_from(
        &mut self,
        pattern: &str,
        method: Method,
        value: T,
        place: &'static Location<'static>,
    ) -> Result<(), RouteError> {
        let leaf = self.leaf(pattern)?;
        let routes = &mut self.leaves[leaf].routes;
        if let Some(known) = routes.iter().find(|known| known.method == method) {
            return Err(RouteError::Conflict {
                first: known.pattern.clone(),
                second: pattern.to_owned(),
                first_place: known.place,
                second_place: place,
                method,
            });
        }
        routes.push(Entry { method, value, pattern: pattern.to_owned(), place });
        Ok(())
    }

    /// Finds the most specific pattern that covers a path.
    pub(crate) fn find(&self, path: &str) -> Result<Option<Match<'_, T>>, BadPath> {
        let segments = split(path)?;
        let mut params = Vec::new();
        let leaf = self.descend(0, &segments, &mut params)?;
        Ok(leaf.map(|leaf| Match { leaf: &self.leaves[leaf], params }))
    }

    /// Recursion is as deep as the longest pattern, and every node is seen at most once: a tree node fixes the
    /// position in the path.
    fn descend(
        &self,
        node: usize,
        segments: &[Cow<'_, str>],
        params: &mut Vec<String>,
    ) -> Result<Option<usize>, BadPath> {
        let node = &self.nodes[node];
        let Some((first, others)) = segments.split_first() else { return Ok(node.end) };
        if let Some((_, next)) = node.literals.iter().find(|(literal, _)| literal.as_str() == first.as_ref())
            && let Some(leaf) = self.descend(*next, others, params)?
        {
            return Ok(Some(leaf));
        }
        if let Some(next) = node.parameter.filter(|_| !first.is_empty()) {
            params.push(first.clone().into_owned());
            if let Some(leaf) = self.descend(next, others, params)? {
                return Ok(Some(leaf));
            }
            params.pop();
        }
        let Some(leaf) = node.rest else { return Ok(None) };
        if segments.iter().any(|segment| segment.contains('/')) {
            return Err(BadPath::EncodedSlash);
        }
        params.push(segments.join("/"));
        Ok(Some(leaf))
    }

    /// The leaf of a pattern's shape, made if it is not there.
    fn leaf(&mut self, pattern: &str) -> Result<usize, RouteError> {
        let mut at = 0;
        for segment in parse_pattern(pattern)? {
            at = match segment {
                Segment::Literal(text) => {
                    let known = self.nodes[at].literals.iter().find(|(literal, _)| *literal == text).map(|(_, n)| *n);
                    known.unwrap_or_else(|| {
                        let next = self.grow();
                        self.nodes[at].literals.push((text, next));
                        next
                    })
                }
                Segment::Parameter(_) => self.nodes[at].parameter.unwrap_or_else(|| {
                    let next = self.grow();
                    self.nodes[at].parameter = Some(next);
                    next
                }),
                Segment::Rest(_) => {
                    let leaves = &mut self.leaves;
                    return Ok(*self.nodes[at].rest.get_or_insert_with(|| new_leaf(leaves)));
                }
            };
        }
        let leaves = &mut self.leaves;
        Ok(*self.nodes[at].end.get_or_insert_with(|| new_leaf(leaves)))
    }

    fn grow(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }
}

fn new_leaf<T>(leaves: &mut Vec<Leaf<T>>) -> usize {
    leaves.push(Leaf { routes: Vec::new() });
    leaves.len() - 1
}

impl<T> Leaf<T> {
    /// The route for a method; `HEAD` falls back to `GET`.
    pub(crate) fn route(&self, method: Method) -> Option<&T> {
        let exact = |wanted| self.routes.iter().find(|known| known.method == wanted).map(|known| &known.value);
        exact(method).or_else(|| if method == Method::Head { exact(Method::Get) } else { None })
    }

    /// The route that was added first.
    pub(crate) fn first(&self) -> &T {
        &self.routes.first().expect("a leaf is made for a route").value
    }

    /// The value of `Allow`: what is routed, and what comes for free.
    pub(crate) fn allow(&self) -> String {
        let allowed = |method: &Method| *method == Method::Options || self.route(*method).is_some();
        let names: Vec<&str> =
            Method::ALL.iter().filter(|method| allowed(method)).map(|method| method.as_str()).collect();
        names.join(", ")
    }
}

/// The parameter names of a pattern, in order.
pub(crate) fn parameter_names(pattern: &str) -> Result<Vec<String>, RouteError> {
    let name = |segment| match segment {
        Segment::Literal(_) => None,
        Segment::Parameter(name) | Segment::Rest(name) => Some(name),
    };
    Ok(parse_pattern(pattern)?.into_iter().filter_map(name).collect())
}

/// Splits at `/`, then decodes each segment once.
pub(crate) fn split(path: &str) -> Result<Vec<Cow<'_, str>>, BadPath> {
    let rest = path.strip_prefix('/').ok_or(BadPath::NoSlash)?;
    let mut segments = Vec::with_capacity(8);
    for raw in rest.split('/') {
        if segments.len() == SEGMENTS_MAX {
            return Err(BadPath::TooManySegments);
        }
        let segment = if raw.contains('%') { Cow::Owned(percent::decode(raw)?) } else { Cow::Borrowed(raw) };
        if matches!(segment.as_ref(), "." | "..") {
            return Err(BadPath::DotSegment);
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn parse_pattern(pattern: &str) -> Result<Vec<Segment>, RouteError> {
    let fail = |reason| RouteError::Pattern { pattern: pattern.to_owned(), reason };
    let rest = pattern.strip_prefix('/').ok_or_else(|| fail("must begin with `/`"))?;
    let mut segments = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for part in rest.split('/') {
        if matches!(segments.last(), Some(Segment::Rest(_))) {
            return Err(fail("nothing can follow `{name..}`"));
        }
        let segment = parse_segment(part).map_err(fail)?;
        if let Segment::Parameter(name) | Segment::Rest(name) = &segment {
            if names.contains(name) {
                return Err(fail("names a parameter twice"));
            }
            names.push(name.clone());
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn parse_segment(part: &str) -> Result<Segment, &'static str> {
    let Some(inner) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        if part.contains(['{', '}']) {
            return Err("a parameter is a whole segment: `/{name}/`");
        }
        if matches!(part, "." | "..") {
            return Err("`.` and `..` never match");
        }
        return Ok(Segment::Literal(part.to_owned()));
    };
    let (name, is_rest) = inner.strip_suffix("..").map_or((inner, false), |name| (name, true));
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err("a parameter's name is letters, digits and `_`");
    }
    Ok(if is_rest { Segment::Rest(name.to_owned()) } else { Segment::Parameter(name.to_owned()) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn router(patterns: &[&'static str]) -> Router<&'static str> {
        let mut router = Router::default();
        for pattern in patterns {
            router.insert(pattern, Method::Get, *pattern).unwrap();
        }
        router
    }

    fn find(patterns: &[&'static str], path: &str) -> Result<Option<(&'static str, Vec<String>)>, BadPath> {
        let router = router(patterns);
        let found = router.find(path)?;
        Ok(found.map(|found| (*found.leaf.route(Method::Get).unwrap(), found.params)))
    }

    fn check(patterns: &[&'static str], path: &str, expect: Option<(&'static str, &[&str])>) {
        let found = find(patterns, path).unwrap();
        let found = found.as_ref().map(|(pattern, params)| (*pattern, params.iter().map(String::as_str).collect()));
        assert_eq!(found, expect.map(|(pattern, params)| (pattern, params.to_vec())), "{path}");
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let all = &["/", "/users/me", "/users/{id}", "/users/{id}/posts", "/{rest..}", "/users/", "/files/{path..}"];
        check(all, "/", Some(("/", &[])));
        check(all, "/users/me", Some(("/users/me", &[])));
        check(all, "/users/7", Some(("/users/{id}", &["7"])));
        check(all, "/users/", Some(("/users/", &[])));
        check(all, "/users/me/posts", Some(("/users/{id}/posts", &["me"])));
        check(all, "/users/me/photos", Some(("/{rest..}", &["users/me/photos"])));
        check(all, "/files/", Some(("/files/{path..}", &[""])));
        check(all, "/files", Some(("/{rest..}", &["files"])));
        check(all, "/files/a/b", Some(("/files/{path..}", &["a/b"])));
        check(all, "//etc", Some(("/{rest..}", &["/etc"])));
    }

    #[test]
    fn what_no_pattern_covers_is_not_found() {
        let all = &["/a", "/a/{b}", "/c/{d}/e"];
        for path in ["/", "/b", "/a/", "/a/b/c", "/c//e", "/A", "//a"] {
            check(all, path, None);
        }
    }

    #[test]
    fn segments_are_split_first_and_decoded_once() {
        check(&["/a/{b}"], "/a/x%2Fy%20z", Some(("/a/{b}", &["x/y z"])));
        check(&["/a/{b}"], "/a/%252e%252e", Some(("/a/{b}", &["%2e%2e"])));
        check(&["/a b"], "/a%20b", Some(("/a b", &[])));
    }

    #[test]
    fn paths_that_lie_about_their_segments_are_refused() {
        let bad = |path: &str| find(&["/{rest..}", "/a/{b}/c"], path).unwrap_err();
        for path in ["/..", "/%2e%2e", "/a/../b", "/./..", "/a/%2E", "/.%2e/x"] {
            assert_eq!(bad(path), BadPath::DotSegment, "{path}");
        }
        assert_eq!(bad("/..%2fetc"), BadPath::EncodedSlash);
        assert_eq!(bad("/%c0%ae%c0%ae/"), BadPath::Percent(PercentError::NotUtf8));
        assert_eq!(bad("/a%00"), BadPath::Percent(PercentError::Nul));
        assert_eq!(bad("/%"), BadPath::Percent(PercentError::Incomplete));
        assert_eq!(bad(&"/a".repeat(4000)), BadPath::TooManySegments);
        assert_eq!(bad("*"), BadPath::NoSlash);
    }

    #[test]
    fn conflicts_name_both_patterns() {
        let mut router = router(&["/a/{id}"]);
        router.insert("/a/{name}", Method::Post, "other method").unwrap();
        router.insert("/a/x", Method::Get, "more specific").unwrap();
        router.insert("/a/{rest..}", Method::Get, "less specific").unwrap();
        let here = Location::caller();
        let error = router.insert_from("/a/{name}", Method::Get, "", here).unwrap_err().to_string();
        assert!(error.starts_with("routes `/a/{id}` ("), "{error}");
        let end = format!("and `/a/{{name}}` ({here}) both answer GET; remove one or change its pattern");
        assert!(error.ends_with(&end), "{error}");
        assert!(router.insert("/a/{others..}", Method::Get, "").is_err());
        assert!(router.insert("/a/x", Method::Get, "").is_err());
    }

    #[test]
    fn malformed_patterns_are_refused() {
        let bad = ["", "a", "/{}", "/{..}", "/{a}b", "/x{a}", "/{a..}/b", "/{a}/{a}", "/{a b}", "/a/../b", "/{a..}/"];
        for pattern in bad {
            assert!(Router::default().insert(pattern, Method::Get, ()).is_err(), "{pattern}");
        }
    }

    #[test]
    fn allow_lists_what_is_free_too() {
        let mut router = Router::default();
        router.insert("/a", Method::Get, 1).unwrap();
        router.insert("/a", Method::Delete, 2).unwrap();
        router.insert("/b", Method::Post, 3).unwrap();
        let leaf = |path| router.find(path).unwrap().unwrap().leaf;
        assert_eq!(leaf("/a").allow(), "GET, HEAD, DELETE, OPTIONS");
        assert_eq!(leaf("/b").allow(), "POST, OPTIONS");
        assert_eq!(leaf("/a").route(Method::Head), Some(&1));
        assert_eq!(leaf("/b").route(Method::Head), None);
        assert_eq!(leaf("/b").route(Method::Get), None);
    }
}
