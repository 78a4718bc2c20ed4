//! Medians, spreads and ratios of a few samples.

use serde::Serialize;

/// What is said of the samples of one measure. Medians, since a round that another tenant of the machine disturbed would
/// move a mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The middle one; of an even number, halfway between the two.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

/// Summarises `samples`; nothing of nothing.
pub(crate) fn summary(samples: &[f64]) -> Option<Summary> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(Summary { median: middle(&sorted)?, min: *sorted.first()?, max: *sorted.last()? })
}

/// The quotients of samples of the same round. Rounds that either lacks are left out, as are divisions by nothing.
pub(crate) fn ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Vec<f64> {
    let pairs = ours.iter().zip(theirs).filter_map(|pair| Some(((*pair.0)?, (*pair.1)?)));
    pairs.filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect()
}

/// The sample that `share` of the samples do not exceed (nearest rank).
pub(crate) fn quantile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, share)
}

/// The same of sorted ones.
pub(crate) fn percentile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted[sorted.len() / 2 - 1] + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_odd_number_is_the_middle_one() {
        assert_eq!(summary(&[9.0, 1.0, 5.0]), Some(Summary { median: 5.0, min: 1.0, max: 9.0 }));
    }

    #[test]
    fn the_median_of_an_even_number_is_halfway_between_the_two_in_the_middle() {
        assert_eq!(summary(&[1.0, 8.0, 4.0, 2.0]).unwrap().median, 3.0);
    }

    #[test]
    fn of_nothing_nothing_is_said() {
        assert_eq!(summary(&[]), None);
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn ratios_pair_samples_of_one_round_and_skip_holes() {
        let (ours, theirs) = ([Some(2.0), None, Some(9.0), Some(1.0)], [Some(4.0), Some(1.0), Some(3.0), Some(0.0)]);
        assert_eq!(ratios(&ours, &theirs), [0.5, 3.0]);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sorted: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&sorted, 0.5), Some(50));
        assert_eq!(percentile(&sorted, 0.99), Some(99));
        assert_eq!(percentile(&[7], 0.99), Some(7));
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), Some(2.0));
    }
}
