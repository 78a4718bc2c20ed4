//! The options of segments for containers, as bytes.

use super::sequence::Seq;

/// Longest options, in bytes. RFC 9293 3.1: a header of 15 words, less 5.
pub(super) const MAX_OPTIONS: usize = 40;

/// Blocks of a SACK option without timestamps beside it. RFC 2018 3.
pub(super) const MAX_BLOCKS: usize = 4;

// Kinds. RFC 9293 3.2, RFC 7323 2.2, RFC 2018 2 and 3.
const NOP: u8 = 1;
const MSS: u8 = 2;
const SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;

/// Options, padded to whole words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    bytes: [u8; MAX_OPTIONS],
    len: usize,
}

impl Options {
    /// None.
    pub(super) const NONE: Options = Options { bytes: [0; MAX_OPTIONS], len: 0 };

    /// Of a SYN.
    pub(super) fn syn(mss: u16, scale: Option<u8>, sack: bool) -> Self {
        let mut options = Options::NONE;
        let [high, low] = mss.to_be_bytes();
        options.push(&[MSS, 4, high, low]);
        if sack {
            options.push(&[NOP, NOP, SACK_PERMITTED, 2]);
        }
        if let Some(scale) = scale {
            options.push(&[NOP, SCALE, 3, scale]);
        }
        options
    }

    /// Of an acknowledgement that tells of bytes behind holes; the first `blocks` of them.
    pub(super) fn sack(blocks: impl Iterator<Item = (Seq, Seq)>) -> Self {
        let mut options = Options::NONE;
        options.push(&[NOP, NOP, SACK, 2]);
        for (start, end) in blocks.take(MAX_BLOCKS) {
            options.push(&start.0.to_be_bytes());
            options.push(&end.0.to_be_bytes());
            options.bytes[3] += 8;
        }
        if options.bytes[3] > 2 { options } else { Options::NONE }
    }

    /// The bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::TcpOption;

    /// As another reader sees them.
    fn read(options: &Options) -> Vec<TcpOption<'_>> {
        let mut rest = options.as_bytes();
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (next, option) = TcpOption::parse(rest).expect("well-formed");
            found.push(option);
            rest = next;
        }
        found.retain(|option| *option != TcpOption::NoOperation);
        found
    }

    #[test]
    fn a_syn_says_its_size_its_scale_and_that_it_takes_sack() {
        let wanted = [TcpOption::MaxSegmentSize(1460), TcpOption::SackPermitted, TcpOption::WindowScale(8)];
        assert_eq!(read(&Options::syn(1460, Some(8), true)), wanted);
        assert_eq!(read(&Options::syn(536, None, false)), [TcpOption::MaxSegmentSize(536)]);
    }

    #[test]
    fn at_most_four_blocks_are_told_of() {
        let blocks: Vec<_> = (0..6).map(|n| (Seq(10 * n), Seq(10 * n + 5))).collect();
        let told = read(&Options::sack(blocks.iter().copied())).len();
        assert_eq!(told, 1);
        assert_eq!(Options::sack(blocks.into_iter()).as_bytes().len(), 36);
        assert!(Options::sack(std::iter::empty()).as_bytes().is_empty());
    }
}
