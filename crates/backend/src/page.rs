//! Pages that are made from a file of the site and something of the moment: a message, a target, a name.

use crate::Site;
use weaprous::prelude::*;
use weaprous::problem::escape_html;
use weaprous::response::local_target;

/// A page with a form, as a file of the site and as it is built in.
pub(crate) struct FormPage {
    pub(crate) file: &'static str,
    pub(crate) built_in: &'static str,
}

/// `login.html`.
pub(crate) const LOGIN: FormPage = FormPage { file: "login.html", built_in: include_str!("pages/login.html") };
/// `signup.html`.
pub(crate) const SIGN_UP: FormPage = FormPage { file: "signup.html", built_in: include_str!("pages/signup.html") };

/// The page a stranger gets.
const UNAUTHORIZED: FormPage = FormPage { file: "401.html", built_in: include_str!("pages/401.html") };

/// Where a message goes, if the page says so; otherwise to the top of the form.
const MESSAGE_PLACE: &str = "<!-- message -->";

/// What is put into a form page. None of it is trusted.
#[derive(Default)]
pub(crate) struct Filling<'a> {
    pub(crate) message: Option<&'a str>,
    pub(crate) username: Option<&'a str>,
    pub(crate) next: Option<&'a str>,
}

impl FormPage {
    /// The file's text, or the built-in page.
    async fn text(&self, www: &Site) -> Result<String, Problem> {
        let found = www.0.read(self.file).await.map_err(Problem::internal)?;
        Ok(found.map_or_else(|| self.built_in.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The page as it lies there.
    pub(crate) async fn plain(&self, www: &Site, request: &Request) -> Result<Response, Problem> {
        let found = www.0.try_serve(self.file, request).await?;
        Ok(found.unwrap_or_else(|| Html(self.built_in).into_response()))
    }

    /// The page with something filled in. It is of the moment, so nobody keeps it.
    pub(crate) async fn filled(
        &self,
        www: &Site,
        status: StatusCode,
        filling: &Filling<'_>,
    ) -> Result<Response, Problem> {
        let text = fill(self.text(www).await?, filling);
        Ok((status, [("cache-control", "no-store")], Html(text)).into_response())
    }
}

/// 401, with links to the login that lead back here.
pub(crate) async fn unauthorized(www: &Site, request: &Request) -> Response {
    let text = match UNAUTHORIZED.text(www).await {
        Ok(text) => text,
        Err(problem) => return problem.into_response(),
    };
    // The host's root is where a login leads anyway.
    let text = match local_target(request.path()).filter(|path| *path != "/") {
        Some(path) => {
            let next = format!("href=\"/login.html?next={}\"", weaprous::percent::encode(path));
            text.replace("href=\"/login.html\"", &next)
        }
        None => text,
    };
    let fields = [("cache-control", "no-store"), ("vary", "Cookie"), ("www-authenticate", "Bearer")];
    (StatusCode::UNAUTHORIZED, fields, Html(text)).into_response()
}

fn fill(mut text: String, filling: &Filling<'_>) -> String {
    if let Some(name) = filling.username {
        let value = format!("name=\"username\" value=\"{}\"", escape_html(name));
        text = text.replacen("name=\"username\"", &value, 1);
    }
    let message =
        filling.message.map(|message| format!("<p class=\"error\" role=\"alert\">{}</p>", escape_html(message)));
    let mut into_form = String::new();
    match message {
        Some(message) if text.contains(MESSAGE_PLACE) => text = text.replacen(MESSAGE_PLACE, &message, 1),
        Some(message) => into_form = message,
        None => {}
    }
    if let Some(next) = filling.next {
        into_form = format!("{into_form}<input type=\"hidden\" name=\"next\" value=\"{}\">", escape_html(next));
    }
    if let Some(place) = inside_form(&text) {
        text.insert_str(place, &into_form);
    }
    text
}

/// Just behind the tag that opens the first form.
fn inside_form(text: &str) -> Option<usize> {
    let tag = text.find("<form")?;
    Some(tag + text[tag..].find('>')? + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<h1>x</h1><form a><input name=\"username\"></form>";

    #[test]
    fn what_is_filled_in_is_escaped() {
        let filling = Filling { message: Some("<b>no</b>"), username: Some("\"><script>"), next: Some("/a?\"b") };
        let expect = "<h1>x</h1><form a><p class=\"error\" role=\"alert\">&lt;b&gt;no&lt;/b&gt;</p>\
                      <input type=\"hidden\" name=\"next\" value=\"/a?&quot;b\">\
                      <input name=\"username\" value=\"&quot;&gt;&lt;script&gt;\"></form>";
        assert_eq!(fill(PAGE.to_owned(), &filling), expect);
    }

    #[test]
    fn a_page_may_say_where_the_message_goes() {
        let page = format!("{MESSAGE_PLACE}{PAGE}");
        let filling = Filling { message: Some("no"), ..Filling::default() };
        assert!(fill(page, &filling).starts_with("<p class=\"error\" role=\"alert\">no</p><h1>"));
    }

    #[test]
    fn a_page_without_a_form_stays_whole() {
        let filling = Filling { message: Some("no"), username: Some("a"), next: Some("/") };
        assert_eq!(fill("<h1>x</h1>".to_owned(), &filling), "<h1>x</h1>");
    }

    #[test]
    fn nothing_to_fill_in_changes_nothing() {
        assert_eq!(fill(PAGE.to_owned(), &Filling::default()), PAGE);
    }
}
