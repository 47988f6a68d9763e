//! From the version and the instant that a request names to those that are meant, without making
//! other calls wait.

use super::{RpcError, convert};
use crate::clock;
use crate::serving::{LoadedModel, Serving};
use habitus_engine::domain::AsOf;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The version that a request asks for; the served one where it names none.
///
/// A version in memory is found at once. An alias may have moved and a version may have to be
/// loaded, and both mean waiting for the disk.
pub async fn model(
    serving: &Arc<Serving>,
    reference: Option<String>,
) -> Result<Arc<LoadedModel>, RpcError> {
    let Some(reference) = named(reference) else {
        return Ok(serving.served());
    };
    if let Some(model) = serving.loaded(&reference) {
        return Ok(model);
    }
    let serving = Arc::clone(serving);
    Ok(aside(move || serving.load(&reference)).await??)
}

/// The instant that a request to a version asks about; the server's as-of where it names none.
pub fn as_of(
    serving: &Serving,
    model: &LoadedModel,
    asked: Option<prost_types::Timestamp>,
) -> Result<AsOf, RpcError> {
    let asked = convert::instant("as_of", asked)?;
    Ok(serving.as_of(model, asked, clock::now())?)
}

/// Many clients send an empty text for a field that they do not set.
pub fn named(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Does what waits for a disk or fills a core away from the threads that hold connections. What has
/// begun is done to its end, also when the caller goes away; what still waits is not begun then.
pub async fn aside<T, W>(work: W) -> Result<T, RpcError>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    let mut task = Aside(tokio::task::spawn_blocking(work));
    Ok((&mut task.0).await?)
}

/// Work that is not begun any more once nobody waits for it.
struct Aside<T>(JoinHandle<T>);

impl<T> Drop for Aside<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
