//! The settings as they are written, and what is impossible among them.

use super::model::{RawModel, with_inputs_of};
use super::serve::RawServe;
use super::store::RawStore;
use super::{Config, ConfigError, Overrides};
use crate::ingest::{Columns, CustomerColumns, Memory};
use crate::registry::is_plain_name;
use habitus_engine::domain::{
    AmountIs, Currency, Duplicates, EventKind, EventRules, KindRule, RuleField, Seed, TimeError,
    Zone,
};
use habitus_engine::features::{Aggregate, Feature, FeatureSpec, SpecError, purchases};
use habitus_engine::models::Engine;
use habitus_engine::models::btyd::PurchaseFamily;
use habitus_engine::models::gmm::{CovarianceType, Init};
use habitus_engine::models::selection::{Family, SegmentationParams};
use habitus_engine::training::{ChurnBy, GateParams, HeadSettings, TrainingSettings, ValueBy};
use habitus_engine::version::{ChurnIs, Eligibility};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The settings as they are written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    data: RawData,
    customers: CustomerColumns,
    model: RawModel,
    heads: RawHeads,
    segments: RawSegments,
    features: RawFeatures,
    gate: GateParams,
    memory: RawMemory,
    registry: RawRegistry,
    serve: RawServe,
    store: RawStore,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawData {
    zone: String,
    currency: String,
    currency_digits: u8,
    default_kind: EventKind,
    time_format: Option<String>,
    kinds: BTreeMap<String, EventKind>,
    kind_rules: Vec<KindRule>,
    amount_is: AmountIs,
    merge_orders: bool,
    duplicates: Duplicates,
    max_rejected_share: f64,
    columns: Columns,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHeads {
    value: ValueBy,
    churn: ChurnBy,
    purchases: Vec<PurchaseFamily>,
    covariates: Vec<String>,
    penalty: f64,
    l1_ratio: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMemory {
    limit_mb: u64,
    directory: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSegments {
    family: Family,
    engine: Engine,
    covariance: CovarianceType,
    init: Init,
    mini_batch: Option<usize>,
    k: RawK,
    features: Vec<String>,
    small_below: u64,
    names: BTreeMap<String, String>,
    n_init: u32,
    max_iter: u32,
    tol: f64,
    reg_covar: f64,
    noise_quantile: f64,
    warm_start: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a number of clusters, or { min = .., max = .. }")]
enum RawK {
    Fixed(usize),
    Range(KRange),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KRange {
    min: usize,
    max: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFeatures {
    pack: Pack,
    list: Vec<Feature>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pack {
    Purchases,
    None,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegistry {
    path: PathBuf,
}

/// A decade: longer horizons are no forecast, and days must fit the calendar.
pub(super) const MOST_DAYS: u32 = 3_660;
/// Training holds these customers in memory.
const MOST_CUSTOMERS: u64 = 10_000_000;
/// Below this the program itself is larger than the rows.
const LEAST_MEMORY_MB: u64 = 50;
/// Past this many clusters nobody can name them, and a typing error is likelier.
const MOST_CLUSTERS: usize = 1_000;

impl RawConfig {
    /// # Errors
    /// [`ConfigError::Key`], naming the first key whose value is impossible.
    pub(super) fn check(self, overrides: &Overrides) -> Result<Config, ConfigError> {
        let name = overrides.name.clone().unwrap_or_else(|| self.model.name.clone());
        let plain = "use lower-case letters, digits, `-`, `_` and dots";
        refuse(!is_plain_name(&name), "model.name", || format!("`{name}` is no name; {plain}"))?;
        let horizon_days = overrides.horizon_days.unwrap_or(self.model.horizon_days);
        for (key, days) in [
            ("model.horizon_days", horizon_days),
            ("model.lost_after_days", self.model.lost_after_days.unwrap_or(1)),
        ] {
            refuse(!(1..=MOST_DAYS).contains(&days), key, || {
                format!("{days} days are not possible; 1 to {MOST_DAYS} are")
            })?;
        }
        let min_age_days = self.model.min_age_days;
        refuse(min_age_days > MOST_DAYS, "model.min_age_days", || {
            format!("{min_age_days} days are not possible; 0 to {MOST_DAYS} are")
        })?;
        let max_customers = self.model.max_customers;
        refuse(!(1_000..=MOST_CUSTOMERS).contains(&max_customers), "model.max_customers", || {
            format!("{max_customers} is not possible; 1000 to {MOST_CUSTOMERS} are")
        })?;
        let churn_is = self.model.churn_is(horizon_days)?;
        let named = self.features.spec()?;
        let spec = with_inputs_of(churn_is, &named)?;
        // What was added is for the heads; segments are of what was named.
        let unnamed = if spec == named { Vec::new() } else { named.names() };
        let segmentation = self.segments.params()?;
        let noise_quantile = self.segments.noise_quantile()?;
        check_columns(&spec, &self.data)?;
        check_attributes(&spec, &self.customers)?;
        let heads = self.heads.check(churn_is, &spec)?;
        refuse(
            churn_is == ChurnIs::Label && self.customers.label.is_none(),
            "model.churn",
            || {
                "the churn of contracts needs `customers.label`, the column of the labels"
                    .to_owned()
            },
        )?;
        let max_rejected_share = self.data.max_rejected_share;
        for (key, share) in [
            ("data.max_rejected_share", max_rejected_share),
            ("gate.most_relabelled", self.gate.most_relabelled),
        ] {
            refuse(!(0.0..=1.0).contains(&share), key, || {
                format!("{share} is no share; 0 to 1 are")
            })?;
        }
        refuse(!(10..=100_000).contains(&self.gate.replicates), "gate.replicates", || {
            format!("{} is not possible; 10 to 100000 are", self.gate.replicates)
        })?;
        let memory = self.memory.check(overrides.memory_mb)?;
        for feature in &self.segments.features {
            refuse(!spec.names().contains(feature), "segments.features", || {
                format!("`{feature}` is not among the features: {}", spec.names().join(", "))
            })?;
        }
        Ok(Config {
            name,
            columns: self.data.columns.clone(),
            customers: self.customers,
            max_rejected_share,
            gate: self.gate,
            memory,
            training: TrainingSettings {
                rules: self.data.rules()?,
                eligibility: Eligibility {
                    min_age_days,
                    lost_after_days: self.model.lost_after_days,
                },
                horizon_days,
                seed: Seed(overrides.seed.unwrap_or(self.model.seed)),
                spec,
                segmentation,
                segment_features: if self.segments.features.is_empty() {
                    unnamed
                } else {
                    self.segments.features
                },
                small_below: self.segments.small_below,
                noise_quantile,
                segment_names: self.segments.names,
                max_customers,
                churn_is,
                heads,
            },
            models: overrides.models.clone().unwrap_or(self.registry.path),
            serve: self.serve.check(overrides)?,
            store: self.store.check(overrides.store.clone())?,
        })
    }
}

impl RawHeads {
    fn check(self, churn_is: ChurnIs, spec: &FeatureSpec) -> Result<HeadSettings, ConfigError> {
        let RawHeads { value, churn, purchases, covariates, penalty, l1_ratio } = self;
        for name in &covariates {
            let feature = spec.0.iter().find(|feature| feature.name == *name);
            let is_attribute = |feature: &Feature| {
                matches!(feature.aggregate, Aggregate::Attribute | Aggregate::OneHot)
            };
            refuse(feature.is_none(), "heads.covariates", || {
                format!("`{name}` is not among the features: {}", spec.names().join(", "))
            })?;
            refuse(!feature.is_some_and(is_attribute), "heads.covariates", || {
                format!(
                    "`{name}` is no feature of an attribute (`attribute`, `one_hot`); what customers did \
                     would tell what it is to explain"
                )
            })?;
        }
        refuse(!(penalty >= 0.0 && penalty.is_finite()), "heads.penalty", || {
            format!("{penalty} is no penalty; 0 or more is")
        })?;
        refuse(!(0.0..=1.0).contains(&l1_ratio), "heads.l1_ratio", || {
            format!("{l1_ratio} is no share; 0 to 1 are")
        })?;
        let unmodified = purchases.iter().find(|family| family.keeps_first_timers());
        refuse(unmodified.is_some(), "heads.purchases", || {
            let family = unmodified.map_or("", |family| family.name());
            format!(
                "`{family}` holds that whoever bought once has not dropped out, so it cannot answer \
                 about everybody; m{family} can"
            )
        })?;
        refuse(!covariates.is_empty() && purchases.is_empty(), "heads.covariates", || {
            "no model of purchases is listed that they could move".to_owned()
        })?;
        let needs_model = value == ValueBy::Purchases || churn == ChurnBy::Purchases;
        refuse(needs_model && purchases.is_empty(), "heads.purchases", || {
            "a head is to be served by a model of purchases, and none is listed".to_owned()
        })?;
        let inactivity = matches!(churn_is, ChurnIs::Inactivity(_));
        let by_purchases = matches!(churn, ChurnBy::Purchases | ChurnBy::Blend);
        refuse(inactivity && by_purchases, "heads.churn", || {
            "models of purchases, the blend among them, cannot tell when inactivity is complete, which \
             `model.churn` asks for"
                .to_owned()
        })?;
        refuse(churn_is == ChurnIs::Label && churn == ChurnBy::Purchases, "heads.churn", || {
            "a model of purchases cannot tell when a contract ends, which `model.churn` asks for"
                .to_owned()
        })?;
        let by_blend = churn == ChurnBy::Blend || value == ValueBy::Blend;
        refuse(churn_is == ChurnIs::Label && by_blend, "heads", || {
            "the blend learns from purchases, and `model.churn` asks when a contract ends"
                .to_owned()
        })?;
        Ok(HeadSettings { value, churn, purchases, covariates, penalty, l1_ratio })
    }
}

/// Refuses features, and an amount, that need a column which is not mapped.
fn check_columns(spec: &FeatureSpec, data: &RawData) -> Result<(), ConfigError> {
    let columns = &data.columns;
    let unmapped = |column: &str| {
        let mapped = match column {
            "quantity" => &columns.quantity,
            "discount" => &columns.discount,
            "rating" => &columns.rating,
            "item" => &columns.item,
            "category" => &columns.category,
            "channel" => &columns.channel,
            _ => return false,
        };
        mapped.is_none()
    };
    for feature in &spec.0 {
        for column in feature.columns() {
            refuse(unmapped(column), "data.columns", || {
                format!(
                    "feature `{}` needs the column `{column}`, which is not mapped",
                    feature.name
                )
            })?;
        }
    }
    for rule in &data.kind_rules {
        let (field, is_mapped) = match rule.field {
            RuleField::Customer | RuleField::Amount => continue,
            RuleField::Quantity => ("quantity", columns.quantity.is_some()),
            RuleField::Kind => ("kind", columns.kind.is_some()),
            RuleField::OrderId => ("order_id", columns.order_id.is_some()),
            RuleField::Item => ("item", columns.item.is_some()),
            RuleField::Category => ("category", columns.category.is_some()),
            RuleField::Channel => ("channel", columns.channel.is_some()),
        };
        refuse(!is_mapped, "data.kind_rules", || {
            format!("a rule looks at the column `{field}`, which is not mapped")
        })?;
    }
    let needs_quantity = data.amount_is == AmountIs::UnitPrice;
    refuse(needs_quantity && columns.quantity.is_none(), "data.columns", || {
        "data.amount_is = \"unit_price\" needs the column `quantity`, which is not mapped"
            .to_owned()
    })
}

/// Refuses features of attributes that the customers file does not have.
fn check_attributes(spec: &FeatureSpec, columns: &CustomerColumns) -> Result<(), ConfigError> {
    for feature in &spec.0 {
        let Some(attribute) = &feature.attribute else {
            let needs = feature.aggregate == Aggregate::DaysSinceRegistered;
            refuse(needs && columns.registered_at.is_none(), "customers.registered_at", || {
                format!("feature `{}` needs this column, which is not mapped", feature.name)
            })?;
            continue;
        };
        let is_number = feature.aggregate == Aggregate::Attribute && feature.value.is_none();
        let (key, names) = if is_number {
            ("customers.numbers", &columns.numbers)
        } else {
            ("customers.categories", &columns.categories)
        };
        refuse(!names.contains(attribute), key, || {
            format!("feature `{}` needs `{attribute}`, which is not among them", feature.name)
        })?;
    }
    Ok(())
}

impl RawMemory {
    fn check(self, flag: Option<u64>) -> Result<Memory, ConfigError> {
        let limit_mb = flag.unwrap_or(self.limit_mb);
        refuse(limit_mb < LEAST_MEMORY_MB, "memory.limit_mb", || {
            format!("{limit_mb} is not possible; at least {LEAST_MEMORY_MB} are needed")
        })?;
        Ok(Memory { limit: limit_mb.saturating_mul(1_000_000), directory: self.directory })
    }
}

impl RawData {
    fn rules(self) -> Result<EventRules, ConfigError> {
        let zone = Zone::named(&self.zone)
            .map_err(|error: TimeError| key_error("data.zone", error.to_string()))?;
        if let Some(format) = &self.time_format {
            zone.check_format(format)
                .map_err(|error| key_error("data.time_format", error.to_string()))?;
        }
        refuse(self.currency_digits > 6, "data.currency_digits", || {
            format!("{} digits are not possible; 0 to 6 are", self.currency_digits)
        })?;
        let code = self.currency;
        refuse(
            !(code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())),
            "data.currency",
            || format!("`{code}` is no ISO 4217 code such as EUR"),
        )?;
        Ok(EventRules {
            zone,
            currency: Currency { code, digits: self.currency_digits },
            time_format: self.time_format,
            default_kind: self.default_kind,
            kinds: self.kinds,
            kind_rules: self.kind_rules,
            amount_is: self.amount_is,
            merge_orders: self.merge_orders,
            duplicates: self.duplicates,
        })
    }
}

impl RawFeatures {
    fn spec(&self) -> Result<FeatureSpec, ConfigError> {
        let mut features = match self.pack {
            Pack::Purchases => purchases().0,
            Pack::None => Vec::new(),
        };
        features.extend(self.list.iter().cloned());
        let spec = FeatureSpec(features);
        spec.check().map_err(|error: SpecError| key_error("features", error.to_string()))?;
        Ok(spec)
    }
}

impl RawSegments {
    fn params(&self) -> Result<SegmentationParams, ConfigError> {
        let (k_min, k_max) = match self.k {
            RawK::Fixed(k) => (k, k),
            RawK::Range(KRange { min, max }) => (min, max),
        };
        refuse(k_min < 1 || k_max < k_min || k_max > MOST_CLUSTERS, "segments.k", || {
            format!("{k_min} to {k_max} clusters are not possible; 1 to {MOST_CLUSTERS} are")
        })?;
        for (key, value) in [("segments.tol", self.tol), ("segments.reg_covar", self.reg_covar)] {
            refuse(!(value.is_finite() && value > 0.0), key, || format!("{value} is not above 0"))?;
        }
        for (key, value) in [("segments.n_init", self.n_init), ("segments.max_iter", self.max_iter)]
        {
            refuse(!(1..=100_000).contains(&value), key, || {
                format!("{value} is not possible; 1 to 100000 are")
            })?;
        }
        refuse(self.mini_batch == Some(0), "segments.mini_batch", || {
            "no row is not possible; leave it out for all".to_owned()
        })?;
        // What a setting says must not be passed over in silence.
        let mixture = self.family == Family::GaussianMixture;
        let full = self.covariance == CovarianceType::Full;
        refuse(mixture && self.mini_batch.is_some(), "segments.mini_batch", || {
            "mixtures look at all rows; it is for k-means".to_owned()
        })?;
        refuse(
            self.engine == Engine::Linfa && self.mini_batch.is_some(),
            "segments.mini_batch",
            || "linfa looks at all rows".to_owned(),
        )?;
        refuse(mixture && self.engine == Engine::Linfa && !full, "segments.engine", || {
            "linfa fits full covariances alone".to_owned()
        })?;
        Ok(SegmentationParams {
            family: self.family,
            engine: self.engine,
            covariance: self.covariance,
            init: self.init,
            mini_batch: self.mini_batch,
            k_min,
            k_max,
            n_init: self.n_init,
            max_iter: self.max_iter,
            tol: self.tol,
            reg_covar: self.reg_covar,
            warm_start: self.warm_start,
        })
    }

    fn noise_quantile(&self) -> Result<f64, ConfigError> {
        let quantile = self.noise_quantile;
        // From a half on the usual customer would be noise.
        refuse(!(0.0..0.5).contains(&quantile), "segments.noise_quantile", || {
            format!("{quantile} is not possible; 0 to below 0.5 are")
        })?;
        Ok(quantile)
    }
}

pub(super) fn refuse(
    impossible: bool,
    key: &str,
    message: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if impossible { Err(key_error(key, message())) } else { Ok(()) }
}

pub(super) fn key_error(key: &str, message: String) -> ConfigError {
    ConfigError::Key { key: key.to_owned(), message }
}
