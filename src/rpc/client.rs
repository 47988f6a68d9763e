//! One question from the client's side, for the demo.

use super::pb;
use super::pb::prediction_service_client::PredictionServiceClient;
use std::net::SocketAddr;
use thiserror::Error;

/// Why a question was not answered.
#[derive(Debug, Error)]
pub enum AskError {
    #[error("no connection to the server")]
    Connection(#[from] tonic::transport::Error),
    #[error("the server refused")]
    Refused(#[from] Box<tonic::Status>),
}

/// Asks a server about one customer.
///
/// # Errors
/// [`AskError`].
pub async fn ask(
    address: SocketAddr,
    customer_id: &str,
) -> Result<pb::GetPredictionResponse, AskError> {
    let mut client = PredictionServiceClient::connect(format!("http://{address}")).await?;
    let request =
        pb::GetPredictionRequest { customer_id: customer_id.to_owned(), ..Default::default() };
    Ok(client.get_prediction(request).await.map_err(Box::new)?.into_inner())
}
