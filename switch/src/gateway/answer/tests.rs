//! Questions as containers ask them, well and badly.

use proptest::prelude::*;

use super::super::zone::tests::{ip, zones};
use super::*;

fn ask(name: &str, kind: RecordType) -> Message {
    let mut question = Message::new(77, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    question
}

fn answer_in(network: &str, question: &Message) -> Option<Message> {
    let zones = zones();
    match decide(&zones, zones.of(network).unwrap(), question, 0) {
        Verdict::Answer(answer) => Some(answer),
        Verdict::Forward => None,
    }
}

fn answer(name: &str, kind: RecordType) -> Message {
    answer_in("default", &ask(name, kind)).expect("ours to answer")
}

fn addresses(answer: &Message) -> Vec<IpAddr> {
    answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

#[test]
fn a_name_has_its_address_for_a_short_time_spelt_as_it_was_asked() {
    let answer = answer("WeB.", RecordType::A);
    assert_eq!(addresses(&answer), [ip("10.1.0.2")]);
    assert_eq!((answer.answers[0].ttl, answer.answers[0].name.to_ascii()), (TTL, "WeB.".into()));
    assert!(answer.authoritative && answer.recursion_desired && answer.id == 77);
    assert_eq!(answer.queries, ask("WeB.", RecordType::A).queries);
}

#[test]
fn a_name_without_an_ipv6_address_is_there_and_has_none() {
    assert_eq!(addresses(&answer("web.", RecordType::AAAA)), [ip("fd00:1::2")]);
    for kind in [RecordType::AAAA, RecordType::MX, RecordType::HTTPS] {
        let answer = answer("db.", kind);
        assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::NoError, 0), "{kind}");
    }
}

#[test]
fn who_shares_an_alias_comes_first_in_turn() {
    let zones = zones();
    let first = |turn| match decide(&zones, zones.of("default").unwrap(), &ask("cache.", RecordType::A), turn) {
        Verdict::Answer(answer) => addresses(&answer)[0],
        Verdict::Forward => panic!("ours to answer"),
    };
    assert_eq!([first(0), first(1), first(2)], [ip("10.1.0.3"), ip("10.1.0.2"), ip("10.1.0.3")]);
}

#[test]
fn an_address_has_its_name_both_ways() {
    let answer = answer("2.0.1.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(answer.answers[0].data.to_string(), "web.default.");
    let nobody = answer_in("default", &ask("9.0.1.10.in-addr.arpa.", RecordType::PTR)).unwrap();
    assert_eq!(nobody.response_code, ResponseCode::NXDomain);
    assert_eq!(answer_in("default", &ask("1.2.0.192.in-addr.arpa.", RecordType::PTR)), None);
}

#[test]
fn what_is_below_an_address_of_ours_is_asked_of_nobody_else() {
    for name in ["lb._dns-sd._udp.0.0.1.10.in-addr.arpa.", "x.5.0.1.10.IN-ADDR.ARPA."] {
        let nobody = answer_in("default", &ask(name, RecordType::PTR)).unwrap();
        assert_eq!(nobody.response_code, ResponseCode::NXDomain, "{name}");
    }
    for name in ["lb._dns-sd._udp.0.2.0.192.in-addr.arpa.", "x.home.arpa."] {
        assert_eq!(answer_in("default", &ask(name, RecordType::PTR)), None, "{name}");
    }
}

#[test]
fn what_is_elsewhere_is_forwarded_or_refused_where_there_is_no_way_out() {
    assert_eq!(answer_in("default", &ask("example.org.", RecordType::A)), None);
    assert_eq!(answer_in("default", &ask(".", RecordType::NS)), None);
    assert_eq!(answer_in("default", &ask("org.", RecordType::DNSKEY)), None);
    let refused = answer_in("shut", &ask("example.org.", RecordType::A)).unwrap();
    assert_eq!(refused.response_code, ResponseCode::Refused);
    assert_eq!(answer("org.", RecordType::A).response_code, ResponseCode::NXDomain);
}

#[test]
fn what_is_no_plain_question_is_told_so() {
    let mut update = ask("web.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    let mut two = ask("web.", RecordType::A);
    two.add_query(Query::query(Name::root(), RecordType::A));
    let mut chaos = ask("version.bind.", RecordType::TXT);
    chaos.queries[0].query_class = DNSClass::CH;
    let mut later = ask("web.", RecordType::A);
    later.set_edns(Edns::new().set_version(1).clone());
    for (question, code) in [
        (update, ResponseCode::NotImp),
        (two, ResponseCode::FormErr),
        (chaos, ResponseCode::Refused),
        (later, ResponseCode::BADVERS),
        (ask("default.", RecordType::AXFR), ResponseCode::Refused),
    ] {
        let answer = answer_in("default", &question).unwrap();
        assert_eq!(answer.response_code, code);
        let read = Message::from_vec(&write(&question, answer, Some(1500)).unwrap()).unwrap();
        // By number: 16 has two names.
        assert_eq!(u16::from(read.response_code), u16::from(code), "as it was written");
    }
}

#[test]
fn a_label_with_a_dot_in_it_is_not_two() {
    let name = Name::from_labels([&b"web.default"[..]]).unwrap();
    let mut question = ask(".", RecordType::A);
    question.queries[0].name = name;
    assert_eq!(answer_in("default", &question).unwrap().response_code, ResponseCode::NXDomain);
}

#[test]
fn an_answer_is_never_answered_and_rubbish_is_a_format_error() {
    assert_eq!(read(&[]), Err(Unreadable::Ignored));
    assert_eq!(read(&[0; HEADER_LEN - 1]), Err(Unreadable::Ignored));
    let answer = answer("web.", RecordType::A).to_vec().unwrap();
    assert_eq!(read(&answer), Err(Unreadable::Ignored));
    let mut cut = ask("web.", RecordType::A).to_vec().unwrap();
    cut.truncate(HEADER_LEN + 3);
    let Err(Unreadable::Answered(sorry)) = read(&cut) else { panic!("not a format error") };
    let sorry = Message::from_vec(&sorry).unwrap();
    assert_eq!((sorry.id, sorry.response_code), (77, ResponseCode::FormErr));
}

fn long() -> (Message, Message) {
    let question = ask("many.example.", RecordType::A);
    let mut told = failure(&question, ResponseCode::NoError);
    for host in 0..100 {
        let data = RData::A(A([192, 0, 2, host].into()));
        told.add_answer(Record::from_rdata(question.queries[0].name.clone(), 60, data));
    }
    (question, told)
}

#[test]
fn an_answer_that_does_not_fit_is_cut_and_whole_over_tcp() {
    let (mut question, told) = long();
    let size = |question: &Message, mtu| {
        let bytes = write(question, told.clone(), mtu).unwrap();
        let read = Message::from_vec(&bytes).unwrap();
        (bytes.len() <= 512, read.truncation, read.answers.len())
    };
    assert_eq!(size(&question, Some(1500)), (true, true, 0));
    assert_eq!(size(&question, None), (false, false, 100));
    question.set_edns(Edns::new().set_max_payload(4096).clone());
    assert_eq!(size(&question, Some(9000)), (false, false, 100));
    assert_eq!(size(&question, Some(1500)), (true, true, 0));
}

#[test]
fn edns_is_answered_where_it_was_asked_and_not_else() {
    let mut question = ask("web.", RecordType::A);
    let written = |question: &Message| {
        let answer = answer_in("default", question).unwrap();
        Message::from_vec(&write(question, answer, Some(1500)).unwrap()).unwrap().edns
    };
    assert_eq!(written(&question), None);
    question.set_edns(Edns::new().set_dnssec_ok(true).clone());
    let edns = written(&question).unwrap();
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (UDP_PAYLOAD, true));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        survive(&bytes);
    }

    /// Damage to a good question reaches deeper than noise.
    #[test]
    fn no_damage_makes_it_panic(damage in proptest::collection::vec((0usize..64, any::<u8>()), 0..8)) {
        let mut question = ask("cache.default.", RecordType::ANY);
        question.set_edns(Edns::new());
        let mut bytes = question.to_vec().unwrap();
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        survive(&bytes);
    }
}

proptest! {
    /// What a resolver says may be as damaged as what a container asks.
    #[test]
    fn no_damaged_word_of_a_resolver_makes_it_panic(damage in proptest::collection::vec((0usize..300, any::<u8>()), 0..8)) {
        let question = ask("many.example.", RecordType::ANY);
        let mut told = failure(&question, ResponseCode::NoError);
        let name = question.queries[0].name.clone();
        told.add_answer(Record::from_rdata(name.clone(), 60, RData::PTR(PTR(Name::from_ascii("a.b.example.").unwrap()))));
        told.add_answer(Record::from_rdata(name, 60, RData::AAAA(AAAA("2001:db8::1".parse().unwrap()))));
        told.set_edns(Edns::new());
        let mut bytes = told.to_vec().unwrap();
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(told) = Message::from_vec(&bytes) {
            let written = write(&question, relayed(&question, told), Some(1500));
            prop_assert!(written.is_none_or(|bytes| bytes.len() <= 512));
        }
    }
}

fn survive(bytes: &[u8]) {
    let zones = zones();
    match read(bytes) {
        Ok(question) => match decide(&zones, zones.of("default").unwrap(), &question, 1) {
            Verdict::Answer(answer) => {
                let written = write(&question, answer, Some(1500));
                assert!(written.is_none_or(|bytes| bytes.len() <= 1452));
            }
            Verdict::Forward => assert_eq!(question.queries.len(), 1),
        },
        Err(Unreadable::Answered(sorry)) => assert_eq!(sorry.len(), HEADER_LEN),
        Err(Unreadable::Ignored) => {}
    }
}
