//! What users see of clusters: opaque ids, names and profiles.

mod catalogue;
mod naming;

pub use catalogue::{Member, Profile, Segment, catalogue};
