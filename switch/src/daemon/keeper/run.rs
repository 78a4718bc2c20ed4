//! The keeper's life: one loop over the switch's socket, the children's sockets and the signals.

mod check;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tapswitch_netns::{Namespace, NamespaceId};

use super::bind::{SOCKETS_MAX, bound};
use super::error::{Error, Result};
use super::follow::{Follow, Followers, Whereabouts};
use super::holder;
use super::job::{Failure, Finished, Jobs, Work, unroute_now};
use super::kept::{Kept, KeptDescriptors, Label};
use super::listen::{Listeners, refuse_files_in_the_way};
use super::lock::{Lock, private_directory};
use super::log_file::redirect_stderr;
use super::message::{EndpointKey, JobId, SocketKey, ToKeeper, ToSwitch};
use super::ready::Ready;
use super::start::{Config, SwitchStart};
use super::switch::{Heard, Switch};
use super::takeover::{Taken, take_over};

/// Dying so often so fast is no accident.
const DEATHS_MAX: usize = 5;
const DEATHS_WITHIN: Duration = Duration::from_secs(10);
/// What a switch that was told to end has for it: writing a few small files.
pub const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Within this, a second signal is the first once more: timeout(1), a shell and a terminal send theirs to a process and to its group.
const ONE_WISH: Duration = Duration::from_millis(500);
/// Messages heard before the jobs and signals have their turn.
const HEARD_AT_ONCE: usize = 64;
/// How often something is tried again where no event says that it may succeed: an occupied socket, descriptors on their way.
const RETRY: Duration = Duration::from_millis(10);

/// Becomes the keeper of a daemon, whose switch process runs `switch_main`; returns when the daemon has ended. What `check` finds
/// wrong with what is stored keeps it from starting while a switch that outlived its keeper still forwards.
///
/// Call it before any thread exists. On return the containers' devices are still there, unless the switch detached them.
///
/// # Errors
///
/// One line: why the daemon did not start, or could not go on. Whoever waits at `config.ready` was told the same.
pub fn run(
    mut config: Config,
    check: impl FnOnce() -> std::result::Result<(), String>,
    switch_main: impl Fn(SwitchStart) -> i32,
) -> Result<()> {
    let mut ready = Ready::new(config.ready.take());
    let life = Keeper::start(config, check, switch_main, &mut ready).and_then(Keeper::serve);
    if let Err(error) = &life {
        ready.failed(&error.to_string());
    }
    life
}

struct Keeper<'a, F> {
    config: Config,
    switch_main: F,
    ready: &'a mut Ready,
    /// The host's, where nothing of ours is made but the uplink `host`'s and an engine's.
    own: NamespaceId,
    signals: SignalFd,
    listeners: Listeners,
    switch: Switch,
    jobs: Jobs,
    followers: Followers,
    kept: KeptDescriptors,
    restarts: u32,
    /// The last few, oldest first.
    deaths: VecDeque<Instant>,
    /// Set once the daemon is to end: until when the switch may take for it.
    stop: Option<Instant>,
    _locks: [Lock; 2],
}

impl<'a, F: Fn(SwitchStart) -> i32> Keeper<'a, F> {
    fn start(
        config: Config,
        check: impl FnOnce() -> std::result::Result<(), String>,
        switch_main: F,
        ready: &'a mut Ready,
    ) -> Result<Self> {
        // The run directory may be in the other.
        private_directory(&config.state_dir)?;
        private_directory(&config.run_dir)?;
        let run_dir = &config.run_dir;
        let locks = [Lock::take(run_dir, run_dir)?, Lock::take(&config.state_dir, run_dir)?];
        config.log.as_deref().map_or(Ok(()), redirect_stderr)?;
        check().map_err(|error| Error::Fatal { error })?;
        refuse_files_in_the_way(&config)?;
        prctl::set_name(c"tapswitch-keep").map_err(|errno| Error::system("set the process's name", errno))?;
        raise_descriptor_limit()?;
        let own =
            Namespace::current().map_err(|error| Error::system("open our namespace", std::io::Error::other(error)))?;

        let mut kept = KeptDescriptors::default();
        let taken = take_over(&config.takeover_socket())?;
        let patience = taken.as_ref().map(|_| STOP_PATIENCE);
        let Taken { taps, sockets } = taken.unwrap_or_default();
        for (endpoint, tap) in taps {
            kept.insert(endpoint, Kept { tap, namespace: None });
        }
        sockets.into_iter().for_each(|(key, fd)| kept.insert_socket(key, fd));
        let listeners = bind_within(&config, patience)?;
        let signals = signals()?;
        let switch = Switch::spawn(&listeners, &config, 0, &switch_main)?;
        let mut keeper = Keeper {
            config,
            switch_main,
            ready,
            own: own.id(),
            signals,
            listeners,
            switch,
            jobs: Jobs::default(),
            followers: Followers::default(),
            kept,
            restarts: 0,
            deaths: VecDeque::new(),
            stop: None,
            _locks: locks,
        };
        keeper.tell_kept();
        Ok(keeper)
    }

    fn serve(mut self) -> Result<()> {
        loop {
            let now = Instant::now();
            let unstarted = self.jobs.start(now);
            self.answer(unstarted);
            self.followers.start(&self.kept, now);
            self.switch.flush(&self.kept);
            self.wait(now)?;
            let now = Instant::now();
            let ended = self.jobs.collect(now);
            self.answer(ended);
            self.tell_moved(now);
            self.hear_signals(now)?;
            if !self.hear_switch(now)? {
                self.leave_host();
                return Ok(());
            }
        }
    }

    fn wait(&self, now: Instant) -> Result<()> {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::POLLIN, self.switch.is_heard());
        interest.set(PollFlags::POLLOUT, self.switch.waits_for_room());
        let mut fds =
            vec![PollFd::new(self.switch.socket(), interest), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let children = self.jobs.sockets().chain(self.followers.sockets());
        fds.extend(children.map(|socket| PollFd::new(socket, PollFlags::POLLIN)));

        let retry = self.switch.is_blocked().then(|| now + RETRY);
        let deadline = [self.jobs.deadline(), self.followers.deadline(), self.stop, retry].into_iter().flatten().min();
        match poll(&mut fds, until(deadline, now)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::system("wait for events", errno)),
        }
    }

    /// Nothing of ours stays on the host when the daemon has ended: the containers' devices are theirs.
    fn leave_host(&mut self) {
        for Failure { error, .. } in self.jobs.finish_routing().into_iter().filter_map(|job| job.result.err()) {
            tracing::warn!("{error}");
        }
        for tap in self.kept.take_hosts() {
            let ifname = tap.info.ifname.clone();
            if let Err(error) = tap.destroy() {
                tracing::warn!("remove {ifname}: {error}");
            }
            if let Err(error) = unroute_now(&ifname) {
                tracing::warn!("end the routing for {ifname}: {error}");
            }
        }
    }

    fn hear_signals(&mut self, now: Instant) -> Result<()> {
        let failed = |errno| Error::system("read signals", errno);
        while let Some(signal) = self.signals.read_signal().map_err(failed)? {
            // Only wakes: each death shows at a socket as well.
            if signal.ssi_signo == Signal::SIGCHLD as u32 {
                continue;
            }
            match self.stop {
                None => {
                    tracing::info!("stopping; the containers keep their devices");
                    self.switch.tell(ToSwitch::Stop, None);
                    self.stop = Some(now + STOP_PATIENCE);
                }
                Some(end) if now + STOP_PATIENCE < end + ONE_WISH => {}
                // Asked twice: at once.
                Some(_) => self.stop = Some(now),
            }
        }
        Ok(())
    }

    /// False once the switch ended as it was told to.
    fn hear_switch(&mut self, now: Instant) -> Result<bool> {
        let closed = self.obey_some(now)?;
        let overdue = self.stop.is_some_and(|end| end <= now);
        if !closed && !overdue {
            return Ok(true);
        }
        if !closed {
            tracing::warn!("the switch did not stop in time, killing it");
        }
        let pid = self.switch.pid();
        let status = self.switch.kill();
        // What ended it may have been sent to both of us, and to it first.
        self.hear_signals(now)?;
        if self.stop.is_some() {
            return Ok(false);
        }
        tracing::error!("the switch, pid {pid}, died: {status}");
        self.restart(now).map(|()| true)
    }

    /// Does what the switch asked for meanwhile; true once it asks no more. What it said before it died counts: so its
    /// end is that of its socket.
    fn obey_some(&mut self, now: Instant) -> Result<bool> {
        for _ in 0..HEARD_AT_ONCE {
            if !self.switch.is_heard() {
                break;
            }
            match self.switch.hear() {
                Heard::Message(message, fd) => self.obey(message, fd, now)?,
                Heard::Nonsense(error) => tracing::warn!("the switch sent nonsense: {error}"),
                Heard::Nothing => break,
                Heard::Closed => return Ok(true),
            }
        }
        Ok(false)
    }

    fn restart(&mut self, now: Instant) -> Result<()> {
        self.jobs.clear();
        self.followers.clear();
        self.deaths.retain(|&death| now.saturating_duration_since(death) < DEATHS_WITHIN);
        self.deaths.push_back(now);
        if self.deaths.len() >= DEATHS_MAX {
            return Err(Error::GaveUp { deaths: DEATHS_MAX, seconds: DEATHS_WITHIN.as_secs() });
        }
        self.restarts += 1;
        self.switch = Switch::spawn(&self.listeners, &self.config, self.restarts, &self.switch_main)?;
        self.tell_kept();
        Ok(())
    }

    fn tell_kept(&mut self) {
        for (endpoint, tap) in self.kept.list() {
            self.switch.tell(ToSwitch::Kept { endpoint: endpoint.clone(), tap }, Some(Label::Tap(endpoint)));
        }
        for socket in self.kept.sockets() {
            self.switch.tell(ToSwitch::KeptSocket { socket }, Some(Label::Socket(socket)));
        }
        self.switch.tell(ToSwitch::KeptAll, None);
    }

    fn obey(&mut self, message: ToKeeper, fd: Option<OwnedFd>, now: Instant) -> Result<()> {
        match message {
            ToKeeper::Attach { job, endpoint, device } => {
                let work =
                    self.attach_work(endpoint, fd).map(|(endpoint, target)| Work::Attach { endpoint, target, device });
                self.submit(job, work);
            }
            ToKeeper::AttachHost { job, endpoint, device } => {
                let work = self.attach_host_work(&endpoint, device);
                self.submit(job, work.map_err(|error| format!("attach {}: {error}", endpoint.0)));
            }
            ToKeeper::AttachDown { job, endpoint, pid, device } => {
                let work = self.attach_down_work(&endpoint, pid, device);
                self.submit(job, work.map_err(|error| format!("attach {}: {error}", endpoint.0)));
            }
            ToKeeper::Follow { job, endpoint, engine, wait, gateway } => {
                self.follow(job, Follow { endpoint, engine, wait, gateway });
            }
            ToKeeper::Route { job, ifname, subnets } => {
                let work = match self.kept.is_hosts(&ifname) {
                    true => Ok(Work::Route { ifname, subnets }),
                    false => Err(format!("route for {ifname}: it is no device of ours on the host")),
                };
                self.submit(job, work);
            }
            ToKeeper::Reattach { job, endpoint, namespace, device } => {
                let checked = self.refuse_not_ours(namespace, &device.ifname);
                let checked = checked.and_then(|()| self.refuse_label(&endpoint));
                let work = checked.map(|()| Work::Reattach { endpoint: endpoint.clone(), namespace, device });
                self.submit(job, work.map_err(|error| format!("attach {} again: {error}", endpoint.0)));
            }
            ToKeeper::SetMtu { job, namespace, ifname, mtu } => {
                let held = self.kept.holds(namespace, &ifname);
                let checked = match held {
                    true if self.kept.is_hosts(&ifname) => Ok(()),
                    true => self.refuse_not_ours(namespace, &ifname),
                    false => Err("it is no device of ours".into()),
                };
                let failed = |error| format!("set MTU of {ifname}: {error}");
                let work = checked.map_err(failed).map(|()| Work::SetMtu { namespace, ifname: ifname.clone(), mtu });
                self.submit(job, work);
            }
            ToKeeper::Detach { job, endpoint } => self.detach(job, &endpoint),
            ToKeeper::Bind { job, socket } => self.bind(job, socket),
            ToKeeper::Unbind { job, socket } => {
                self.kept.close_socket(socket);
                self.switch.tell(ToSwitch::Done { job }, None);
            }
            ToKeeper::Ready => {
                self.ready.serves();
                let (pid, restarts) = (self.switch.pid(), self.restarts);
                match restarts {
                    0 => tracing::info!(
                        "tapswitch {} serves at {}: keeper {}, switch {pid}; state in {}",
                        env!("CARGO_PKG_VERSION"),
                        self.config.api_socket.display(),
                        std::process::id(),
                        self.config.state_dir.display()
                    ),
                    _ => tracing::info!("a new switch, pid {pid}, serves"),
                }
            }
            ToKeeper::Fatal { error } => {
                self.switch.kill();
                return Err(Error::Fatal { error });
            }
            ToKeeper::Down => self.stop = Some(now + STOP_PATIENCE),
        }
        Ok(())
    }

    fn submit(&mut self, job: JobId, work: std::result::Result<Work, String>) {
        if let Err(error) = work.and_then(|work| self.jobs.submit(job, work)) {
            self.switch.tell(ToSwitch::Failed { job, error, gone: false }, None);
        }
    }

    fn detach(&mut self, job: JobId, endpoint: &EndpointKey) {
        for cancelled in self.jobs.cancel(endpoint) {
            let error = format!("attach {}: it was detached meanwhile", endpoint.0);
            self.switch.tell(ToSwitch::Failed { job: cancelled, error, gone: false }, None);
        }
        // Its child has a descriptor of the device.
        self.followers.cancel(endpoint);
        let hosts = self.kept.get(endpoint).map(|kept| kept.tap.info.ifname.clone());
        let hosts = hosts.filter(|ifname| endpoint.is_host() && self.kept.is_hosts(ifname));
        let destroyed = self.kept.destroy(endpoint);
        if let (Ok(()), Some(ifname)) = (&destroyed, hosts) {
            return self.submit(job, Ok(Work::Unroute { ifname }));
        }
        let answer = match destroyed {
            Ok(()) => ToSwitch::Done { job },
            Err(error) => ToSwitch::Failed { job, error: format!("detach {}: {error}", endpoint.0), gone: false },
        };
        self.switch.tell(answer, None);
    }

    fn follow(&mut self, job: JobId, follow: Follow) {
        let submitted = match self.kept.get(&follow.endpoint) {
            Some(_) => self.followers.submit(follow),
            None => Err(format!("follow {}: it has no device", follow.endpoint.0)),
        };
        let answer = match submitted {
            Ok(()) => ToSwitch::Done { job },
            Err(error) => ToSwitch::Failed { job, error, gone: false },
        };
        self.switch.tell(answer, None);
    }

    fn tell_moved(&mut self, now: Instant) {
        for (endpoint, Whereabouts { namespace, ifname, names, .. }, fds) in self.followers.collect(now) {
            self.kept.moved(&endpoint, namespace, &ifname);
            self.switch.give(ToSwitch::Moved { endpoint, namespace, ifname, names }, fds);
        }
    }

    fn answer(&mut self, finished: Vec<Finished>) {
        for Finished { job, endpoint, namespace, result } in finished {
            match (result, endpoint, namespace) {
                (Ok(Some(tap)), Some(endpoint), Some(namespace)) => self.keep(job, endpoint, namespace, tap),
                (Ok(_), ..) => self.switch.tell(ToSwitch::Done { job }, None),
                (Err(Failure { error, gone }), ..) => self.switch.tell(ToSwitch::Failed { job, error, gone }, None),
            }
        }
    }

    /// Keeps a new TAP. Its owner is the keeper's user, whatever the switch asked for.
    fn keep(&mut self, job: JobId, endpoint: EndpointKey, namespace: NamespaceId, tap: tapswitch_netns::Tap) {
        if let Err(error) = tap.persist(nix::unistd::getuid().as_raw()) {
            let error = format!("attach {}: {error}", endpoint.0);
            return self.switch.tell(ToSwitch::Failed { job, error, gone: false }, None);
        }
        let attached = ToSwitch::Attached { job, tap: tap.info.clone(), namespace };
        self.kept.insert(endpoint.clone(), Kept { tap, namespace: Some(namespace) });
        self.switch.tell(attached, Some(Label::Tap(endpoint)));
    }

    /// Binds a socket and keeps it. Quick, so no child does it.
    fn bind(&mut self, job: JobId, socket: SocketKey) {
        let full = self.kept.sockets().len() >= SOCKETS_MAX;
        let bound = if full { Err(Errno::EMFILE) } else { bound(socket) };
        match bound {
            Ok((socket, fd)) => {
                self.kept.insert_socket(socket, fd);
                self.switch.tell(ToSwitch::Bound { job, socket }, Some(Label::Socket(socket)));
            }
            Err(errno) => {
                let holder = (errno == Errno::EADDRINUSE).then(|| holder::find(socket)).flatten();
                self.switch.tell(ToSwitch::NotBound { job, errno: errno as i32, holder }, None);
            }
        }
    }
}

/// Binds the sockets. A switch that handed over is ending, and may hold them for a moment longer.
fn bind_within(config: &Config, patience: Option<Duration>) -> Result<Listeners> {
    let end = patience.map(|patience| Instant::now() + patience);
    loop {
        match Listeners::bind(config) {
            Err(Error::SocketInUse { .. }) if end.is_some_and(|end| Instant::now() < end) => {
                std::thread::sleep(RETRY);
            }
            result => return result,
        }
    }
}

/// Blocks the signals that end a daemon, and reads them here instead.
fn signals() -> Result<SignalFd> {
    let failed = |errno| Error::system("block signals", errno);
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        mask.add(signal);
    }
    mask.thread_block().map_err(failed)?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)
}

/// A port is a descriptor in either process: takes all that may be had. The switch inherits it.
fn raise_descriptor_limit() -> Result<()> {
    let failed = |errno| Error::system("raise the limit of open files", errno);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(failed)
}

/// Rounds up: a wait that ends a moment early would spin.
pub(super) fn until(deadline: Option<Instant>, now: Instant) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_duration_since(now).as_millis() + 1;
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
