//! Request methods (RFC 9110 §9 and the IANA HTTP method registry, but for `PRI`).

use std::fmt;

/// What repeating a request means (RFC 9110 §9.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Asks for no change, and so may be repeated.
    Safe,
    /// Doing it again changes nothing more.
    Idempotent,
    /// Each time counts.
    Unsafe,
}

/// Methods, names and effects from one list, so that none is forgotten.
macro_rules! methods {
    ($($variant:ident $name:literal $effect:ident $doc:literal)*) => {
        /// A method of the IANA registry. Names are case-sensitive; any other token is answered 501. (`PRI` is
        /// registered so that nobody uses it.)
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Method { $(#[doc = $doc] $variant,)* }

        impl Method {
            /// Every method: those of RFC 9110 §9.1 and `PATCH` first, in that order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name as it goes on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Reads a registered name exactly as written.
            fn registered(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }

            const fn effect(self) -> Effect {
                match self { $(Self::$variant => Effect::$effect,)* }
            }
        }
    };
}

methods! {
    Get "GET" Safe "Transfers a current representation (RFC 9110 §9.3.1)."
    Head "HEAD" Safe "`GET` without the content (RFC 9110 §9.3.2)."
    Post "POST" Unsafe "Processes the request content (RFC 9110 §9.3.3)."
    Put "PUT" Idempotent "Replaces the target's state (RFC 9110 §9.3.4)."
    Delete "DELETE" Idempotent "Removes the target (RFC 9110 §9.3.5)."
    Connect "CONNECT" Unsafe "Opens a tunnel (RFC 9110 §9.3.6)."
    Options "OPTIONS" Safe "Describes the communication options (RFC 9110 §9.3.7)."
    Trace "TRACE" Safe "Loops the request back (RFC 9110 §9.3.8)."
    Patch "PATCH" Unsafe "Applies partial modifications (RFC 5789)."
    Query "QUERY" Safe "Asks with content, changing nothing (the HTTP `QUERY` method)."
    Acl "ACL" Idempotent "Sets access rights (RFC 3744 §8.1)."
    BaselineControl "BASELINE-CONTROL" Idempotent "Puts a collection under baseline control (RFC 3253 §12.6)."
    Bind "BIND" Idempotent "Adds another name (RFC 5842 §4)."
    Checkin "CHECKIN" Idempotent "Makes a version (RFC 3253 §4.4)."
    Checkout "CHECKOUT" Idempotent "Allows changes to a version-controlled resource (RFC 3253 §4.3)."
    Copy "COPY" Idempotent "Copies a resource (RFC 4918 §9.8)."
    Label "LABEL" Idempotent "Changes the labels of a version (RFC 3253 §8.2)."
    Link "LINK" Idempotent "Establishes links (RFC 2068 §19.6.1.2)."
    Lock "LOCK" Unsafe "Takes or refreshes a lock (RFC 4918 §9.10)."
    Merge "MERGE" Idempotent "Merges versions (RFC 3253 §11.2)."
    Mkactivity "MKACTIVITY" Idempotent "Makes an activity (RFC 3253 §13.5)."
    Mkcalendar "MKCALENDAR" Idempotent "Makes a calendar (RFC 4791 §5.3.1)."
    Mkcol "MKCOL" Idempotent "Makes a collection (RFC 4918 §9.3)."
    Mkredirectref "MKREDIRECTREF" Idempotent "Makes a redirect reference (RFC 4437 §6)."
    Mkworkspace "MKWORKSPACE" Idempotent "Makes a workspace (RFC 3253 §6.3)."
    Move "MOVE" Idempotent "Moves a resource (RFC 4918 §9.9)."
    Orderpatch "ORDERPATCH" Idempotent "Changes the order of a collection (RFC 3648 §7)."
    Propfind "PROPFIND" Safe "Reads properties (RFC 4918 §9.1)."
    Proppatch "PROPPATCH" Idempotent "Changes properties (RFC 4918 §9.2)."
    Rebind "REBIND" Idempotent "Moves a name (RFC 5842 §6)."
    Report "REPORT" Safe "Asks for a report (RFC 3253 §3.6)."
    Search "SEARCH" Safe "Searches (RFC 5323 §2)."
    Unbind "UNBIND" Idempotent "Removes a name (RFC 5842 §5)."
    Uncheckout "UNCHECKOUT" Idempotent "Takes a checkout back (RFC 3253 §4.5)."
    Unlink "UNLINK" Idempotent "Removes links (RFC 2068 §19.6.1.3)."
    Unlock "UNLOCK" Idempotent "Gives a lock back (RFC 4918 §9.11)."
    Update "UPDATE" Idempotent "Changes to another version (RFC 3253 §7.1)."
    Updateredirectref "UPDATEREDIRECTREF" Idempotent "Changes a redirect reference (RFC 4437 §7)."
    VersionControl "VERSION-CONTROL" Idempotent "Puts a resource under version control (RFC 3253 §3.5)."
}

impl Method {
    /// Reads a method name exactly as written; `None` for one that is not implemented.
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        match name {
            b"GET" => Some(Self::Get),
            b"POST" => Some(Self::Post),
            _ => Self::registered(std::str::from_utf8(name).ok()?),
        }
    }

    /// Whether repeating the request has the effect of sending it once (RFC 9110 §9.2.2).
    pub const fn is_idempotent(self) -> bool {
        !matches!(self.effect(), Effect::Unsafe)
    }

    /// Whether the request asks for no change (RFC 9110 §9.2.1).
    pub const fn is_safe(self) -> bool {
        matches!(self.effect(), Effect::Safe)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        Self::from_bytes(name.as_bytes()).ok_or(UnknownMethod)
    }
}

/// The name is not one of [`Method::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown method")]
pub struct UnknownMethod;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_method_reads_back_what_it_writes() {
        for &method in Method::ALL {
            assert_eq!(method.as_str().parse::<Method>().unwrap(), method);
        }
    }

    #[test]
    fn what_may_be_repeated_is_what_the_registry_says() {
        let all = |wanted: fn(Method) -> bool| -> Vec<&str> {
            Method::ALL.iter().filter(|&&method| wanted(method)).map(|method| method.as_str()).collect()
        };
        let safe = ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH"];
        assert_eq!(all(Method::is_safe), safe);
        assert_eq!(all(|method| !method.is_idempotent()), ["POST", "CONNECT", "PATCH", "LOCK"]);
    }

    #[test]
    fn names_are_case_sensitive() {
        assert_eq!(Method::from_bytes(b"get"), None);
        assert_eq!(Method::from_bytes(b"GETS"), None);
        assert_eq!(Method::from_bytes(b""), None);
        assert_eq!(Method::from_bytes(b"PRI"), None, "nobody is to use it");
    }
}
