//! The servers beside iperf3's, in one process: an echo, and one that ends each connection at once.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};

use crate::needs;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Each byte back; ended when the client does.
    Echo,
    /// Ended as soon as accepted.
    End,
}

impl Service {
    const ALL: [Service; 2] = [Service::Echo, Service::End];
}

/// Where a service listens.
pub(crate) fn address(host: IpAddr, service: Service) -> SocketAddr {
    let port = match service {
        Service::Echo => 5202,
        Service::End => 5203,
    };
    SocketAddr::new(host, port)
}

/// Serves for as long as the process lives; prints `ready` once all listen.
pub(crate) fn serve(host: IpAddr) -> Result<()> {
    needs::descriptors()?;
    let mut listeners = Vec::new();
    for service in Service::ALL {
        let at = address(host, service);
        listeners.push((service, TcpListener::bind(at).with_context(|| format!("listen on {at}"))?));
    }
    println!("ready");
    let threads = listeners.into_iter().map(|(service, listener)| {
        thread::spawn(move || match service {
            Service::Echo => echo(&listener),
            Service::End => end(&listener),
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().expect("no server panics");
    }
    Ok(())
}

// An accept that fails has lost one connection, which is its client's to notice.
fn clients(listener: &TcpListener) -> impl Iterator<Item = TcpStream> {
    listener.incoming().filter_map(Result::ok)
}

fn echo(listener: &TcpListener) {
    for mut stream in clients(listener) {
        // A thread for each, a thousand idle ones too: they sleep.
        thread::spawn(move || {
            let mut byte = [0];
            let nodelay = stream.set_nodelay(true);
            while nodelay.is_ok() && stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).is_ok() {}
        });
    }
}

fn end(listener: &TcpListener) {
    clients(listener).for_each(drop);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_do_not_share_a_port() {
        let host = IpAddr::from([127, 0, 0, 1]);
        let mut ports = Service::ALL.map(|service| address(host, service).port()).to_vec();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), Service::ALL.len());
    }
}
