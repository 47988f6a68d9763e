//! `ModelService`: what the versions of a model are, and what its aliases mean.

use super::pb::model_service_server::ModelService;
use super::reply::reply;
use super::request_id::RequestId;
use super::{RpcError, describe, lookup, pb};
use crate::clock;
use crate::serving::{Pointed, Serving, ServingError};
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
        // Taken before the list is read, so that the list holds it.
        let served = self.serving.served();
        let versions = lookup::aside(move || serving.list(name.as_deref())).await??;
        Ok(versions.into_iter().map(|version| describe::listed(version, &served)).collect())
    }

    async fn get(
        &self,
        request: pb::GetModelVersionRequest,
        id: &RequestId,
    ) -> Result<pb::GetModelVersionResponse, RpcError> {
        let name = lookup::named(request.name);
        let version = lookup::named(request.version);
        let serving = Arc::clone(&self.serving);
        let served = self.serving.served();
        let meant = Arc::clone(&served);
        let describe = move || serving.describe(&meant, name.as_deref(), version.as_deref());
        let described = lookup::aside(describe).await??;
        Ok(describe::described(described, &served, id.to_string()))
    }

    async fn set(
        &self,
        request: pb::SetAliasRequest,
        id: &RequestId,
    ) -> Result<pb::SetAliasResponse, RpcError> {
        let pb::SetAliasRequest { name, alias, version, force } = request;
        if version.is_empty() {
            return Err(RpcError::EmptyVersion);
        }
        let name = lookup::named(name);
        let (serving, request_id) = (Arc::clone(&self.serving), id.to_string());
        // It is logged where it happens: a caller who goes away does not stop the change.
        let set = move || -> Result<Pointed, ServingError> {
            let name = name.as_deref();
            let pointed = serving.set_alias(name, &alias, &version, force, clock::now())?;
            let Pointed { name, alias, version, .. } = &pointed;
            tracing::info!(%request_id, %name, %alias, %version, force, "an alias was set");
            Ok(pointed)
        };
        let Pointed { name, alias, version, served } = lookup::aside(set).await??;
        Ok(pb::SetAliasResponse {
            served_version: served,
            name,
            alias,
            version,
            request_id: id.to_string(),
        })
    }

    async fn go_back(
        &self,
        request: pb::RollBackRequest,
        id: &RequestId,
    ) -> Result<pb::RollBackResponse, RpcError> {
        let name = lookup::named(request.name);
        let alias = lookup::named(request.alias);
        let (serving, request_id) = (Arc::clone(&self.serving), id.to_string());
        let go_back = move || -> Result<Pointed, ServingError> {
            let pointed = serving.roll_back(name.as_deref(), alias.as_deref(), clock::now())?;
            let Pointed { name, alias, version, .. } = &pointed;
            tracing::info!(%request_id, %name, %alias, %version, "an alias was rolled back");
            Ok(pointed)
        };
        let Pointed { name, alias, version, served } = lookup::aside(go_back).await??;
        Ok(pb::RollBackResponse {
            served_version: served,
            name,
            alias,
            version,
            request_id: id.to_string(),
        })
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
        reply(&id, self.get(request.into_inner(), &id).await)
    }

    async fn set_alias(
        &self,
        request: Request<pb::SetAliasRequest>,
    ) -> Result<Response<pb::SetAliasResponse>, Status> {
        let id = RequestId::of(request.metadata());
        reply(&id, self.set(request.into_inner(), &id).await)
    }

    async fn roll_back(
        &self,
        request: Request<pb::RollBackRequest>,
    ) -> Result<Response<pb::RollBackResponse>, Status> {
        let id = RequestId::of(request.metadata());
        reply(&id, self.go_back(request.into_inner(), &id).await)
    }
}
