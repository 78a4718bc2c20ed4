//! UDP: an echo out there, and questions to it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use nix::errno::Errno;

use crate::{Result, name_of};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest datagram: RFC 768, in IPv6.
const LARGEST: usize = 65_535;

/// Echoes; prints who asks where it `tells`.
pub(crate) fn echo(addresses: &[&str], tells: bool) -> Result {
    let mut threads = Vec::new();
    for address in addresses {
        let socket = UdpSocket::bind(address.parse::<SocketAddr>()?)?;
        threads.push(std::thread::spawn(move || -> std::io::Result<()> {
            let mut buffer = vec![0; LARGEST];
            loop {
                let (length, from) = socket.recv_from(&mut buffer)?;
                if tells {
                    println!("peer {}", from.ip());
                }
                // Who asked may be gone already.
                let _ = socket.send_to(&buffer[..length], from);
            }
        }));
    }
    println!("ready");
    for thread in threads {
        thread.join().expect("nothing in it panics")?;
    }
    Ok(())
}

pub(crate) fn ask(to: SocketAddr, bytes: usize) -> Result {
    println!("{}", answer(to, bytes)?);
    Ok(())
}

pub(crate) fn many(to: SocketAddr, count: usize) -> Result {
    let sockets: Vec<_> = (0..count).map(|_| connected(to)).collect::<std::io::Result<_>>()?;
    let mut answered = 0;
    for socket in &sockets {
        // What is refused is not answered.
        let _ = socket.send(b"?");
    }
    for socket in &sockets {
        // Answers come within the first one's patience; those that are there need none.
        answered += usize::from(socket.recv(&mut [0]).is_ok());
        socket.set_read_timeout(Some(Duration::from_millis(if answered == 0 { 500 } else { 20 })))?;
    }
    println!("answered {answered}");
    Ok(())
}

fn answer(to: SocketAddr, bytes: usize) -> Result<String> {
    let socket = connected(to)?;
    let question: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).expect("less than 251")).collect();
    let mut answer = vec![0; LARGEST];
    // An error of the network shows at either call.
    let length = match socket.send(&question).and_then(|_| socket.recv(&mut answer)) {
        Ok(length) => length,
        Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => return Ok("silence".into()),
        Err(error) => return Ok(name_of(&error)),
    };
    if answer[..length] == question { Ok("answered".into()) } else { Err("not what was sent".into()) }
}

fn connected(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}
