//! `SegmentService`: what the segments of a version are like, and who belongs to them.

use super::answers::Answers;
use super::members::{Listing, Page};
use super::pb::segment_service_server::SegmentService;
use super::reply::reply;
use super::request_id::RequestId;
use super::{RpcError, convert, lookup, pb};
use crate::serving::Serving;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct Segments {
    serving: Arc<Serving>,
}

impl Segments {
    pub fn new(serving: Arc<Serving>) -> Segments {
        Segments { serving }
    }

    async fn list(
        &self,
        request: pb::ListSegmentsRequest,
        id: &RequestId,
    ) -> Result<pb::ListSegmentsResponse, RpcError> {
        let model = lookup::model(&self.serving, request.version).await?;
        Ok(pb::ListSegmentsResponse {
            segments: convert::segments(&model),
            model: model.name().to_owned(),
            model_version: model.version().to_owned(),
            request_id: id.to_string(),
        })
    }

    async fn get(
        &self,
        request: pb::GetSegmentRequest,
        id: &RequestId,
    ) -> Result<pb::GetSegmentResponse, RpcError> {
        if request.segment_id.is_empty() {
            return Err(RpcError::EmptySegmentId);
        }
        let model = lookup::model(&self.serving, request.version).await?;
        let (cluster, segment) = model.segment(&request.segment_id)?;
        Ok(pb::GetSegmentResponse {
            segment: Some(convert::segment(cluster, segment, model.scorer.version())),
            model: model.name().to_owned(),
            model_version: model.version().to_owned(),
            request_id: id.to_string(),
        })
    }

    async fn members(
        &self,
        request: pb::ListSegmentMembersRequest,
        id: &RequestId,
    ) -> Result<Answers<Page>, RpcError> {
        if request.segment_id.is_empty() {
            return Err(RpcError::EmptySegmentId);
        }
        let model = lookup::model(&self.serving, request.version).await?;
        let as_of = lookup::as_of(&self.serving, &model, request.as_of)?;
        let (cluster, _) = model.segment(&request.segment_id)?;
        let (serving, id) = (Arc::clone(&self.serving), id.clone());
        Ok(Listing { serving, model, cluster, as_of, id }.start())
    }
}

#[tonic::async_trait]
impl SegmentService for Segments {
    type ListSegmentMembersStream = Answers<Page>;

    async fn list_segments(
        &self,
        request: Request<pb::ListSegmentsRequest>,
    ) -> Result<Response<pb::ListSegmentsResponse>, Status> {
        let id = RequestId::of(request.metadata());
        reply(&id, self.list(request.into_inner(), &id).await)
    }

    async fn get_segment(
        &self,
        request: Request<pb::GetSegmentRequest>,
    ) -> Result<Response<pb::GetSegmentResponse>, Status> {
        let id = RequestId::of(request.metadata());
        reply(&id, self.get(request.into_inner(), &id).await)
    }

    async fn list_segment_members(
        &self,
        request: Request<pb::ListSegmentMembersRequest>,
    ) -> Result<Response<Answers<Page>>, Status> {
        let id = RequestId::of(request.metadata());
        reply(&id, self.members(request.into_inner(), &id).await)
    }
}
