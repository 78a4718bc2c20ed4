//! A TCP connection between two hosts, on which both ends send bytes that both know.

use smoltcp::iface::SocketHandle;
use tapswitch::forwarding::PortId;

use crate::lan::Lan;

/// What a host sends at once.
const CHUNK: usize = 4096;

struct End {
    host: PortId,
    socket: SocketHandle,
    sent: usize,
    received: usize,
}

pub(crate) struct Stream {
    ends: [End; 2],
    bytes: usize,
    seed: u64,
}

impl Stream {
    /// `from` connects to `port` of `to`; each end then sends `bytes`.
    pub(crate) fn open(lan: &mut Lan, from: usize, to: usize, v6: bool, port: u16, bytes: usize, seed: u64) -> Self {
        let address = lan.hosts[to].address(v6);
        let listener = lan.hosts[to].listen(port);
        let opener = lan.hosts[from].connect(address, port, 40_000 + port);
        let end = |at: usize, socket| End { host: lan.hosts[at].port, socket, sent: 0, received: 0 };
        Stream { ends: [end(from, opener), end(to, listener)], bytes, seed }
    }

    /// Sends and takes what is possible; whether all has arrived. What arrives must be what was sent.
    pub(crate) fn pump(&mut self, lan: &mut Lan) -> bool {
        for at in 0..2 {
            let seed = |end: usize| self.seed * 2 + end as u64;
            let (mine, theirs) = (seed(at), seed(1 - at));
            let end = &mut self.ends[at];
            let host = lan.hosts.iter_mut().find(|host| host.port == end.host).expect("attached");
            let socket = host.stream(end.socket);
            while socket.can_send() && end.sent < self.bytes {
                let len = CHUNK.min(self.bytes - end.sent);
                let chunk: Vec<u8> = (end.sent..end.sent + len).map(|at| byte(mine, at)).collect();
                end.sent += socket.send_slice(&chunk).expect("it can send");
            }
            while socket.can_recv() {
                let received = &mut end.received;
                let take = |data: &mut [u8]| {
                    for (at, &got) in data.iter().enumerate() {
                        assert_eq!(got, byte(theirs, *received + at), "at {}", *received + at);
                    }
                    *received += data.len();
                    (data.len(), ())
                };
                socket.recv(take).expect("it can receive");
            }
        }
        self.ends.iter().all(|end| end.received == self.bytes)
    }

    /// Bytes that have arrived, both ways.
    pub(crate) fn arrived(&self) -> usize {
        self.ends.iter().map(|end| end.received).sum()
    }
}

fn byte(seed: u64, at: usize) -> u8 {
    let mixed = (at as u64 ^ seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

/// Runs all until they are done.
pub(crate) fn finish(lan: &mut Lan, what: &str, streams: &mut [Stream]) {
    lan.run(what, |lan| {
        let mut done = true;
        for stream in streams.iter_mut() {
            done &= stream.pump(lan);
        }
        done
    });
}
