//! HTTP of the smallest kind, for transfers whose every byte is compared: GET /BYTES and PUT /, one a connection.
//!
//! What is sent is a block of noise over and over, each with its number at its head: a block lost, doubled or out of place shows.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::Result;

const BLOCK: usize = 256 * 1024;

pub(crate) fn serve(stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(BLOCK, stream.try_clone()?);
    let mut writer = stream;
    let head = head(&mut reader)?;
    let mut words = head[0].split(' ');
    match (words.next(), words.next().and_then(|path| path.trim_start_matches('/').parse().ok())) {
        (Some("GET"), Some(bytes)) => {
            write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n")?;
            Pattern::new().send(&mut writer, bytes)
        }
        (Some("PUT"), _) => {
            let taken = Pattern::new().compare(&mut reader, length(&head)?);
            let (status, text) = match taken {
                Ok(bytes) => ("200 OK", format!("verified {bytes}\n")),
                Err(error) => ("422 Unprocessable Content", format!("{error}\n")),
            };
            write!(writer, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
        }
        _ => write!(writer, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}

pub(crate) fn get(from: SocketAddr, bytes: usize) -> Result {
    let mut stream = TcpStream::connect(from)?;
    write!(stream, "GET /{bytes} HTTP/1.1\r\nHost: {from}\r\n\r\n")?;
    let mut reader = BufReader::with_capacity(BLOCK, stream);
    let head = head(&mut reader)?;
    if !head[0].contains(" 200 ") || length(&head)? != bytes {
        return Err(head.join("; ").into());
    }
    println!("verified {}", Pattern::new().compare(&mut reader, bytes)?);
    Ok(())
}

pub(crate) fn put(to: SocketAddr, bytes: usize) -> Result {
    let mut stream = TcpStream::connect(to)?;
    write!(stream, "PUT /{bytes} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {bytes}\r\n\r\n")?;
    Pattern::new().send(&mut stream, bytes)?;
    let mut reader = BufReader::new(stream);
    head(&mut reader)?;
    io::copy(&mut reader, &mut io::stdout())?;
    Ok(())
}

/// The first line and the headers.
fn head(reader: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" if lines.is_empty() => return Err(io::Error::other("no request")),
            "" => return Ok(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

fn length(head: &[String]) -> io::Result<usize> {
    head.iter()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no length"))
}

/// What is sent.
struct Pattern {
    block: Vec<u8>,
    number: u64,
}

impl Pattern {
    fn new() -> Pattern {
        // Any constant but 0: xorshift64, Marsaglia 2003.
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        let mut block = Vec::with_capacity(BLOCK);
        while block.len() < BLOCK {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            block.extend(noise.to_be_bytes());
        }
        Pattern { block, number: 0 }
    }

    fn next(&mut self) -> &[u8] {
        self.block[..8].copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        &self.block
    }

    fn send(&mut self, to: &mut impl Write, bytes: usize) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            let length = left.min(BLOCK);
            to.write_all(&self.next()[..length])?;
            left -= length;
        }
        Ok(())
    }

    fn compare(&mut self, from: &mut impl Read, bytes: usize) -> io::Result<usize> {
        let (mut left, mut came) = (bytes, vec![0; BLOCK]);
        while left > 0 {
            let length = left.min(BLOCK);
            from.read_exact(&mut came[..length])?;
            if came[..length] != self.next()[..length] {
                return Err(io::Error::other(format!("wrong bytes after {}", bytes - left)));
            }
            left -= length;
        }
        Ok(bytes)
    }
}
