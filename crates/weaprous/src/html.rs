//! Pages written in place, with everything that goes into them escaped: [`html!`](crate::html!).

use crate::problem::write_escaped;
use crate::response::Html;
use std::borrow::Cow;
use std::fmt::{self, Display, Write};

/// A page, or a part of one, with values in it. Text is escaped, for content and for attributes in quotes; what is
/// [`Html`](crate::Html) already stands as it is, so that parts make a whole.
///
/// Values are listed behind the text, as in `format!`. Naming a variable inside of the braces does not compile, since
/// that would go round the escaping.
///
/// ```
/// use weaprous::{html, prelude::*};
/// use weaprous::testing::Client;
///
/// async fn list(Path(owner): Path<String>) -> Html {
///     let tasks = ["buy <b>bread</b>", "sleep"];
///     let rows: Vec<Html> = tasks.iter().map(|task| html!("<li>{}", task)).collect();
///     html!("<!doctype html><title>{owner}</title><ul title=\"of {owner}\">{}</ul>", rows, owner = owner)
/// }
///
/// let page = Client::new(App::new().route("/{owner}", [GET], list)).get("/%22ann%22").send();
/// assert_eq!(
///     page.text(),
///     "<!doctype html><title>&quot;ann&quot;</title><ul title=\"of &quot;ann&quot;\">\
///      <li>buy &lt;b&gt;bread&lt;/b&gt;<li>sleep</ul>"
/// );
/// ```
///
/// ```compile_fail
/// let name = "<script>";
/// weaprous::html!("<p>{name}");
/// ```
///
/// Only HTML is escaped: a value must not stand in a script, a style, an attribute without quotes, or as an address that
/// somebody else chose (`javascript:…`).
#[macro_export]
macro_rules! html {
    // What is left are values, one after the other, with or without names. By way of `concat!`, so that no variable can
    // be named inside of the text.
    (@ [$text:literal] [$($done:tt)*]) => { $crate::Html(::std::format!(::core::concat!($text) $($done)*)) };
    (@ [$text:literal] [$($done:tt)*] $name:ident = $value:expr $(, $($rest:tt)*)?) => {
        $crate::html!(@ [$text] [$($done)*, $name = $crate::html::Escaped(&$value)] $($($rest)*)?)
    };
    (@ [$text:literal] [$($done:tt)*] $value:expr $(, $($rest:tt)*)?) => {
        $crate::html!(@ [$text] [$($done)*, $crate::html::Escaped(&$value)] $($($rest)*)?)
    };
    ($text:literal $(, $($values:tt)*)?) => { $crate::html!(@ [$text] [] $($($values)*)?) };
}

/// What may stand in a page that [`html!`](crate::html!) writes: text, numbers, [`Html`], and lists or `Option`s of them.
///
/// ```
/// use std::fmt;
/// use weaprous::html::{Escaped, IntoPage};
///
/// struct Celsius(f32);
///
/// impl IntoPage for Celsius {
///     fn write_into(&self, page: &mut dyn fmt::Write) -> fmt::Result {
///         write!(page, "<data value=\"{0}\">{0} °C</data>", Escaped(&self.0))
///     }
/// }
/// assert_eq!(weaprous::html!("<p>{}", Celsius(21.5)).0, "<p><data value=\"21.5\">21.5 °C</data>");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in a page",
    note = "text, numbers, `Html`, and lists or `Option`s of these can; of what has `Display` take `.to_string()`"
)]
pub trait IntoPage {
    /// Writes it, fit for HTML content and for attribute values in quotes.
    fn write_into(&self, page: &mut dyn Write) -> fmt::Result;
}

/// Shows a value as it stands in a page.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a, T: ?Sized>(pub &'a T);

impl<T: IntoPage + ?Sized> Display for Escaped<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_into(f)
    }
}

impl IntoPage for str {
    fn write_into(&self, page: &mut dyn Write) -> fmt::Result {
        write_escaped(page, self)
    }
}

impl IntoPage for String {
    fn write_into(&self, page: &mut dyn Write) -> fmt::Result {
        self.as_str().write_into(page)
    }
}

impl IntoPage for Cow<'_, str> {
    fn write_into(&self, page: &mut dyn Write) -> fmt::Result {
        self.as_ref().write_into(page)
    }
}

impl IntoPage for char {
    fn write_into(&self, page: &mut dyn Write) -> fmt::Result {
        self.encode_utf8(&mut [0; 4]).write_into(page)
    }
}

impl<T: AsRef<str>> IntoPage for Html<T> {
    fn write_into(&self, page: &mut dyn Write) -> fmt::Result {
        page.write_str(self.0.as_ref())
    }
}

impl<T: IntoPage + ?Sized> IntoPage for &T {
    fn write_into(&self, page: &mut dyn Write) -> fmt::Result {
        (**self).write_into(page)
    }
}

impl<T: IntoPage> IntoPage for Option<T> {
    fn write_into(&self, page: &mut dyn Write) -> fmt::Result {
        self.as_ref().map_or(Ok(()), |value| value.write_into(page))
    }
}

impl<T: IntoPage> IntoPage for [T] {
    fn write_into(&self, page: &mut dyn Write) -> fmt::Result {
        self.iter().try_for_each(|value| value.write_into(page))
    }
}

impl<T: IntoPage> IntoPage for Vec<T> {
    fn write_into(&self, page: &mut dyn Write) -> fmt::Result {
        self.as_slice().write_into(page)
    }
}

impl<T: IntoPage, const N: usize> IntoPage for [T; N] {
    fn write_into(&self, page: &mut dyn Write) -> fmt::Result {
        self.as_slice().write_into(page)
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(impl IntoPage for $number {
            fn write_into(&self, page: &mut dyn Write) -> fmt::Result {
                write!(page, "{self}") // holds nothing that means anything in HTML
            }
        })*
    };
}

numbers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 bool);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_html_is_escaped() {
        let check = |value: &dyn Fn() -> Html, expect: &str| assert_eq!(value().0, expect);
        check(&|| html!("{}", "<&>\"'"), "&lt;&amp;&gt;&quot;&#39;");
        check(&|| html!("{}", String::from("<")), "&lt;");
        check(&|| html!("{}", Cow::Borrowed("<")), "&lt;");
        check(&|| html!("{}", '<'), "&lt;");
        check(&|| html!("{}", Some("<")), "&lt;");
        check(&|| html!("{}", None::<&str>), "");
        check(&|| html!("{}", ["<", "a"]), "&lt;a");
        check(&|| html!("{}", vec![html!("<b>{}</b>", "<"), html!("<i>")]), "<b>&lt;</b><i>");
        check(&|| html!("{}", &&"<"), "&lt;");
        check(&|| html!("{} {} {}", 7_u8, -1_i64, 1.5_f64), "7 -1 1.5");
        check(&|| html!("{a}{0}{a}{{}}", 1, a = "<",), "&lt;1&lt;{}");
        check(&|| html!("<p>nothing"), "<p>nothing");
    }

    #[test]
    fn a_value_is_looked_at_once_for_each_place() {
        let mut count = 0;
        let mut next = || {
            count += 1;
            count
        };
        assert_eq!(html!("{n}{n}", n = next()).0, "11");
    }
}
