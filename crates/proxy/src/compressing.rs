//! Answers made smaller, and counted as what goes to the client.

use std::rc::Rc;

use engine::{Body, Method, RequestHead, Response};
use weaprous::compress::Compress;

use crate::observe::Watch;

/// Compresses an answer by the framework's rules.
pub(crate) fn compress(by: &Compress, head: &RequestHead, response: &mut Response, watch: &Rc<Watch>) {
    let was_encoded = response.fields.contains("content-encoding");
    by.compress(head, response);
    let is_encoded = !was_encoded && response.fields.contains("content-encoding");
    if is_encoded && head.method() != Method::Head && matches!(response.body, Body::Stream(_)) {
        response.body = watch.count_sent(std::mem::take(&mut response.body));
    }
}
