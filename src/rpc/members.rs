//! The members of a segment as a stream of messages, found no faster than the client takes them.

use super::request_id::RequestId;
use super::status::status;
use super::{RpcError, convert, lookup, pb};
use crate::clock;
use crate::serving::{LoadedModel, Part, Serving};
use habitus_engine::domain::{AsOf, CustomerId};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tonic::Status;
use tonic::codegen::tokio_stream::Stream;

/// Members in one message, at most.
const PAGE: usize = 1_000;

/// Messages that wait for a client who takes them slowly. Beside them wait the members of one part
/// of the customers; no more is kept for any one call.
const AHEAD: usize = 2;

type Answer = Result<pb::ListSegmentMembersResponse, Status>;

/// What is asked for: the members of one cluster of a version at an instant.
pub struct Listing {
    pub serving: Arc<Serving>,
    pub model: Arc<LoadedModel>,
    pub cluster: usize,
    pub as_of: AsOf,
    pub id: RequestId,
}

/// The messages, as tonic takes them. Dropping it ends the work behind it.
#[derive(Debug)]
pub struct Pages(Receiver<Answer>);

impl Stream for Pages {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Answer>> {
        self.0.poll_recv(context)
    }
}

impl Listing {
    /// Begins to look for members. No thread waits for the client: a task does, and the blocking
    /// threads see one part of the customers at a time.
    pub fn start(self) -> Pages {
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            if let Err(error) = self.send_all(&sender).await {
                let mut status = status(&error, &self.id);
                self.id.stamp(status.metadata_mut());
                // Who went away needs no error.
                let _ = sender.send(Err(status)).await;
            }
        });
        Pages(receiver)
    }

    /// Ends early where the client goes away.
    async fn send_all(&self, sender: &Sender<Answer>) -> Result<(), RpcError> {
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
