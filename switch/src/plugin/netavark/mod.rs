//! The netavark driver plugin: podman 4.5 and later with `podman network create -d tapswitch`. Plugin API 1.0.0.
//!
//! `create` is asked once for a network, `setup` and `teardown` for each container with the namespace's path as argument; requests
//! come on stdin, answers and errors go to stdout as JSON. podman keeps the network and leases the addresses itself: the switch's
//! network is made by `create`, or by `setup` where it is gone, and each container asks for what podman leased. An endpoint's
//! holder is `netavark:CONTAINER`, so teardown needs no namespace.
//!
//! podman holds its network lock meanwhile: nothing here waits for podman.

mod network;
mod setup;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::switch::Switch;

/// The face's word in a holder.
const FACE: &str = "netavark";

/// Does what the first of `words` says.
pub(super) fn main(words: &[String], socket: Option<PathBuf>) -> ExitCode {
    match run(words, socket) {
        Ok(Some(object)) => {
            super::answer(&object);
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            // No other key: podman allows none.
            super::answer(&json!({"error": format!("{error:#}")}));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String], socket: Option<PathBuf>) -> anyhow::Result<Option<Value>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let switch = || anyhow::Ok(Switch::new(&super::socket::find(socket)?));
    match words.as_slice() {
        [] | ["info"] => Ok(Some(json!({"version": env!("CARGO_PKG_VERSION"), "api_version": "1.0.0"}))),
        ["create"] => network::create(&switch()?, stdin()?).map(Some),
        ["setup", netns] => setup::setup(&switch()?, netns, &stdin()?).map(Some),
        ["teardown", netns] => setup::teardown(&switch()?, netns, &stdin()?).map(|()| None),
        _ => bail!("usage: tapswitch-netavark info | create | setup NETNS | teardown NETNS"),
    }
}

fn stdin<T: DeserializeOwned>() -> anyhow::Result<T> {
    let bytes = super::request().context("read stdin")?;
    serde_json::from_slice(&bytes).context("read the request")
}
