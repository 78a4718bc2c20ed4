//! The life of a switch process.
//!
//! | thread | does |
//! |---|---|
//! | main | control: owns networks and endpoints |
//! | worker-N | forward |
//! | api | serves `api.sock`, `attach.sock` and Docker's socket, and relays containers' names |
//! | keeper-link | receives from the keeper |
//! | names | answers at the gateways |
//! | disk | brings what must outlive a loss of power to the disk |
//! | host-watch | reads the host's routes and addresses again when they change |
//!
//! The process has no capability and gets none; what needs one is asked of the keeper.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tapswitch_ipam::Occupied;
use tapswitch_netns::message;
use tokio::sync::watch;

use super::api::{self, Stop};
use super::attach_socket;
use super::control::{self, Begin, Control, Ending, Handle, Inputs};
use super::docker::{self, Relaying};
use super::host::{Host, HostError, RESOLV_CONFS, Watch, has_ipv6};
use super::keeper::SwitchStart;
use super::keeper::message::ToKeeper;
use super::keeper_link::{self, MAX_UNDER_WAY};
use super::log;
use super::names;
use super::settings::Settings;
use super::state::Disk;

/// Runs the switch process and returns its exit status.
pub fn switch_main(start: SwitchStart, settings: &Settings) -> i32 {
    log::start(false);
    let keeper = start.keeper.try_clone();
    match live(start, settings) {
        Ok(ending) => {
            tracing::info!("the switch ends: {ending:?}");
            0
        }
        Err(error) => {
            // The keeper says it on the same standard error, once; only where it is gone is it ours to say.
            let fatal = ToKeeper::Fatal { error: error.clone() };
            if !keeper.is_ok_and(|keeper| message::send(keeper.as_fd(), &fatal, None).is_ok()) {
                tracing::error!("{error}");
            }
            1
        }
    }
}

fn live(start: SwitchStart, settings: &Settings) -> Result<Ending, String> {
    // Every port tells once that it is gone: its number bounds the queue, and a worker never waits for control.
    let (events, engine) = unbounded();
    // Watching begins before the first reading, so that no change falls between.
    let watch = Watch::open();
    let mut reader = None;
    let host = occupied(&mut reader).unwrap_or_else(|error| {
        tracing::warn!("what the host uses is not known, and ranges may collide with it: {error}");
        Occupied::default()
    });
    let keeper_socket = start.keeper.try_clone().map_err(|e| e.to_string())?;
    let names = names::start().map_err(|e| format!("start the thread of the names: {e}"))?;
    let (relays, relaying) = docker::relays();
    let disk = Disk::start(File::sync_all).map_err(|e| format!("start the thread of the disk: {e}"))?;
    let control = control::begin(Begin {
        settings: settings.clone(),
        keeper: start.keeper,
        keeper_pid: u32::try_from(nix::unistd::getppid().as_raw()).unwrap_or(0),
        privileged: nix::unistd::geteuid().is_root(),
        has_ipv6: has_ipv6(),
        restarts: start.restarts,
        takeover: start.takeover,
        host,
        names,
        relays,
        events,
        disk,
    })?;
    let (to_control, keeper) = bounded(2 * MAX_UNDER_WAY);
    keeper_link::listen(keeper_socket, to_control).map_err(|e| format!("start a thread: {e}"))?;
    let host = watch_host(watch, reader).map_err(|e| format!("start a thread: {e}"))?;
    let (handle, commands) = control::channel();
    let listeners = Sockets { api: start.api, attach: start.attach, docker: start.docker };
    let faces = Faces::start(listeners, relaying, handle)?;
    let ending = Control::run(control, Inputs { commands, engine, keeper, host });
    if ending != Ending::TakenOver {
        faces.stop();
    }
    Ok(ending)
}

/// Reads the host, by a socket that stays open, so that it can be read when no more may be opened. One that failed is not used
/// again: the rest of its answer would be in the way of the next.
fn occupied(reader: &mut Option<Host>) -> Result<Occupied, HostError> {
    let mut host = reader.take().map_or_else(Host::open, Ok)?;
    let occupied = host.occupied(&RESOLV_CONFS.map(Path::new))?;
    *reader = Some(host);
    Ok(occupied)
}

/// Reads the host again after each change; what cannot be read is tried again at the next. Without a watch its first reading is all
/// there is.
fn watch_host(watch: Result<Watch, HostError>, reader: Option<Host>) -> io::Result<Receiver<Occupied>> {
    let (sender, receiver) = bounded(1);
    match watch {
        Ok(watch) => {
            thread::Builder::new().name("host-watch".into()).spawn(move || read_again(&watch, reader, &sender))?;
        }
        Err(error) => tracing::warn!("changes of the host's routes will not be seen: {error}"),
    }
    Ok(receiver)
}

fn read_again(watch: &Watch, mut reader: Option<Host>, to: &Sender<Occupied>) {
    let ended = watch.watch(|| match occupied(&mut reader) {
        Ok(occupied) => to.send(occupied).is_ok(),
        Err(error) => {
            tracing::warn!("read what the host uses: {error}");
            true
        }
    });
    if let Err(error) = ended {
        tracing::warn!("changes of the host's routes are not seen any more: {error}");
    }
}

/// What clients connect to.
struct Sockets {
    api: UnixListener,
    attach: OwnedFd,
    docker: Option<UnixListener>,
}

/// The thread that serves the sockets.
struct Faces {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Faces {
    fn start(sockets: Sockets, relaying: Relaying, control: Handle) -> Result<Faces, String> {
        let failed = |e: io::Error| format!("serve the control sockets: {e}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        sockets.api.set_nonblocking(true).map_err(failed)?;
        sockets.docker.iter().try_for_each(|docker| docker.set_nonblocking(true)).map_err(failed)?;
        let (stop, stopped) = api::stop_pair();
        let served = move || runtime.block_on(serve(sockets, relaying, control, stopped));
        let thread = thread::Builder::new().name("api".into()).spawn(served).map_err(failed)?;
        Ok(Faces { stop, thread })
    }

    /// Lets the last answers leave.
    fn stop(self) {
        // Nobody listens only if the thread is gone.
        let _ = self.stop.send(true);
        if self.thread.join().is_err() {
            tracing::error!("the api thread panicked");
        }
    }
}

async fn serve(sockets: Sockets, relaying: Relaying, control: Handle, stop: Stop) {
    tokio::spawn(relaying.run(control.clone()));
    let attaching = attach_socket::serve(sockets.attach, control.clone(), stop.clone());
    let serving = serve_http("api.sock", sockets.api, api::router(control.clone()), stop.clone());
    let plugged = async {
        if let Some(docker) = sockets.docker {
            serve_http("Docker's socket", docker, docker::router(control), stop).await;
        }
    };
    let (attached, (), ()) = tokio::join!(attaching, serving, plugged);
    if let Err(error) = attached {
        tracing::error!("serve attach.sock: {error}");
    }
}

async fn serve_http(what: &str, listener: UnixListener, router: axum::Router, stop: Stop) {
    match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => api::serve(listener, router, stop).await,
        Err(error) => tracing::error!("serve {what}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    use super::*;

    #[test]
    fn the_host_is_read_again_where_no_more_may_be_opened() {
        let work = || {
            let mut reader = None;
            let first = occupied(&mut reader).is_ok();
            let next = File::open("/dev/null").unwrap().as_raw_fd();
            let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, next as u64, most).unwrap();
            Ok(((first, occupied(&mut reader).is_ok(), File::open("/dev/null").is_ok()), None))
        };
        let told = tapswitch_netns::in_child("read", &[], Duration::from_secs(10), work);
        assert_eq!(told.unwrap().0, (true, true, false));
    }
}
