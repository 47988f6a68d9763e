//! Answers about histories that a caller supplies, request by request.

use super::answers::{Answers, Teller, answers, fail};
use super::methods::Method;
use super::metrics::{Asked, Metrics};
use super::records::{self, Refused};
use super::request_id::RequestId;
use super::status;
use super::{RpcError, convert, lookup, pb};
use crate::clock;
use crate::serving::{LoadedModel, PARALLEL_FROM, Serving, ServingError};
use habitus_engine::domain::{AsOf, RawEvent, Rejection, Timestamp};
use std::sync::Arc;
use tonic::Streaming;

/// Responses that wait for a client who takes them slowly.
const WAITING: usize = 2;

/// Events that are looked at on a connection's own thread.
const MOST_EVENTS_HERE: usize = 4_096;

type Response = pb::ScoreCustomersResponse;

/// One call.
pub struct Scoring {
    pub serving: Arc<Serving>,
    pub metrics: Arc<Metrics>,
    pub id: RequestId,
}

impl Scoring {
    /// Begins to answer.
    pub fn start(self, requests: Streaming<pb::ScoreCustomersRequest>) -> Answers<Response> {
        let (answer, answers) = answers(WAITING);
        tokio::spawn(async move {
            if let Err(error) = self.answer_all(requests, &answer).await {
                fail(&answer, &error, &self.id).await;
            }
        });
        answers
    }

    async fn answer_all(
        &self,
        mut requests: Streaming<pb::ScoreCustomersRequest>,
        answer: &Teller<Response>,
    ) -> Result<(), RpcError> {
        // A stream that breaks is the client's to know.
        while let Ok(Some(request)) = requests.message().await {
            let response = self.answer(request).await?;
            if answer.send(Ok(response)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn answer(
        &self,
        request: pb::ScoreCustomersRequest,
    ) -> Result<pb::ScoreCustomersResponse, RpcError> {
        let pb::ScoreCustomersRequest { customers, as_of, version } = request;
        self.serving.check_batch(customers.len())?;
        let asked = Asked::now(Method::SCORE_CUSTOMERS);
        let model = lookup::model(&self.serving, version).await?;
        let now = clock::now();
        let as_of = convert::instant("as_of", as_of)?.unwrap_or(now);
        if as_of > now {
            return Err(ServingError::FutureAsOf { as_of, now }.into());
        }
        let as_of = model.rules().zone.as_of(as_of);
        let (name, model_version) = (model.name().to_owned(), model.version().to_owned());
        // Histories of any length may be supplied, and they must not keep other connections waiting.
        let n_events: usize = customers.iter().map(|customer| customer.events.len()).sum();
        let is_small = customers.len() <= PARALLEL_FROM && n_events <= MOST_EVENTS_HERE;
        let answer_each = move || -> Vec<pb::ScoredCustomer> {
            customers.into_iter().map(|one| scored(&model, one, as_of, now)).collect()
        };
        let rows = if is_small { answer_each() } else { lookup::aside(answer_each).await? };
        self.metrics.answered(&asked, &model_version, Ok(rows.len()));
        Ok(pb::ScoreCustomersResponse {
            rows,
            model: name,
            model_version,
            as_of: Some(convert::timestamp(as_of.at)),
            request_id: self.id.to_string(),
        })
    }
}

/// The row of one customer.
fn scored(
    model: &LoadedModel,
    customer: pb::CustomerHistory,
    as_of: AsOf,
    now: Timestamp,
) -> pb::ScoredCustomer {
    let pb::CustomerHistory { customer_id, events, attributes } = customer;
    let id = match records::customer(&customer_id) {
        Ok(id) => id,
        Err(_) => return failed(customer_id, &ServingError::EmptyCustomer.into()),
    };
    let about = match attributes.as_ref().map(records::about).transpose() {
        Ok(about) => about,
        Err(refused) => return failed(customer_id, &refused.into()),
    };
    // What a text that is too long hides no rule can say; the reason is the first row's own.
    let mut too_long = None;
    let rows: Vec<Result<RawEvent<'_>, Rejection>> = events
        .iter()
        .map(|event| {
            records::row(event).map_err(|refused| match refused {
                Refused::Rules(rejection) => rejection,
                other => {
                    too_long = too_long.take().or(Some(other));
                    Rejection::Ragged
                }
            })
        })
        .collect();
    let supplied = model.answer_for(id, &rows, about.map(records::attributes), as_of, now);
    let reason = supplied.first_unread.map(|rejection| match (rejection, &too_long) {
        (Rejection::Ragged, Some(refused)) => refused.reason(),
        _ => Refused::Rules(rejection).reason(),
    });
    pb::ScoredCustomer {
        row: Some(convert::batch_row(customer_id.clone(), Ok(supplied.prediction), model, None)),
        unread_events: supplied.unread,
        first_unread_reason: reason.unwrap_or_default().to_owned(),
    }
}

/// The row of a customer about whom nothing can be said.
fn failed(customer_id: String, error: &RpcError) -> pb::ScoredCustomer {
    let outcome = pb::batch_predict_row::Outcome::Error(status::row_error(error));
    let row = pb::BatchPredictRow { customer_id, outcome: Some(outcome) };
    pb::ScoredCustomer { row: Some(row), unread_events: 0, first_unread_reason: String::new() }
}
