//! `PredictionService`: answers about customers.

use super::answers::Answers;
use super::methods::Method;
use super::metrics::{Asked, Metrics};
use super::pb::prediction_service_server::PredictionService;
use super::reply::reply;
use super::request_id::RequestId;
use super::scored::Scoring;
use super::{RpcError, convert, lookup, pb, status};
use crate::clock;
use crate::serving::{LoadedModel, PARALLEL_FROM, Serving};
use habitus_engine::domain::AsOf;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

pub struct Predictions {
    serving: Arc<Serving>,
    metrics: Arc<Metrics>,
}

impl Predictions {
    pub fn new(serving: Arc<Serving>, metrics: Arc<Metrics>) -> Predictions {
        Predictions { serving, metrics }
    }

    async fn one(&self, request: pb::GetPredictionRequest) -> Result<pb::Prediction, RpcError> {
        let asked = Asked::now(Method::GET_PREDICTION);
        let model = lookup::model(&self.serving, request.version).await?;
        let answer = || -> Result<pb::Prediction, RpcError> {
            let as_of = lookup::as_of(&self.serving, &model, request.as_of)?;
            let view = self.serving.view(clock::now());
            let prediction = view.predict(&model, &request.customer_id, as_of)?;
            Ok(convert::prediction(prediction, &model, view.sequence()))
        };
        let answer = answer();
        let told = answer.as_ref().map(|_| 1).map_err(status::code);
        self.metrics.answered(&asked, model.version(), told);
        answer
    }

    async fn batch(
        &self,
        request: pb::BatchPredictRequest,
        id: &RequestId,
    ) -> Result<pb::BatchPredictResponse, RpcError> {
        self.serving.check_batch(request.customer_ids.len())?;
        let asked = Asked::now(Method::BATCH_PREDICT);
        let model = lookup::model(&self.serving, request.version).await?;
        let as_of = lookup::as_of(&self.serving, &model, request.as_of);
        let as_of = as_of.inspect_err(|error| {
            self.metrics.answered(&asked, model.version(), Err(status::code(error)));
        })?;
        let rows = self.rows(&model, request.customer_ids, as_of).await?;
        self.metrics.answered(&asked, model.version(), Ok(rows.len()));
        Ok(pb::BatchPredictResponse {
            rows,
            model: model.name().to_owned(),
            model_version: model.version().to_owned(),
            as_of: Some(convert::timestamp(as_of.at)),
            request_id: id.to_string(),
        })
    }

    /// A small batch is answered where it stands. A large one fills cores, and that must not keep
    /// other connections waiting.
    async fn rows(
        &self,
        model: &Arc<LoadedModel>,
        customers: Vec<String>,
        as_of: AsOf,
    ) -> Result<Vec<pb::BatchPredictRow>, RpcError> {
        if customers.len() <= PARALLEL_FROM {
            return Ok(answer(&self.serving, model, customers, as_of));
        }
        let (serving, model) = (Arc::clone(&self.serving), Arc::clone(model));
        lookup::aside(move || answer(&serving, &model, customers, as_of)).await
    }
}

#[tonic::async_trait]
impl PredictionService for Predictions {
    async fn get_prediction(
        &self,
        request: Request<pb::GetPredictionRequest>,
    ) -> Result<Response<pb::GetPredictionResponse>, Status> {
        let id = RequestId::of(request.metadata());
        let prediction = self.one(request.into_inner()).await;
        reply(
            &id,
            prediction.map(|prediction| pb::GetPredictionResponse {
                prediction: Some(prediction),
                request_id: id.to_string(),
            }),
        )
    }

    type ScoreCustomersStream = Answers<pb::ScoreCustomersResponse>;

    async fn score_customers(
        &self,
        request: Request<Streaming<pb::ScoreCustomersRequest>>,
    ) -> Result<Response<Self::ScoreCustomersStream>, Status> {
        let id = RequestId::of(request.metadata());
        let (serving, metrics) = (Arc::clone(&self.serving), Arc::clone(&self.metrics));
        let scoring = Scoring { serving, metrics, id: id.clone() };
        reply(&id, Ok(scoring.start(request.into_inner())))
    }

    async fn batch_predict(
        &self,
        request: Request<pb::BatchPredictRequest>,
    ) -> Result<Response<pb::BatchPredictResponse>, Status> {
        let id = RequestId::of(request.metadata());
        reply(&id, self.batch(request.into_inner(), &id).await)
    }
}

fn answer(
    serving: &Serving,
    model: &LoadedModel,
    customers: Vec<String>,
    as_of: AsOf,
) -> Vec<pb::BatchPredictRow> {
    let view = serving.view(clock::now());
    let sequence = view.sequence();
    let row = |customer, answer| convert::batch_row(customer, answer, model, sequence);
    view.predict_batch(model, customers, as_of, row)
}
