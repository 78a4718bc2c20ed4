//! Rounds through io_uring: one system call submits the previous round's writes and the next round's reads.
//!
//! Every operation is marked RWF_NOWAIT, so the kernel completes it, or refuses it, while it is being submitted: when the
//! call returns, all of it is over, nothing is in flight, and order holds. What a round read is decided upon at once; the
//! writes are queued in the ring and go out with the next call. Two halves of the buffers take turns, since the writes of
//! one half and the reads into the other are submitted together.
//!
//! Ports whose frames come one by one are left to [`Plain`]: preparing, issuing and completing an operation for a single frame
//! costs more than the call.
//!
//! The ring is restricted before it is enabled: only READ and WRITE, only on registered descriptors, and only the update of
//! those may be registered. io_uring does not pass through seccomp, so this is what holds a compromised worker.

use std::collections::BTreeMap;
use std::io;

use io_uring::register::Restriction;
use io_uring::{IoUring, Submitter, opcode, squeue, types};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use std::os::fd::AsRawFd;

use super::buffers::{Buffers, READ_SPACE, read_offset};
use super::dispatch::{Desk, Outbox};
use super::plain::Plain;
use super::worker::{MOST_FRAMES, Ports, Reading};
use super::{Changed, Forward, Place};
use crate::forwarding::{Instant, PortId, PortIndex};
use crate::port::{self, TxPort};

/// Operations of one submission. Floods beyond it are submitted early.
const ENTRIES: u32 = 256;

/// Most registered descriptors: of all endpoints that one daemon may have, and of the host's own on each network.
const MAX_FILES: u64 = 8192;

/// Frames that a sparse port may have for others than the switch itself, one after the other, and stay one.
const FEW_FRAMES: usize = 4;

/// Marks the user data of a read; the rest is its index. Writes carry their index alone.
const READ_MARK: u64 = 1 << 63;

/// `IORING_REGISTER_FILES_UPDATE` of linux/io_uring.h, the one registration that stays allowed.
const REGISTER_FILES_UPDATE: u8 = 6;

#[derive(Debug)]
struct Read {
    /// The port, as its place in the rotation of this round.
    at: usize,
    buffer: usize,
    result: i32,
}

#[derive(Debug)]
struct Write {
    network: u32,
    port: PortIndex,
    len: u32,
    /// What became of it is counted.
    done: bool,
}

/// The registered descriptors.
#[derive(Debug)]
struct Files {
    /// With where each port stands in what is published.
    by_port: BTreeMap<PortId, (u32, Place)>,
    free: Vec<u32>,
    /// By that: what a write asks for.
    egress: Vec<Vec<Option<u32>>>,
}

/// What goes out with the next call.
struct Queue {
    ring: IoUring,
    writes: Vec<Write>,
    /// Entries pushed and not submitted.
    pushed: usize,
    /// Why an early submission failed: nothing is queued any more, and the round ends with this.
    failed: Option<io::Error>,
}

pub(super) struct Ring {
    queue: Queue,
    files: Files,
    buffers: Buffers,
    /// For sparse ports.
    plain: Plain,
    /// Which half holds frames whose writes are queued.
    half: usize,
    reads: Vec<Read>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Ring {
    /// A restricted ring, not yet enabled.
    pub(super) fn new() -> io::Result<Self> {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let slots = u32::try_from(soft.min(MAX_FILES)).expect("at most MAX_FILES");
        let ring = IoUring::builder().setup_r_disabled().setup_single_issuer().setup_coop_taskrun().build(ENTRIES)?;
        ring.submitter().register_files_sparse(slots)?;
        ring.submitter().register_restrictions(&mut [
            Restriction::sqe_op(opcode::Read::CODE),
            Restriction::sqe_op(opcode::Write::CODE),
            Restriction::sqe_flags_required(squeue::Flags::FIXED_FILE.bits()),
            Restriction::register_op(REGISTER_FILES_UPDATE),
        ])?;
        Ok(Ring {
            queue: Queue { ring, writes: Vec::with_capacity(ENTRIES as usize), pushed: 0, failed: None },
            files: Files { by_port: BTreeMap::new(), free: (0..slots).rev().collect(), egress: Vec::new() },
            buffers: Buffers::new(2 * MOST_FRAMES),
            plain: Plain::new(),
            half: 0,
            reads: Vec::with_capacity(MOST_FRAMES),
        })
    }

    /// By the thread that will submit: the kernel holds it to that.
    pub(super) fn enable(&mut self) -> io::Result<()> {
        self.queue.ring.submitter().register_enable_rings()
    }

    /// Registers the descriptors of what is published, and lets go of the others, of those ports that `changed` names.
    pub(super) fn adopt(&mut self, forward: &impl Forward, changed: &Changed) -> io::Result<()> {
        let submitter = self.queue.ring.submitter();
        match changed {
            Changed::All => {
                let mut stale = std::mem::take(&mut self.files.by_port);
                self.files.egress.clear();
                for (place, tx) in forward.egress() {
                    let known = stale.remove(&tx.id()).map(|(file, _)| file);
                    self.files.enter(&submitter, place, tx, known)?;
                }
                stale.into_values().try_for_each(|(file, _)| self.files.free(&submitter, file))
            }
            Changed::Ports(ports) => {
                let mut known = BTreeMap::new();
                // One that came may stand where another stood.
                for port in ports.iter() {
                    let Some((file, place)) = self.files.by_port.remove(port) else { continue };
                    self.files.egress[place.network as usize][place.port.get()] = None;
                    known.insert(*port, file);
                }
                for port in ports.iter() {
                    let file = known.remove(port);
                    match (forward.place_of(*port), file) {
                        (Some(place), file) => {
                            self.files.enter(&submitter, place, forward.tx(place.network, place.port), file)?;
                        }
                        (None, Some(file)) => self.files.free(&submitter, file)?,
                        (None, None) => {}
                    }
                }
                Ok(())
            }
        }
    }

    pub(super) fn flush(&mut self, forward: &impl Forward, worker: usize) -> io::Result<()> {
        self.queue.submit(forward, worker, &mut self.reads)
    }

    /// One round; how many frames were read.
    pub(super) fn turn<F: Forward>(
        &mut self,
        forward: &F,
        ports: &mut Ports,
        desk: &mut Desk<F>,
        now: Instant,
    ) -> io::Result<usize> {
        let order = ports.rotation();
        let mut taken = 0;
        for at in order.clone() {
            if ports.active(at).is_some_and(|served| served.is_sparse()) {
                taken += self.plain.burst(at, FEW_FRAMES, forward, ports, desk, now);
            }
        }
        // A half from which nothing is to be written any more is still in the cache.
        let half = if self.queue.writes.is_empty() { self.half } else { 1 - self.half };
        self.queue_reads(half, order, ports);
        if self.queue.pushed == 0 {
            return Ok(taken);
        }
        self.queue.submit(forward, desk.worker, &mut self.reads)?;
        self.half = half;
        Ok(taken + self.decide(forward, ports, desk, now)?)
    }

    /// Reads for each active port, as deep as it has lately filled, until the half is full.
    fn queue_reads(&mut self, half: usize, order: impl Iterator<Item = usize>, ports: &mut Ports) {
        self.reads.clear();
        for at in order {
            let Some(served) = ports.active(at).filter(|served| !served.is_sparse()) else { continue };
            let Some(&(file, _)) = self.files.by_port.get(&served.rx.id()) else { continue };
            let offset = read_offset(served.rx.header_len());
            for _ in 0..served.depth() {
                if self.reads.len() == MOST_FRAMES {
                    return ports.found_no_room();
                }
                let index = self.reads.len();
                let at_buffer = half * MOST_FRAMES + index;
                let buffer = &mut self.buffers.get_mut(at_buffer)[offset..READ_SPACE];
                let len = u32::try_from(buffer.len()).expect("a buffer is shorter than 4 GiB");
                let entry = opcode::Read::new(types::Fixed(file), buffer.as_mut_ptr(), len)
                    .rw_flags(libc::RWF_NOWAIT)
                    .build()
                    .user_data(READ_MARK | index as u64);
                self.reads.push(Read { at, buffer: at_buffer, result: -libc::EAGAIN });
                self.queue.push(&entry);
            }
        }
    }

    /// Decides about what was read, port by port, in the order of the reads.
    fn decide<F: Forward>(
        &mut self,
        forward: &F,
        ports: &mut Ports,
        desk: &mut Desk<F>,
        now: Instant,
    ) -> io::Result<usize> {
        let mut frames = 0;
        let mut unsupported = None;
        let reads = std::mem::take(&mut self.reads);
        for group in reads.chunk_by(|a, b| a.at == b.at) {
            let at = group[0].at;
            let Some(served) = ports.active(at) else { continue };
            let mut outcome = Reading::Frame(0);
            let (mut read, mut inward) = (0, 0);
            for one in group {
                if one.result == -libc::EOPNOTSUPP {
                    unsupported = Some(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
                    break;
                }
                match Reading::of(completed(one.result)) {
                    Reading::Frame(len) => {
                        served.saw_frame(len, now);
                        let buffer = self.buffers.get_mut(one.buffer);
                        let mut outbox =
                            Queued { queue: &mut self.queue, files: &self.files, forward, worker: desk.worker };
                        inward += usize::from(desk.dispatch(forward, served, buffer, len, now, &mut outbox));
                        read += 1;
                    }
                    other => outcome = other,
                }
            }
            frames += read;
            served.count_round(group.len(), read, inward);
            if served.due(now).is_some() {
                ports.found_spent(at);
            }
            match outcome {
                Reading::Frame(_) => {}
                Reading::Empty => ports.found_empty(at),
                Reading::Gone => ports.found_gone(at),
            }
        }
        self.reads = reads;
        self.queue.failed.take().or(unsupported).map_or(Ok(frames), Err)
    }
}

impl Files {
    /// Notes where `tx` stands and its descriptor, which has the place `known` already, or is registered. A cable, or a port beyond
    /// the limit, has none, and is written by plain calls.
    fn enter(&mut self, submitter: &Submitter<'_>, place: Place, tx: &TxPort, known: Option<u32>) -> io::Result<()> {
        let row = place.network as usize;
        if self.egress.len() <= row {
            self.egress.resize_with(row + 1, Vec::new);
        }
        if self.egress[row].len() <= place.port.get() {
            self.egress[row].resize(place.port.get() + 1, None);
        }
        let file = match (known, tx.fd()) {
            (Some(file), _) => file,
            (None, None) => return Ok(()),
            (None, Some(fd)) => {
                let Some(file) = self.free.pop() else { return Ok(()) };
                submitter.register_files_update(file, &[fd.as_raw_fd()])?;
                file
            }
        };
        self.egress[row][place.port.get()] = Some(file);
        self.by_port.insert(tx.id(), (file, place));
        Ok(())
    }

    fn free(&mut self, submitter: &Submitter<'_>, file: u32) -> io::Result<()> {
        submitter.register_files_update(file, &[-1])?;
        self.free.push(file);
        Ok(())
    }
}

fn completed(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

impl Queue {
    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the entry points into the worker's buffers, which live as long as the ring; every operation is over when the
        // submission returns, and a buffer is not used otherwise between the push and that.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("room was made before");
        self.pushed += 1;
    }

    /// Whether no more writes may be pushed: the reads of the next round need room behind them.
    fn is_full(&self) -> bool {
        self.pushed >= ENTRIES as usize - MOST_FRAMES
    }

    /// Submits all that was pushed, waits until it is over, and takes the results: writes are counted, reads noted.
    ///
    /// # Errors
    /// The kernel's. The ring is of no more use, and the writes that it did not do are counted as lost.
    fn submit(&mut self, forward: &impl Forward, worker: usize, reads: &mut [Read]) -> io::Result<()> {
        let mut left = std::mem::take(&mut self.pushed);
        while left > 0 {
            match self.ring.submit_and_wait(left) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let lost = self.writes.iter_mut().filter(|write| !write.done);
                    lost.for_each(|write| write.finish(-libc::ENOMEM, forward, worker));
                    self.writes.clear();
                    return Err(error);
                }
            }
            for entry in self.ring.completion() {
                left -= 1;
                let (mark, result) = (entry.user_data(), entry.result());
                if mark & READ_MARK != 0 {
                    reads[(mark ^ READ_MARK) as usize].result = result;
                } else {
                    self.writes[mark as usize].finish(result, forward, worker);
                }
            }
        }
        self.writes.clear();
        Ok(())
    }
}

impl Write {
    fn finish(&mut self, result: i32, forward: &impl Forward, worker: usize) {
        self.done = true;
        let tx = forward.tx(self.network, self.port);
        let outcome = if result < 0 { Err(port::drop_reason(Errno::from_raw(-result))) } else { Ok(()) };
        tx.count(worker, self.len as usize - tx.header_len(), outcome);
    }
}

/// Queues copies for the next call.
struct Queued<'a, F> {
    queue: &'a mut Queue,
    files: &'a Files,
    forward: &'a F,
    worker: usize,
}

impl<F: Forward> Outbox for Queued<'_, F> {
    fn send(&mut self, network: u32, port: PortIndex, tx: &TxPort, bytes: &[u8]) {
        let file = self.files.egress[network as usize][port.get()];
        if self.queue.is_full() {
            self.settle();
        }
        let Some(file) = file.filter(|_| self.queue.failed.is_none()) else {
            tx.count(self.worker, bytes.len() - tx.header_len(), tx.write(bytes));
            return;
        };
        let len = u32::try_from(bytes.len()).expect("a frame is shorter than 4 GiB");
        let entry = opcode::Write::new(types::Fixed(file), bytes.as_ptr(), len)
            .rw_flags(libc::RWF_NOWAIT)
            .build()
            .user_data(self.queue.writes.len() as u64);
        self.queue.writes.push(Write { network, port, len, done: false });
        self.queue.push(&entry);
    }

    /// Submits early. Only writes are queued while frames are decided upon, so there is no read to note.
    fn settle(&mut self) {
        if self.queue.failed.is_none() {
            self.queue.failed = self.queue.submit(self.forward, self.worker, &mut []).err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::IoChoice;
    use super::super::testing::{frame, mac, on_sockets, received};
    use super::*;
    use crate::forwarding::EgressDrop;
    use crate::frame::offload::HEADER_LEN;

    #[test]
    fn what_a_ring_that_fails_was_to_write_is_counted_and_the_rest_written_by_plain_calls() {
        let (ports, _, fars) = on_sockets(2, IoChoice::Plain);
        let snapshot = ports.snapshot();
        let mut ring = Ring::new().expect("a kernel with io_uring");
        ring.enable().unwrap();
        ring.adopt(&*snapshot, &Changed::All).unwrap();
        let to = snapshot.place_of(PortId(2)).unwrap();
        let bytes = [&[0; HEADER_LEN][..], &frame(1, mac(2))].concat();
        let mut outbox = Queued { queue: &mut ring.queue, files: &ring.files, forward: &*snapshot, worker: 0 };
        let write = |copies, outbox: &mut Queued<'_, _>| {
            (0..copies).for_each(|_| outbox.send(to.network, to.port, &ports.tx[1], &bytes));
        };
        write(3, &mut outbox);
        outbox.settle();
        assert_eq!(received(&fars[1]), 3);
        write(2, &mut outbox);
        let nothing = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: the ring goes on to own a descriptor, which is none of a ring any more.
        assert!(unsafe { libc::dup2(nothing.as_raw_fd(), outbox.queue.ring.as_raw_fd()) } >= 0);
        outbox.settle();
        // More than the ring holds.
        for _ in 0..2 {
            write(ENTRIES as usize, &mut outbox);
            assert_eq!(received(&fars[1]), ENTRIES as usize);
        }
        let counts = ports.counts(1);
        assert_eq!((counts.tx_frames, counts.tx_drops[EgressDrop::NoMemory.index()]), (3 + 2 * u64::from(ENTRIES), 2));
        assert!(ring.queue.failed.is_some(), "for the round to end with");
    }
}
