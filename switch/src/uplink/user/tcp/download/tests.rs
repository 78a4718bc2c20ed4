use proptest::prelude::*;

use super::*;
use crate::uplink::user::tcp::gaps::Gaps;

const MSS: u16 = 100;
const FIRST: Seq = Seq(0xffff_f000);

/// A container that keeps what it is sent in order, and what comes behind holes if it has SACK.
struct Container {
    next: Seq,
    got: Vec<u8>,
    gaps: Gaps,
    has_sack: bool,
    window: u16,
}

impl Container {
    /// Takes payload; what it then says: its acknowledgement, and the first byte that it has behind a hole.
    fn take(&mut self, seq: Seq, payload: &[u8]) -> (Seq, Option<Seq>) {
        self.gaps.keep(seq, payload, usize::MAX);
        while let Some(piece) = self.gaps.take(self.next) {
            self.next = self.next + piece.len() as u32;
            self.got.extend(&*piece);
        }
        if !self.has_sack {
            self.gaps = Gaps::default();
        }
        (self.next, self.gaps.blocks().map(|(start, _)| start).reduce(Seq::earlier))
    }
}

fn opened(has_sack: bool, window: u16) -> Download {
    let mut download = Download::new(FIRST);
    download.agree(0, has_sack);
    download.open(window, false);
    download
}

/// Sends `stream` into windows of `window` bytes, through a line that loses what `lost` says; how many bytes were sent for it.
fn transfer(stream: &[u8], has_sack: bool, window: u16, mut lost: impl FnMut() -> bool) -> usize {
    let mut download = opened(has_sack, window);
    let start = FIRST + 1;
    let mut container = Container { next: start, got: Vec::new(), gaps: Gaps::default(), has_sack, window };
    let (mut now, mut sent, mut is_ended) = (Instant(0), 0, false);
    for _ in 0..100_000 {
        let mut answers = Vec::new();
        while let Some(want) = download.want(500, MSS) {
            let (seq, len) = match want {
                Want::New { seq, len } | Want::Again { seq, len } => (seq, len as usize),
                Want::Fin { seq } => {
                    download.sent(seq + 1, now);
                    is_ended = true;
                    break;
                }
            };
            let at = seq.since(start) as usize;
            let len = len.min(stream.len() - at);
            if len == 0 {
                download.end();
                continue;
            }
            for payload in stream[at..at + len].chunks(MSS.into()) {
                let seq = start + (payload.as_ptr() as usize - stream.as_ptr() as usize) as u32;
                assert!(seq.since(start) as usize + payload.len() <= container.got.len() + usize::from(window));
                download.sent(seq + payload.len() as u32, now);
                sent += payload.len();
                if !lost() {
                    answers.push(container.take(seq, payload));
                }
            }
        }
        let is_quiet = answers.is_empty();
        for (ack, sacked) in answers {
            if !lost() {
                let end = if is_ended && ack == start + stream.len() as u32 { ack + 1 } else { ack };
                assert!(download.acknowledge(end, container.window, sacked, true, now));
            }
        }
        if container.got.len() == stream.len() && is_ended {
            assert_eq!(container.got, stream);
            return sent;
        }
        now = now + Duration::from_millis(1);
        if is_quiet && let Some(due) = download.due() {
            now = now.max(due);
            assert_ne!(download.expire(now), Expired::GiveUp);
        }
    }
    panic!("{} of {} bytes arrived", container.got.len(), stream.len());
}

proptest! {
    #[test]
    fn what_is_lost_is_sent_again_until_all_is_there(
        len in 0_usize..20_000, has_sack: bool, window in prop_oneof![1..2 * MSS, 1..2000_u16],
        chances in proptest::collection::vec(0_u8..100, 64), loss in 0_u8..30,
    ) {
        let stream: Vec<u8> = (0..len).map(|n| (n * 31 % 251) as u8).collect();
        let mut at = 0;
        transfer(&stream, has_sack, window, || {
            at += 1;
            chances[at % 61 + at % 3] < loss
        });
    }
}

#[test]
fn with_sack_only_what_was_lost_is_sent_again() {
    let stream = vec![7; 10_000];
    let mut frames = 0;
    let sent = transfer(&stream, true, 2000, || {
        frames += 1;
        frames == 3
    });
    assert_eq!(sent, stream.len() + usize::from(MSS));
}

/// With a window for several frames of which each is longer than 64 KB, and the first of them on its way.
fn with_a_long_frame() -> (Download, Seq) {
    let mut download = Download::new(FIRST);
    download.agree(8, true);
    download.open(u16::MAX, false);
    let start = download.una();
    download.sent(start + 3 * LONG, Instant(0));
    (download, start)
}

#[test]
fn who_acknowledges_a_long_frame_as_one_takes_it_whole() {
    let (mut download, start) = with_a_long_frame();
    download.sent(start + 6 * LONG, Instant(0));
    for end in [start + 3 * LONG, start + 6 * LONG] {
        assert!(download.acknowledge(end, u16::MAX, None, true, Instant(0)));
    }
    // The end of one and a part of the next may have one acknowledgement: of frames that are short.
    download.sent(start + 6 * LONG + 10, Instant(0));
    download.sent(start + 6 * LONG + 20, Instant(0));
    assert!(download.acknowledge(start + 6 * LONG + 10, u16::MAX, None, true, Instant(0)));
    assert!(download.may_be_long());
}

#[test]
fn who_acknowledges_a_part_of_a_long_frame_does_not_take_it_whole() {
    let (mut download, start) = with_a_long_frame();
    assert!(download.acknowledge(start + 2896, u16::MAX, None, true, Instant(0)));
    assert!(!download.may_be_long());
    // What is sent to it then says nothing new.
    assert!(download.acknowledge(start + 3 * LONG, u16::MAX, None, true, Instant(0)));
    assert!(!download.may_be_long());
}

#[test]
fn what_is_sent_again_may_be_acknowledged_in_parts() {
    let (mut download, start) = with_a_long_frame();
    download.sent(start + 6 * LONG, Instant(0));
    // The first was lost, and is sent again in another frame than it was.
    assert!(download.acknowledge(start, u16::MAX, Some(start + 3 * LONG), true, Instant(0)));
    download.sent(start + LONG, Instant(0));
    assert!(download.acknowledge(start + LONG, u16::MAX, Some(start + 3 * LONG), true, Instant(0)));
    assert!(download.may_be_long());
    // So is all after a timeout.
    let (mut download, start) = with_a_long_frame();
    assert_eq!(download.expire(download.due().unwrap()), Expired::Resend);
    download.sent(start + LONG, Instant(0));
    assert!(download.acknowledge(start + LONG, u16::MAX, None, true, Instant(0)));
    assert!(download.may_be_long());
}

#[test]
fn three_equal_acknowledgements_go_back_without_sack() {
    let mut download = opened(false, 1000);
    let start = download.una();
    download.sent(start + 500, Instant(0));
    for _ in 0..2 {
        download.acknowledge(start, 1000, None, true, Instant(0));
        assert_eq!(download.want(1000, MSS), Some(Want::New { seq: start + 500, len: 500 }));
    }
    download.acknowledge(start, 1000, None, true, Instant(0));
    assert_eq!(download.want(1000, MSS), Some(Want::Again { seq: start, len: 500 }));
}

#[test]
fn timeouts_double_and_end_with_giving_up() {
    let mut download = opened(true, 1000);
    let start = download.una();
    download.sent(start + 100, Instant(0));
    let mut waits = Vec::new();
    let mut now = Instant(0);
    loop {
        let due = download.due().expect("in flight");
        waits.push(due.since(now));
        now = due;
        match download.expire(now) {
            Expired::Resend => download.sent(start + 100, now),
            Expired::GiveUp => break,
            Expired::Probe => panic!("the window is open"),
        }
    }
    assert_eq!(waits[..3], [TIMEOUT, 2 * TIMEOUT, 4 * TIMEOUT]);
    assert!(now.since(Instant(0)) > Duration::from_secs(600) && waits.iter().all(|wait| *wait <= MAX_TIMEOUT));
}

#[test]
fn a_closed_window_is_probed_for_as_long_as_it_is_answered() {
    let mut download = opened(true, 0);
    let start = download.una();
    for _ in 0..100 {
        assert_eq!(download.want(1000, MSS), None);
        download.blocked(Instant(0));
        assert_eq!(download.expire(Instant(0)), Expired::Probe);
        download.acknowledge(start, 0, None, true, Instant(0));
    }
    download.acknowledge(start, 500, None, true, Instant(0));
    assert_eq!(download.want(1000, MSS), Some(Want::New { seq: start, len: 500 }));
}

#[test]
fn what_was_lost_goes_again_into_a_window_smaller_than_a_segment() {
    let mut download = opened(true, 50);
    let start = download.una();
    download.sent(start + 50, Instant(0));
    assert_eq!(download.expire(Instant(0)), Expired::Resend);
    assert_eq!(download.want(1000, MSS), Some(Want::Again { seq: start, len: 50 }));
}

#[test]
fn a_window_that_was_closed_over_what_was_lost_is_probed() {
    let mut download = opened(true, 1000);
    let start = download.una();
    download.sent(start + 500, Instant(0));
    download.acknowledge(start, 0, None, true, Instant(0));
    for _ in 0..3 {
        assert_eq!(download.expire(Instant(0)), Expired::Probe);
        assert_eq!(download.want(1000, MSS), None);
        assert!(download.due().is_some());
    }
    download.acknowledge(start, 1000, None, true, Instant(0));
    assert_eq!(download.want(1000, MSS), Some(Want::Again { seq: start, len: 500 }));
}

#[test]
fn an_end_goes_again_without_a_window() {
    let mut download = opened(true, 0);
    let start = download.una();
    download.end();
    download.sent(start + 1, Instant(0));
    assert_eq!(download.expire(Instant(0)), Expired::Resend);
    assert_eq!(download.want(1000, MSS), Some(Want::Fin { seq: start }));
}

#[test]
fn writes_that_fail_for_some_seconds_give_nobody_up() {
    for in_flight in [0, 100] {
        let mut download = opened(true, 1000);
        let mut now = Instant(0);
        if in_flight > 0 {
            download.sent(download.una() + in_flight, now);
        }
        download.failed(now);
        assert_eq!(download.due(), Some(now + AGAIN));
        while now.since(Instant(0)) < Duration::from_secs(10) {
            now = download.due().expect("it is tried again");
            assert_eq!(download.expire(now), Expired::Resend);
            download.failed(now);
        }
    }
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let mut download = opened(true, 1000);
    let start = download.una();
    assert!(!download.acknowledge(start + 1, 1000, None, true, Instant(0)));
    assert!(download.acknowledge(Seq(start.0.wrapping_sub(5)), 9, None, true, Instant(0)));
    assert_eq!(download.want(1000, MSS), Some(Want::New { seq: start, len: 1000 }));
}

#[test]
fn a_syn_that_was_sent_twice_counts_for_no_payload() {
    let mut download = Download::new(FIRST);
    download.arm(Instant(0));
    assert_eq!(download.expire(Instant(1)), Expired::Resend);
    download.open(1000, false);
    assert!(download.acknowledge(FIRST + 1, 1000, None, true, Instant(2)));
    assert!(!download.has_acked());
    assert_eq!(download.want(1000, MSS), Some(Want::New { seq: FIRST + 1, len: 1000 }));
}
