//! The best one-to-one assignment of rows to columns.

/// The assignment of rows to columns, each used at most once, whose weights have the largest sum.
///
/// `weights` is `(n_rows, n_columns)`, what a short row lacks weighing 0. The result is
/// `(n_rows,)`: the row's column, or `None` for a row that is left over. Pairs that weigh 0 are not
/// assigned. The Hungarian method with potentials (Kuhn 1955) by shortest augmenting paths (Jonker
/// & Volgenant 1987), in time cubic in the longer side and exact in integers. Among equally good
/// assignments the same one is found always: the shorter side is assigned in its order, and of
/// equally near places the first is taken.
pub fn maximal(weights: &[Vec<u64>]) -> Vec<Option<usize>> {
    let n_rows = weights.len();
    let n_columns = weights.iter().map(Vec::len).max().unwrap_or(0);
    let weight = |row: usize, column: usize| weights[row].get(column).copied().unwrap_or(0);
    let pairs: Vec<(usize, usize)> = if n_rows <= n_columns {
        let cost = |row, column| -i128::from(weight(row, column));
        cheapest(n_rows, n_columns, cost).into_iter().enumerate().collect()
    } else {
        let cost = |column, row| -i128::from(weight(row, column));
        let rows = cheapest(n_columns, n_rows, cost).into_iter().enumerate();
        rows.map(|(column, row)| (row, column)).collect()
    };
    let mut assigned = vec![None; n_rows];
    for (row, column) in pairs {
        if weight(row, column) > 0 {
            assigned[row] = Some(column);
        }
    }
    assigned
}

/// A place for each of `n_items`, at least as many places being there, at the least total cost.
fn cheapest(n_items: usize, n_places: usize, cost: impl Fn(usize, usize) -> i128) -> Vec<usize> {
    // One more place, behind all others, holds the item that is being added. Paths begin there.
    let start = n_places;
    let mut item_potentials = vec![0_i128; n_items];
    let mut place_potentials = vec![0_i128; n_places + 1];
    let mut holds: Vec<Option<usize>> = vec![None; n_places + 1];
    for added in 0..n_items {
        holds[start] = Some(added);
        // The shortest way to every place outside the tree, less what the potentials account for.
        let mut distances = vec![i128::MAX; n_places];
        let mut before = vec![start; n_places];
        let mut in_tree = vec![false; n_places + 1];
        let mut at = start;
        // The tree grows by the nearest place until that place is free. One is: there are no fewer
        // places than items, and the tree holds one place per item that has one.
        while let Some(item) = holds[at] {
            in_tree[at] = true;
            let mut nearest = (i128::MAX, start);
            for place in (0..n_places).filter(|&place| !in_tree[place]) {
                let reduced = cost(item, place) - item_potentials[item] - place_potentials[place];
                if reduced < distances[place] {
                    distances[place] = reduced;
                    before[place] = at;
                }
                if distances[place] < nearest.0 {
                    nearest = (distances[place], place);
                }
            }
            let (step, next) = nearest;
            for place in (0..=n_places).filter(|&place| in_tree[place]) {
                if let Some(item) = holds[place] {
                    item_potentials[item] += step;
                }
                place_potentials[place] -= step;
            }
            for place in (0..n_places).filter(|&place| !in_tree[place]) {
                distances[place] -= step;
            }
            at = next;
        }
        // Every item on the path moves one place on, which frees a place for the added one.
        while at != start {
            holds[at] = holds[before[at]];
            at = before[at];
        }
    }
    let mut places = vec![0; n_items];
    for (place, held) in holds[..n_places].iter().enumerate() {
        if let Some(item) = *held {
            places[item] = place;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A linear congruential generator (Knuth's MMIX), for small matrices only.
    struct Lcg(u64);

    impl Lcg {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % bound
        }
    }

    /// The largest sum, by trying everything.
    fn best(weights: &[Vec<u64>], row: usize, used: &mut [bool]) -> u64 {
        if row == weights.len() {
            return 0;
        }
        let mut most = best(weights, row + 1, used);
        for column in 0..used.len() {
            if !used[column] {
                used[column] = true;
                most = most.max(weights[row][column] + best(weights, row + 1, used));
                used[column] = false;
            }
        }
        most
    }

    #[test]
    fn it_is_as_good_as_trying_everything() {
        let mut random = Lcg(7);
        for round in 0..600 {
            let n_rows = 1 + random.below(5) as usize;
            let n_columns = 1 + random.below(5) as usize;
            // Small bounds give many ties and zeros.
            let bound = [2, 4, 1_000][round % 3];
            let weights: Vec<Vec<u64>> = (0..n_rows)
                .map(|_| (0..n_columns).map(|_| random.below(bound)).collect())
                .collect();
            let assigned = maximal(&weights);
            assert_eq!(assigned.len(), n_rows);
            let mut used = vec![false; n_columns];
            let mut sum = 0;
            for (row, column) in assigned.iter().enumerate() {
                let Some(column) = *column else { continue };
                assert!(!used[column] && weights[row][column] > 0, "{weights:?}: {assigned:?}");
                used[column] = true;
                sum += weights[row][column];
            }
            assert_eq!(sum, best(&weights, 0, &mut vec![false; n_columns]), "{weights:?}");
        }
    }

    #[test]
    fn the_longer_side_has_some_left_over() {
        let wide = [vec![1, 9, 2], vec![2, 8, 0]];
        assert_eq!(maximal(&wide), [Some(1), Some(0)]);
        let tall = [vec![1, 2], vec![9, 8], vec![4, 0]];
        assert_eq!(maximal(&tall), [None, Some(1), Some(0)]);
    }

    #[test]
    fn nothing_gives_nothing_and_zeros_give_nobody() {
        assert!(maximal(&[]).is_empty());
        assert_eq!(maximal(&[vec![], vec![]]), [None, None]);
        assert_eq!(maximal(&[vec![0, 0], vec![0, 5]]), [None, Some(1)]);
        assert_eq!(maximal(&[vec![3], vec![], vec![4]]), [None, None, Some(0)]);
    }

    #[test]
    fn ties_go_to_the_first() {
        assert_eq!(maximal(&vec![vec![5; 4]; 4]), [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(maximal(&vec![vec![5; 3]; 2]), [Some(0), Some(1)]);
        assert_eq!(maximal(&vec![vec![5; 2]; 3]), [Some(0), Some(1), None]);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let weights = vec![vec![u64::MAX; 3]; 3];
        assert_eq!(maximal(&weights), [Some(0), Some(1), Some(2)]);
    }
}
