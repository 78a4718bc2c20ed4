//! What the kernel answers to one request, datagram by datagram.

use netlink_packet_core::{NLM_F_DUMP_INTR, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use super::Result;
use crate::error::Os;

/// A dump that changes meanwhile is begun again this often; then it is taken as it is.
const TRIES: u32 = 5;

/// What came before the end of an answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) messages: Vec<RouteNetlinkMessage>,
    /// Things may be missing, or there twice: they changed meanwhile.
    pub(super) interrupted: bool,
}

impl Answer {
    /// Reads one datagram; true when it ends the answer to the request with that number.
    pub(super) fn take(&mut self, mut bytes: &[u8], sequence: u32) -> Result<bool> {
        while !bytes.is_empty() {
            let message =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).map_err(|_| Os::from(Errno::EBADMSG))?;
            // NLMSG_ALIGN; a length of 0 would not have been read.
            let length = (message.header.length as usize).next_multiple_of(4);
            bytes = bytes.get(length..).unwrap_or_default();
            if message.header.sequence_number != sequence {
                continue;
            }
            self.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(message) => self.messages.push(message),
                NetlinkPayload::Done(done) if done.code < 0 => return Err(Os(-done.code)),
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => {
                    // Negative, and 0 for an acknowledgement.
                    return if error.raw_code() == 0 { Ok(true) } else { Err(Os(-error.raw_code())) };
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

/// An answer that was not interrupted, if there is one to be had.
pub(super) fn consistent(mut ask: impl FnMut() -> Result<Answer>) -> Result<Vec<RouteNetlinkMessage>> {
    let mut answer = ask()?;
    for _ in 1..TRIES {
        if !answer.interrupted {
            break;
        }
        answer = ask()?;
    }
    Ok(answer.messages)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DoneMessage, NetlinkHeader};
    use netlink_packet_route::route::RouteMessage;

    use super::*;

    fn bytes(payload: NetlinkPayload<RouteNetlinkMessage>, flags: u16) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        (header.sequence_number, header.flags) = (7, flags);
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn done(code: i32) -> NetlinkPayload<RouteNetlinkMessage> {
        let mut done = DoneMessage::default();
        done.code = code;
        NetlinkPayload::Done(done)
    }

    #[test]
    fn an_interrupted_dump_is_begun_again_but_not_for_ever() {
        let asked = |interrupted: u32| {
            let mut count = 0;
            let ask = || {
                count += 1;
                let mut answer = Answer::default();
                let flags = if count <= interrupted { NLM_F_DUMP_INTR } else { 0 };
                let route = RouteNetlinkMessage::NewRoute(RouteMessage::default());
                assert!(!answer.take(&bytes(NetlinkPayload::InnerMessage(route), flags), 7)?);
                assert!(answer.take(&bytes(done(0), 0), 7)?);
                Ok(answer)
            };
            assert_eq!(consistent(ask).unwrap().len(), 1, "no reading is added to another");
            count
        };
        assert_eq!([asked(0), asked(2), asked(1000)], [1, 3, TRIES]);
    }

    #[test]
    fn a_dump_that_ends_with_an_error_is_none() {
        let answered = Answer::default().take(&bytes(done(-(Errno::ENOBUFS as i32)), 0), 7);
        assert_eq!(answered, Err(Errno::ENOBUFS.into()));
    }
}
