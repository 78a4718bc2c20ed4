//! Which request is what: the table in [`super::types`], in code.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::{Problem, Sent};
use super::types::{
    EndpointInfo, FdbEntry, NetworkCreate, NetworkInfo, NetworkSet, PublicationInfo, PublishRequest, RuleChange,
    RuleInfo, Stats, Status,
};
use crate::daemon::control::{Handle, Selection};
use crate::daemon::name::{Name, Target, printable};
use crate::daemon::refusal::{Outcome, Refusal};
use crate::forwarding::PortId;

type Answer<T> = Result<Json<T>, Problem>;
type Segment<T = String> = Result<Path<T>, PathRejection>;
type Asked = Result<Query<Filter>, QueryRejection>;
type Detached = Result<Query<Which>, QueryRejection>;

/// What a query may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    network: Option<String>,
    name: Option<String>,
}

/// Which of those that have had a name in turn.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    port: Option<u32>,
}

impl Filter {
    fn selection(self) -> Outcome<Selection> {
        let target = self.name.as_deref().map(|text| parse::<Target>("name", text)).transpose()?;
        Ok(Selection { network: self.network()?, target })
    }

    fn network(&self) -> Outcome<Option<Name>> {
        self.network.as_deref().map(|text| parse("network", text)).transpose()
    }
}

/// The whole API.
pub(crate) fn router(control: Handle) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/down", post(down))
        .route("/v1/networks", get(networks).post(create_network))
        .route("/v1/networks/{name}", get(network).patch(set_network).delete(remove_network))
        .route("/v1/endpoints", get(endpoints))
        .route("/v1/endpoints/{name}", delete(detach))
        .route("/v1/endpoints/{network}/{name}", delete(detach_of))
        .route("/v1/fdb", get(fdb))
        .route("/v1/rules", get(rules).post(allow).delete(deny))
        .route("/v1/publications", post(publish).delete(unpublish))
        .route("/v1/stats", get(stats))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(control)
}

async fn status(State(control): State<Handle>) -> Answer<Status> {
    answer(control.call(|c| Ok(c.status())).await)
}

async fn down(State(control): State<Handle>) -> Answer<Value> {
    done(control.ask(|c, reply| c.go_down(reply)).await)
}

async fn networks(State(control): State<Handle>) -> Answer<Vec<NetworkInfo>> {
    answer(control.call(|c| Ok(c.network_infos())).await)
}

async fn create_network(State(control): State<Handle>, Sent(wanted): Sent<NetworkCreate>) -> Answer<NetworkInfo> {
    answer(control.ask(move |c, reply| c.make_network(&wanted, reply)).await)
}

async fn network(State(control): State<Handle>, name: Segment) -> Answer<NetworkInfo> {
    let name = parse("network", &name?)?;
    answer(control.call(move |c| c.network_info(&name)).await)
}

async fn set_network(State(control): State<Handle>, name: Segment, Sent(set): Sent<NetworkSet>) -> Answer<NetworkInfo> {
    let name = parse("network", &name?)?;
    answer(control.ask(move |c, reply| c.set_network(&name, &set, reply)).await)
}

async fn remove_network(State(control): State<Handle>, name: Segment) -> Answer<Value> {
    let name = parse("network", &name?)?;
    done(control.ask(move |c, reply| c.remove_network(&name, reply)).await)
}

async fn endpoints(State(control): State<Handle>, asked: Asked) -> Answer<Vec<EndpointInfo>> {
    let selection = asked?.0.selection()?;
    answer(control.call(move |c| c.endpoint_infos(&selection)).await)
}

async fn detach(State(control): State<Handle>, target: Segment, which: Detached) -> Answer<Value> {
    let target: Target = parse("name", &target?)?;
    let port = which?.port.map(PortId);
    done(control.ask(move |c, reply| c.detach(&target, port, reply)).await)
}

async fn detach_of(
    State(control): State<Handle>,
    segments: Segment<(String, String)>,
    which: Detached,
) -> Answer<Value> {
    let Path((network, name)) = segments?;
    let target = Target { network: Some(parse("network", &network)?), name: parse("name", &name)? };
    let port = which?.port.map(PortId);
    done(control.ask(move |c, reply| c.detach(&target, port, reply)).await)
}

async fn fdb(State(control): State<Handle>, asked: Asked) -> Answer<Vec<FdbEntry>> {
    let network = asked?.network()?;
    answer(control.call(move |c| c.fdb(network.as_ref())).await)
}

async fn rules(State(control): State<Handle>, asked: Asked) -> Answer<Vec<RuleInfo>> {
    let network = asked?.network()?;
    answer(control.call(move |c| c.rules(network.as_ref())).await)
}

async fn allow(State(control): State<Handle>, Sent(change): Sent<RuleChange>) -> Answer<Value> {
    done(control.call(move |c| c.allow(&change)).await)
}

async fn deny(State(control): State<Handle>, Sent(change): Sent<RuleChange>) -> Answer<Value> {
    done(control.call(move |c| c.deny(&change)).await)
}

async fn publish(State(control): State<Handle>, Sent(request): Sent<PublishRequest>) -> Answer<Vec<PublicationInfo>> {
    answer(control.ask(move |c, reply| c.publish_ports(&request, reply)).await)
}

async fn unpublish(State(control): State<Handle>, Sent(request): Sent<PublishRequest>) -> Answer<Value> {
    done(control.ask(move |c, reply| c.unpublish_ports(&request, reply)).await)
}

async fn stats(State(control): State<Handle>, asked: Asked) -> Answer<Stats> {
    let selection = asked?.0.selection()?;
    answer(control.call(move |c| c.stats(&selection)).await)
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no such path: {}", printable(uri.path())))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let error = format!("{} does not go with {}", printable(method.as_str()), printable(uri.path()));
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, error)
}

fn answer<T>(outcome: Outcome<T>) -> Answer<T> {
    Ok(Json(outcome?))
}

fn done(outcome: Outcome<()>) -> Answer<Value> {
    answer(outcome.map(|()| json!({})))
}

fn parse<T: FromStr<Err: Display>>(what: &str, text: &str) -> Outcome<T> {
    text.parse().map_err(|e| Refusal::Malformed(format!("{what}: {e}")))
}
