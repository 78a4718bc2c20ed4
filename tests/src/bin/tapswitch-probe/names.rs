//! A name server out there: RFC 1035, as much as it takes to answer with one address.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use crate::Result;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
/// The largest message: its length over TCP has 16 bits.
const LARGEST: usize = 65_535;
/// RFC 1035 4.1.1: a response, recursion desired and available.
const RESPONSE: u16 = 0x8180;
const NO_SUCH_NAME: u16 = 3;

type Names = Arc<Vec<(String, IpAddr)>>;

pub(crate) fn serve(words: &[&str]) -> Result {
    let (names, addresses): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.contains('='));
    let names: Names = Arc::new(names.into_iter().map(known).collect::<Result<_>>()?);
    let mut threads = Vec::new();
    for address in addresses {
        let address: SocketAddr = address.parse()?;
        let (socket, listener) = (UdpSocket::bind(address)?, TcpListener::bind(address)?);
        let (over_udp, over_tcp) = (Arc::clone(&names), Arc::clone(&names));
        threads.push(std::thread::spawn(move || datagrams(&socket, &over_udp)));
        threads.push(std::thread::spawn(move || connections(&listener, &over_tcp)));
    }
    println!("ready");
    for thread in threads {
        thread.join().expect("nothing in it panics")?;
    }
    Ok(())
}

fn known(word: &str) -> Result<(String, IpAddr)> {
    let (name, address) = word.split_once('=').expect("chosen by that");
    Ok((name.to_owned(), address.parse()?))
}

fn datagrams(socket: &UdpSocket, names: &Names) -> std::io::Result<()> {
    let mut message = vec![0; LARGEST];
    loop {
        let (length, from) = socket.recv_from(&mut message)?;
        if let Some(answer) = answer(&message[..length], names) {
            socket.send_to(&answer, from)?;
        }
    }
}

fn connections(listener: &TcpListener, names: &Names) -> std::io::Result<()> {
    for stream in listener.incoming() {
        let (mut stream, names) = (stream?, Arc::clone(names));
        std::thread::spawn(move || -> std::io::Result<()> {
            loop {
                let mut length = [0; 2];
                stream.read_exact(&mut length)?;
                let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut message)?;
                let Some(answer) = answer(&message, &names) else { return Ok(()) };
                let length = u16::try_from(answer.len()).expect("one address is short");
                stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
            }
        });
    }
    Ok(())
}

/// `None` for what is no question.
fn answer(message: &[u8], names: &Names) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let name = labels.join(".");
    let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
    println!("question {name} {kind}");
    let same: Vec<IpAddr> = names.iter().filter(|(known, _)| *known == name).map(|(_, address)| *address).collect();
    let found: Vec<_> = same.iter().filter(|a| kind == if a.is_ipv4() { TYPE_A } else { TYPE_AAAA }).collect();
    let status = RESPONSE | if same.is_empty() { NO_SUCH_NAME } else { 0 };
    let mut answer = message[..2].to_vec();
    for word in [status, 1, u16::try_from(found.len()).ok()?, 0, 0] {
        answer.extend(word.to_be_bytes());
    }
    answer.extend(&message[12..at + 4]);
    for address in found {
        // The name is the question's, at byte 12; class IN; a minute.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        answer.extend(u16::try_from(octets.len()).ok()?.to_be_bytes());
        answer.extend(octets);
    }
    Some(answer)
}
