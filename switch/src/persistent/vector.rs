//! An array whose copies share what they have in common.
//!
//! Three levels: a list of branches, each of [`WIDTH`] leaves of [`WIDTH`] entries. A change copies a leaf, a branch, and the list,
//! which is as long as a thousandth of the array: 4 words for 4,096 entries, 98 for 100,000. A look-up follows three pointers,
//! the first two of which any look-up nearby has followed. It has no length: entries that were never set are the default.

use std::array::from_fn;
use std::sync::Arc;

/// Of a leaf, and of a branch: larger ones are copied longer, smaller ones make a longer list.
const WIDTH: usize = 32;

type Leaf<T> = [T; WIDTH];
type Branch<T> = [Arc<Leaf<T>>; WIDTH];

/// The array.
#[derive(Clone, Debug)]
pub(crate) struct Vector<T> {
    branches: Vec<Arc<Branch<T>>>,
}

impl<T> Default for Vector<T> {
    fn default() -> Self {
        Vector { branches: Vec::new() }
    }
}

impl<T: Clone + Default> Vector<T> {
    /// The entry at `at`; `None` beyond all that were set.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        let branch = self.branches.get(at / (WIDTH * WIDTH))?;
        Some(&branch[at / WIDTH % WIDTH][at % WIDTH])
    }

    /// The entry at `at`, to be changed in this copy alone.
    pub(crate) fn get_mut(&mut self, at: usize) -> &mut T {
        let branch = at / (WIDTH * WIDTH);
        while self.branches.len() <= branch {
            let leaf = Arc::new(from_fn(|_| T::default()));
            self.branches.push(Arc::new(from_fn(|_| Arc::clone(&leaf))));
        }
        let branch = Arc::make_mut(&mut self.branches[branch]);
        &mut Arc::make_mut(&mut branch[at / WIDTH % WIDTH])[at % WIDTH]
    }

    /// Every entry, by place; at its end some that were never set.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.branches.iter().flat_map(|branch| branch.iter().flat_map(|leaf| leaf.iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn nothing_is_in_an_empty_one() {
        let vector = Vector::<u32>::default();
        assert_eq!(vector.get(0), None);
        assert_eq!(vector.iter().count(), 0);
    }

    #[test]
    fn what_was_never_set_is_the_default() {
        let mut vector = Vector::<u32>::default();
        *vector.get_mut(70) = 7;
        assert_eq!((vector.get(69), vector.get(70), vector.get(WIDTH * WIDTH)), (Some(&0), Some(&7), None));
    }

    #[test]
    fn a_change_copies_one_leaf() {
        let mut vector = Vector::default();
        (0..WIDTH * WIDTH * 3).for_each(|at| *vector.get_mut(at) = at);
        let before = vector.clone();
        *vector.get_mut(WIDTH + 1) = 0;
        let differ = |a: &Vector<usize>, b: &Vector<usize>| {
            let leaves = |v: &Vector<usize>| -> Vec<_> {
                v.branches.iter().flat_map(|branch| branch.iter().map(Arc::as_ptr)).collect()
            };
            leaves(a).iter().zip(leaves(b)).filter(|(a, b)| **a != *b).count()
        };
        assert_eq!(differ(&before, &vector), 1);
        assert_eq!((before.get(WIDTH + 1), vector.get(WIDTH + 1)), (Some(&(WIDTH + 1)), Some(&0)));
    }

    proptest! {
        #[test]
        fn every_version_is_what_was_set_until_then(sets in prop::collection::vec((0..5000_usize, 1..9_u32), 0..60)) {
            let mut model = BTreeMap::new();
            let mut vector = Vector::default();
            let mut versions = vec![(model.clone(), vector.clone())];
            for (at, value) in sets {
                model.insert(at, value);
                *vector.get_mut(at) = value;
                versions.push((model.clone(), vector.clone()));
            }
            for (model, vector) in versions {
                prop_assert!(model.iter().all(|(&at, value)| vector.get(at) == Some(value)));
                let set: Vec<_> = vector.iter().copied().enumerate().filter(|(_, value)| *value != 0).collect();
                prop_assert_eq!(set, model.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
