//! `ModelService`: what the versions of a model are.

use super::pb::model_service_server::ModelService;
use super::reply::reply;
use super::request_id::RequestId;
use super::{RpcError, convert, lookup, pb};
use crate::serving::Serving;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct Models {
    serving: Arc<Serving>,
}

impl Models {
    pub fn new(serving: Arc<Serving>) -> Models {
        Models { serving }
    }

    async fn list(
        &self,
        request: pb::ListModelVersionsRequest,
    ) -> Result<Vec<pb::ModelVersion>, RpcError> {
        let name = lookup::named(request.name);
        let serving = Arc::clone(&self.serving);
        let versions = lookup::aside(move || serving.list(name.as_deref())).await??;
        let served = self.serving.served();
        Ok(versions.into_iter().map(|version| convert::listed(version, &served)).collect())
    }

    async fn get(&self, request: pb::GetModelVersionRequest) -> Result<pb::ModelVersion, RpcError> {
        let name = lookup::named(request.name);
        let version = lookup::named(request.version);
        let serving = Arc::clone(&self.serving);
        let described =
            lookup::aside(move || serving.describe(name.as_deref(), version.as_deref())).await??;
        Ok(convert::described(described, &self.serving.served()))
    }
}

#[tonic::async_trait]
impl ModelService for Models {
    async fn list_model_versions(
        &self,
        request: Request<pb::ListModelVersionsRequest>,
    ) -> Result<Response<pb::ListModelVersionsResponse>, Status> {
        let id = RequestId::of(request.metadata());
        let versions = self.list(request.into_inner()).await;
        reply(
            &id,
            versions.map(|versions| pb::ListModelVersionsResponse {
                versions,
                request_id: id.to_string(),
            }),
        )
    }

    async fn get_model_version(
        &self,
        request: Request<pb::GetModelVersionRequest>,
    ) -> Result<Response<pb::GetModelVersionResponse>, Status> {
        let id = RequestId::of(request.metadata());
        let version = self.get(request.into_inner()).await;
        reply(
            &id,
            version.map(|version| pb::GetModelVersionResponse {
                version: Some(version),
                request_id: id.to_string(),
            }),
        )
    }
}
