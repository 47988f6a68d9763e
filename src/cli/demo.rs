//! `habitus demo`: the whole way on the bundled CDNOW sample.

use super::Global;
use super::example;
use super::input::LogInput;
use super::output;
use super::serve::{bind, runtime, settings};
use super::train;
use crate::config::{Config, Overrides};
use crate::registry::Registry;
use crate::report::{Table, money, number, segment_table, trial_tables};
use crate::rpc::{self, pb};
use crate::serving::{Histories, LoadedModel, Serving};
use anyhow::Context;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Train on the bundled CDNOW sample, print what was learned, serve it and ask it once
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// End after the answer instead of serving on
    #[arg(long)]
    exit: bool,
}

impl Demo {
    pub(super) fn run(&self, global: &Global) -> anyhow::Result<()> {
        let directory = tempfile::tempdir().context("making a temporary registry")?;
        let overrides =
            Overrides { models: Some(directory.path().to_owned()), ..Overrides::default() };
        let config = Config::from_text(example::CONFIG, &overrides)?;
        let sources = [example::orders()];
        let task = train::Task {
            config: &config,
            given: train::Given::Files { sources: &sources, customers: None },
            as_of: None,
            incumbent: "none",
        };
        let run = task.run(global)?;

        let registry = Registry::open(&config.models);
        let model =
            LoadedModel::try_from(registry.load(&config.name, &run.published.manifest.version)?)?;
        let input = LogInput {
            sources: &sources,
            columns: &config.columns,
            rules: model.rules(),
            memory: &config.memory,
            customers: None,
            max_rejected_share: config.max_rejected_share,
            as_of: None,
            keep_in: None,
        };
        let (log, as_of) = input.read(&Global { quiet: true, ..*global })?;
        let (histories, _) = log.histories(as_of)?;
        // The most frequent customer of whom the segments know the like.
        let is_known = |history: &&habitus_engine::domain::History| {
            let segment = model.scorer.predict(history, as_of).segment;
            segment.given().is_some_and(|segment| segment.noise != Some(true))
        };
        let customer = histories
            .iter()
            .filter(is_known)
            .max_by_key(|history| history.events().len())
            .map(|history| history.customer().to_string())
            .unwrap_or_default();
        let histories = Histories::of_log(histories, model.rules().clone(), as_of, false);
        let serving = Arc::new(Serving::new(registry, model, histories));

        runtime()?.block_on(async {
            let listener = self.listener(config.serve.listen).await?;
            let address = listener.local_addr()?;
            let signal = rpc::shutdown_signal()?;
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            let shutdown = async move {
                tokio::select! {
                    () = signal => {}
                    _ = ended => {}
                }
            };
            let server =
                tokio::spawn(rpc::serve(serving, listener, settings(&config.serve), shutdown));
            let answer = rpc::ask(address, &customer).await?;
            global.format.print(
                || text(&run, &answer, address, &customer),
                || document(&run, &answer, address),
            )?;
            // The server ends when the sender is dropped, or on a signal.
            if self.exit {
                drop(end);
                server.await??;
            } else {
                output::note(global, "serving on; end it with Ctrl-C");
                server.await??;
                drop(end);
            }
            Ok(())
        })
    }

    /// The usual address, or any free port where it is taken or nobody will connect later.
    async fn listener(&self, usual: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        if self.exit {
            return bind(any).await;
        }
        match bind(usual).await {
            Ok(listener) => Ok(listener),
            Err(_) => bind(any).await,
        }
    }
}

fn text(
    run: &train::Run,
    answer: &pb::GetPredictionResponse,
    address: SocketAddr,
    customer: &str,
) -> String {
    let version = &run.trained.version;
    format!(
        "{}\n{}{}\n\ncustomer {customer}, asked over gRPC on {address}:\n\n{}\n\
         ask again with\n\n  grpcurl -plaintext -d '{{\"customer_id\": \"{customer}\"}}' {address} \
         habitus.v1.PredictionService/GetPrediction\n\nor, without grpcurl, with \
         examples/python/client.py {customer} --address {address}",
        segment_table(&version.segment.catalogue, &version.rules.currency),
        trial_tables(&run.trained.evaluation),
        train::clock_line(&run.trained),
        answer_table(answer),
    )
}

fn document(
    run: &train::Run,
    answer: &pb::GetPredictionResponse,
    address: SocketAddr,
) -> serde_json::Value {
    json!({
        "version": run.published.manifest.version,
        "segments": run.trained.version.segment.catalogue,
        "evaluation": run.trained.evaluation,
        "address": address.to_string(),
        "answer": answer_json(answer),
    })
}

fn answer_json(answer: &pb::GetPredictionResponse) -> serde_json::Value {
    let prediction = answer.prediction.clone().unwrap_or_default();
    let segment = prediction.segment.unwrap_or_default();
    let value = prediction.value.unwrap_or_default();
    let churn = prediction.churn.unwrap_or_default();
    json!({
        "customer_id": prediction.customer_id,
        "model_version": prediction.model_version,
        "segment_id": segment.segment_id,
        "segment_name": segment.segment_name,
        "segment_probability": segment.probability,
        "segment_noise": segment.noise,
        "ltv": value.ltv,
        "ltv_low": value.ltv_low,
        "ltv_high": value.ltv_high,
        "currency": value.currency_code,
        "expected_purchases": value.expected_purchases,
        "purchases_low": value.purchases_low,
        "purchases_high": value.purchases_high,
        "churn_probability": churn.probability,
        "churn_percentile": churn.percentile,
        "p_alive": churn.p_alive,
        "horizon_days": churn.horizon_days,
        "request_id": answer.request_id,
    })
}

/// The answer's fields as they came over the wire.
fn answer_table(answer: &pb::GetPredictionResponse) -> Table {
    let prediction = answer.prediction.clone().unwrap_or_default();
    let segment = prediction.segment.unwrap_or_default();
    let value = prediction.value.unwrap_or_default();
    let churn = prediction.churn.unwrap_or_default();
    let reasons = churn.reasons.iter().map(|reason| {
        format!("{} {} ({:+.2} log-odds)", reason.feature, number(reason.value, 2), reason.log_odds)
    });
    let amount = |amount: Option<f64>| amount.map(money).unwrap_or_default();
    let (currency, days) = (value.currency_code, value.horizon_days);
    let mut table = Table::new(&["field", "answer"]);
    for (field, value) in [
        ("model_version", prediction.model_version),
        ("segment_id", segment.segment_id),
        ("segment_name", segment.segment_name),
        ("segment_probability", number(segment.probability, 3)),
        ("segment_noise", segment.noise.map_or_else(|| "-".to_owned(), |noise| noise.to_string())),
        ("ltv", format!("{} {currency} within {days} days", amount(value.ltv))),
        ("ltv_low .. ltv_high", [amount(value.ltv_low), amount(value.ltv_high)].join(" .. ")),
        ("expected_purchases", number(value.expected_purchases, 3)),
        (
            "purchases_low .. purchases_high",
            [number(value.purchases_low, 0), number(value.purchases_high, 0)].join(" .. "),
        ),
        ("churn_probability", number(churn.probability, 4)),
        ("churn_percentile", number(churn.percentile, 4)),
        ("p_alive", number(churn.p_alive, 4)),
        ("reasons", reasons.collect::<Vec<_>>().join(", ")),
        ("request_id", answer.request_id.clone()),
    ] {
        table.row(vec![field.to_owned(), value]);
    }
    table
}
