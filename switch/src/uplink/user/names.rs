//! Answers of the names at the gateway, from [`crate::gateway`]'s link to the containers that asked over UDP. Their questions come by
//! [`super::udp`].
//!
//! A container that has moved to another worker meanwhile gets its answer from here all the same.

use super::{Cx, home, udp};
use crate::engine::Activity;

/// Most answers of one turn; the worker turns again for more.
const MAX_REPLIES: usize = 32;

/// Sends the answers that came.
pub(super) fn turn(cx: &mut Cx<'_>) -> Activity {
    let mut activity = Activity::Idle;
    for _ in 0..MAX_REPLIES {
        let Some(reply) = cx.names.reply() else { return activity };
        activity = Activity::Small;
        // It may have been detached meanwhile.
        if let Some(home) = home(cx.out.forward(), reply.port) {
            // Counted as a copy that was not sent; the asker asks again.
            let _ = udp::send_datagram(cx, &home, reply.near, reply.far, &reply.payload);
        }
    }
    activity
}

#[cfg(test)]
mod tests;
