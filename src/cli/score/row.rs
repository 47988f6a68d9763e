//! One customer's answers as a file has them, small enough to wait on disk.

use crate::export::RunRows;
use habitus_engine::domain::{Abstention, Answer, Prediction};
use std::io;

/// A row of the file. An answer that was not given is NaN, no cluster and no flag.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub customer: Box<str>,
    /// Of segment, value and churn: an index into [`STATUSES`].
    statuses: [u8; 3],
    cluster: u32,
    /// `A`, `B`, `C`, or 0.
    tier: u8,
    /// Bands 1 to 5, or 0.
    rfm: [u8; 3],
    /// 0, 1 or [`NO_FLAG`].
    noise: u8,
    pub segment_probability: f64,
    pub churn_probability: f64,
    pub churn_percentile: f64,
    pub ltv: f64,
    pub ltv_low: f64,
    pub ltv_high: f64,
    pub expected_purchases: f64,
    pub purchases_low: f64,
    pub purchases_high: f64,
    pub p_alive: f64,
}

const STATUSES: [&str; 5] = ["OK", "NO_HISTORY", "TOO_NEW", "ALREADY_LOST", "OPTED_OUT"];
const NO_CLUSTER: u32 = u32::MAX;
const NO_FLAG: u8 = 2;
/// Statuses, tier, bands and noise; cluster; ten numbers.
const N_BYTES: usize = HEAD_BYTES + 10 * 8;
const HEAD_BYTES: usize = 8 + 4;

impl Row {
    /// The row of a prediction.
    pub fn of(prediction: &Prediction) -> Row {
        let segment = prediction.segment.given();
        let value = prediction.value.given();
        let churn = prediction.churn.given();
        let number = |number: Option<f64>| number.unwrap_or(f64::NAN);
        Row {
            customer: prediction.customer.as_str().into(),
            statuses: [
                status(&prediction.segment),
                status(&prediction.value),
                status(&prediction.churn),
            ],
            cluster: segment.map_or(NO_CLUSTER, |segment| segment.cluster as u32),
            tier: segment.and_then(|segment| segment.tier.bytes().next()).unwrap_or(0),
            rfm: segment.map_or([0; 3], |segment| {
                let rfm = segment.rfm;
                [rfm.recency, rfm.frequency, rfm.monetary]
            }),
            noise: segment.and_then(|segment| segment.noise).map_or(NO_FLAG, u8::from),
            segment_probability: number(segment.and_then(|segment| segment.probability)),
            churn_probability: number(churn.map(|churn| churn.probability)),
            churn_percentile: number(churn.map(|churn| churn.percentile)),
            ltv: number(value.map(|value| value.ltv)),
            ltv_low: number(value.map(|value| value.ltv_low)),
            ltv_high: number(value.map(|value| value.ltv_high)),
            expected_purchases: number(value.and_then(|value| value.expected_purchases)),
            purchases_low: number(value.and_then(|value| value.purchases_low)),
            purchases_high: number(value.and_then(|value| value.purchases_high)),
            p_alive: number(churn.and_then(|churn| churn.p_alive)),
        }
    }

    /// The statuses of segment, value and churn.
    pub fn statuses(&self) -> [&'static str; 3] {
        self.statuses.map(|status| STATUSES.get(usize::from(status)).copied().unwrap_or("OK"))
    }

    /// The cluster, where there is an answer.
    pub fn cluster(&self) -> Option<usize> {
        (self.cluster != NO_CLUSTER).then_some(self.cluster as usize)
    }

    /// The tier's letter; empty without an answer.
    pub fn tier(&self) -> &'static str {
        match self.tier {
            b'A' => "A",
            b'B' => "B",
            b'C' => "C",
            _ => "",
        }
    }

    /// The bands such as `5-3-1`; empty without an answer.
    pub fn rfm(&self) -> String {
        match self.rfm {
            [0, ..] => String::new(),
            [recency, frequency, monetary] => format!("{recency}-{frequency}-{monetary}"),
        }
    }

    /// Whether the customer is noise; `None` without an answer, and where nothing tells.
    pub fn noise(&self) -> Option<bool> {
        (self.noise != NO_FLAG).then_some(self.noise == 1)
    }

    /// Puts the row to others on their way to the disk.
    pub fn put(&self, rows: &mut RunRows) {
        rows.push(&self.customer, |bytes| self.put_answers(bytes));
    }

    fn put_answers(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.statuses);
        bytes.push(self.tier);
        bytes.extend_from_slice(&self.rfm);
        bytes.push(self.noise);
        bytes.extend_from_slice(&self.cluster.to_le_bytes());
        for number in [
            self.segment_probability,
            self.churn_probability,
            self.churn_percentile,
            self.ltv,
            self.ltv_low,
            self.ltv_high,
            self.expected_purchases,
            self.purchases_low,
            self.purchases_high,
            self.p_alive,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// The row as it comes back.
    ///
    /// # Errors
    /// Where the bytes are none that [`Row::put`] put.
    pub fn of_run(customer: &str, bytes: &[u8]) -> io::Result<Row> {
        let bytes: &[u8; N_BYTES] = bytes.try_into().map_err(io::Error::other)?;
        let [a, b, c, tier, recency, frequency, monetary, noise, c0, c1, c2, c3, ..] = *bytes;
        let number = |index: usize| {
            let start = HEAD_BYTES + 8 * index;
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[start..start + 8]);
            f64::from_le_bytes(word)
        };
        Ok(Row {
            customer: customer.into(),
            statuses: [a, b, c],
            cluster: u32::from_le_bytes([c0, c1, c2, c3]),
            tier,
            rfm: [recency, frequency, monetary],
            noise,
            segment_probability: number(0),
            churn_probability: number(1),
            churn_percentile: number(2),
            ltv: number(3),
            ltv_low: number(4),
            ltv_high: number(5),
            expected_purchases: number(6),
            purchases_low: number(7),
            purchases_high: number(8),
            p_alive: number(9),
        })
    }
}

fn status<T>(answer: &Answer<T>) -> u8 {
    match answer {
        Answer::Given(_) => 0,
        Answer::Abstained(Abstention::NoHistory) => 1,
        Answer::Abstained(Abstention::TooNew) => 2,
        Answer::Abstained(Abstention::AlreadyLost) => 3,
        Answer::Abstained(Abstention::OptedOut) => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_from_the_disk_as_it_was() {
        let row = Row {
            customer: "é7".into(),
            statuses: [0, 0, 3],
            cluster: 70_000,
            tier: b'B',
            rfm: [5, 1, 3],
            noise: 1,
            segment_probability: 0.25,
            churn_probability: 0.5,
            churn_percentile: 1.0,
            ltv: 1e9,
            ltv_low: -0.0,
            ltv_high: 2.5,
            expected_purchases: 0.75,
            purchases_low: 0.0,
            purchases_high: 3.0,
            p_alive: 1e-300,
        };
        let mut rows = RunRows::default();
        row.put(&mut rows);
        let (customer, bytes) = rows.get(0);
        let back = Row::of_run(customer, bytes).unwrap();
        assert_eq!(back, row);
        assert_eq!((back.statuses()[2], back.rfm().as_str()), ("ALREADY_LOST", "5-1-3"));
        assert_eq!(back.noise(), Some(true));
        assert_eq!(Row { noise: NO_FLAG, ..row }.noise(), None);
        assert!(Row::of_run("7", &[0; N_BYTES - 1]).is_err());
    }
}
