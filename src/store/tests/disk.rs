//! A disk in memory that keeps what was not synced apart, so that the power can be cut at any
//! operation, and whose operations can be made to fail.

use habitus_engine::domain::{Draws, Seed};
use redb::StorageBackend;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A file on the disk. Clones are the same file.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a reader sees: the cache of the system.
    live: Vec<u8>,
    /// What was there when the log began.
    base: Vec<u8>,
    log: Vec<Operation>,
    fault: Option<Fault>,
}

#[derive(Debug, Clone)]
enum Operation {
    Write(usize, Vec<u8>),
    Length(usize),
    Sync,
    /// A sync that failed: what waited for it is forgotten and may never be written.
    Lost,
}

/// What fails, and from which operation on.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub at: usize,
    pub what: Failing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// Nothing more can be written: "no space left on device".
    Full,
    /// As much is written as there is room for, and then nothing more.
    Short,
    /// A sync fails once, and what it should have written is gone from the system's mind.
    Sync,
    /// The power is cut, as the process sees it: nothing works any more.
    Everything,
}

/// What of the unsynced survives when the power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// As after a killed process.
    All,
    Nothing,
    /// Some operations, each whole.
    Some,
    /// Some sectors of some operations.
    Torn,
}

impl Disk {
    /// A disk on which this is durable.
    pub fn of(image: Vec<u8>) -> Disk {
        let state = State { live: image.clone(), base: image, ..State::default() };
        Disk(Arc::new(Mutex::new(state)))
    }

    /// What a reader sees.
    pub fn image(&self) -> Vec<u8> {
        self.state().live.clone()
    }

    /// How many operations there were.
    pub fn n_operations(&self) -> usize {
        self.state().log.len()
    }

    /// The numbers of the operations before which a change of the length waits to be synced with
    /// everything that was written after it.
    pub fn lengths(&self) -> Vec<usize> {
        let log = &self.state().log;
        let changes = (0..log.len()).filter(|&number| matches!(log[number], Operation::Length(_)));
        let synced = |number: usize| {
            let rest = log[number..].iter();
            number + rest.take_while(|done| !matches!(done, Operation::Sync)).count()
        };
        changes.map(synced).collect()
    }

    /// Makes operations fail, or none.
    pub fn fail(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// What is on the disk when the power is cut before the operation of this number.
    pub fn cut(&self, operation: usize, survives: Survives, seed: Seed) -> Vec<u8> {
        let state = self.state();
        let mut draws = Draws::new(seed);
        let log = &state.log[..operation.min(state.log.len())];
        let synced = log.iter().rposition(|done| matches!(done, Operation::Sync));
        let (durable, waiting) = log.split_at(synced.map_or(0, |at| at + 1));
        let mut image = state.base.clone();
        // A failed sync within leaves to chance what was before it.
        let mut rest = durable;
        while let Some(lost) = rest.iter().position(|done| matches!(done, Operation::Lost)) {
            // What was synced before the failed sync is safe.
            let safe = rest[..lost].iter().rposition(|done| matches!(done, Operation::Sync));
            let (before, doubtful) = rest[..lost].split_at(safe.map_or(0, |at| at + 1));
            before.iter().for_each(|done| apply(&mut image, done));
            doubtful.iter().for_each(|done| maybe(&mut image, done, Survives::Torn, &mut draws));
            rest = &rest[lost + 1..];
        }
        rest.iter().for_each(|done| apply(&mut image, done));
        waiting.iter().for_each(|done| maybe(&mut image, done, survives, &mut draws));
        image
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn apply(image: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::Write(at, bytes) => {
            let end = at + bytes.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            image[*at..end].copy_from_slice(bytes);
        }
        Operation::Length(length) => image.resize(*length, 0),
        Operation::Sync | Operation::Lost => {}
    }
}

fn maybe(image: &mut Vec<u8>, operation: &Operation, survives: Survives, draws: &mut Draws) {
    match (survives, operation) {
        (Survives::All, _) => apply(image, operation),
        (Survives::Nothing, _) => {}
        (Survives::Torn, Operation::Write(at, bytes)) => {
            for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                if draws.chance(0.5) {
                    apply(image, &Operation::Write(at + number * SECTOR, sector.to_vec()));
                }
            }
        }
        (Survives::Some | Survives::Torn, _) => {
            if draws.chance(0.5) {
                apply(image, operation);
            }
        }
    }
}

impl State {
    /// Does an operation, unless it is one that fails.
    fn go(&mut self, operation: Operation) -> Result<(), Error> {
        let number = self.log.len();
        let failing = self.fault.filter(|fault| number >= fault.at).map(|fault| fault.what);
        let full = || Err(Error::new(ErrorKind::StorageFull, "no space left on device"));
        match (failing, &operation) {
            (Some(Failing::Everything), _) => {
                return Err(Error::other("the device is gone"));
            }
            (Some(Failing::Full), Operation::Write(..) | Operation::Length(_)) => return full(),
            (Some(Failing::Short), Operation::Write(at, bytes)) => {
                let part = Operation::Write(*at, bytes[..bytes.len() / 2].to_vec());
                self.fault = Some(Fault { at: 0, what: Failing::Full });
                apply(&mut self.live, &part);
                self.log.push(part);
                return full();
            }
            (Some(Failing::Short), Operation::Length(_)) => return full(),
            (Some(Failing::Sync), Operation::Sync) => {
                self.fault = None;
                self.log.push(Operation::Lost);
                return Err(Error::other("input/output error"));
            }
            _ => {}
        }
        apply(&mut self.live, &operation);
        self.log.push(operation);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.state().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let state = self.state();
        let start = usize::try_from(offset).map_err(Error::other)?;
        let bytes = start.checked_add(out.len()).and_then(|end| state.live.get(start..end));
        out.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        let length = usize::try_from(length).map_err(Error::other)?;
        self.state().go(Operation::Length(length))
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.state().go(Operation::Sync)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let offset = usize::try_from(offset).map_err(Error::other)?;
        self.state().go(Operation::Write(offset, bytes.to_vec()))
    }
}
