//! The members of a segment as a stream of messages, found no faster than the client takes them.

use super::answers::{Answers, Teller, answers, fail};
use super::request_id::RequestId;
use super::{RpcError, convert, lookup, pb};
use crate::clock;
use crate::serving::{LoadedModel, Part, Serving};
use habitus_engine::domain::{AsOf, CustomerId};
use std::sync::Arc;

/// Members in one message, at most.
const PAGE: usize = 1_000;

/// Messages that wait for a client who takes them slowly. Beside them wait the members of one part
/// of the customers; no more is kept for any one call.
const AHEAD: usize = 2;

/// One message.
pub type Page = pb::ListSegmentMembersResponse;

/// What is asked for: the members of one cluster of a version at an instant.
pub struct Listing {
    pub serving: Arc<Serving>,
    pub model: Arc<LoadedModel>,
    pub cluster: usize,
    pub as_of: AsOf,
    pub id: RequestId,
}

impl Listing {
    /// Begins to look for members. No thread waits for the client: a task does, and the blocking
    /// threads see one part of the customers at a time.
    pub fn start(self) -> Answers<Page> {
        let (sender, pages) = answers(AHEAD);
        tokio::spawn(async move {
            if let Err(error) = self.send_all(&sender).await {
                fail(&sender, &error, &self.id).await;
            }
        });
        pages
    }

    /// Ends early where the client goes away.
    async fn send_all(&self, sender: &Teller<Page>) -> Result<(), RpcError> {
        let mut waiting: Vec<pb::SegmentMember> = Vec::new();
        let mut is_first = true;
        let mut after = None;
        loop {
            // While nobody is found, nothing is sent that could tell that the client is gone.
            if sender.is_closed() {
                return Ok(());
            }
            let Some(part) = self.part(after).await? else { break };
            waiting.extend(part.members.iter().map(convert::member));
            after = Some(part.last);
            while waiting.len() >= PAGE {
                let page = waiting.drain(..PAGE).collect();
                if sender.send(Ok(self.message(page))).await.is_err() {
                    return Ok(());
                }
                is_first = false;
            }
        }
        if is_first || !waiting.is_empty() {
            let _ = sender.send(Ok(self.message(waiting))).await;
        }
        Ok(())
    }

    /// The members among the next customers after an id; `None` after the last one. With a store each
    /// part is of the moment at which it is found.
    async fn part(&self, after: Option<CustomerId>) -> Result<Option<Part>, RpcError> {
        let (serving, model) = (Arc::clone(&self.serving), Arc::clone(&self.model));
        let (cluster, as_of) = (self.cluster, self.as_of);
        let found = lookup::aside(move || {
            serving.view(clock::now()).members(&model, cluster, as_of, after.as_ref())
        });
        Ok(found.await??)
    }

    fn message(&self, members: Vec<pb::SegmentMember>) -> pb::ListSegmentMembersResponse {
        pb::ListSegmentMembersResponse {
            members,
            model: self.model.name().to_owned(),
            model_version: self.model.version().to_owned(),
            as_of: Some(convert::timestamp(self.as_of.at)),
            request_id: self.id.to_string(),
        }
    }
}
