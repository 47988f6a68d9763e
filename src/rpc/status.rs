//! The one table from errors to gRPC statuses.

use super::request_id::RequestId;
use super::{RpcError, pb};
use crate::registry::RegistryError;
use crate::serving::ServingError;
use crate::store::StoreError;
use habitus_engine::scoring::ScorerError;
use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "habitus.v1";

/// A message can quote the caller, and it travels in headers, whose size clients bound.
const MAX_MESSAGE_CHARS: usize = 256;

/// When a call that came at a bad moment may be tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a caller is told of an error.
struct Told {
    code: Code,
    /// Stable: clients may branch on it.
    reason: &'static str,
    message: String,
    /// The request's bad field.
    field: Option<&'static str>,
    /// Values that a client may want to read without parsing the message.
    metadata: HashMap<String, String>,
    /// Set where the same call may succeed later.
    retry_after: Option<Duration>,
}

/// The status of a call that failed. Faults on our side are logged here, once; the caller learns
/// neither paths nor causes.
pub fn status(error: &RpcError, id: &RequestId) -> Status {
    let told = told(error);
    let cause: &(dyn Error + 'static) = error;
    if matches!(told.code, Code::Internal | Code::DataLoss | Code::Unavailable) {
        tracing::error!(request_id = %id, reason = told.reason, error = cause, "call failed");
    } else {
        tracing::debug!(request_id = %id, reason = told.reason, error = cause, "call refused");
    }
    let mut details = ErrorDetails::new();
    details.set_error_info(told.reason, DOMAIN, told.metadata);
    details.set_request_info(id.to_string(), "");
    if let Some(field) = told.field {
        details.add_bad_request_violation(field, told.message.as_str());
    }
    if told.retry_after.is_some() {
        details.set_retry_info(told.retry_after);
    }
    Status::with_error_details(told.code, told.message, details)
}

/// The code alone.
pub fn code(error: &RpcError) -> Code {
    told(error).code
}

/// The error of one row of a batch: a result, and so not logged.
pub fn row_error(error: &RpcError) -> pb::RowError {
    let told = told(error);
    pb::RowError { code: told.code.into(), message: told.message, reason: told.reason.to_owned() }
}

fn told(error: &RpcError) -> Told {
    match error {
        RpcError::BadTimestamp { field, .. } => Told::bad_field("BAD_TIMESTAMP", field, error),
        RpcError::EmptySegmentId => Told::bad_field("EMPTY_SEGMENT_ID", "segment_id", error),
        RpcError::EmptyVersion => Told::bad_field("EMPTY_VERSION", "version", error),
        RpcError::TokenMissing => {
            Told::new(Code::Unauthenticated, "TOKEN_MISSING", error.to_string())
        }
        RpcError::TokenUnknown => {
            Told::new(Code::Unauthenticated, "TOKEN_UNKNOWN", error.to_string())
        }
        RpcError::TooManyCalls { most } => {
            let told = Told::new(Code::ResourceExhausted, "TOO_MANY_CALLS", error.to_string());
            Told { retry_after: Some(RETRY_AFTER), ..told }.with("limit", most)
        }
        RpcError::BrokenOff(_) => Told::internal(),
        RpcError::TooManyRecords { got, limit } => {
            Told::new(Code::ResourceExhausted, "TOO_MANY_RECORDS", error.to_string())
                .with("got", got)
                .with("limit", limit)
        }
        RpcError::Refused(refused) => Told::bad_field(refused.reason(), "attributes", refused),
        RpcError::Store(error) => told_of_store(error),
        RpcError::Serving(error) => told_of_serving(error),
    }
}

fn told_of_serving(error: &ServingError) -> Told {
    match error {
        ServingError::EmptyCustomer => Told::bad_field("EMPTY_CUSTOMER_ID", "customer_id", error),
        ServingError::FutureAsOf { .. } => Told::bad_field("AS_OF_IN_FUTURE", "as_of", error),
        ServingError::AsOfTooOld { kept_from, .. } => {
            let told = Told::new(Code::OutOfRange, "AS_OF_TOO_OLD", error.to_string());
            Told { field: Some("as_of"), ..told }.with("kept_from", kept_from)
        }
        ServingError::NoStore => Told::new(Code::FailedPrecondition, "NO_STORE", error.to_string()),
        ServingError::Store(error) => told_of_store(error),
        ServingError::BatchTooLarge { got, limit } => {
            Told::bad_field("BATCH_TOO_LARGE", "customer_ids", error)
                .with("got", got)
                .with("limit", limit)
        }
        ServingError::UnknownSegment { .. } => {
            Told::new(Code::NotFound, "UNKNOWN_SEGMENT", error.to_string())
        }
        ServingError::BadAlias { .. } => Told::bad_field("BAD_ALIAS", "alias", error),
        ServingError::RulesDiffer { rule, asked, served, .. } => {
            Told::new(Code::FailedPrecondition, "EVENT_RULES_DIFFER", error.to_string())
                .with("rule", rule)
                .with("asked", asked)
                .with("served", served)
        }
        ServingError::CustomersNeeded { .. } => {
            Told::new(Code::FailedPrecondition, "CUSTOMERS_NEEDED", error.to_string())
        }
        ServingError::Unanswerable { version, source } => told_of_scorer(source, version),
        ServingError::Registry(error) => told_of_registry(error),
    }
}

fn told_of_scorer(error: &ScorerError, version: &str) -> Told {
    match error {
        ScorerError::Format { .. } => Told::new(
            Code::FailedPrecondition,
            "UNKNOWN_FORMAT",
            format!("version `{version}` was written by another release of habitus"),
        ),
        ScorerError::Spec(_) | ScorerError::Mismatch { .. } => Told::damaged(),
    }
}

fn told_of_registry(error: &RegistryError) -> Told {
    match error {
        RegistryError::UnknownModel { .. } => {
            Told::new(Code::NotFound, "UNKNOWN_MODEL", error.to_string())
        }
        RegistryError::UnknownVersion { .. } => {
            Told::new(Code::NotFound, "UNKNOWN_VERSION", error.to_string())
        }
        RegistryError::NothingToRollBack { .. } => {
            Told::new(Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK", error.to_string())
        }
        RegistryError::GateRefused { version, reason, .. } => {
            Told::new(Code::FailedPrecondition, "GATE_REFUSED", error.to_string())
                .with("version", version)
                .with("gate_reason", reason)
        }
        RegistryError::Damaged { .. } => Told::damaged(),
        RegistryError::Io { .. } => Told::internal(),
    }
}

fn told_of_store(error: &StoreError) -> Told {
    match error {
        StoreError::Damaged { .. } | StoreError::DamagedRecord { .. } => {
            let message = "a record of the store is damaged; `habitus store check` tells which";
            Told::new(Code::DataLoss, "DAMAGED_STORE", message.to_owned())
        }
        _ => {
            let message = "the store cannot be used; the server's log tells more";
            Told::new(Code::Unavailable, "STORE_UNAVAILABLE", message.to_owned())
        }
    }
}

impl Told {
    fn new(code: Code, reason: &'static str, message: String) -> Told {
        let (message, metadata) = (shortened(message), HashMap::new());
        Told { code, reason, message, field: None, metadata, retry_after: None }
    }

    fn bad_field(reason: &'static str, field: &'static str, error: &dyn Error) -> Told {
        let told = Told::new(Code::InvalidArgument, reason, error.to_string());
        Told { field: Some(field), ..told }
    }

    fn damaged() -> Told {
        Told::new(Code::DataLoss, "DAMAGED_ARTEFACT", "the version is damaged on disk".to_owned())
    }

    fn internal() -> Told {
        let message = "something went wrong on the server; its log tells more".to_owned();
        Told::new(Code::Internal, "INTERNAL", message)
    }

    fn with(mut self, key: &str, value: &impl ToString) -> Told {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }
}

fn shortened(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE_CHARS) {
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use habitus_engine::domain::Timestamp;
    use std::path::PathBuf;
    use tonic::metadata::MetadataMap;

    fn status_of(error: impl Into<RpcError>) -> Status {
        status(&error.into(), &RequestId::of(&MetadataMap::new()))
    }

    #[test]
    fn a_bad_field_is_named() {
        let future = ServingError::FutureAsOf { as_of: Timestamp(2), now: Timestamp(1) };
        let status = status_of(future);
        assert_eq!(status.code(), Code::InvalidArgument);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("AS_OF_IN_FUTURE", DOMAIN));
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "as_of");
        assert_eq!(violations[0].description, status.message());
        assert!(status.get_details_request_info().is_some());
    }

    #[test]
    fn paths_and_causes_stay_here() {
        let path = PathBuf::from("secret");
        let damaged = RegistryError::Damaged { path: path.clone(), reason: "secret".into() };
        let io = RegistryError::Io { path, source: std::io::Error::other("secret") };
        for (error, code) in [(damaged, Code::DataLoss), (io, Code::Internal)] {
            let status = status_of(ServingError::from(error));
            assert_eq!(status.code(), code);
            assert!(!status.message().contains("secret"));
            assert!(status.get_details_error_info().is_some());
        }
    }

    #[test]
    fn the_gate_is_quoted_in_full_where_the_message_is_cut() {
        let reason = "it is worse; ".repeat(40);
        let (name, version) = ("shop".to_owned(), "v".to_owned());
        let refused = RegistryError::GateRefused { name, version, reason: reason.clone() };
        let status = status_of(ServingError::from(refused));
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("it is worse; it is worse"));
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "GATE_REFUSED");
        assert_eq!(info.metadata["version"], "v");
        assert_eq!(info.metadata["gate_reason"], reason);
    }

    #[test]
    fn a_row_has_the_reason_that_the_call_would_have_had() {
        let error = RpcError::from(ServingError::EmptyCustomer);
        let row = row_error(&error);
        let status = status(&error, &RequestId::of(&MetadataMap::new()));
        assert_eq!(Code::from(row.code), status.code());
        assert_eq!(row.reason, status.get_details_error_info().unwrap().reason);
    }

    #[test]
    fn a_caller_is_quoted_in_part() {
        let id = "é".repeat(100_000);
        let status = status_of(ServingError::UnknownSegment { version: "v".into(), id });
        assert_eq!(status.message().chars().count(), MAX_MESSAGE_CHARS + 1);
    }
}
