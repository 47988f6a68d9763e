//! Records as a stream of requests, each answered when its records are durable.
//!
//! Two tasks do the work of a call. One reads requests, sorts out what cannot be taken and hands the
//! rest to the store's writer; the other waits for the writer and answers. Between them requests may
//! wait, of all calls so many bytes. Beyond that the first stops reading, and HTTP/2 stops the client.

use super::answers::{Answers, Teller, answers, fail};
use super::records::{self, Refused};
use super::request_id::RequestId;
use super::{RpcError, pb};
use crate::clock;
use crate::serving::{MAX_RECORDS, Serving, kept_at};
use crate::store::{Batch, Outcome, StoreError};
use habitus_engine::domain::{RawEvent, RawValue, Timestamp};
use prost::Message;
use std::sync::Arc;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tonic::Streaming;

/// Requests of one call that wait for the writer, at most.
const WAITING: usize = 256;

/// Responses that wait for the client, at most.
const ANSWERS: usize = 4;

/// What a record takes while it waits, besides its bytes: most of it is its result.
const BYTES_PER_RECORD: usize = 192;

/// Kilobytes of requests of all calls that wait for the writer. The more there are, the more a commit
/// takes at once, and the less each of them costs: a commit writes the pages of all customers that it
/// touches.
const MAX_WAITING_KB: usize = 64 << 10;

/// What bounds the requests that wait.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Room {
        Room(Arc::new(Semaphore::new(MAX_WAITING_KB)))
    }
}

impl Room {
    /// Waits until there is room for a request; it is taken until the result is dropped, which is when
    /// its records are durable.
    async fn take(&self, request: &pb::IngestEventsRequest) -> Option<OwnedSemaphorePermit> {
        let bytes = request.encoded_len() + request.records.len() * BYTES_PER_RECORD;
        let kilobytes = bytes.div_ceil(1 << 10).clamp(1, MAX_WAITING_KB);
        // The room is never closed.
        Arc::clone(&self.0).acquire_many_owned(kilobytes as u32).await.ok()
    }
}

/// How far an event may lie ahead of the server's clock. No answer sees it before it has happened.
const AHEAD_MS: i64 = 5 * 60 * 1_000;

type Response = pb::IngestEventsResponse;

/// One call.
pub struct Intake {
    pub serving: Arc<Serving>,
    pub room: Room,
    pub id: RequestId,
}

/// A request whose records are on their way to the disk.
struct Pending {
    /// One per record; those that were handed to the writer are still to be filled in.
    results: Vec<pb::RecordResult>,
    /// The places of those.
    handed: Vec<usize>,
    written: oneshot::Receiver<Written>,
}

type Written = Result<Vec<Outcome>, Arc<StoreError>>;

impl Intake {
    /// Begins to take records.
    pub fn start(self, requests: Streaming<pb::IngestEventsRequest>) -> Answers<Response> {
        let (answer, answers) = answers(ANSWERS);
        let (hand, pending) = mpsc::channel(WAITING);
        let (serving, id) = (Arc::clone(&self.serving), self.id.clone());
        let answering = tokio::spawn(answer_all(serving, id, pending, answer.clone()));
        tokio::spawn(async move {
            if let Err(error) = self.take_all(requests, &hand).await {
                // What was handed over before is answered first.
                drop(hand);
                let _ = answering.await;
                fail(&answer, &error, &self.id).await;
            }
        });
        answers
    }

    /// Ends where the client has no more to say, or went away.
    async fn take_all(
        &self,
        mut requests: Streaming<pb::IngestEventsRequest>,
        hand: &Sender<Pending>,
    ) -> Result<(), RpcError> {
        // A stream that breaks is the client's to know.
        while let Ok(Some(request)) = requests.message().await {
            let got = request.records.len();
            if got > MAX_RECORDS {
                return Err(RpcError::TooManyRecords { got, limit: MAX_RECORDS });
            }
            let room = tokio::select! {
                room = self.room.take(&request) => room,
                // The client went away.
                () = hand.closed() => break,
            };
            if hand.send(self.take(&request, room)?).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn take(
        &self,
        request: &pb::IngestEventsRequest,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Pending, RpcError> {
        let model = self.serving.served();
        // A source's clock may be a little ahead of ours.
        let latest = Timestamp(clock::now().0 + AHEAD_MS);
        let mut batch = Batch::default();
        let mut results = Vec::with_capacity(request.records.len());
        let mut handed = Vec::with_capacity(request.records.len());
        for (place, record) in request.records.iter().enumerate() {
            match put(&mut batch, record, model.rules(), latest) {
                Ok(()) => {
                    handed.push(place);
                    results.push(pb::RecordResult::default());
                }
                Err(refused) => results.push(rejected(&refused)),
            }
        }
        let (tell, written) = oneshot::channel();
        // Who went away hears nothing.
        self.serving.ingest(batch, move |outcomes| {
            drop(room);
            drop(tell.send(outcomes));
        })?;
        Ok(Pending { results, handed, written })
    }
}

/// Puts a record into a batch.
fn put(
    batch: &mut Batch,
    record: &pb::CustomerRecord,
    rules: &habitus_engine::domain::EventRules,
    latest: Timestamp,
) -> Result<(), Refused> {
    match record.record.as_ref().ok_or(Refused::Empty)? {
        pb::customer_record::Record::Event(event) => {
            let customer = records::customer(&event.customer_id)?;
            let row = records::row(event)?;
            let raw = RawEvent { customer: Some(RawValue::Text(customer)), ..row };
            let at = kept_at(rules, &raw, latest)?;
            batch.line(customer, &row, at);
        }
        pb::customer_record::Record::Attributes(told) => {
            let customer = records::customer(&told.customer_id)?;
            batch.about(customer, records::about(told)?);
        }
    }
    Ok(())
}

/// Answers requests in their order, each when the writer is done with it.
async fn answer_all(
    serving: Arc<Serving>,
    id: RequestId,
    mut pending: Receiver<Pending>,
    answer: Teller<Response>,
) {
    while let Some(Pending { mut results, handed, written }) = pending.recv().await {
        let outcomes = match written.await {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(error)) => return fail(&answer, &RpcError::Store(error), &id).await,
            Err(_) => {
                let closed = RpcError::Store(Arc::new(StoreError::Closed));
                return fail(&answer, &closed, &id).await;
            }
        };
        for (place, outcome) in handed.into_iter().zip(outcomes) {
            results[place] = match outcome {
                Outcome::Accepted => kept(pb::RecordStatus::Accepted),
                Outcome::Duplicate => kept(pb::RecordStatus::Duplicate),
                Outcome::Erased => rejected(&Refused::Erased),
                Outcome::Damaged => rejected(&Refused::Damaged),
                Outcome::TooManyNames => rejected(&Refused::TooManyNames),
            };
        }
        let sequence = serving.sequence().unwrap_or(0);
        let request_id = id.to_string();
        let response = pb::IngestEventsResponse { results, sequence, request_id };
        if answer.send(Ok(response)).await.is_err() {
            return;
        }
    }
}

fn kept(status: pb::RecordStatus) -> pb::RecordResult {
    pb::RecordResult { status: status.into(), ..pb::RecordResult::default() }
}

fn rejected(refused: &Refused) -> pb::RecordResult {
    pb::RecordResult {
        status: pb::RecordStatus::Rejected.into(),
        reason: refused.reason().to_owned(),
        message: refused.to_string(),
    }
}
