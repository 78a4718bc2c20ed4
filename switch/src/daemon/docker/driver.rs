//! The NetworkDriver.

use serde_json::{Value, json};

use super::options;
use super::router::{Answer, refused};
use super::wire::{
    CreateEndpoint, CreateNetwork, InterfaceName, Join, Joined, OfEndpoint, OfNetwork, PortBinding, Program, text,
};
use crate::daemon::api::{Peer, Problem};
use crate::daemon::control::{DockerEndpoint, Handle};
use crate::daemon::docker::DockerId;
use crate::daemon::name::printable;
use crate::daemon::publish::PublishSpec;
use crate::daemon::refusal::{Outcome, Refusal};
use crate::uplink::Transport;

/// Most ports of the host that are tried for one of a container's.
const TRIES: usize = 512;

/// A dockerd has started, or has found us.
pub(super) async fn activate(control: &Handle) -> Answer {
    let started = control.call(|c| {
        c.docker_started();
        Ok(())
    });
    started.await.map_err(refused)?;
    Ok(json!({ "Implements": ["NetworkDriver", "IpamDriver"] }))
}

pub(super) fn capabilities() -> Value {
    json!({ "Scope": "local", "ConnectivityScope": "local" })
}

pub(super) async fn create_network(control: &Handle, request: CreateNetwork) -> Answer {
    let network = options::network(request).map_err(refused)?;
    control.ask(|c, reply| c.create_docker_network(network, reply)).await.map_err(refused)?;
    Ok(json!({}))
}

pub(super) async fn delete_network(control: &Handle, request: OfNetwork) -> Answer {
    control.ask(move |c, reply| c.remove_docker_network(&request.network, reply)).await.map_err(refused)?;
    Ok(json!({}))
}

pub(super) async fn create_endpoint(control: &Handle, request: CreateEndpoint, peer: Peer) -> Answer {
    if peer.pid <= 0 {
        let text = "dockerd's process is not to be seen from here (another pid namespace), and so not its network \
                    namespace: run tapswitch beside it";
        return Err(refused(Refusal::Failed(text.into())));
    }
    for key in options::unknown(&request) {
        tracing::warn!("docker: endpoint {}: option {} is not known", request.endpoint.short(), printable(key));
    }
    let has = &request.interface;
    let (address, address6, mac) = (has.address, has.address6, has.mac_address);
    let wanted = DockerEndpoint {
        name: options::endpoint_name(&request),
        rate_in: options::rate(&request, "rate_in").map_err(refused)?,
        rate_out: options::rate(&request, "rate_out").map_err(refused)?,
        ipv4: address.map(|net| net.addr()),
        ipv6: address6.map(|net| net.addr()),
        mac,
        pid: peer.pid,
        network: request.network,
        id: request.endpoint,
    };
    let id = wanted.id.clone();
    control.ask(move |c, reply| c.create_docker_endpoint(&wanted, reply)).await.map_err(refused)?;
    let born = control.call(move |c| c.born(&id)).await.map_err(refused)?;
    // Only what Docker has not decided itself may be told.
    let mut interface = serde_json::Map::new();
    if mac.is_none() {
        interface.insert("MacAddress".into(), born.mac.to_string().into());
    }
    if address.is_none() {
        interface.insert("Address".into(), born.ipv4.to_string().into());
    }
    Ok(json!({ "Interface": interface }))
}

pub(super) async fn delete_endpoint(control: &Handle, request: OfEndpoint) -> Answer {
    control.ask(move |c, reply| c.delete_docker_endpoint(&request.endpoint, reply)).await.map_err(refused)?;
    Ok(json!({}))
}

pub(super) async fn endpoint_info(control: &Handle, request: OfEndpoint) -> Answer {
    let info = control.call(move |c| Ok(c.docker_endpoint_info(&request.endpoint))).await.map_err(refused)?;
    let value = info.map(|info| json!({ "tapswitch.endpoint": format!("{}/{}", info.network, info.name) }));
    Ok(json!({ "Value": value.unwrap_or_else(|| json!({})) }))
}

pub(super) async fn join(control: &Handle, request: Join) -> Answer {
    let joined = control.call(move |c| c.join(&request.endpoint, &request.sandbox_key)).await.map_err(refused)?;
    let alone = joined.gateway.is_none();
    let joined = Joined {
        interface_name: InterfaceName { src_name: joined.ifname, dst_prefix: "eth" },
        gateway: text(joined.gateway),
        gateway6: text(joined.gateway6),
        static_routes: [],
        disable_gateway_service: alone,
    };
    Ok(serde_json::to_value(joined).expect("plain text and numbers"))
}

pub(super) async fn leave(control: &Handle, request: OfEndpoint) -> Answer {
    control.call(move |c| c.leave(&request.endpoint)).await.map_err(refused)?;
    Ok(json!({}))
}

/// Publishes all, or nothing.
pub(super) async fn publish(control: &Handle, request: Program) -> Answer {
    let Program { endpoint, options } = request;
    let id = endpoint.clone();
    let bind = control.call(move |c| Ok(c.docker_bind(&id))).await.map_err(refused)?;
    let choices = options.ports.iter().map(|port| choices(port, bind)).collect::<Outcome<Vec<_>>>().map_err(refused)?;
    let (fixed, ranges): (Vec<_>, Vec<_>) = choices.into_iter().partition(|choices| choices.len() == 1);
    let outcome = publish_each(control, &endpoint, fixed.concat(), ranges).await;
    if outcome.is_err() {
        // What is bound already was bound in vain; that it could not be undone is no better news than the first.
        let _ = control.ask(move |c, reply| c.unpublish_docker(&endpoint, reply)).await;
    }
    outcome.map(|()| json!({}))
}

pub(super) async fn unpublish(control: &Handle, request: OfEndpoint) -> Answer {
    control.ask(move |c, reply| c.unpublish_docker(&request.endpoint, reply)).await.map_err(refused)?;
    Ok(json!({}))
}

async fn publish_each(
    control: &Handle,
    endpoint: &DockerId,
    fixed: Vec<PublishSpec>,
    ranges: Vec<Vec<PublishSpec>>,
) -> Result<(), Problem> {
    publish_these(control, endpoint, fixed).await.map_err(refused)?;
    for choices in ranges {
        let mut refusal = None;
        for choice in choices {
            match publish_these(control, endpoint, vec![choice]).await {
                Ok(()) => {
                    refusal = None;
                    break;
                }
                Err(error) => refusal = Some(error),
            }
        }
        refusal.map_or(Ok(()), |refusal| Err(refused(refusal)))?;
    }
    Ok(())
}

async fn publish_these(control: &Handle, endpoint: &DockerId, specs: Vec<PublishSpec>) -> Outcome<()> {
    let id = endpoint.clone();
    control.ask(move |c, reply| c.publish_docker(&id, &specs, reply)).await.map(drop)
}

/// What a port of a container may be published as, the best first.
fn choices(port: &PortBinding, bind: Option<std::net::Ipv4Addr>) -> Outcome<Vec<PublishSpec>> {
    let transport = match port.proto {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        other => {
            let name = if other == 132 { "sctp".into() } else { format!("protocol {other}") };
            return Err(Refusal::Impossible(format!("publish {}/{name}: TCP and UDP alone are had", port.port)));
        }
    };
    if port.port == 0 {
        return Err(Refusal::Malformed("publish port 0 of a container".into()));
    }
    let ip = port.host_ip.or(bind.map(Into::into));
    let spec = |host| PublishSpec { ip, host, container: port.port, count: 1, transport };
    if port.host_port == 0 {
        return Ok(vec![spec(None)]);
    }
    let last = port.host_port_end.max(port.host_port);
    Ok((port.host_port..=last).take(TRIES).map(|host| spec(Some(host))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: Value) -> Outcome<Vec<PublishSpec>> {
        choices(&serde_json::from_value(json).unwrap(), Some([127, 0, 0, 1].into()))
    }

    #[test]
    fn a_port_is_published_as_docker_says() {
        let [one] = of(json!({"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}))
            .unwrap()
            .try_into()
            .unwrap();
        assert_eq!((one.host, one.container, one.ip), (Some(8080), 80, "127.0.0.1".parse().ok()));
        let some =
            of(json!({"Proto": 17, "Port": 53, "HostIP": "::1", "HostPort": 5000, "HostPortEnd": 5002})).unwrap();
        assert_eq!((some.len(), some[2].host, some[0].ip), (3, Some(5002), "::1".parse().ok()));
        assert_eq!(of(json!({"Proto": 6, "Port": 80})).unwrap()[0].host, None, "a free one");
    }

    #[test]
    fn what_cannot_be_published_is_refused_by_name() {
        for (port, needle) in [
            (json!({"Proto": 132, "Port": 80}), "sctp"),
            (json!({"Proto": 1, "Port": 80}), "protocol 1"),
            (json!({"Proto": 6, "Port": 0}), "port 0"),
        ] {
            let error = of(port).unwrap_err().to_string();
            assert!(error.contains(needle), "{error}");
        }
    }
}
