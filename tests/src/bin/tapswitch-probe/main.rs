//! Makes packets, connections and requests where a test needs them: inside a container, or as another user.
//!
//! | words | does |
//! |---|---|
//! | `watch IFNAME` | prints each frame that arrives, in hexadecimal |
//! | `send IFNAME HEX..` | sends frames |
//! | `repeat IFNAME TIMES HEX` | sends one frame as often, as fast as it goes |
//! | `stamps ADDR` | sends the monotonic time by UDP, a thousand times a second |
//! | `sink ADDR` | prints the stamps that arrive |
//! | `echo ADDR..` | accepts TCP connections and echoes; ends its side when the other did |
//! | `dial ADDR` | exit 0 if a TCP connection opens and echoes within a second |
//! | `end-first ADDR..` | greets whoever connects, ends its own side, prints how many bytes come after that |
//! | `stall ADDR..` | accepts TCP connections and never reads |
//! | `reset ADDR..` | resets a TCP connection at its first byte |
//! | `peer ADDR..` | prints who connects, tells them at their first byte, and ends |
//! | `connect ADDR` | prints `connected`, or the error's name |
//! | `read ADDR` | sends a byte, prints what comes and then `end` or the error's name |
//! | `read-then-write ADDR BYTES` | reads to the end, prints how many; then sends as many as told |
//! | `abort ADDR` | is echoed once, then resets |
//! | `pour ADDR` | sends for ever; prints the name of the error that ends it |
//! | `half-close ADDR BYTES` | sends as many, ends its side, prints how many came back |
//! | `churn ADDR COUNT` | as many connections one after the other, each echoed; prints how many were lost |
//! | `together ADDR COUNT` | as many at once, each echoed; prints how many were lost |
//! | `hold ADDR COUNT` | opens as many and prints how many it got, then holds them |
//! | `files ADDR..` | HTTP: GET /BYTES gives a pattern, PUT takes and compares one |
//! | `get ADDR BYTES`, `put ADDR BYTES` | HTTP to such a one; prints `verified BYTES` |
//! | `echo-udp ADDR..` | echoes datagrams |
//! | `peer-udp ADDR..` | echoes datagrams, and prints who sends them |
//! | `ask-udp ADDR BYTES` | sends a datagram, prints `answered` from whom it was sent to, `silence` or the error's name |
//! | `many-udp ADDR COUNT` | asks from as many sockets; prints how many were answered |
//! | `names ADDR.. NAME=IP..` | DNS over UDP and TCP: those addresses, and no such name; prints each question |
//! | `request SOCKET METHOD PATH BODY` | prints the status line and body of the answer of a control socket |
//! | `flood SOCKET PATH BYTES` | sends a JSON string of that many bytes, prints how many were taken, and the answer |
//!
//! Those that go on print `ready` once they do. Whom a client of TCP or UDP speaks to may be a name: `web:80`.

mod files;
mod names;
mod tcp;
mod udp;

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recvfrom, send, socket,
};
use tapswitch_tests::Probe;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// linux/if_packet.h: a frame that this host sent.
const PACKET_OUTGOING: u8 = 4;
/// One write of the flood.
const CHUNK: usize = 64 * 1024;

fn main() -> Result {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["watch", ifname] => watch(ifname),
        ["send", ifname, ref frames @ ..] => send_frames(ifname, frames),
        ["repeat", ifname, times, frame] => repeat_frame(ifname, times.parse()?, frame),
        ["stamps", address] => stamps(address.parse()?),
        ["sink", address] => sink(address.parse()?),
        ["echo", ref at @ ..] => tcp::serve(at, tcp::echo),
        ["end-first", ref at @ ..] => tcp::serve(at, tcp::end_first),
        ["stall", ref at @ ..] => tcp::serve(at, tcp::stall),
        ["reset", ref at @ ..] => tcp::serve(at, tcp::reset),
        ["peer", ref at @ ..] => tcp::serve(at, tcp::peer),
        ["files", ref at @ ..] => tcp::serve(at, files::serve),
        ["dial", to] => tcp::dial(resolve(to)?),
        ["connect", to] => tcp::connect(resolve(to)?),
        ["read", to] => tcp::read(resolve(to)?),
        ["read-then-write", to, bytes] => tcp::read_then_write(resolve(to)?, bytes.parse()?),
        ["abort", to] => tcp::abort(resolve(to)?),
        ["pour", to] => tcp::pour(resolve(to)?),
        ["half-close", to, bytes] => tcp::half_close(resolve(to)?, bytes.parse()?),
        ["churn", to, count] => tcp::churn(resolve(to)?, count.parse()?),
        ["together", to, count] => tcp::together(resolve(to)?, count.parse()?),
        ["hold", to, count] => tcp::hold(resolve(to)?, count.parse()?),
        ["get", from, bytes] => files::get(resolve(from)?, bytes.parse()?),
        ["put", to, bytes] => files::put(resolve(to)?, bytes.parse()?),
        ["echo-udp", ref at @ ..] => udp::echo(at, false),
        ["peer-udp", ref at @ ..] => udp::echo(at, true),
        ["ask-udp", to, bytes] => udp::ask(resolve(to)?, bytes.parse()?),
        ["many-udp", to, count] => udp::many(resolve(to)?, count.parse()?),
        ["names", ref words @ ..] => names::serve(words),
        ["request", socket, method, path, body] => request(socket, method, path, body),
        ["flood", socket, path, bytes] => flood(socket, path, bytes.parse()?),
        _ => Err("see the head of tapswitch-probe.rs".into()),
    }
}

fn watch(ifname: &str) -> Result {
    let socket = packet_socket(ifname)?;
    println!("ready");
    let mut buffer = vec![0; 1 << 17];
    loop {
        let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)?;
        if from.is_some_and(|from| packet_type(&from) != PACKET_OUTGOING) {
            println!("{}", tapswitch_tests::frames::hex(&buffer[..length]));
        }
    }
}

fn send_frames(ifname: &str, frames: &[&str]) -> Result {
    let socket = packet_socket(ifname)?;
    for frame in frames {
        send(socket.as_raw_fd(), &bytes(frame)?, MsgFlags::empty())?;
    }
    Ok(())
}

fn repeat_frame(ifname: &str, times: usize, frame: &str) -> Result {
    let (socket, frame) = (packet_socket(ifname)?, bytes(frame)?);
    for _ in 0..times {
        match send(socket.as_raw_fd(), &frame, MsgFlags::empty()) {
            // A full queue of the device.
            Ok(_) | Err(Errno::ENOBUFS) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    Ok((0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16))
        .collect::<std::result::Result<_, _>>()?)
}

fn stamps(to: SocketAddr) -> Result {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0".parse()? } else { "[::]:0".parse()? };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    println!("ready");
    loop {
        // Refused while nobody listens, unreachable while nothing passes: both are what tests look for.
        let _ = socket.send(&Probe::now().to_ne_bytes());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn sink(at: SocketAddr) -> Result {
    let socket = UdpSocket::bind(at)?;
    println!("ready");
    let mut stamp = [0; 8];
    loop {
        socket.recv(&mut stamp)?;
        println!("{}", u64::from_ne_bytes(stamp));
    }
}

fn request(socket: &str, method: &str, path: &str, body: &str) -> Result {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "{}{body}", head(method, path, body.len()))?;
    print_answer(&mut stream)
}

fn flood(socket: &str, path: &str, bytes: usize) -> Result {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(head("POST", path, bytes).as_bytes())?;
    // A server that goes by the announced length may have closed before the first byte.
    let (mut sent, mut chunk) = (0, [b'x'; CHUNK]);
    chunk[0] = b'"';
    while sent < bytes {
        match stream.write(&chunk[..CHUNK.min(bytes - sent)]) {
            Ok(length) => sent += length,
            Err(_) => break,
        }
        chunk[0] = b'x';
    }
    println!("taken {sent}");
    print_answer(&mut stream)
}

fn head(method: &str, path: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: tapswitch\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
}

/// Whatever came until the other side closed; a reset after the answer is no failure of ours.
fn print_answer(stream: &mut UnixStream) -> Result {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    println!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// `ADDRESS:PORT` or `NAME:PORT`; the first address where a name has several.
fn resolve(word: &str) -> Result<SocketAddr> {
    use std::net::ToSocketAddrs;
    word.to_socket_addrs()?.next().ok_or_else(|| format!("{word} has no address").into())
}

/// An error of the system by the name programs know it by, as `ECONNREFUSED`.
fn name_of(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| format!("{:?}", error.kind()), |number| format!("{:?}", Errno::from_raw(number)))
}

fn packet_socket(ifname: &str) -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    bind(socket.as_raw_fd(), &address_of(ifname)?)?;
    Ok(socket)
}

/// The address of AF_PACKET that means "all of this device".
fn address_of(ifname: &str) -> Result<LinkAddr> {
    let index = nix::net::if_::if_nametoindex(ifname)?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: u16::try_from(libc::ETH_P_ALL)?.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: `address` is a whole sockaddr_ll, its family says so, and it lives until the call returns.
    let parsed = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    parsed.ok_or_else(|| "no packet address".into())
}

fn packet_type(address: &LinkAddr) -> u8 {
    let raw: &libc::sockaddr_ll = address.as_ref();
    raw.sll_pkttype
}
