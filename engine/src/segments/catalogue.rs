//! The list of a version's segments.

use super::{Tier, naming};
use crate::domain::{Lifetime, SegmentId, sha256};
use crate::matrix::median;
use serde::{Deserialize, Serialize};

/// One segment of a version. Its index in the catalogue is the cluster's index in the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    pub id: SegmentId,
    pub name: String,
    pub profile: Profile,
}

/// What the training customers of a segment were like at the version's as-of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub n_customers: u64,
    /// Of all customers, in `[0, 1]`.
    pub share_of_customers: f64,
    /// Of all spend, in `[0, 1]`.
    pub share_of_spend: f64,
    pub median_days_since_last_purchase: f64,
    pub median_purchase_days: f64,
    /// Median of the customers' mean spend of a purchase day, in major currency units.
    pub median_mean_spend: f64,
    /// Mean expected spend within the horizon, in major currency units.
    pub mean_ltv: f64,
    /// Mean probability of churn within the horizon, over the customers that have one; absent where
    /// nobody has, such as where all are lost. No number would be true of them.
    pub mean_churn_probability: Option<f64>,
}

/// One training customer, as a profile needs it.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    pub cluster: usize,
    pub ltv: f64,
    /// Absent for customers that the churn head does not answer about.
    pub churn_probability: Option<f64>,
}

/// A segment's id, and the name that it already has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub id: SegmentId,
    pub name: Option<String>,
}

impl Identity {
    /// A new segment for each of `n_clusters` clusters. The ids derive from `origin`, which names
    /// the seed, the events, the settings and the incumbent, and from the cluster's place in the
    /// model's canonical order: the same training mints the same ids.
    pub fn mint(n_clusters: usize, origin: &str) -> Vec<Identity> {
        let new = |cluster| Identity { id: mint(origin, cluster), name: None };
        (0..n_clusters).map(new).collect()
    }
}

/// The ids of the value tiers, which mean the same in every version.
pub fn tier_ids() -> Vec<Identity> {
    Tier::ALL
        .into_iter()
        .map(|tier| Identity {
            id: mint("value tiers", tier as usize),
            name: Some(format!("Tier {}", tier.letter())),
        })
        .collect()
}

/// Profiles the segments of one cluster per identity, and names those that have no name yet.
/// `lifetimes` are those of the members, one by one.
pub fn catalogue(
    identities: Vec<Identity>,
    lifetimes: &[Lifetime],
    members: &[Member],
) -> Vec<Segment> {
    let all = || lifetimes.iter().zip(members);
    let spend: f64 = lifetimes.iter().map(|life| life.total_spend).sum();
    let whole = Whole { n_customers: members.len(), spend };
    let profile = |cluster| whole.profile(all().filter(|(_, member)| member.cluster == cluster));
    let profiles: Vec<Profile> = (0..identities.len()).map(profile).collect();
    let taken: Vec<String> =
        identities.iter().filter_map(|identity| identity.name.clone()).collect();
    let new: Vec<Profile> = identities
        .iter()
        .zip(&profiles)
        .filter(|(identity, _)| identity.name.is_none())
        .map(|(_, profile)| profile.clone())
        .collect();
    let mut names = naming::names(&new, &whole.profile(all()), &taken).into_iter();
    profiles
        .into_iter()
        .zip(identities)
        .map(|(profile, Identity { id, name })| {
            let name = name.or_else(|| names.next()).unwrap_or_default();
            Segment { id, name, profile }
        })
        .collect()
}

/// What shares are of.
struct Whole {
    n_customers: usize,
    spend: f64,
}

impl Whole {
    fn profile<'a>(&self, members: impl Iterator<Item = (&'a Lifetime, &'a Member)>) -> Profile {
        let (lives, members): (Vec<&Lifetime>, Vec<&Member>) = members.unzip();
        let churn: Vec<f64> =
            members.iter().filter_map(|member| member.churn_probability).collect();
        let n = members.len() as f64;
        // An empty sum is a negative zero, which would look odd in a file.
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole + 0.0 } else { 0.0 };
        let typical = |value: fn(&Lifetime) -> f64| {
            if lives.is_empty() { 0.0 } else { median(lives.iter().map(|life| value(life))) }
        };
        Profile {
            n_customers: members.len() as u64,
            share_of_customers: share(n, self.n_customers as f64),
            share_of_spend: share(lives.iter().map(|life| life.total_spend).sum(), self.spend),
            median_days_since_last_purchase: typical(|life| {
                f64::from(life.days_since_last_purchase)
            }),
            median_purchase_days: typical(|life| f64::from(life.purchase_days)),
            median_mean_spend: typical(Lifetime::mean_spend),
            mean_ltv: share(members.iter().map(|member| member.ltv).sum(), n),
            mean_churn_probability: (!churn.is_empty())
                .then(|| share(churn.iter().sum(), churn.len() as f64)),
        }
    }
}

fn mint(origin: &str, cluster: usize) -> SegmentId {
    let digest = sha256(format!("segment {cluster} of {origin}").as_bytes());
    SegmentId(format!("seg_{}", &digest[..10]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_of_lost_customers_has_no_churn() {
        let member = |cluster, churn_probability| Member { cluster, ltv: 1.0, churn_probability };
        let members =
            [member(0, Some(0.25)), member(0, Some(0.75)), member(0, None), member(1, None)];
        // The third segment has nobody.
        let identities = Identity::mint(3, "test");
        let segments = catalogue(identities, &[Lifetime::default(); 4], &members);
        let means = segments.iter().map(|segment| segment.profile.mean_churn_probability);
        assert_eq!(means.collect::<Vec<_>>(), [Some(0.5), None, None]);
        let written = |place: usize| serde_json::to_string(&segments[place].profile).unwrap();
        // A number is written as it ever was, so that versions from before are read and verified.
        assert!(written(0).ends_with(r#""mean_churn_probability":0.5}"#), "{}", written(0));
        assert!(written(1).ends_with(r#""mean_churn_probability":null}"#), "{}", written(1));
        for (place, segment) in segments.iter().enumerate() {
            let read: Profile = serde_json::from_str(&written(place)).unwrap();
            assert_eq!(read, segment.profile);
        }
    }
}
