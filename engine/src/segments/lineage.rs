//! How the segments of a new version descend from an older one's.
//!
//! Both versions are asked about the same customers. Each old segment and each new cluster is then
//! a set of them, and sets that share enough are the same segment. The transitions are those of
//! MONIC (Spiliopoulou, Ntoutsi, Theodoridis & Schult 2006), with one difference: which cluster
//! continues which segment is decided for all together, by an optimal assignment, and not for each
//! alone.

use super::assignment;
use crate::domain::SegmentId;
use serde::{Deserialize, Serialize};

/// A cluster may continue a segment if they share one in this many of the segment's customers, or
/// of the cluster's.
pub const CONTINUED_ONE_IN: u64 = 2;

/// A cluster is a part of a split segment if it holds one in this many of the segment's customers.
pub const SPLIT_ONE_IN: u64 = 4;

/// A segment is a part of a merged cluster if the cluster holds one in this many of the segment's
/// customers.
pub const MERGED_ONE_IN: u64 = 2;

/// Where the customers stand that both versions can score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// Customers of each old cluster in each new one, `(n_old, n_new)`.
    counts: Vec<Vec<u64>>,
    /// Customers of each old cluster, `(n_old,)`.
    n_in_old: Vec<u64>,
    /// Customers of each new cluster, `(n_new,)`.
    n_in_new: Vec<u64>,
}

/// Which new cluster continues which old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descent {
    /// The old cluster that each new one continues, `(n_new,)`. No old one is continued twice.
    pub continues: Vec<Option<usize>>,
    overlap: Overlap,
}

/// What became of a segment from one version to the next. All numbers are of the customers that
/// both versions can score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum LineageRecord {
    /// The segment has the same id in both versions: `n_old` customers then, `n_new` now, of whom
    /// `n_both` stayed.
    Continued { segment: SegmentId, n_old: u64, n_new: u64, n_both: u64 },
    /// An old segment of which several new ones each hold much. Shares are of the old segment; one
    /// of its parts may continue it.
    Split { segment: SegmentId, into: Vec<Share> },
    /// A new segment that holds much of each of several old ones. Each share is of the old segment
    /// that it names; one of them may be the one that is continued.
    Merge { into: SegmentId, from: Vec<Share> },
    /// A new segment that continues none. Shares are of the new segment, by where its customers
    /// were; nothing stands there for a segment without common customers.
    Birth { segment: SegmentId, from: Vec<Share> },
    /// An old segment that none continues. Shares are of the old segment, by where its customers
    /// went; nothing stands there for a segment without common customers.
    Death { segment: SegmentId, into: Vec<Share> },
}

/// A part of the customers of a segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// At the other end: a new segment after `into`, an old one after `from`.
    pub segment: SegmentId,
    pub n_customers: u64,
    /// In `[0, 1]`; the record says of what.
    pub share: f64,
}

impl Overlap {
    /// Counts the customers that both versions can score, each given as the pair of its old and its
    /// new cluster.
    ///
    /// # Panics
    /// Where a pair names a cluster that is not there: a mistake of the caller, never of the data.
    pub fn of(
        n_old: usize,
        n_new: usize,
        pairs: impl IntoIterator<Item = (usize, usize)>,
    ) -> Overlap {
        let mut overlap = Overlap {
            counts: vec![vec![0; n_new]; n_old],
            n_in_old: vec![0; n_old],
            n_in_new: vec![0; n_new],
        };
        for (old, new) in pairs {
            overlap.counts[old][new] += 1;
            overlap.n_in_old[old] += 1;
            overlap.n_in_new[new] += 1;
        }
        overlap
    }

    /// How many customers both versions can score.
    pub fn n_customers(&self) -> u64 {
        self.n_in_old.iter().sum()
    }

    /// Whether a new cluster holds one in `one_in` of an old one.
    fn takes(&self, old: usize, new: usize, one_in: u64) -> bool {
        holds(self.counts[old][new], self.n_in_old[old], one_in)
    }

    /// Whether a new cluster shares enough with an old one to continue it.
    fn may_continue(&self, old: usize, new: usize) -> bool {
        self.takes(old, new, CONTINUED_ONE_IN)
            || holds(self.counts[old][new], self.n_in_new[new], CONTINUED_ONE_IN)
    }
}

impl Descent {
    /// Decides which cluster continues which segment: of all one-to-one assignments of pairs that
    /// share enough, the one that keeps the most customers in their segment.
    pub fn of(overlap: Overlap) -> Descent {
        // Pairs that share too little are barred before the assignment, not dropped after it. They
        // would otherwise take a segment from the cluster that may continue it.
        let weights: Vec<Vec<u64>> = (0..overlap.n_in_old.len())
            .map(|old| {
                let weight = |(new, &n)| if overlap.may_continue(old, new) { n } else { 0 };
                overlap.counts[old].iter().enumerate().map(weight).collect()
            })
            .collect();
        let mut continues = vec![None; overlap.n_in_new.len()];
        for (old, new) in assignment::maximal(&weights).into_iter().enumerate() {
            if let Some(new) = new {
                continues[new] = Some(old);
            }
        }
        Descent { continues, overlap }
    }

    /// The share of the customers, of those that both versions can score, whose new cluster does
    /// not continue their old one, in `[0, 1]`. They see another segment id than before. `None`
    /// without such customers.
    pub fn relabelled(&self) -> Option<f64> {
        let n_customers = self.overlap.n_customers();
        let kept =
            |(new, old): (usize, &Option<usize>)| old.map(|old| self.overlap.counts[old][new]);
        let n_kept: u64 = self.continues.iter().enumerate().filter_map(kept).sum();
        (n_customers > 0).then(|| (n_customers - n_kept) as f64 / n_customers as f64)
    }

    /// What became of the segments: what continued (by new cluster), was split (by old), merged (by
    /// new), was born (by new) and died (by old), in this order. A segment may be in several.
    ///
    /// `old_ids` is `(n_old,)` and `new_ids` `(n_new,)`, in the clusters' order; a cluster that
    /// continues a segment has its id.
    ///
    /// # Panics
    /// Where ids are missing: a mistake of the caller, never of the data.
    pub fn records(&self, old_ids: &[SegmentId], new_ids: &[SegmentId]) -> Vec<LineageRecord> {
        let overlap = &self.overlap;
        let (n_old, n_new) = (overlap.n_in_old.len(), overlap.n_in_new.len());
        assert!(old_ids.len() == n_old && new_ids.len() == n_new, "each cluster must have an id");
        let share = |id: &SegmentId, old: usize, new: usize, n_whole: u64| Share {
            segment: id.clone(),
            n_customers: overlap.counts[old][new],
            share: overlap.counts[old][new] as f64 / n_whole as f64,
        };
        // A part of an old cluster, named by where it went.
        let into = |old: usize, new: usize| share(&new_ids[new], old, new, overlap.n_in_old[old]);
        let continued = (0..n_new).filter_map(|new| {
            self.continues[new].map(|old| LineageRecord::Continued {
                segment: old_ids[old].clone(),
                n_old: overlap.n_in_old[old],
                n_new: overlap.n_in_new[new],
                n_both: overlap.counts[old][new],
            })
        });
        let split = (0..n_old).filter_map(|old| {
            let part = |&new: &usize| overlap.takes(old, new, SPLIT_ONE_IN);
            let parts: Vec<usize> = (0..n_new).filter(part).collect();
            (parts.len() > 1).then(|| LineageRecord::Split {
                segment: old_ids[old].clone(),
                into: parts.into_iter().map(|new| into(old, new)).collect(),
            })
        });
        let merged = (0..n_new).filter_map(|new| {
            let source = |&old: &usize| overlap.takes(old, new, MERGED_ONE_IN);
            let sources: Vec<usize> = (0..n_old).filter(source).collect();
            (sources.len() > 1).then(|| LineageRecord::Merge {
                into: new_ids[new].clone(),
                from: sources
                    .into_iter()
                    .map(|old| share(&old_ids[old], old, new, overlap.n_in_old[old]))
                    .collect(),
            })
        });
        let born = (0..n_new).filter(|&new| self.continues[new].is_none()).map(|new| {
            let came = (0..n_old).filter(|&old| overlap.counts[old][new] > 0);
            LineageRecord::Birth {
                segment: new_ids[new].clone(),
                from: came
                    .map(|old| share(&old_ids[old], old, new, overlap.n_in_new[new]))
                    .collect(),
            }
        });
        let died = (0..n_old).filter(|&old| !self.continues.contains(&Some(old))).map(|old| {
            let went = (0..n_new).filter(|&new| overlap.counts[old][new] > 0);
            LineageRecord::Death {
                segment: old_ids[old].clone(),
                into: went.map(|new| into(old, new)).collect(),
            }
        });
        continued.chain(split).chain(merged).chain(born).chain(died).collect()
    }
}

/// Whether a part is at least one in `one_in` of the whole. An empty part is none.
fn holds(part: u64, whole: u64, one_in: u64) -> bool {
    part > 0 && part >= whole.div_ceil(one_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many customers in each pair of clusters as the table says.
    fn overlap(counts: &[&[u64]]) -> Overlap {
        let n_new = counts.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut pairs = Vec::new();
        for (old, row) in counts.iter().enumerate() {
            for (new, &n) in row.iter().enumerate() {
                pairs.extend((0..n).map(|_| (old, new)));
            }
        }
        Overlap::of(counts.len(), n_new, pairs)
    }

    fn id(name: &str) -> SegmentId {
        SegmentId(name.to_owned())
    }

    /// The ids of the old segments are a, b, c; those of clusters that continue none n0, n1, n2.
    fn records(descent: &Descent) -> Vec<LineageRecord> {
        let old = &["a", "b", "c"].map(id)[..descent.overlap.n_in_old.len()];
        let new: Vec<SegmentId> = descent
            .continues
            .iter()
            .enumerate()
            .map(|(new, old_cluster)| match old_cluster {
                Some(old_cluster) => old[*old_cluster].clone(),
                None => id(&format!("n{new}")),
            })
            .collect();
        descent.records(old, &new)
    }

    fn share(segment: &str, n_customers: u64, share: f64) -> Share {
        Share { segment: id(segment), n_customers, share }
    }

    fn continued(segment: &str, n_old: u64, n_new: u64, n_both: u64) -> LineageRecord {
        LineageRecord::Continued { segment: id(segment), n_old, n_new, n_both }
    }

    #[test]
    fn equal_clusters_continue_wherever_they_stand() {
        let same = Descent::of(overlap(&[&[5, 0], &[0, 3]]));
        assert_eq!(same.continues, [Some(0), Some(1)]);
        assert_eq!(records(&same), [continued("a", 5, 5, 5), continued("b", 3, 3, 3)]);
        let turned = Descent::of(overlap(&[&[0, 5], &[3, 0]]));
        assert_eq!(turned.continues, [Some(1), Some(0)]);
        assert_eq!(records(&turned), [continued("b", 3, 3, 3), continued("a", 5, 5, 5)]);
        assert_eq!((same.relabelled(), turned.relabelled()), (Some(0.0), Some(0.0)));
    }

    #[test]
    fn matching_relabels_far_fewer_than_naming_by_index() {
        // Three clusters that changed places, and 6 of 100 customers that moved.
        let counts: [&[u64]; 3] = [&[2, 1, 47], &[28, 1, 1], &[0, 19, 1]];
        let by_index: u64 = (0..3).map(|cluster| counts[cluster][cluster]).sum();
        assert_eq!(100 - by_index, 96);
        let descent = Descent::of(overlap(&counts));
        assert_eq!(descent.continues, [Some(1), Some(2), Some(0)]);
        assert_eq!(descent.relabelled(), Some(0.06));
    }

    #[test]
    fn the_larger_part_of_a_split_keeps_the_id() {
        let descent = Descent::of(overlap(&[&[30, 0, 50], &[0, 20, 0]]));
        assert_eq!(descent.continues, [None, Some(1), Some(0)]);
        let split = LineageRecord::Split {
            segment: id("a"),
            into: vec![share("n0", 30, 0.375), share("a", 50, 0.625)],
        };
        let birth = LineageRecord::Birth { segment: id("n0"), from: vec![share("a", 30, 1.0)] };
        let expected = [continued("b", 20, 20, 20), continued("a", 80, 50, 50), split, birth];
        assert_eq!(records(&descent), expected);
    }

    #[test]
    fn the_largest_part_of_a_merge_keeps_the_id() {
        let descent = Descent::of(overlap(&[&[20], &[60]]));
        assert_eq!(descent.continues, [Some(1)]);
        let merge = LineageRecord::Merge {
            into: id("b"),
            from: vec![share("a", 20, 1.0), share("b", 60, 1.0)],
        };
        let death = LineageRecord::Death { segment: id("a"), into: vec![share("b", 20, 1.0)] };
        assert_eq!(records(&descent), [continued("b", 60, 80, 60), merge, death]);
    }

    #[test]
    fn who_shares_too_little_is_born_and_dies() {
        // The third cluster drew a little from everywhere; the third segment went everywhere.
        let descent = Descent::of(overlap(&[&[40, 0, 4], &[0, 40, 4], &[5, 5, 2]]));
        assert_eq!(descent.continues, [Some(0), Some(1), None]);
        let records = records(&descent);
        let birth = LineageRecord::Birth {
            segment: id("n2"),
            from: vec![share("a", 4, 0.4), share("b", 4, 0.4), share("c", 2, 0.2)],
        };
        assert!(records.contains(&birth));
        assert!(matches!(&records[4], LineageRecord::Death { into, .. } if into.len() == 3));
    }

    #[test]
    fn who_may_not_continue_takes_no_segment_from_who_may() {
        // Unbarred, a would go to the second cluster and b to the first, where neither continues.
        let descent = Descent::of(overlap(&[&[50, 40, 10], &[20, 5, 25], &[0, 50, 100]]));
        assert_eq!(descent.continues, [Some(0), None, Some(2)]);
    }

    #[test]
    fn without_common_customers_there_is_nothing_to_tell_of_them() {
        let nobody = Descent::of(Overlap::of(1, 1, []));
        assert_eq!((nobody.continues.as_slice(), nobody.relabelled()), (&[None][..], None));
        let birth = LineageRecord::Birth { segment: id("n0"), from: vec![] };
        let death = LineageRecord::Death { segment: id("a"), into: vec![] };
        assert_eq!(records(&nobody), [birth, death]);
        assert!(records(&Descent::of(Overlap::of(0, 0, []))).is_empty());
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let records = records(&Descent::of(overlap(&[&[3, 3, 0], &[0, 2, 1], &[0, 0, 9]])));
        let text = serde_json::to_string(&records).unwrap();
        assert!(text.starts_with(r#"[{"event":"continued","segment":"a","n_old":6"#), "{text}");
        assert_eq!(serde_json::from_str::<Vec<LineageRecord>>(&text).unwrap(), records);
        let strange = r#"{"event":"death","segment":"a","into":[],"when":1}"#;
        assert!(serde_json::from_str::<LineageRecord>(strange).is_err());
    }
}
