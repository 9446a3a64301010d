//! Which route a path belongs to: a tree of segments, matched with the most specific pattern first.
//!
//! Patterns: `/users/me` (literal), `/users/{id}` (one whole segment, never empty), `/files/{path..}` (the rest,
//! perhaps empty, its segments joined by `/`). At every segment a literal beats a parameter and a parameter beats a
//! rest; a dead end goes back to the next best. `/a` and `/a/` are two paths. Segments are split first and decoded
//! once after that, so `%2F` never becomes a separator.

use crate::percent::{self, PercentError};
use engine::Method;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::panic::Location;

/// Most segments of a path; no sane path has more, and each costs a look-up.
pub const SEGMENTS_MAX: usize = 256;

/// Why a pattern was not accepted.
///
/// ```
/// use weaprous::{RouteError, prelude::*};
///
/// let twice = App::new().route("/a/{x}", [GET], async || "one").route("/a/{y}", [GET], async || "other");
/// let error: RouteError = twice.prepare().expect_err("both answer the same");
/// assert!(error.to_string().contains("/a/{x}") && error.to_string().contains("/a/{y}"), "{error}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The pattern cannot be read.
    #[error("route pattern `{pattern}` ({place}): {reason}")]
    Pattern {
        /// As it was given, behind the prefixes of the applications around it.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
        /// The line that added it.
        place: &'static Location<'static>,
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
    pub(crate) params: Params,
}

/// The values of path parameters, in the order of the pattern.
#[derive(Debug, Default)]
pub(crate) struct Params(SmallVec<[Value; PARAMS_INLINE]>);

/// Parameters kept without allocating; few patterns have more.
const PARAMS_INLINE: usize = 2;

#[derive(Debug)]
enum Value {
    /// Where it stands in the path, which holds no escapes.
    Within { start: u32, end: u32 },
    /// As it was decoded.
    Decoded(Box<str>),
}

impl Params {
    /// The decoded values; `path` is the one that was matched.
    pub(crate) fn values<'a>(&'a self, path: &'a str) -> impl DoubleEndedIterator<Item = &'a str> + ExactSizeIterator {
        self.0.iter().map(move |value| match value {
            Value::Within { start, end } => path.get(*start as usize..*end as usize).unwrap_or_default(),
            Value::Decoded(text) => text,
        })
    }

    fn push(&mut self, path: &Path<'_>, start: usize, end: usize) -> Result<(), PercentError> {
        self.0.push(if path.is_plain {
            // Heads are shorter than 4 GiB.
            Value::Within { start: start as u32, end: end as u32 }
        } else {
            Value::Decoded(percent::decode(&path.text[start..end])?.into())
        });
        Ok(())
    }
}

/// A path that may be matched: no segment of it lies about what it is.
struct Path<'a> {
    text: &'a str,
    /// Whether it is its own decoded form.
    is_plain: bool,
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
        let segments = parse_pattern(pattern).map_err(|reason| malformed(pattern, reason, place))?;
        let leaf = self.leaf(segments);
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
        let path = Path::check(path)?;
        let mut params = Params::default();
        let leaf = self.descend(0, &path, Some(1), &mut params)?;
        Ok(leaf.map(|leaf| Match { leaf: &self.leaves[leaf], params }))
    }

    /// `at` is where the next segment begins, if there is one. Recursion is as deep as the longest pattern, and every
    /// node is seen at most once: a tree node fixes the position in the path.
    fn descend(
        &self,
        node: usize,
        path: &Path<'_>,
        at: Option<usize>,
        params: &mut Params,
    ) -> Result<Option<usize>, BadPath> {
        let node = &self.nodes[node];
        let Some(start) = at else { return Ok(node.end) };
        let (end, next_at) = path.segment_end(start);
        if !node.literals.is_empty()
            && let Some(next) = node.literal(&path.decoded(start, end)?)
            && let Some(leaf) = self.descend(next, path, next_at, params)?
        {
            return Ok(Some(leaf));
        }
        if let Some(next) = node.parameter.filter(|_| start < end) {
            params.push(path, start, end)?;
            if let Some(leaf) = self.descend(next, path, next_at, params)? {
                return Ok(Some(leaf));
            }
            params.0.pop();
        }
        let Some(leaf) = node.rest else { return Ok(None) };
        if path.hides_slash(start) {
            return Err(BadPath::EncodedSlash);
        }
        params.push(path, start, path.text.len())?;
        Ok(Some(leaf))
    }

    /// The leaf of a pattern's shape, made if it is not there.
    fn leaf(&mut self, segments: Vec<Segment>) -> usize {
        let mut at = 0;
        for segment in segments {
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
                    return *self.nodes[at].rest.get_or_insert_with(|| new_leaf(leaves));
                }
            };
        }
        let leaves = &mut self.leaves;
        *self.nodes[at].end.get_or_insert_with(|| new_leaf(leaves))
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

/// The parameter names of a pattern, in order, or what is wrong with it.
pub(crate) fn parameter_names(pattern: &str) -> Result<Vec<String>, &'static str> {
    let name = |segment| match segment {
        Segment::Literal(_) => None,
        Segment::Parameter(name) | Segment::Rest(name) => Some(name),
    };
    Ok(parse_pattern(pattern)?.into_iter().filter_map(name).collect())
}

impl Node {
    /// Where a segment of just this text leads.
    fn literal(&self, segment: &str) -> Option<usize> {
        self.literals.iter().find(|(literal, _)| literal == segment).map(|(_, next)| *next)
    }
}

impl<'a> Path<'a> {
    /// Looks at every segment once, decoded where it holds escapes. Most paths hold neither those nor a segment that
    /// begins with a dot, and are too short for too many segments: one pass over their bytes says so.
    fn check(text: &'a str) -> Result<Self, BadPath> {
        let rest = text.strip_prefix('/').ok_or(BadPath::NoSlash)?;
        let mut before = b'/';
        let is_plain = rest.len() < SEGMENTS_MAX
            && rest.bytes().all(|byte| {
                let follows_slash = std::mem::replace(&mut before, byte) == b'/';
                byte != b'%' && !(follows_slash && byte == b'.')
            });
        if is_plain {
            return Ok(Self { text, is_plain });
        }
        for (place, raw) in rest.split('/').enumerate() {
            if place == SEGMENTS_MAX {
                return Err(BadPath::TooManySegments);
            }
            if matches!(decoded(raw)?.as_ref(), "." | "..") {
                return Err(BadPath::DotSegment);
            }
        }
        Ok(Self { text, is_plain: !text.contains('%') })
    }

    /// Where the segment that begins at `start` ends, and where the next one begins.
    fn segment_end(&self, start: usize) -> (usize, Option<usize>) {
        let slash = self.text.as_bytes()[start..].iter().position(|&byte| byte == b'/');
        slash.map_or((self.text.len(), None), |len| (start + len, Some(start + len + 1)))
    }

    fn decoded(&self, start: usize, end: usize) -> Result<Cow<'a, str>, PercentError> {
        let raw = &self.text[start..end];
        if self.is_plain { Ok(Cow::Borrowed(raw)) } else { decoded(raw) }
    }

    /// Whether a segment from `start` on holds a slash of its own.
    fn hides_slash(&self, start: usize) -> bool {
        !self.is_plain && self.text[start..].to_ascii_lowercase().contains("%2f")
    }
}

fn decoded(raw: &str) -> Result<Cow<'_, str>, PercentError> {
    Ok(if raw.contains('%') { Cow::Owned(percent::decode(raw)?) } else { Cow::Borrowed(raw) })
}

/// The error of a pattern that this line wants.
pub(crate) fn malformed(pattern: &str, reason: &'static str, place: &'static Location<'static>) -> RouteError {
    RouteError::Pattern { pattern: pattern.to_owned(), reason, place }
}

fn parse_pattern(pattern: &str) -> Result<Vec<Segment>, &'static str> {
    let rest = pattern.strip_prefix('/').ok_or("must begin with `/`")?;
    let mut segments = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for part in rest.split('/') {
        if matches!(segments.last(), Some(Segment::Rest(_))) {
            return Err("nothing can follow `{name..}`");
        }
        let segment = parse_segment(part)?;
        if let Segment::Parameter(name) | Segment::Rest(name) = &segment {
            if names.contains(name) {
                return Err("names a parameter twice");
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
        let values = |params: &Params| params.values(path).map(str::to_owned).collect();
        Ok(found.map(|found| (*found.leaf.route(Method::Get).unwrap(), values(&found.params))))
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
