//! Threads that answer calls: each has a runtime of its own and the connections that were dealt to
//! it, so that no call wakes another thread.
//!
//! An answer takes microseconds, which is less than it costs to hand a call from one thread to
//! another (`docs/decisions/0019-runtime.md`). What takes longer goes to the worker pool or to threads
//! that may wait, as everywhere.

use super::ServerError;
use std::io;
use std::net::TcpStream as Accepted;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::codegen::tokio_stream::Stream;

/// Threads of one worker that wait for disks or fill cores, at most.
const WAITING_THREADS: usize = 16;

/// How long nobody is accepted after the system refused to: it has no more files, say.
const PAUSE: Duration = Duration::from_millis(50);

/// What the threads are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Calls in flight may end; no more connections come.
    Draining,
    CutOff,
}

/// Resolves when no more connections come.
pub type Drained = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The threads, which end when this is dropped.
pub struct Workers {
    phase: watch::Sender<Phase>,
    workers: Vec<Worker>,
}

struct Worker {
    connections: mpsc::UnboundedSender<Accepted>,
    ended: oneshot::Receiver<Result<(), ServerError>>,
}

impl Workers {
    /// Starts `n` threads. Each runs a server by `serve`, which is given its connections and what
    /// resolves when no more come and calls in flight may end.
    ///
    /// # Errors
    /// [`ServerError::Worker`].
    pub fn start<S, F>(n: usize, serve: S) -> Result<Workers, ServerError>
    where
        S: Fn(Dealt, Drained) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(), tonic::transport::Error>>,
    {
        let (phase, _) = watch::channel(Phase::Serving);
        let mut workers = Vec::with_capacity(n);
        for number in 0..n.max(1) {
            let (connections, dealt) = mpsc::unbounded_channel();
            let (tell, ended) = oneshot::channel();
            let (serve, phase) = (serve.clone(), phase.subscribe());
            thread::Builder::new()
                .name(format!("calls {number}"))
                .spawn(move || drop(tell.send(work(serve, Dealt(dealt), phase))))
                .map_err(ServerError::Worker)?;
            workers.push(Worker { connections, ended });
        }
        Ok(Workers { phase, workers })
    }

    /// Deals connections to the threads in turn, for as long as it is polled.
    ///
    /// # Errors
    /// [`ServerError::Worker`] where a thread is gone.
    pub async fn deal(&self, listener: TcpListener) -> Result<(), ServerError> {
        for turn in 0usize.. {
            let accepted = listener.accept().await.and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                stream.into_std()
            });
            match accepted {
                Ok(stream) => self.of(turn).connections.send(stream).map_err(|_| gone())?,
                // One client's fault, or a shortage that will pass.
                Err(error) if is_of_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Ok(())
    }

    /// Lets calls in flight end and takes no more.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Resolves when all threads have ended.
    ///
    /// # Errors
    /// Why one of them failed.
    pub async fn ended(&mut self) -> Result<(), ServerError> {
        for worker in &mut self.workers {
            (&mut worker.ended).await.unwrap_or_else(|_| Err(gone()))?;
        }
        Ok(())
    }

    fn of(&self, turn: usize) -> &Worker {
        &self.workers[turn % self.workers.len()]
    }
}

fn gone() -> ServerError {
    ServerError::Worker(io::Error::other("a thread broke down"))
}

/// Whether accepting failed for one connection alone.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    // A connection that was closed meanwhile takes no options.
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput)
}

/// What a thread does until it is told to end.
fn work<S, F>(serve: S, dealt: Dealt, phase: watch::Receiver<Phase>) -> Result<(), ServerError>
where
    S: Fn(Dealt, Drained) -> F,
    F: Future<Output = Result<(), tonic::transport::Error>>,
{
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WAITING_THREADS)
        .build()
        .map_err(ServerError::Worker)?;
    let ended = runtime.block_on(async {
        let drained = Box::pin(reached(phase.clone(), Phase::Draining));
        tokio::select! {
            ended = serve(dealt, drained) => ended,
            () = reached(phase, Phase::CutOff) => Ok(()),
        }
    });
    // What waits for a disk must not hold up the end.
    runtime.shutdown_background();
    Ok(ended?)
}

/// Resolves when a phase is reached. Where nobody tells phases any more, all is over.
async fn reached(mut phase: watch::Receiver<Phase>, wanted: Phase) {
    let is_reached = |phase: &Phase| *phase == wanted || *phase == Phase::CutOff;
    let _ = phase.wait_for(is_reached).await;
}

/// The connections that one thread is dealt. They become its runtime's own when it takes them.
pub struct Dealt(mpsc::UnboundedReceiver<Accepted>);

impl Stream for Dealt {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|stream| stream.map(TcpStream::from_std))
    }
}
