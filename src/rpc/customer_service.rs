//! `CustomerService`: what customers do, told to the server and taken back.

use super::answers::Answers;
use super::pb::customer_service_server::CustomerService;
use super::records_stream::{Intake, Room};
use super::reply::reply;
use super::request_id::RequestId;
use super::{RpcError, convert, lookup, pb};
use crate::clock;
use crate::serving::{Presence, Serving, ServingError};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

pub struct Customers {
    serving: Arc<Serving>,
    room: Room,
}

impl Customers {
    pub fn new(serving: Arc<Serving>) -> Customers {
        Customers { serving, room: Room::default() }
    }

    async fn erase(
        &self,
        request: pb::DeleteCustomerRequest,
        id: &RequestId,
    ) -> Result<pb::DeleteCustomerResponse, RpcError> {
        let (serving, at) = (Arc::clone(&self.serving), clock::now());
        let request_id = id.to_string();
        let customer_id = request.customer_id.trim().to_owned();
        let customer = customer_id.clone();
        // It is logged where it happens, without the id: a caller who goes away does not stop it.
        let erase = move || {
            let receipt = serving.erase(&customer, at)?;
            let events = receipt.erased.n_lines;
            tracing::info!(%request_id, events, "a customer was erased");
            Ok::<_, ServingError>(receipt)
        };
        let receipt = lookup::aside(erase).await??;
        let presence = |presence| match presence {
            Presence::Certain => pb::Presence::Certain,
            Presence::Possible => pb::Presence::Possible,
        };
        Ok(pb::DeleteCustomerResponse {
            customer_id,
            erased_at: Some(convert::timestamp(at)),
            was_known: receipt.erased.was_known,
            events: receipt.erased.n_lines,
            attributes: receipt.erased.had_attributes,
            cleaned: receipt.cleaned.iter().map(|&place| place.to_owned()).collect(),
            remaining: receipt.remaining.to_owned(),
            versions: receipt
                .versions
                .into_iter()
                .map(|trained| pb::TrainedVersion {
                    name: trained.name,
                    version: trained.version,
                    presence: presence(trained.presence).into(),
                })
                .collect(),
            sequence: receipt.erased.sequence,
            request_id: id.to_string(),
        })
    }
}

#[tonic::async_trait]
impl CustomerService for Customers {
    type IngestEventsStream = Answers<pb::IngestEventsResponse>;

    async fn ingest_events(
        &self,
        request: Request<Streaming<pb::IngestEventsRequest>>,
    ) -> Result<Response<Self::IngestEventsStream>, Status> {
        let id = RequestId::of(request.metadata());
        if !self.serving.has_store() {
            return reply(&id, Err(ServingError::NoStore.into()));
        }
        let (serving, room) = (Arc::clone(&self.serving), self.room.clone());
        let intake = Intake { serving, room, id: id.clone() };
        reply(&id, Ok(intake.start(request.into_inner())))
    }

    async fn delete_customer(
        &self,
        request: Request<pb::DeleteCustomerRequest>,
    ) -> Result<Response<pb::DeleteCustomerResponse>, Status> {
        let id = RequestId::of(request.metadata());
        reply(&id, self.erase(request.into_inner(), &id).await)
    }
}
