//! The harness of the tests that need real namespaces: a few verbs over real processes.
//!
//! | noun | is |
//! |---|---|
//! | [`Session`] | whose rights, which files and which host network the programs of a test see |
//! | [`Switch`] | a daemon with its own state, killed when dropped |
//! | [`Internet`] | a host with a daemon on it, and far hosts that it reaches by routing |
//! | [`Container`] | a network namespace, attached or not, gone when dropped |
//! | [`Background`] | a running program whose lines can be read, killed when dropped |
//! | [`Terminal`] | a terminal with a program on it, typed at and hung up |
//! | [`Probe`] | packets and connections made inside a container |
//! | [`iperf`] | one iperf3 run between two containers |
//! | [`page_commands`] | what a page of the documentation has its reader type |
//!
//! Verbs panic when something fails: a harness that returned errors would be unwrapped in each line of each test. A tool
//! that is missing fails the test with the command that installs it. No verb waits without a deadline.
//!
//! Run through `tests/run`, which builds the programs first.

pub mod frames;
pub mod iperf;

mod container;
mod internet;
mod page;
mod probe;
mod process;
mod program;
mod session;
mod switch;
mod terminal;
mod wait;

pub use container::Container;
pub use internet::Internet;
pub use page::page_commands;
pub use probe::Probe;
pub use process::{Background, Output, run};
pub use program::{program, tool};
pub use session::{Session, Tun, Who};
pub use switch::Switch;
pub use terminal::{CTRL_C, CTRL_Z, Terminal};
pub use wait::{eventually, eventually_some};

/// Makes one body two tests: `NAME::as_root` and `NAME::as_user`. The body gets [`Who`].
#[macro_export]
macro_rules! as_root_and_user {
    ($(#[$meta:meta])* fn $name:ident($who:ident: Who) $body:block) => {
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn body($who: $crate::Who) $body

            #[test]
            fn as_root() {
                body($crate::Who::Root);
            }

            #[test]
            fn as_user() {
                body($crate::Who::User);
            }
        }
    };
}
