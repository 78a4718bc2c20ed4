//! From a question to its answer, as far as that needs nobody else: reading, deciding, writing.
//!
//! What comes from containers is read by `hickory-proto`, and what it cannot read is answered with FORMERR, or not at all
//! where there is no header to answer to. A message that is itself an answer is never answered.
//!
//! Answers of ours live for [`TTL`]. They are marked authoritative, and have no SOA where there is nothing: so nobody keeps
//! a "no" (RFC 2308 5) of a name that comes a second later.
//!
//! Pure.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use ipnet::IpNet;

use super::zone::{Found, Zone, Zones};

/// How long others may keep an answer of ours, in seconds. Addresses move with every detach and attach, so it is
/// short; asking again costs no more than a look into a table in the same machine.
const TTL: u32 = 5;

/// What we take by UDP, and ask others to send by it, in bytes. It fits every path unfragmented (DNS flag day 2020).
pub(super) const UDP_PAYLOAD: u16 = 1232;

/// Without EDNS an answer by UDP has at most this many bytes. RFC 1035 4.2.1.
const UDP_PAYLOAD_MIN: u16 = 512;

/// Length of an IPv6 and a UDP header, the longest before an answer.
const HEADERS: u32 = 48;

/// A header's length and its bit that tells answers from questions. RFC 1035 4.1.1.
const HEADER_LEN: usize = 12;
const IS_ANSWER: u8 = 0x80;

/// What came instead of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It deserves no answer.
    Ignored,
    /// It deserves this one.
    Answered(Vec<u8>),
}

/// What becomes of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This answer, to be written with [`write`].
    Answer(Message),
    /// It is for the host's resolvers.
    Forward,
}

/// Reads a question.
///
/// # Errors
/// It is none.
pub(super) fn read(bytes: &[u8]) -> Result<Message, Unreadable> {
    if bytes.len() < HEADER_LEN || bytes[2] & IS_ANSWER != 0 {
        return Err(Unreadable::Ignored);
    }
    match Message::from_vec(bytes) {
        Ok(message) if message.message_type == MessageType::Query => Ok(message),
        Ok(_) => Err(Unreadable::Ignored),
        Err(_) => {
            let id = u16::from_be_bytes([bytes[0], bytes[1]]);
            let op_code = OpCode::from_u8(bytes[2] >> 3 & 0xf);
            let sorry = Message::error_msg(id, op_code, ResponseCode::FormErr);
            Err(sorry.to_vec().map_or(Unreadable::Ignored, Unreadable::Answered))
        }
    }
}

/// Decides about a question of a station of `zone`. `turn` rotates the addresses of a name that has several.
pub(super) fn decide(zones: &Zones, zone: &Zone, question: &Message, turn: usize) -> Verdict {
    let code = |code| Verdict::Answer(failure(question, code));
    if question.op_code != OpCode::Query {
        return code(ResponseCode::NotImp);
    }
    if question.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return code(ResponseCode::BADVERS);
    }
    let [query] = &question.queries[..] else { return code(ResponseCode::FormErr) };
    if query.query_class != DNSClass::IN || matches!(query.query_type, RecordType::AXFR | RecordType::IXFR) {
        return code(ResponseCode::Refused);
    }
    match find(zones, zone, query) {
        Found::Addresses(addresses) => Verdict::Answer(found(question, addresses_for(query, addresses, turn))),
        Found::Name(name) => Verdict::Answer(found(question, pointer_for(query, &name))),
        Found::Nothing => code(ResponseCode::NXDomain),
        Found::Elsewhere if zone.forwards() => Verdict::Forward,
        // Not "no such name", for we do not know: so a resolver that has another server goes on to it.
        Found::Elsewhere => code(ResponseCode::Refused),
    }
}

fn find(zones: &Zones, zone: &Zone, query: &Query) -> Found {
    if let Ok(prefix) = query.name.parse_arpa_name() {
        return zones.reverse(zone, prefix);
    }
    if let Some(prefix) = arpa_above(&query.name) {
        // As services are looked for (RFC 6763 11): that there are none of ours is nobody else's business.
        return match zones.reverse(zone, prefix) {
            Found::Elsewhere => Found::Elsewhere,
            _ => Found::Nothing,
        };
    }
    let Some(name) = text(&query.name) else {
        return if query.name.iter().len() == 1 { Found::Nothing } else { Found::Elsewhere };
    };
    // What is asked of the root's own records, by somebody who checks signatures, is no host's name.
    let infrastructure = [RecordType::NS, RecordType::SOA, RecordType::DS, RecordType::DNSKEY];
    match zones.address(zone, &name) {
        Found::Nothing if !name.contains('.') && infrastructure.contains(&query.query_type) => Found::Elsewhere,
        found => found,
    }
}

/// The addresses that a name is below.
fn arpa_above(name: &Name) -> Option<IpNet> {
    let arpa = |label: &[u8]| label.eq_ignore_ascii_case(b"arpa");
    if !name.iter().next_back().is_some_and(arpa) {
        return None;
    }
    let above = std::iter::successors(Some(name.base_name()), |name| Some(name.base_name()));
    above.take(name.iter().len()).find_map(|name| name.parse_arpa_name().ok())
}

/// A name as the zone has it; `None` where it has bytes that no name of ours has, and for the root.
fn text(name: &Name) -> Option<String> {
    let labels: Option<Vec<&str>> = name
        .iter()
        .map(|label| {
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            std::str::from_utf8(label).ok().filter(|text| text.as_bytes().iter().all(plain))
        })
        .collect();
    labels.filter(|labels| !labels.is_empty()).map(|labels| labels.join(".").to_ascii_lowercase())
}

fn addresses_for(query: &Query, mut addresses: Vec<IpAddr>, turn: usize) -> Vec<Record> {
    addresses.retain(|address| match query.query_type {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        other => other == RecordType::ANY,
    });
    if !addresses.is_empty() {
        let count = addresses.len();
        addresses.rotate_left(turn % count);
    }
    let data = |address| match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    addresses.into_iter().map(|address| Record::from_rdata(query.name.clone(), TTL, data(address))).collect()
}

fn pointer_for(query: &Query, name: &str) -> Option<Record> {
    if !matches!(query.query_type, RecordType::PTR | RecordType::ANY) {
        return None;
    }
    // An endpoint may have a name that is none here, as one with two dots in a row.
    let name = Name::from_ascii(format!("{name}.")).ok()?;
    Some(Record::from_rdata(query.name.clone(), TTL, RData::PTR(PTR(name))))
}

fn found(question: &Message, records: impl IntoIterator<Item = Record>) -> Message {
    let mut answer = failure(question, ResponseCode::NoError);
    answer.metadata.authoritative = true;
    answer.add_answers(records);
    answer
}

/// The answer that has nothing but a code.
pub(super) fn failure(question: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(question.id, question.op_code);
    answer.metadata = Metadata::response_from_request(&question.metadata);
    answer.metadata.response_code = code;
    answer.metadata.authoritative = code == ResponseCode::NXDomain;
    answer.queries = question.queries.clone();
    answer
}

/// What a server told, as the answer to `question`: its name spelt as it was asked.
pub(super) fn relayed(question: &Message, told: Message) -> Message {
    let mut answer = failure(question, told.response_code);
    answer.metadata.authoritative = false;
    let wants_ad = question.authentic_data || is_dnssec_ok(question);
    answer.metadata.authentic_data = told.authentic_data && wants_ad; // RFC 6840 5.8
    answer.answers = told.answers;
    answer.authorities = told.authorities;
    answer.additionals = told.additionals;
    answer
}

/// Whether the asker takes signatures. RFC 3225.
pub(super) fn is_dnssec_ok(question: &Message) -> bool {
    question.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok)
}

/// Writes `answer` to `question`. By UDP it fits what the asker takes and what a network of `mtu` carries whole; else it is
/// cut to nothing and marked so, and the asker comes again over TCP.
pub(super) fn write(question: &Message, mut answer: Message, mtu: Option<u32>) -> Option<Vec<u8>> {
    answer.metadata.recursion_available = true;
    if let Some(asked) = &question.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
        edns.set_rcode_high(answer.response_code.high());
        answer.set_edns(edns);
    }
    let bytes = answer.to_vec().ok()?;
    let Some(mtu) = mtu else { return Some(bytes).filter(|bytes| bytes.len() <= usize::from(u16::MAX)) };
    let takes = question.edns.as_ref().map_or(UDP_PAYLOAD_MIN, |edns| edns.max_payload().max(UDP_PAYLOAD_MIN));
    let limit = u32::from(takes).min(mtu.saturating_sub(HEADERS));
    if bytes.len() <= limit as usize { Some(bytes) } else { answer.truncate().to_vec().ok() }
}

#[cfg(test)]
mod tests;
