//! The control API's client: blocking calls over the daemon's unix socket.
//!
//! Each call makes its own connection and gives it up: a command speaks once or twice, and a connection that nobody
//! uses holds one of the daemon's places.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::types::{ApiError, EndpointInfo};
use crate::daemon::settings;

/// Longer than the daemon works on any request; `down` of a thousand endpoints takes some 20 s.
const DEADLINE: Duration = Duration::from_secs(150);
/// Longest answer, in bytes: `ls` of some ten thousand endpoints.
const MAX_ANSWER: usize = 16 << 20;

/// A request that failed: one line.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no daemon answers at {}: start one with `tapswitch up -d{}`", .0.display(), naming(.0))]
    NoDaemon(PathBuf),
    /// Another user's daemon listens there.
    #[error("the daemon at {} is another user's: be that user or root, or name yours with --socket", .0.display())]
    NotAdmitted(PathBuf),
    /// The daemon answered with an error.
    #[error("{error}")]
    Refused {
        /// HTTP's status code.
        status: u16,
        /// The daemon's own words.
        error: String,
    },
    /// It took the request, or a place in its queue, and says nothing.
    #[error("{method} {path}: no answer within {seconds} s: the daemon at {} hangs, or is stopped; end it with `tapswitch down`", socket.display())]
    Silent {
        /// HTTP's method.
        method: Method,
        /// Of the request.
        path: String,
        /// Where it listens.
        socket: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It cannot be connected to.
    #[error("connect to {}: {why}", socket.display())]
    Unreachable {
        /// Where it would listen.
        socket: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// The exchange broke off.
    #[error("{method} {path}: {why}")]
    Broken {
        /// HTTP's method.
        method: Method,
        /// Of the request.
        path: String,
        /// What went wrong.
        why: String,
    },
}

/// A client of the daemon behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    deadline: Duration,
}

impl Client {
    /// A client that connects to `socket` for each request.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Client { socket: socket.into(), deadline: DEADLINE }
    }

    /// One that waits no longer than `deadline` for an answer.
    pub fn within(self, deadline: Duration) -> Self {
        Client { deadline, ..self }
    }

    /// The socket it connects to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// GET `path`, which starts with `/v1/`, with `query` behind it; pairs whose value is `None` are left out.
    ///
    /// # Errors
    /// [`ClientError`]; so do all requests.
    pub fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, Option<&str>)]) -> Result<T, ClientError> {
        self.request(Method::GET, &with_query(path, query), Vec::new())
    }

    /// POST `body` to `path`.
    ///
    /// # Errors
    /// See [`Client::get`].
    pub fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ClientError> {
        self.request(Method::POST, path, json(body))
    }

    /// PATCH `path` with `body`.
    ///
    /// # Errors
    /// See [`Client::get`].
    pub fn patch<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ClientError> {
        self.request(Method::PATCH, path, json(body))
    }

    /// DELETE `path`.
    ///
    /// # Errors
    /// See [`Client::get`].
    pub fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.request::<serde_json::Value>(Method::DELETE, path, Vec::new()).map(drop)
    }

    /// Detaches this very endpoint: one that got its name since stays. One that is gone is detached.
    ///
    /// # Errors
    /// See [`Client::get`].
    pub fn detach(&self, endpoint: &EndpointInfo) -> Result<(), ClientError> {
        let EndpointInfo { network, name, port, .. } = endpoint;
        match self.delete(&format!("/v1/endpoints/{}/{}?port={port}", encoded(network), encoded(name))) {
            Err(ClientError::Refused { status, .. }) if status == StatusCode::NOT_FOUND => Ok(()),
            outcome => outcome,
        }
    }

    /// DELETE what `body` says at `path`, as a rule.
    ///
    /// # Errors
    /// See [`Client::get`].
    pub fn delete_with<B: Serialize>(&self, path: &str, body: &B) -> Result<(), ClientError> {
        self.request::<serde_json::Value>(Method::DELETE, path, json(body)).map(drop)
    }

    fn request<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T, ClientError> {
        let broken = |why: String| ClientError::Broken { method: method.clone(), path: path.to_owned(), why };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| broken(format!("start a runtime: {e}")))?;
        let exchange = async {
            tokio::time::timeout(self.deadline, self.exchange(&method, path, body)).await.unwrap_or_else(|_| {
                Err(ClientError::Silent {
                    method: method.clone(),
                    path: path.to_owned(),
                    socket: self.socket.clone(),
                    seconds: self.deadline.as_millis().div_ceil(1000) as u64,
                })
            })
        };
        let (status, answer) = runtime.block_on(exchange)?;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|e| broken(format!("read the answer: {e}")));
        }
        let error = serde_json::from_slice(&answer).map_or_else(|_| format!("{status}"), |e: ApiError| e.error);
        Err(ClientError::Refused { status: status.as_u16(), error })
    }

    async fn exchange(&self, method: &Method, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), ClientError> {
        let broken = |why: String| ClientError::Broken { method: method.clone(), path: path.to_owned(), why };
        let stream = tokio::net::UnixStream::connect(&self.socket).await.map_err(|e| no_daemon(&self.socket, &e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(e.to_string()))?;
        // Ends with the runtime, at the latest; what it has to say the exchange below says too.
        drop(tokio::task::spawn(connection));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "tapswitch")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| broken(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(|e| broken(e.to_string()))?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok((status, answer.map_err(|e| broken(e.to_string()))?.to_bytes()))
    }
}

/// What a failed `connect` to the daemon at `socket` means.
pub fn no_daemon(socket: &Path, error: &io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoDaemon(socket.to_owned()),
        io::ErrorKind::PermissionDenied => ClientError::NotAdmitted(socket.to_owned()),
        _ => ClientError::Unreachable { socket: socket.to_owned(), why: error.to_string() },
    }
}

/// The flag that `up` needs for the daemon of `socket`, api.sock or one beside it; none where it goes there by itself.
fn naming(socket: &Path) -> String {
    let named = std::env::var_os("TAPSWITCH_SOCKET").map(PathBuf::from);
    let usual = named.and_then(|named| named.parent().map(Path::to_owned)).or_else(|| settings::default_run_dir().ok());
    if socket.parent() == usual.as_deref() {
        return String::new();
    }
    format!(" --socket {}", socket.with_file_name("api.sock").display())
}

fn json<B: Serialize>(body: &B) -> Vec<u8> {
    serde_json::to_vec(body).expect("requests have string keys and derive their Serialize")
}

fn with_query(path: &str, query: &[(&str, Option<&str>)]) -> String {
    let mut out = path.to_owned();
    for (key, value) in query.iter().filter_map(|(k, v)| Some((k, (*v)?))) {
        out.push(if out.contains('?') { '&' } else { '?' });
        out.push_str(key);
        out.push('=');
        out.push_str(&encoded(value));
    }
    out
}

/// `text` as one segment of a path, or as the value of a query. RFC 3986 2.3: all but the unreserved is encoded.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_holds_what_is_given() {
        assert_eq!(with_query("/v1/x", &[("a", None)]), "/v1/x");
        assert_eq!(
            with_query("/v1/x", &[("a", Some("1")), ("b", None), ("c", Some("n/é&"))]),
            "/v1/x?a=1&c=n%2F%C3%A9%26"
        );
    }

    #[test]
    fn a_socket_that_nobody_serves_says_how_to_start_a_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(dir.path().join("api.sock"));
        let error = client.get::<serde_json::Value>("/v1/status", &[]).unwrap_err().to_string();
        let socket = dir.path().join("api.sock").display().to_string();
        assert!(error.contains(&format!("api.sock: start one with `tapswitch up -d --socket {socket}`")), "{error}");
        let usual = settings::default_run_dir().unwrap().join("attach.sock");
        let error = ClientError::NoDaemon(usual).to_string();
        assert!(error.ends_with("start one with `tapswitch up -d`"), "{error}");
    }

    #[test]
    fn a_socket_that_cannot_be_connected_to_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(dir.path().join("a-file/api.sock"));
        std::fs::write(dir.path().join("a-file"), "").unwrap();
        let error = client.get::<serde_json::Value>("/v1/status", &[]).unwrap_err().to_string();
        assert!(error.starts_with("connect to /") && error.contains("a-file/api.sock: "), "{error}");
    }
}
