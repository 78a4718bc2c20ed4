//! TCP sequence numbers, which wrap around. RFC 9293 3.4.

use std::ops::Add;

/// A sequence number. Two of them compare only while they are less than 2 GiB apart, so there is no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seq(pub(super) u32);

impl Seq {
    /// Whether it comes before `other`.
    pub(super) fn is_before(self, other: Seq) -> bool {
        self.0.wrapping_sub(other.0).cast_signed() < 0
    }

    /// How far it is behind `earlier`, in bytes; wraps when it is not.
    pub(super) fn since(self, earlier: Seq) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The one that comes later.
    pub(super) fn later(self, other: Seq) -> Seq {
        if self.is_before(other) { other } else { self }
    }

    /// The one that comes first.
    pub(super) fn earlier(self, other: Seq) -> Seq {
        if other.is_before(self) { other } else { self }
    }
}

impl Add<u32> for Seq {
    type Output = Seq;

    fn add(self, bytes: u32) -> Seq {
        Seq(self.0.wrapping_add(bytes))
    }
}

/// A length of payload as a distance of sequence numbers.
///
/// # Panics
/// When it is 4 GiB or more: every buffer is far smaller.
pub(super) fn distance(len: usize) -> u32 {
    u32::try_from(len).expect("buffers are far smaller than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_holds_across_the_wrap(start: u32, ahead in 1_u32..1 << 31) {
            let (a, b) = (Seq(start), Seq(start) + ahead);
            prop_assert!(a.is_before(b) && !b.is_before(a) && !a.is_before(a));
            prop_assert_eq!((a.later(b), b.later(a), a.earlier(b), b.earlier(a)), (b, b, a, a));
            prop_assert_eq!(b.since(a), ahead);
        }
    }
}
