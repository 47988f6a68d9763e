//! The end of every call: a message or a status, with the call's id.

use super::RpcError;
use super::request_id::RequestId;
use super::status::status;
use tonic::{Response, Status};

/// Stamps the id on the answer, and turns an error into its status.
pub fn reply<T>(id: &RequestId, outcome: Result<T, RpcError>) -> Result<Response<T>, Status> {
    match outcome {
        Ok(message) => {
            let mut response = Response::new(message);
            id.stamp(response.metadata_mut());
            Ok(response)
        }
        Err(error) => {
            let mut status = status(&error, id);
            id.stamp(status.metadata_mut());
            Err(status)
        }
    }
}
