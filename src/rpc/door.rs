//! The door that every call goes through, in and out: too many are turned away, those that need a
//! token are asked for it, and each is counted when its answer has ended.

use super::RpcError;
use super::auth::Tokens;
use super::methods::{Class, Method};
use super::metrics::Metrics;
use super::request_id::RequestId;
use super::status::status;
use crate::clock;
use http_body::Frame;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::codegen::{Bytes, Service};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tower::Layer;

/// Where the code of a call stands, in trailers or, of one that failed at once, in headers.
const STATUS: &str = "grpc-status";

/// What is decided and counted at the door.
pub struct Door {
    /// Each call writes here twice, and to the count of references that lies beside it in memory.
    in_flight: AtomicU64,
    max_calls: u64,
    tokens: Tokens,
    metrics: Arc<Metrics>,
}

impl Door {
    pub fn new(max_calls: u64, tokens: Tokens, metrics: Arc<Metrics>) -> Door {
        Door { in_flight: AtomicU64::new(0), max_calls, tokens, metrics }
    }

    /// Calls in flight, but health checks.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Decides by the path and the headers alone, before anything is read of the message. Too many
    /// calls are turned away first, so that this stays cheap whatever they bring.
    fn admit(&self, call: &mut Call, headers: &HeaderMap) -> Result<(), RpcError> {
        if call.method.class == Class::Health {
            return Ok(());
        }
        if !self.enter() {
            return Err(RpcError::TooManyCalls { most: self.max_calls });
        }
        call.entered = true;
        if call.method.class == Class::Guarded {
            self.tokens.check(headers)?;
        }
        Ok(())
    }

    /// Counts one more call in flight, unless there are as many as may be.
    fn enter(&self) -> bool {
        let entered = self.in_flight.fetch_add(1, Ordering::Relaxed) < self.max_calls;
        if !entered {
            self.leave();
        }
        entered
    }

    fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One call, from its headers to the end of its answer. It is counted when this is dropped.
struct Call {
    door: Arc<Door>,
    method: Method,
    started: Instant,
    /// Whether it is among the calls in flight.
    entered: bool,
    /// A call that nobody waits for any more ends as cancelled.
    code: Code,
}

impl Call {
    fn begin(door: &Arc<Door>, method: Method) -> Call {
        let (door, started) = (Arc::clone(door), clock::tick());
        Call { door, method, started, entered: false, code: Code::Cancelled }
    }

    fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Who sees that it is no longer in flight must find it counted.
        self.door.metrics.ended(self.method, self.code, clock::tick() - self.started);
        if self.entered {
            self.door.leave();
        }
    }
}

/// Puts the door around the services.
#[derive(Clone)]
pub struct DoorLayer(Arc<Door>);

impl DoorLayer {
    pub fn new(door: &Arc<Door>) -> DoorLayer {
        DoorLayer(Arc::clone(door))
    }
}

impl<S> Layer<S> for DoorLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { door: Arc::clone(&self.0), inner }
    }
}

/// The services behind the door.
#[derive(Clone)]
pub struct Guarded<S> {
    door: Arc<Door>,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Unpin,
{
    type Response = Response<Counted>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answering<S::Future> {
        let mut call = Call::begin(&self.door, Method::of(request.uri().path()));
        let way = match self.door.admit(&mut call, request.headers()) {
            Ok(()) => Way::In(self.inner.call(request)),
            Err(error) => Way::Out(Some(Box::new(refusal(&error, request.headers())))),
        };
        Answering { way, call: Some(call) }
    }
}

/// The answer to a call that does not come in.
fn refusal(error: &RpcError, headers: &HeaderMap) -> Response<Body> {
    let id = RequestId::of(&MetadataMap::from_headers(headers.clone()));
    let mut status = status(error, &id);
    id.stamp(status.metadata_mut());
    status.into_http()
}

/// The head of an answer, while it is waited for.
pub struct Answering<F> {
    way: Way<F>,
    call: Option<Call>,
}

enum Way<F> {
    In(F),
    Out(Option<Box<Response<Body>>>),
}

impl<F, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, E>> + Unpin,
{
    type Output = Result<Response<Counted>, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match &mut self.way {
            Way::In(future) => ready!(Pin::new(future).poll(context))?,
            // Nothing is left only after it was taken, and then nobody asks again.
            Way::Out(response) => *response.take().unwrap_or_default(),
        };
        let mut call = self.call.take();
        let (head, inner) = response.into_parts();
        if http_body::Body::is_end_stream(&inner) {
            // Whoever reads the answer must find it counted already.
            end(&mut call, code(&head.headers));
        }
        Poll::Ready(Ok(Response::from_parts(head, Counted { inner, call })))
    }
}

fn end(call: &mut Option<Call>, code: Code) {
    if let Some(call) = call.take() {
        call.end(code);
    }
}

fn code(headers: &HeaderMap) -> Code {
    headers.get(STATUS).map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

/// The body of an answer, whose end is the end of its call. tonic puts every body into a box, with
/// or without this around it.
pub struct Counted {
    inner: Body,
    call: Option<Call>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    end(&mut self.call, code(trailers));
                }
            }
            Some(Err(status)) => end(&mut self.call, status.code()),
            None => end(&mut self.call, Code::Ok),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use habitus_engine::domain::Timestamp;

    fn door(max_calls: u64) -> Arc<Door> {
        let metrics = Arc::new(Metrics::new(Timestamp(0)));
        Arc::new(Door::new(max_calls, Tokens::new(vec![[7; 32]]), metrics))
    }

    fn come(door: &Arc<Door>, path: &str) -> (Call, Result<(), RpcError>) {
        let mut call = Call::begin(door, Method::of(path));
        let admitted = door.admit(&mut call, &HeaderMap::new());
        (call, admitted)
    }

    #[test]
    fn a_place_is_free_again_when_a_call_has_ended_however_it_ended() {
        let door = door(1);
        let (first, admitted) = come(&door, "/open");
        assert!(admitted.is_ok());
        assert!(matches!(come(&door, "/open").1, Err(RpcError::TooManyCalls { most: 1 })));
        assert_eq!(door.in_flight(), 1);
        first.end(Code::Ok);
        let (refused, missing) = come(&door, "/habitus.v1.ModelService/SetAlias");
        assert!(matches!(missing, Err(RpcError::TokenMissing)));
        drop(refused);
        assert!(come(&door, "/open").1.is_ok());
        assert_eq!(door.in_flight(), 0);
    }

    #[test]
    fn health_is_told_beside_all_other_calls() {
        let door = door(1);
        let (_first, _) = come(&door, "/open");
        assert!(come(&door, "/grpc.health.v1.Health/Check").1.is_ok());
        assert_eq!(door.in_flight(), 1);
    }
}
