//! What users see of clusters: opaque ids, names, profiles, tiers, and their identity across versions.

mod assignment;
mod bands;
mod catalogue;
mod lineage;
mod naming;

pub use bands::{Bands, Tier};
pub use catalogue::{Identity, Member, Profile, Segment, catalogue, tier_ids};
pub use lineage::{Descent, LineageRecord, Overlap, Share};
