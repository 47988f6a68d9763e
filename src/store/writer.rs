//! One thread that commits for many callers at once: while a commit waits for the disk, the records
//! of others gather, and the next commit takes them all.

use super::{Batch, Outcome, Store, StoreError};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Commits batches of many callers together. Dropping it commits what waits.
pub struct Writer {
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Option<JoinHandle<()>>,
}

/// What a caller hears when its records are durable, or why they are not.
type Done = Box<dyn FnOnce(Result<Vec<Outcome>, Arc<StoreError>>) + Send>;

struct Job {
    batch: Batch,
    done: Done,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system gives none.
    pub fn start(store: Arc<Store>) -> std::io::Result<Writer> {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("store writer".to_owned())
            .spawn(move || write(&store, &receiver))?;
        Ok(Writer { jobs: Mutex::new(Some(sender)), thread: Some(thread) })
    }

    /// Hands a batch over, and returns. `done` is called on the writer's thread once the batch is
    /// durable, and so must not wait.
    pub fn submit(
        &self,
        batch: Batch,
        done: impl FnOnce(Result<Vec<Outcome>, Arc<StoreError>>) + Send + 'static,
    ) {
        let job = Job { batch, done: Box::new(done) };
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = match jobs.as_ref() {
            Some(jobs) => jobs.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        };
        drop(jobs);
        // The thread is gone only where it broke down.
        if let Some(job) = refused {
            (job.done)(Err(Arc::new(StoreError::Closed)));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.take() {
            // A thread that broke down has told its callers by dropping what they wait on.
            let _ = thread.join();
        }
    }
}

fn write(store: &Store, jobs: &Receiver<Job>) {
    while let Ok(Job { mut batch, done }) = jobs.recv() {
        let mut waiting = vec![(batch.len(), done)];
        while batch.len() < store.settings.lines_at_once() {
            let Ok(next) = jobs.try_recv() else { break };
            waiting.push((next.batch.len(), next.done));
            batch.extend(next.batch);
        }
        match store.append(&batch, None) {
            Ok(outcomes) => {
                let mut rest = outcomes.as_slice();
                for (n, done) in waiting {
                    let (own, others) = rest.split_at(n);
                    rest = others;
                    done(Ok(own.to_vec()));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                waiting.into_iter().for_each(|(_, done)| done(Err(Arc::clone(&error))));
            }
        }
    }
}
