//! The errors that tonic makes itself, before a service sees the call: they too get a canonical
//! code, an `ErrorInfo` and a request id, so that a client finds in every error what it finds in
//! ours.

use super::request_id::RequestId;
use super::status::DOMAIN;
use std::collections::HashMap;
use tonic::body::Body;
use tonic::codegen::http::Response;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Passes answers on, and errors that already carry details.
pub fn complete(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok && status.details().is_empty() => {
            completed(&status).into_http()
        }
        _ => response,
    }
}

fn completed(status: &Status) -> Status {
    let (code, reason) = match status.code() {
        // tonic blames itself for bytes that are no message; our own faults carry details.
        Code::Internal => (Code::InvalidArgument, "UNREADABLE_MESSAGE"),
        Code::OutOfRange => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        Code::Unimplemented => (Code::Unimplemented, "UNKNOWN_METHOD"),
        Code::NotFound => (Code::NotFound, "UNKNOWN_SERVICE"),
        other => (other, "REFUSED_BY_TRANSPORT"),
    };
    let id = RequestId::of(&MetadataMap::new());
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, HashMap::new());
    details.set_request_info(id.to_string(), "");
    let mut status = Status::with_error_details(code, status.message(), details);
    id.stamp(status.metadata_mut());
    status
}
