use proptest::prelude::*;

use super::*;

const FIRST: Seq = Seq(0xffff_fe00);
const LIMIT: u32 = 65_536;

/// A socket that takes so many bytes, and what it took.
struct Taker {
    room: usize,
    took: Vec<u8>,
}

impl Taker {
    fn sink(&mut self) -> impl FnMut(&[u8]) -> io::Result<usize> {
        |bytes| {
            let len = bytes.len().min(self.room);
            self.room -= len;
            self.took.extend(&bytes[..len]);
            Ok(len)
        }
    }
}

fn take(upload: &mut Upload, taker: &mut Taker, seq: Seq, payload: &[u8], fin: bool) -> Answer {
    upload.take(seq, payload, fin, usize::MAX, &mut Pool::default(), &mut taker.sink()).expect("a taker has no errors")
}

proptest! {
    /// Any cuts of a stream, in any order and more than once, into a socket that takes what it likes: it gets the stream, the
    /// promised edge never moves left, and all that was promised is taken.
    #[test]
    fn the_socket_gets_the_stream(
        cuts in proptest::collection::vec((0_usize..3000, 1_usize..700, 0_usize..900, any::<bool>()), 1..60), scale in 0_u8..9,
    ) {
        let stream: Vec<u8> = (0..4000).map(|n| (n * 13 % 251) as u8).collect();
        let mut upload = Upload::new(FIRST, scale);
        let mut taker = Taker { room: 0, took: Vec::new() };
        upload.announce(LIMIT, false);
        let mut pool = Pool::default();
        // In the end all of it comes once more, in order.
        let rest = (0..stream.len()).step_by(500).map(|at| (at, 500, 500, true));
        for (at, len, room, is_announced) in cuts.into_iter().chain(rest) {
            let end = (at + len).min(stream.len());
            let edge = upload.edge();
            taker.room += room;
            take(&mut upload, &mut taker, FIRST + at as u32, &stream[at..end], end == stream.len());
            upload.drain(&mut pool, &mut taker.sink()).unwrap();
            if is_announced {
                upload.announce(LIMIT, false);
            }
            prop_assert!(!upload.edge().is_before(edge));
            prop_assert!(!upload.edge().is_before(upload.next()));
        }
        prop_assert!(upload.is_finished());
        taker.room = usize::MAX;
        upload.drain(&mut pool, &mut taker.sink()).unwrap();
        prop_assert_eq!(taker.took, stream);
        prop_assert!(upload.is_drained() && upload.held() == 0);
    }

    #[test]
    fn a_window_said_in_steps_is_never_less_than_was_promised(takes in proptest::collection::vec(1_u32..5000, 1..50)) {
        let mut upload = Upload::new(FIRST, 8);
        let mut taker = Taker { room: 0, took: Vec::new() };
        let mut promised = FIRST;
        for len in takes {
            let field = upload.announce(LIMIT, false);
            let said = upload.next() + (u32::from(field) << 8);
            prop_assert!(!said.is_before(promised), "{said:?} after {promised:?}");
            promised = said;
            let len = len.min(promised.since(upload.next())) as usize;
            let next = upload.next();
            take(&mut upload, &mut taker, next, &vec![0; len], false);
            prop_assert_eq!(upload.next(), next + len as u32);
        }
    }
}

#[test]
fn a_socket_that_takes_nothing_closes_the_window_and_one_that_does_opens_it() {
    let mut upload = Upload::new(FIRST, 8);
    let mut taker = Taker { room: 0, took: Vec::new() };
    upload.announce(LIMIT, false);
    assert_eq!(take(&mut upload, &mut taker, FIRST, &[1; LIMIT as usize], false), Answer::Soon);
    assert_eq!((upload.announce(LIMIT, false), upload.held()), (0, LIMIT as usize));
    assert!(!upload.has_opened(LIMIT));
    taker.room = 20_000;
    upload.drain(&mut Pool::default(), &mut taker.sink()).unwrap();
    assert!(upload.has_opened(LIMIT));
    assert_eq!(upload.announce(LIMIT, false), 20_000_u16.div_ceil(256));
}

#[test]
fn what_there_is_no_room_for_is_not_acknowledged() {
    let mut upload = Upload::new(FIRST, 8);
    let mut taker = Taker { room: 10, took: Vec::new() };
    upload.announce(LIMIT, false);
    let answer = upload.take(FIRST, &[1; 100], false, 30, &mut Pool::default(), &mut taker.sink()).expect("no errors");
    assert_eq!((answer, upload.next(), upload.held()), (Answer::Now, FIRST + 40, 30));
}

#[test]
fn probes_and_what_came_twice_are_answered_at_once() {
    let mut upload = Upload::new(FIRST, 8);
    let mut taker = Taker { room: 1000, took: Vec::new() };
    upload.announce(LIMIT, false);
    assert_eq!(take(&mut upload, &mut taker, Seq(FIRST.0 - 1), &[], false), Answer::Now);
    assert_eq!(take(&mut upload, &mut taker, FIRST, &[], false), Answer::None);
    assert_eq!(take(&mut upload, &mut taker, FIRST, &[1; 10], false), Answer::Soon);
    assert_eq!(take(&mut upload, &mut taker, FIRST, &[1; 10], false), Answer::Now);
    assert_eq!(take(&mut upload, &mut taker, FIRST + 20, &[1; 10], false), Answer::Now);
    assert_eq!(taker.took, [1; 10]);
}

#[test]
fn beyond_the_window_nothing_is_taken() {
    let mut upload = Upload::new(FIRST, 8);
    let mut taker = Taker { room: usize::MAX, took: Vec::new() };
    upload.announce(LIMIT, false);
    assert_eq!(take(&mut upload, &mut taker, FIRST + LIMIT, &[1; 10], true), Answer::Now);
    assert_eq!((upload.held(), upload.is_finished()), (0, false));
    take(&mut upload, &mut taker, FIRST, &vec![1; LIMIT as usize + 5], true);
    assert_eq!((taker.took.len(), upload.is_finished()), (LIMIT as usize, false));
}
