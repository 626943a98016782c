//! The first tracker protocol: one event in the query string, the body ignored. Snowplow: `enrich-core.md` 1.8.

use super::{Adapted, input_data};
use crate::request::Request;
use crate::self_describing::Checker;

pub(super) fn adapt<'r>(request: &'r Request<'_>, _: Checker<'_>) -> Adapted<'r> {
    let parameters = request.parameters();
    if parameters.is_empty() {
        // The wording is Snowplow's, though nothing is redirected here.
        let expectation = "empty querystring: not a valid URI redirect";
        return Err(vec![input_data("querystring", None, expectation)]);
    }
    Ok(vec![parameters])
}
