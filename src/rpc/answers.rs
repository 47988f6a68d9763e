//! An answer in several messages, made no faster than the client takes them.

use super::RpcError;
use super::request_id::RequestId;
use super::status::status;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tonic::Status;
use tonic::codegen::tokio_stream::Stream;

/// The messages, as tonic takes them. Dropping it tells whoever makes them that the client is gone.
#[derive(Debug)]
pub struct Answers<T>(Receiver<Result<T, Status>>);

/// Where the messages are put.
pub type Teller<T> = Sender<Result<T, Status>>;

impl<T> Stream for Answers<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// An answer of which at most `ahead` messages wait for the client.
pub fn answers<T>(ahead: usize) -> (Teller<T>, Answers<T>) {
    let (teller, receiver) = mpsc::channel(ahead);
    (teller, Answers(receiver))
}

/// Ends an answer with the status of an error. Who went away needs none.
pub async fn fail<T>(teller: &Teller<T>, error: &RpcError, id: &RequestId) {
    let mut status = status(error, id);
    id.stamp(status.metadata_mut());
    let _ = teller.send(Err(status)).await;
}
