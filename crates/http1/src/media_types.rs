//! The `Content-Type` lines that most answers have, written once for all of them: a message whose first field is one of
//! these keeps its number instead of text of its own.

/// Names, and media types with their lines, from one list.
macro_rules! media_types {
    ($($variant:ident $value:literal)*) => {
        /// A media type that is known here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum MediaType { $($variant,)* }

        impl MediaType {
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The one that is written exactly so.
            #[inline]
            pub(crate) fn of(value: &str) -> Option<Self> {
                match value {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The complete line.
            #[inline]
            pub(crate) const fn line(self) -> &'static str {
                match self { $(Self::$variant => concat!("content-type: ", $value, "\r\n"),)* }
            }
        }
    };
}

media_types! {
    Plain "text/plain"
    PlainUtf8 "text/plain; charset=utf-8"
    Html "text/html"
    HtmlUtf8 "text/html; charset=utf-8"
    CssUtf8 "text/css; charset=utf-8"
    ScriptUtf8 "text/javascript; charset=utf-8"
    Events "text/event-stream"
    Json "application/json"
    Problem "application/problem+json"
    Bytes "application/octet-stream"
    Form "application/x-www-form-urlencoded"
    Svg "image/svg+xml"
    Png "image/png"
    Jpeg "image/jpeg"
    Webp "image/webp"
    Icon "image/x-icon"
    Font "font/woff2"
}

impl MediaType {
    /// The name of the field, as all lines have it.
    pub(crate) const NAME: &'static str = "content-type";

    /// What stands behind the name.
    pub(crate) fn value(self) -> &'static str {
        let line = self.line();
        &line[Self::NAME.len() + 2..line.len() - 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_value_and_no_other() {
        for &media_type in MediaType::ALL {
            let value = media_type.value();
            assert_eq!(MediaType::of(value), Some(media_type), "{value}");
            assert_eq!(media_type.line(), format!("{}: {value}\r\n", MediaType::NAME));
            for other in [value.to_uppercase(), format!("{value} "), value[1..].to_owned(), format!(" {value}")] {
                assert_eq!(MediaType::of(&other), None, "{other}");
            }
        }
        assert_eq!(MediaType::of(""), None);
    }
}
