//! The plugin's socket, with a control whose keeper is a thread of the test.

mod addresses;
mod hostile;
mod recorded;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::router;
use crate::daemon::api;
use crate::daemon::control::testing::Daemon;

/// Ids, as Docker makes them.
const NETWORK: &str = "e9b9385a34864d7f8fc69190d962dbac8dca45055e0da9313f0824d37950358a";
const A: &str = "08bf98db7514aa0f186c59368565b0f563a7acd1423fd2312a83767e37bb0092";
const B: &str = "0b5f05984fbe7fb3255e48e1def8c8073e5d2f32045e6ecdc2bb3a9ede10eb9f";

/// A daemon whose plugin is served.
struct Plugin {
    daemon: Option<Daemon>,
    socket: PathBuf,
    stop: watch::Sender<bool>,
    served: Option<JoinHandle<()>>,
}

impl Plugin {
    fn new(dir: &Path) -> Plugin {
        Plugin::over(Daemon::new(dir), dir)
    }

    fn over(daemon: Daemon, dir: &Path) -> Plugin {
        let socket = dir.join("docker.sock");
        // A stopped one leaves its file.
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = api::stop_pair();
        let handle = daemon.handle.clone();
        let served = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                api::serve(listener, router(handle), stopped).await;
            });
        });
        Plugin { daemon: Some(daemon), socket, stop, served: Some(served) }
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// Asks as dockerd does: no Content-Type, and no body for what takes none. The status, and the answer, which is always an
    /// object.
    fn call(&self, method: &str, request: &Value) -> (u16, Value) {
        let body = if request.is_null() { String::new() } else { format!("{request}\n") };
        self.post(method, body.as_bytes())
    }

    fn post(&self, method: &str, body: &[u8]) -> (u16, Value) {
        let head = format!(
            "POST /{method} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = self.exchange(&[head.as_bytes(), body].concat());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method}: {answer}"));
        assert!(head.contains("application/vnd.docker.plugins.v1.2+json"), "{head}");
        let value: Value = serde_json::from_str(body).unwrap();
        assert!(value.is_object(), "{method}: {value}");
        (head[9..12].parse().unwrap(), value)
    }

    /// What comes for `bytes` until the server closes.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // A server that refuses a body may close before it has all of it.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    /// The answer of a call that succeeds.
    fn well(&self, method: &str, request: &Value) -> Value {
        let (status, value) = self.call(method, request);
        assert!(status == 200 && value.get("Err").is_none(), "{method} {request}: {status} {value}");
        value
    }

    /// The one line of a call that fails, which has the shape that both of dockerd's clients read.
    fn fails(&self, method: &str, request: &Value) -> String {
        failure(method, self.call(method, request))
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        let served = self.served.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(served.is_none_or(|served| served.is_ok()));
            self.daemon.take().map(Daemon::stop);
        }
    }
}

fn failure(what: &str, (status, value): (u16, Value)) -> String {
    let text = value["Err"].as_str().unwrap_or_else(|| panic!("{what}: {value}"));
    assert!(status != 200 && status != 404, "{what}: {status}");
    assert!(value["Error"] == text && !text.is_empty() && !text.contains('\n'), "{what}: {value}");
    text.to_owned()
}

/// A network of Docker's own addresses.
fn network(id: &str, pool: &str) -> Value {
    let gateway = pool.replace(".0/", ".1/");
    serde_json::json!({
        "NetworkID": id,
        "Options": {"com.docker.network.enable_ipv6": false, "com.docker.network.generic": {}},
        "IPv4Data": [{"AddressSpace": "LocalDefault", "Pool": pool, "Gateway": gateway}],
        "IPv6Data": [],
    })
}

fn endpoint(network: &str, id: &str, address: &str) -> Value {
    serde_json::json!({
        "NetworkID": network,
        "EndpointID": id,
        "Interface": {"Address": address, "AddressIPv6": "", "MacAddress": ""},
        "Options": {"com.docker.network.endpoint.exposedports": [], "com.docker.network.portmap": []},
    })
}

fn of(id: &str) -> Value {
    serde_json::json!({ "NetworkID": NETWORK, "EndpointID": id })
}
