//! `habitus erase`: customers are removed from a store, with a receipt.

use super::Global;
use crate::clock;
use crate::config::{Config, Overrides};
use crate::registry::Registry;
use crate::serving::{self, Receipt, ServingError};
use crate::store::Store;
use serde_json::json;
use std::path::PathBuf;

/// Remove customers from a store for good
#[derive(Debug, clap::Args)]
pub struct Erase {
    /// The customers' ids
    #[arg(required = true, value_name = "CUSTOMER")]
    customers: Vec<String>,
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The registry's directory, whose versions may have learned from them
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Settings, of which `[store]` and `[registry]` count
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the store anew afterwards, so that nothing of them is left on the disk
    #[arg(long)]
    compact: bool,
}

impl Erase {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let overrides = Overrides {
            store: self.store.clone(),
            models: self.models.clone(),
            ..Overrides::default()
        };
        let config = Config::load(self.config.as_deref(), &overrides)?;
        let registry = Registry::open(&config.models);
        let store = Store::open(&config.store.path, &config.store.settings)?;
        let at = clock::now();
        let mut receipts = Vec::new();
        let customers: Vec<&str> = self.customers.iter().map(|customer| customer.trim()).collect();
        if customers.contains(&"") {
            return Err(ServingError::EmptyCustomer.into());
        }
        for customer in customers {
            receipts.push((customer, serving::erase(&store, &registry, customer, at)?));
        }
        if self.compact {
            store.compact(at)?;
            for (_, receipt) in &mut receipts {
                receipt.remaining = "nothing; the store was written anew";
            }
        }
        global.format.print(
            || {
                let told = receipts.iter().map(|(customer, receipt)| text(customer, receipt));
                told.collect::<Vec<_>>().join("\n\n")
            },
            || {
                let receipts: Vec<_> = receipts
                    .iter()
                    .map(|(customer, receipt)| {
                        json!({ "customer": customer, "erased_at": at.to_string(), "receipt": receipt })
                    })
                    .collect();
                json!(receipts)
            },
        )
    }
}

fn text(customer: &str, receipt: &Receipt) -> String {
    let erased = &receipt.erased;
    let mut lines = vec![match erased.was_known {
        true => format!(
            "{customer}: {} events{} removed at sequence {}",
            erased.n_lines,
            if erased.had_attributes { " and the attributes" } else { "" },
            erased.sequence
        ),
        false => format!("{customer}: nothing was known; records are refused from now on"),
    }];
    lines.push(format!("  cleaned: {}", receipt.cleaned.join(", ")));
    lines.push(format!("  left to do: {}", receipt.remaining));
    for trained in &receipt.versions {
        let presence = format!("{:?}", trained.presence).to_lowercase();
        let (name, version) = (&trained.name, &trained.version);
        lines.push(format!("  may have learned from them: {name}@{version} ({presence})"));
    }
    lines.join("\n")
}
