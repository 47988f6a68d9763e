//! The one table from errors to exit codes.

use crate::config::ConfigError;
use crate::export::ExportError;
use crate::ingest::IngestError;
use crate::registry::{RegistryError, StoreOrigin};
use crate::rpc::ServerError;
use crate::store::StoreError;
use habitus_engine::domain::{RuleConflict, TimeError};
use habitus_engine::features::SpecError;
use habitus_engine::models::FitError;
use habitus_engine::simulation::ShopError;
use habitus_engine::training::TrainError;
use std::process::ExitCode;
use thiserror::Error;

const OTHER: u8 = 1;
const USAGE: u8 = 2;
const DATA: u8 = 3;
const GATE: u8 = 4;

/// What a subcommand itself refuses.
#[derive(Debug, Error)]
pub enum Refusal {
    #[error("the store is damaged in {faults} places")]
    DamagedStore { faults: usize },
    #[error("the registry {registry} holds no model; `habitus train` makes one")]
    NoModel { registry: String },
    #[error("the registry holds several models ({}); choose one by --model", names.join(", "))]
    SeveralModels { names: Vec<String> },
    #[error("`{text}` is no model; write NAME, NAME@VERSION or NAME@ALIAS")]
    ModelReference { text: String },
    #[error(
        "--events is needed to serve `{model}`; only a version of the bundled example has a log of its own"
    )]
    EventsNeeded { model: String },
    #[error(
        "{share:.1} % of the rows were rejected, more than data.max_rejected_share allows \
         ({most:.1} %):\n{rows}"
    )]
    TooManyRejected { share: f64, most: f64, rows: String },
    #[error("no row of the log is usable:\n{rows}")]
    NoUsableRow { rows: String },
    #[error("no usable event lies at or before the as-of {as_of}")]
    AsOfTooEarly { as_of: String },
    #[error("the version is not what its histories give: `{part}` differs")]
    Differs { part: String },
    #[error("--out and --truth name the same file")]
    SameFile,
    #[error("--out names the matrix itself")]
    OutIsInput,
    #[error("--columns names `{column}` twice")]
    ColumnTwice { column: String },
    #[error("{flag} means nothing beside {beside}")]
    Meaningless { flag: &'static str, beside: &'static str },
    #[error(
        "--engine linfa holds all rows in memory, where they do not fit; raise --memory-mb or leave \
         it out"
    )]
    LinfaBeyondMemory,
    #[error(
        "`{model}` was trained with a customers file, whose attributes and opt-outs it needs: give it \
         by --customers"
    )]
    CustomersNeeded { model: String },
    #[error(
        "`{model}` was trained with a customers file, whose attributes and opt-outs it needs, and the \
         store was told of none: put them there by `habitus ingest --customers`"
    )]
    AttributesNeeded { model: String },
    #[error("`{model}` was trained from files: name them by --events and --customers")]
    FilesNeeded { model: String },
    #[error("`{model}` was trained from the {origin}: name its directory by --store")]
    StoreNeeded { model: String, origin: StoreOrigin },
    #[error("`{model}` was trained from the {origin}, and {place} is the store {found}")]
    OtherStore { model: String, origin: StoreOrigin, place: String, found: String },
    #[error(
        "`{model}` was trained from the {origin}, and the store is at sequence {found} now: only a \
         copy from then can tell"
    )]
    OtherSequence { model: String, origin: StoreOrigin, found: u64 },
    #[error("the as-of {as_of} lies before {kept_from}, from which on the store keeps events")]
    AsOfTooOld { as_of: String, kept_from: String },
    #[error("the customers file tells no time, so --as-of is needed")]
    AsOfNeeded,
    #[error("the as-of {as_of} lies in the future")]
    FutureAsOf { as_of: String },
    #[error("--cutoff `{text}` is no date; write YYYY-MM-DD, which means the end of that day")]
    CutoffNoDate { text: String },
    #[error(
        "the {days} days after the cut-off {cutoff} end on {until}, beyond the log, whose newest event is \
         of {newest}; name an earlier --cutoff or fewer --horizon-days"
    )]
    HorizonBeyondLog { days: u32, cutoff: String, until: String, newest: String },
}

/// The exit code of an error, by the innermost cause that the table knows.
pub fn code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(error.chain().find_map(known).unwrap_or(OTHER))
}

fn known(error: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(error) = error.downcast_ref::<Refusal>() {
        return Some(match error {
            Refusal::NoModel { .. }
            | Refusal::SeveralModels { .. }
            | Refusal::ModelReference { .. }
            | Refusal::EventsNeeded { .. }
            | Refusal::SameFile
            | Refusal::OutIsInput
            | Refusal::ColumnTwice { .. }
            | Refusal::Meaningless { .. }
            | Refusal::LinfaBeyondMemory
            | Refusal::AsOfNeeded
            | Refusal::AsOfTooOld { .. }
            | Refusal::FilesNeeded { .. }
            | Refusal::StoreNeeded { .. }
            | Refusal::OtherStore { .. }
            | Refusal::OtherSequence { .. }
            | Refusal::CustomersNeeded { .. }
            | Refusal::AttributesNeeded { .. }
            | Refusal::CutoffNoDate { .. }
            | Refusal::FutureAsOf { .. } => USAGE,
            Refusal::NoUsableRow { .. }
            | Refusal::TooManyRejected { .. }
            | Refusal::HorizonBeyondLog { .. }
            | Refusal::AsOfTooEarly { .. } => DATA,
            Refusal::Differs { .. } | Refusal::DamagedStore { .. } => OTHER,
        });
    }
    if let Some(error) = error.downcast_ref::<IngestError>() {
        return Some(match error {
            IngestError::Pattern { .. }
            | IngestError::NoMatch { .. }
            | IngestError::MissingColumn { .. }
            | IngestError::DuplicateColumn { .. }
            | IngestError::ColumnType { .. }
            | IngestError::NoNumbers { .. }
            | IngestError::NotNumeric { .. } => USAGE,
            IngestError::Empty { .. }
            | IngestError::NoRows { .. }
            | IngestError::NotFinite { .. }
            | IngestError::TwoCustomers { .. }
            | IngestError::UnclosedQuote { .. }
            | IngestError::Parquet { .. } => DATA,
            IngestError::Io { .. } | IngestError::Spill { .. } => OTHER,
        });
    }
    if let Some(error) = error.downcast_ref::<TrainError>() {
        return Some(match error {
            TrainError::NoEvents { .. }
            | TrainError::NobodyAt { .. }
            | TrainError::TooFewLabels
            | TrainError::UndatedBesideEvents
            | TrainError::InactivityNotBridged { .. }
            | TrainError::Clock(_) => DATA,
            TrainError::Spec(_)
            | TrainError::Encoder(_)
            | TrainError::TooManyClusters { .. }
            | TrainError::NoHorizon { .. }
            | TrainError::LabelsNotEvaluated => USAGE,
            TrainError::Fit(_) | TrainError::Unreadable(_) => OTHER,
        });
    }
    // Of a training the error above it has told already.
    if let Some(error) = error.downcast_ref::<FitError>() {
        return Some(match error {
            FitError::TooFewRows { .. } | FitError::TooFewDistinctRows { .. } => USAGE,
            FitError::NotFinite { .. } => DATA,
            FitError::Source(_)
            | FitError::Start { .. }
            | FitError::Purchases(_)
            | FitError::NoPurchaseModel
            | FitError::NoBlend
            | FitError::OneClass
            | FitError::NoRunSucceeded { .. }
            | FitError::Solver { .. } => OTHER,
        });
    }
    if let Some(error) = error.downcast_ref::<RegistryError>() {
        return Some(match error {
            RegistryError::UnknownModel { .. }
            | RegistryError::UnknownVersion { .. }
            | RegistryError::NothingToRollBack { .. } => USAGE,
            RegistryError::GateRefused { .. } => GATE,
            RegistryError::Damaged { .. } | RegistryError::Io { .. } => OTHER,
        });
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return Some(match error {
            StoreError::Missing { .. } | StoreError::InUse { .. } => USAGE,
            StoreError::Format { .. }
            | StoreError::Damaged { .. }
            | StoreError::DamagedRecord { .. }
            | StoreError::Io { .. }
            | StoreError::Database(_)
            | StoreError::Closed => OTHER,
        });
    }
    if let Some(error) = error.downcast_ref::<ExportError>() {
        return Some(match error {
            ExportError::Extension { .. } | ExportError::DuplicateColumn { .. } => USAGE,
            ExportError::Io { .. }
            | ExportError::ColumnCount { .. }
            | ExportError::ColumnKind { .. }
            | ExportError::ColumnLength { .. }
            | ExportError::NotFinite { .. } => OTHER,
        });
    }
    if let Some(error) = error.downcast_ref::<ServerError>() {
        return Some(match error {
            ServerError::TokenNeeded { .. } => USAGE,
            ServerError::Worker(_)
            | ServerError::Listener(_)
            | ServerError::Reflection(_)
            | ServerError::Transport(_)
            | ServerError::Signals(_) => OTHER,
        });
    }
    let usage = error.is::<ConfigError>()
        || error.is::<RuleConflict>()
        || error.is::<TimeError>()
        || error.is::<SpecError>()
        || error.is::<ShopError>();
    usage.then_some(USAGE)
}
