//! One gRPC round trip on loopback, client and server in this process.

use crate::shop::{settings, shop, trained};
use habitus::clock;
use habitus::ingest::{Account, Columns, CustomerColumns};
use habitus::registry::{Draft, Registry};
use habitus::rpc::{Settings, pb, serve};
use habitus::serving::{Histories, LoadedModel, Serving};
use habitus_engine::models::selection::Family;
use pb::prediction_service_client::PredictionServiceClient;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

/// A server of 1,000 customers, and a client connected to it.
fn connected(runtime: &Runtime) -> PredictionServiceClient<Channel> {
    let (histories, as_of) = shop(1_000);
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::open(directory.path());
    let published = registry
        .publish(&Draft {
            name: "bench",
            trained: &trained(Family::GaussianMixture),
            settings: &settings(Family::GaussianMixture, 5),
            as_of,
            account: &Account::default(),
            incumbent: None,
            files: Vec::new(),
            store: None,
            columns: columns(),
            customer_columns: CustomerColumns::default(),
            max_rejected_share: 0.1,
            created_at: clock::now(),
            threads: 1,
            report: "",
            plots: &[],
        })
        .unwrap();
    let artefact = registry.load("bench", &published.manifest.version).unwrap();
    let model = LoadedModel::try_from(artefact).unwrap();
    let histories = Histories::of_log(histories, model.rules().clone(), as_of, false);
    let serving = Arc::new(Serving::new(registry, model, histories));
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(serving, listener, Settings::default(), std::future::pending()));
        PredictionServiceClient::connect(format!("http://{address}")).await.unwrap()
    })
}

fn columns() -> Columns {
    toml::from_str("customer = 'c'\ntime = 't'\namount = 'a'").unwrap()
}

#[divan::bench]
fn get_prediction(bencher: divan::Bencher) {
    let runtime = Runtime::new().unwrap();
    let client = connected(&runtime);
    let mut customers = (0..1_000).cycle().map(|customer| format!("c{customer:07}"));
    bencher.bench_local(|| {
        let customer_id = customers.next().unwrap_or_default();
        let request = pb::GetPredictionRequest { customer_id, ..Default::default() };
        runtime.block_on(client.clone().get_prediction(request)).unwrap()
    });
}

#[divan::bench]
fn batch_of_1000(bencher: divan::Bencher) {
    let runtime = Runtime::new().unwrap();
    let client = connected(&runtime);
    let customer_ids: Vec<String> = (0..1_000).map(|customer| format!("c{customer:07}")).collect();
    bencher.counter(divan::counter::ItemsCount::new(customer_ids.len())).bench_local(|| {
        let request =
            pb::BatchPredictRequest { customer_ids: customer_ids.clone(), ..Default::default() };
        runtime.block_on(client.clone().batch_predict(request)).unwrap()
    });
}
