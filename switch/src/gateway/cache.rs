//! What the host's resolvers told, for as long as they said it holds.
//!
//! Kept per network: what one network's containers asked shows to no other's, not even by the time an answer takes. Bounded in
//! answers and in bytes; when it is full the one that ends first goes. A failure is not kept, and a "no" only as long as its SOA
//! says (RFC 2308 5).
//!
//! Time is an argument. One thread.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Most answers.
const MAX_ENTRIES: usize = 4096;
/// Most bytes of answers.
const MAX_BYTES: usize = 4 << 20;
/// A longer answer is not kept: it would take the place of a hundred usual ones.
const MAX_ANSWER: usize = 16 << 10;
/// Longest that an answer is kept: so that a mistake of a day's length is over within the hour.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// The same for a "no", which is asked because something is about to be there. RFC 2308 5 allows hours.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(300);

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    /// The asker's network.
    pub network: Arc<str>,
    /// The name, lowered.
    pub name: Name,
    /// Of what type.
    pub kind: RecordType,
    /// Signatures are wanted. RFC 3225.
    pub dnssec_ok: bool,
    /// What does not verify is wanted too. RFC 4035 3.2.2.
    pub checking_disabled: bool,
}

impl Question {
    /// As a query to a server.
    pub(super) fn query(&self) -> Query {
        Query::query(self.name.clone(), self.kind)
    }
}

#[derive(Debug)]
struct Entry {
    /// The message, without EDNS.
    told: Vec<u8>,
    kept_at: Instant,
    ends: Instant,
    number: u64,
}

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Question, Entry>,
    /// By their end; numbers tell apart those of one moment.
    ends: BTreeSet<(Instant, u64)>,
    numbers: HashMap<u64, Question>,
    bytes: usize,
    next: u64,
}

impl Cache {
    /// What is known, its times to live shortened by the time that it was kept.
    pub(super) fn find(&mut self, question: &Question, now: Instant) -> Option<Message> {
        let entry = self.entries.get(question)?;
        if entry.ends <= now {
            self.forget(question);
            return None;
        }
        let mut told = Message::from_vec(&entry.told).ok()?;
        let age = u32::try_from(now.saturating_duration_since(entry.kept_at).as_secs()).unwrap_or(u32::MAX);
        for section in [&mut told.answers, &mut told.authorities, &mut told.additionals] {
            section.iter_mut().for_each(|record| record.ttl = record.ttl.saturating_sub(age));
        }
        Some(told)
    }

    /// Keeps `told`, if it is to be kept.
    pub(super) fn keep(&mut self, question: Question, told: &Message, now: Instant) {
        let Some(ttl) = time_to_live(told, question.kind).filter(|ttl| !ttl.is_zero()) else { return };
        let mut plain = told.clone();
        plain.edns = None;
        let Some(told) = plain.to_vec().ok().filter(|bytes| bytes.len() <= MAX_ANSWER) else { return };
        self.forget(&question);
        self.make_room(told.len());
        let (number, ends) = (self.next, now + ttl);
        self.next += 1;
        self.bytes += told.len();
        self.ends.insert((ends, number));
        self.numbers.insert(number, question.clone());
        self.entries.insert(question, Entry { told, kept_at: now, ends, number });
    }

    /// Forgets all: the servers have changed.
    pub(super) fn clear(&mut self) {
        let next = self.next;
        *self = Cache { next, ..Cache::default() };
    }

    fn make_room(&mut self, len: usize) {
        while self.entries.len() >= MAX_ENTRIES || self.bytes + len > MAX_BYTES {
            let Some((_, number)) = self.ends.first().copied() else { return };
            let Some(question) = self.numbers.get(&number).cloned() else { return };
            self.forget(&question);
        }
    }

    fn forget(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.bytes -= entry.told.len();
            self.ends.remove(&(entry.ends, entry.number));
            self.numbers.remove(&entry.number);
        }
    }
}

/// How long an answer holds; `None` where it is not to be kept.
fn time_to_live(told: &Message, asked: RecordType) -> Option<Duration> {
    if told.truncation {
        return None;
    }
    let seconds = |ttl: u32| Duration::from_secs(ttl.into());
    let records = told.answers.iter().chain(&told.authorities).chain(&told.additionals);
    let least = records.map(|record| seconds(record.ttl)).min();
    // An alias alone says that where it leads there is nothing of that type. RFC 2308 2.2.
    let is_asked = |record: &Record| record.record_type() == asked || asked == RecordType::ANY;
    let is_no = told.response_code == ResponseCode::NXDomain || !told.answers.iter().any(is_asked);
    match told.response_code {
        ResponseCode::NoError if !is_no => least.map(|ttl| ttl.min(MAX_TTL)),
        ResponseCode::NoError | ResponseCode::NXDomain => {
            let minimum = told.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(seconds(soa.minimum)),
                _ => None,
            });
            minimum.zip(least).map(|(minimum, least)| minimum.min(least).min(MAX_NEGATIVE_TTL))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::rdata::{A, SOA};

    use super::*;

    fn question(network: &str, name: &str) -> Question {
        Question {
            network: network.into(),
            name: Name::from_ascii(name).unwrap(),
            kind: RecordType::A,
            dnssec_ok: false,
            checking_disabled: false,
        }
    }

    fn told(ttls: &[u32]) -> Message {
        let mut told = Message::new(1, MessageType::Response, OpCode::Query);
        let record =
            |ttl| Record::from_rdata(Name::from_ascii("a.b.").unwrap(), ttl, RData::A(A([192, 0, 2, 1].into())));
        told.add_answers(ttls.iter().map(|ttl| record(*ttl)));
        told
    }

    fn no(ttl: u32, minimum: u32) -> Message {
        let mut no = Message::new(1, MessageType::Response, OpCode::Query);
        no.metadata.response_code = ResponseCode::NXDomain;
        let soa = SOA::new(Name::root(), Name::root(), 1, 2, 3, 4, minimum);
        no.add_authority(Record::from_rdata(Name::root(), ttl, RData::SOA(soa)));
        no
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_holds_as_long_as_its_shortest_record_and_ages() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let question = question("default", "a.b.");
        cache.keep(question.clone(), &told(&[60, 30]), start);
        let found = cache.find(&question, start + 10 * SECOND).unwrap();
        assert_eq!(found.answers.iter().map(|record| record.ttl).collect::<Vec<_>>(), [50, 20]);
        assert_eq!(cache.find(&question, start + 30 * SECOND), None);
        assert_eq!((cache.entries.len(), cache.bytes), (0, 0));
    }

    #[test]
    fn a_no_holds_as_long_as_its_soa_says_and_never_long() {
        for (ttl, minimum, held) in [(60, 10, 10), (10, 60, 10), (9999, 9999, 300)] {
            assert_eq!(time_to_live(&no(ttl, minimum), RecordType::A), Some(held * SECOND));
        }
        let mut alias = no(60, 10);
        alias.metadata.response_code = ResponseCode::NoError;
        let to = RData::CNAME(hickory_proto::rr::rdata::CNAME(Name::root()));
        alias.add_answer(Record::from_rdata(Name::from_ascii("a.b.").unwrap(), 3600, to));
        for (kind, held) in [(RecordType::AAAA, 10), (RecordType::CNAME, 60)] {
            assert_eq!(time_to_live(&alias, kind), Some(held * SECOND), "{kind}");
        }
        let mut without = no(60, 60);
        without.authorities.clear();
        assert_eq!(time_to_live(&without, RecordType::A), None);
    }

    #[test]
    fn failures_truncated_answers_and_zeros_are_not_kept_and_days_are_an_hour() {
        let mut failed = told(&[60]);
        failed.metadata.response_code = ResponseCode::ServFail;
        assert_eq!(time_to_live(&failed, RecordType::A), None);
        let mut cut = told(&[60]);
        cut.metadata.truncation = true;
        assert_eq!(time_to_live(&cut, RecordType::A), None);
        assert_eq!(time_to_live(&told(&[86_400]), RecordType::A), Some(3600 * SECOND));
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.keep(question("default", "a.b."), &told(&[0]), now);
        assert_eq!(cache.entries.len(), 0);
    }

    #[test]
    fn one_network_s_answers_are_not_another_s() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.keep(question("default", "a.b."), &told(&[60]), now);
        assert!(cache.find(&question("default", "a.b."), now).is_some());
        assert!(cache.find(&question("blue", "a.b."), now).is_none());
        cache.clear();
        assert!(cache.find(&question("default", "a.b."), now).is_none());
    }

    #[test]
    fn what_ends_first_makes_room() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.keep(question("default", "soon.b."), &told(&[5]), now);
        for host in 0..MAX_ENTRIES {
            cache.keep(question("default", &format!("h{host}.b.")), &told(&[60]), now);
        }
        assert_eq!(
            (cache.entries.len(), cache.ends.len(), cache.numbers.len()),
            (MAX_ENTRIES, MAX_ENTRIES, MAX_ENTRIES)
        );
        assert!(cache.find(&question("default", "soon.b."), now).is_none());
        assert!(cache.find(&question("default", "h0.b."), now).is_some());
    }

    #[test]
    fn bytes_are_bounded_and_a_giant_is_not_kept() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let giant = told(&vec![60; 1500]);
        cache.keep(question("default", "giant.b."), &giant, now);
        assert_eq!(cache.entries.len(), 0);
        let large = told(&vec![60; 900]);
        for host in 0..600 {
            cache.keep(question("default", &format!("h{host}.b.")), &large, now);
            assert!(cache.bytes <= MAX_BYTES);
        }
    }
}
