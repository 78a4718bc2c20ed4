//! TCP: services of far hosts, and what a container makes of them. Each connection of a service has a thread.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{Backlog, setsockopt, sockopt};

use crate::{Result, name_of};

/// Connections that may wait to be accepted: the kernel's own most.
const BACKLOG: i32 = 4096;
/// How long one of many connections may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// One write or read.
const CHUNK: usize = 64 * 1024;

/// Listens at each of `addresses`; `each` is what happens to a connection.
pub(crate) fn serve(addresses: &[&str], each: fn(TcpStream) -> io::Result<()>) -> Result {
    let mut threads = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address.parse::<SocketAddr>()?)?;
        nix::sys::socket::listen(&listener, Backlog::new(BACKLOG)?)?;
        threads.push(std::thread::spawn(move || accept(&listener, each)));
    }
    println!("ready");
    for thread in threads {
        thread.join().expect("nothing in it panics")?;
    }
    Ok(())
}

fn accept(listener: &TcpListener, each: fn(TcpStream) -> io::Result<()>) -> io::Result<()> {
    // Many at once, each with two descriptors.
    raise_limit()?;
    loop {
        let (stream, _) = listener.accept()?;
        std::thread::spawn(move || {
            if let Err(error) = each(stream) {
                println!("{}", name_of(&error));
            }
        });
    }
}

pub(crate) fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut reader = stream.try_clone()?;
    io::copy(&mut reader, &mut stream)?;
    Ok(())
}

pub(crate) fn end_first(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"greeting")?;
    stream.shutdown(Shutdown::Write)?;
    println!("took {}", io::copy(&mut stream, &mut io::sink())?);
    Ok(())
}

pub(crate) fn stall(stream: TcpStream) -> io::Result<()> {
    println!("accepted");
    loop {
        std::thread::park();
        // It may wake up for no reason; the connection stays open.
        let _ = &stream;
    }
}

pub(crate) fn reset(mut stream: TcpStream) -> io::Result<()> {
    stream.read_exact(&mut [0])?;
    reset_at_close(&stream)
}

pub(crate) fn peer(mut stream: TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    println!("peer {peer}");
    stream.read_exact(&mut [0])?;
    writeln!(stream, "you are {peer}")
}

pub(crate) fn dial(to: SocketAddr) -> Result {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    round_trip(&mut stream)?;
    Ok(())
}

pub(crate) fn connect(to: SocketAddr) -> Result {
    println!("{}", TcpStream::connect(to).map_or_else(|error| name_of(&error), |_| "connected".to_owned()));
    Ok(())
}

pub(crate) fn read(from: SocketAddr) -> Result {
    let mut stream = TcpStream::connect(from)?;
    stream.write_all(b"?")?;
    println!("ready");
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    print!("{}", String::from_utf8_lossy(&bytes));
    println!("{}", end.map_or_else(|error| name_of(&error), |_| "end".to_owned()));
    Ok(())
}

pub(crate) fn read_then_write(to: SocketAddr, bytes: usize) -> Result {
    let mut stream = TcpStream::connect(to)?;
    println!("read {}", io::copy(&mut stream, &mut io::sink())?);
    write_many(&mut stream, bytes)?;
    Ok(())
}

pub(crate) fn abort(to: SocketAddr) -> Result {
    let mut stream = TcpStream::connect(to)?;
    round_trip(&mut stream)?;
    reset_at_close(&stream)?;
    Ok(())
}

pub(crate) fn pour(to: SocketAddr) -> Result {
    let mut stream = TcpStream::connect(to)?;
    println!("ready");
    let chunk = [b'x'; CHUNK];
    loop {
        if let Err(error) = stream.write_all(&chunk) {
            println!("{}", name_of(&error));
            return Ok(());
        }
    }
}

pub(crate) fn half_close(to: SocketAddr, bytes: usize) -> Result {
    let mut stream = TcpStream::connect(to)?;
    let mut writer = stream.try_clone()?;
    let writes = std::thread::spawn(move || {
        write_many(&mut writer, bytes)?;
        writer.shutdown(Shutdown::Write)
    });
    println!("returned {}", io::copy(&mut stream, &mut io::sink())?);
    writes.join().expect("nothing in it panics")?;
    Ok(())
}

/// Closed with this option, it ends in a reset: socket(7).
fn reset_at_close(stream: &TcpStream) -> io::Result<()> {
    Ok(setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?)
}

fn write_many(stream: &mut TcpStream, bytes: usize) -> io::Result<()> {
    let chunk = [b'x'; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(CHUNK);
        stream.write_all(&chunk[..length])?;
        left -= length;
    }
    Ok(())
}

pub(crate) fn churn(to: SocketAddr, count: usize) -> Result {
    let mut lost = Lost::default();
    for _ in 0..count {
        lost.note(open(to).and_then(|mut stream| round_trip(&mut stream)));
    }
    lost.print();
    Ok(())
}

pub(crate) fn together(to: SocketAddr, count: usize) -> Result {
    raise_limit()?;
    let mut lost = Lost::default();
    let mut streams: Vec<_> = (0..count).filter_map(|_| lost.note(open(to))).collect();
    for stream in &mut streams {
        lost.note(stream.write_all(b"echo"));
    }
    for stream in &mut streams {
        lost.note(read_back(stream));
    }
    lost.print();
    Ok(())
}

pub(crate) fn hold(to: SocketAddr, count: usize) -> Result {
    raise_limit()?;
    let mut lost = Lost::default();
    let mut streams: Vec<_> = (0..count).filter_map(|_| lost.note(open(to))).collect();
    streams.retain_mut(|stream| lost.note(round_trip(stream)).is_some());
    lost.print();
    println!("held {}", streams.len());
    loop {
        std::thread::park();
    }
}

fn open(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn round_trip(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"echo")?;
    read_back(stream)
}

fn read_back(stream: &mut TcpStream) -> io::Result<()> {
    let mut back = [0; 4];
    stream.read_exact(&mut back)?;
    if &back == b"echo" { Ok(()) } else { Err(io::Error::other("not what was sent")) }
}

/// What failed of many.
#[derive(Default)]
struct Lost {
    count: usize,
    first: Option<String>,
}

impl Lost {
    fn note<T>(&mut self, result: io::Result<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                self.count += 1;
                self.first.get_or_insert_with(|| name_of(error));
            })
            .ok()
    }

    fn print(&self) {
        println!(
            "lost {}{}",
            self.count,
            self.first.as_ref().map(|name| format!(", first {name}")).unwrap_or_default()
        );
    }
}

fn raise_limit() -> io::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}
