//! Which call is what, and the shape of every answer: status 200 with a JSON object, or another with `Err` and `Error`, of
//! which the network driver's client reads the one and the IPAM driver's the other.
//!
//! dockerd sends no Content-Type, and an empty body after a connection broke under a call.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{driver, ipam};
use crate::daemon::api::{Peer, Problem, body};
use crate::daemon::control::Handle;
use crate::daemon::name::printable;
use crate::daemon::refusal::Refusal;

/// How long a call may take: dockerd waits for ever, and holds a lock meanwhile.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// What dockerd asks for and expects.
const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// What a call comes to.
pub(super) type Answer = Result<Value, Problem>;

/// All calls, to be answered by `control`.
pub(crate) fn router(control: Handle) -> Router {
    Router::new().fallback(call).with_state(control)
}

async fn call(State(control): State<Handle>, request: Request) -> Response {
    let answered = tokio::time::timeout(ANSWER_WITHIN, answer(&control, request)).await;
    let answer = answered.unwrap_or_else(|_| {
        let text = format!("no answer within {} s: see the log of tapswitch", ANSWER_WITHIN.as_secs());
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text))
    });
    let (status, value) = match answer {
        Ok(value) => (StatusCode::OK, value),
        Err(problem) => {
            let text = problem.text();
            tracing::warn!("docker: {text}");
            (problem.status(), json!({ "Err": text, "Error": text }))
        }
    };
    // dockerd tries a call again whose connection ends, but without its body: so each has a connection of its own, which does not
    // outlast it.
    (status, [(header::CONTENT_TYPE, CONTENT_TYPE), (header::CONNECTION, "close")], value.to_string()).into_response()
}

async fn answer(control: &Handle, request: Request) -> Answer {
    let path = request.uri().path().to_owned();
    if request.method() != Method::POST {
        let text = format!("{} does not go with {}: POST does", printable(request.method().as_str()), printable(&path));
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let peer = request.extensions().get::<Peer>().copied().unwrap_or(Peer { pid: 0 });
    let bytes = body(request).await?;
    match path.as_str() {
        "/Plugin.Activate" => driver::activate(control).await,
        "/NetworkDriver.GetCapabilities" => Ok(driver::capabilities()),
        "/NetworkDriver.CreateNetwork" => driver::create_network(control, read(&bytes)?).await,
        "/NetworkDriver.DeleteNetwork" => driver::delete_network(control, read(&bytes)?).await,
        "/NetworkDriver.CreateEndpoint" => driver::create_endpoint(control, read(&bytes)?, peer).await,
        "/NetworkDriver.DeleteEndpoint" => driver::delete_endpoint(control, read(&bytes)?).await,
        "/NetworkDriver.EndpointOperInfo" => driver::endpoint_info(control, read(&bytes)?).await,
        "/NetworkDriver.Join" => driver::join(control, read(&bytes)?).await,
        "/NetworkDriver.Leave" => driver::leave(control, read(&bytes)?).await,
        "/NetworkDriver.ProgramExternalConnectivity" => driver::publish(control, read(&bytes)?).await,
        "/NetworkDriver.RevokeExternalConnectivity" => driver::unpublish(control, read(&bytes)?).await,
        // Of other nodes, which there are none of in the local scope.
        "/NetworkDriver.DiscoverNew" | "/NetworkDriver.DiscoverDelete" => Ok(json!({})),
        "/IpamDriver.GetCapabilities" => Ok(ipam::capabilities()),
        "/IpamDriver.GetDefaultAddressSpaces" => Ok(ipam::address_spaces()),
        "/IpamDriver.RequestPool" => ipam::request_pool(control, read(&bytes)?).await,
        "/IpamDriver.ReleasePool" => ipam::release_pool(control, read(&bytes)?).await,
        "/IpamDriver.RequestAddress" => ipam::request_address(control, read(&bytes)?).await,
        "/IpamDriver.ReleaseAddress" => ipam::release_address(control, read(&bytes)?).await,
        _ => Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no {}", printable(&path)))),
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    if bytes.is_empty() {
        return Err(bad("the request has no body".into()));
    }
    // An array would do for a struct.
    let object: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|e| bad(format!("read the request's JSON: {e}")))?;
    serde_json::from_value(object.into()).map_err(|e| bad(format!("read the request's JSON: {e}")))
}

/// A refusal as dockerd is to see it. Not as 404, which it takes for "this is not implemented, and well".
pub(super) fn refused(refusal: Refusal) -> Problem {
    let status = match refusal {
        Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        Refusal::Conflict(_) => StatusCode::CONFLICT,
        Refusal::Impossible(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::Unknown(_) | Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Problem::new(status, refusal.to_string())
}
