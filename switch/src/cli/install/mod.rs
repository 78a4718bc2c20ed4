//! `tapswitch install`: links, lists, hooks, specs and a unit, where engines look for them; and away with them.
//!
//! [`engine`] says which engines a host has, [`places`] where they look, [`plan`] what is to be there for them, [`record`] what
//! was put before, and [`change`] brings the one to the other. No engine's own settings are edited: what they need is said.
//! Threads: one.

mod change;
pub(super) mod engine;
pub(super) mod places;
mod plan;
mod record;
mod unit;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::{Outcome, output};
use change::{Did, Done};
use engine::{Engine, Found};
use places::Places;
use plan::Order;
use record::Record;

/// Put links, lists, hooks and a unit where container engines look for them
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch install                      for every engine that this host has
  tapswitch install --podman --cni       for these, whether they are here or not
  tapswitch install --prefix /srv/image --docker
  tapswitch install --uninstall          all that install put, away

As root in the host's folders, as an ordinary user in that user's own. Nobody else's file is overwritten, and no engine's settings \
are changed: what is left to do is printed.")]
pub(super) struct Args {
    /// For Docker Engine
    #[arg(long)]
    docker: bool,
    /// For what runs CNI plugins: containerd, nerdctl, CRI-O, podman 4
    #[arg(long)]
    cni: bool,
    /// For podman: the driver of netavark, and the OCI hook
    #[arg(long)]
    podman: bool,
    /// Fill the host's folders below DIR instead, as those of an image
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
    /// Take away what was put: for the engines named, or all
    #[arg(long)]
    uninstall: bool,
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

impl Args {
    fn named(&self) -> BTreeSet<Engine> {
        let all = [(self.docker, Engine::Docker), (self.cni, Engine::Cni), (self.podman, Engine::Podman)];
        all.into_iter().filter(|(named, _)| *named).map(|(_, engine)| engine).collect()
    }
}

pub(super) fn run(args: &Args, socket: Option<&Path>) -> Outcome {
    let places = places(args.prefix.as_deref())?;
    let old = Record::read(&places).context("install")?;
    let done = if args.uninstall { uninstall(args, &places, &old)? } else { install(args, &places, &old, socket)? };
    if args.json {
        output::json(&done)?;
    } else {
        output::print(&done.iter().map(line).collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn places(prefix: Option<&Path>) -> anyhow::Result<Places> {
    let Some(prefix) = prefix else { return Places::of_caller().context("install") };
    let doing = || format!("install: --prefix {}", prefix.display());
    let root = prefix.canonicalize().with_context(doing)?;
    if !root.is_dir() {
        bail!("{}: no folder", doing());
    }
    Ok(Places::Host(root))
}

fn install(args: &Args, places: &Places, old: &Record, socket: Option<&Path>) -> anyhow::Result<Vec<Done>> {
    let found = found(places);
    let mut engines = args.named();
    if engines.is_empty() {
        engines = found.engines().into_iter().collect();
    }
    if engines.is_empty() {
        bail!("install: no engine is here ({}): name one by --docker, --cni or --podman", engine::programs());
    }
    engines.extend(&old.engines);
    let socket =
        socket.map(std::path::absolute).transpose().context("install: --socket")?.or_else(|| old.socket.clone());
    let program = plan::program(places).context("install")?;
    if let Some(doubt) = plan::doubt(&program) {
        output::complain(&format!(
            "warning: {} {doubt}, and what is put leads to it: copy it to /usr/local/bin first, and start that",
            program.display()
        ));
    }
    let nerdctl = found.programs.contains(&"nerdctl");
    let order = Order { places, engines: &engines, program: &program, socket: socket.as_deref(), nerdctl };
    let mut done = bring(old, &order).context("install")?;
    done.extend(order.next().into_iter().map(next));
    Ok(done)
}

fn next(note: String) -> Done {
    Done { did: Did::Next, path: None, target: None, note: Some(note) }
}

fn uninstall(args: &Args, places: &Places, old: &Record) -> anyhow::Result<Vec<Done>> {
    let named = args.named();
    let mut engines = old.engines.clone();
    engines.retain(|engine| !named.is_empty() && !named.contains(engine));
    // What remains is put as this program has it; where nothing does, nothing is.
    let program = if engines.is_empty() { PathBuf::new() } else { plan::program(places).context("uninstall")? };
    let socket = old.socket.as_deref().filter(|_| !engines.is_empty());
    let nerdctl = found(places).programs.contains(&"nerdctl");
    let order = Order { places, engines: &engines, program: &program, socket, nerdctl };
    let mut done = bring(old, &order).context("uninstall")?;
    if engines.is_empty() && !done.is_empty() {
        done.push(next(order.farewell().into()));
    }
    Ok(done)
}

fn bring(old: &Record, order: &Order<'_>) -> anyhow::Result<Vec<Done>> {
    let socket = order.socket.map(Path::to_path_buf);
    let new = Record { engines: order.engines.clone(), socket, ..Record::default() };
    change::bring(order.places, old, new, &order.items()?)
}

/// The engines of the host whose folders these are.
fn found(places: &Places) -> Found {
    match places.root() {
        root if root == Path::new("/") => Found::here(),
        root => Found::below(root, &[]),
    }
}

fn line(done: &Done) -> String {
    let did = match done.did {
        Did::Made => "made",
        Did::There => "there",
        Did::Changed => "changed",
        Did::Removed => "removed",
        Did::Left => "left",
        Did::Next => "next",
    };
    let path = done.path.as_ref().map(|path| path.display().to_string());
    let target = done.target.as_ref().map(|target| format!(" -> {}", target.display()));
    let separator = if path.is_some() { ": " } else { "" };
    let note = done.note.as_ref().map(|note| format!("{separator}{note}"));
    format!("{did:<8} {}{}{}\n", path.unwrap_or_default(), target.unwrap_or_default(), note.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_happened_to_what() {
        let done = |did, target: Option<&str>, note: Option<&str>| Done {
            did,
            path: Some("/opt/cni/bin/tapswitch-cni".into()),
            target: target.map(PathBuf::from),
            note: note.map(str::to_owned),
        };
        assert_eq!(line(&done(Did::Made, Some("/x"), None)), "made     /opt/cni/bin/tapswitch-cni -> /x\n");
        assert_eq!(line(&done(Did::Left, None, Some("edited"))), "left     /opt/cni/bin/tapswitch-cni: edited\n");
        assert_eq!(line(&next("start it".into())), "next     start it\n");
    }
}
