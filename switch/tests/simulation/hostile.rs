//! A container that sends whatever it likes, and its neighbours, who do not notice.

use tapswitch::frame::offload::HEADER_LEN;

use crate::lan::{Lan, gateway4};
use crate::line::Faults;
use crate::rng::{Rng, for_seeds};
use crate::stream::{Stream, finish};

/// Valid frames of the attacker, as they came out of its own stack, with the headers.
fn samples(lan: &mut Lan, attacker: usize, chance: &mut Rng) -> Vec<Vec<u8>> {
    let own = lan.hosts[attacker].mac.octets();
    let victim = lan.hosts[0].mac.octets();
    let (from, to) = (lan.hosts[attacker].ip4.octets(), lan.hosts[0].ip4.octets());
    let mut samples = Vec::new();
    for protocol in [1, 6, 17] {
        let len = 40 + chance.below(2000) as u16;
        let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
        ip[2..4].copy_from_slice(&len.to_be_bytes());
        ip.extend(from.iter().chain(&to));
        ip.resize(usize::from(len), 0);
        // A TCP data offset of five words; a UDP length and an echo's code that happen to be right.
        match protocol {
            6 => ip[32] = 0x50,
            17 => ip[24..26].copy_from_slice(&(len - 20).to_be_bytes()),
            _ => ip[20] = 8,
        }
        let gso = [0, 1, 3, 4, 5, 0x81][chance.below(6)];
        let size = [0, 1, 47, 48, 1000, 1460, 0xffff_u16][chance.below(7)].to_le_bytes();
        let offset = if protocol == 17 { 6 } else { 16 };
        let header = [1, gso, 0, 0, size[0], size[1], 34, 0, offset, 0];
        samples.push([&header[..], &victim, &own, &[8, 0], &ip].concat());
    }
    let sender = [&own[..], &from].concat();
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &sender, &[0; 6], &to].concat();
    samples.push([&[0; HEADER_LEN][..], &[0xff; 6], &own, &[8, 6], &arp].concat());
    let gateway = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &own, &gateway4(0).octets(), &victim, &to].concat();
    samples.push([&[0; HEADER_LEN][..], &victim, &own, &[8, 6], &gateway].concat());
    let solicitation = [&[0x60, 0, 0, 0, 0, 24, 58, 255][..], &[0xfd; 16], &[0xff; 16], &[135, 0], &[1; 22]].concat();
    samples.push([&[0; HEADER_LEN][..], &[0x33, 0x33, 0xff, 0, 0, 2], &own, &[0x86, 0xdd], &solicitation].concat());
    samples.push([&[0; HEADER_LEN][..], &[0xff; 6], &own, &[0x81, 0, 0, 7], &[0; 60]].concat());
    samples
}

fn mutated(mut bytes: Vec<u8>, chance: &mut Rng) -> Vec<u8> {
    for _ in 0..chance.below(8) {
        let early = bytes.len().min(80);
        let at = if chance.permille(800) { chance.below(early) } else { chance.below(bytes.len()) };
        bytes[at] = chance.next() as u8;
    }
    match chance.below(20) {
        0 => bytes.truncate(chance.below(bytes.len() + 1)),
        1 => bytes.resize(bytes.len() + chance.below(3000), chance.next() as u8),
        2 => bytes.resize(70_000, 0),
        _ => {}
    }
    bytes
}

#[test]
fn hostile_frames_and_headers_disturb_nobody() {
    for_seeds(12, |seed| {
        let mut chance = Rng::new(!seed);
        let mut lan = Lan::of_hosts(seed, 2, Faults::default());
        lan.with_segments = true;
        let attacker = lan.attach(0, if seed % 2 == 0 { HEADER_LEN } else { 0 });
        if seed % 3 == 0 {
            lan.set_policy(0, false, &[(0, 1, None), (attacker, 0, None), (attacker, 1, None)]);
        }
        let mut streams = [
            Stream::open(&mut lan, 0, 1, false, 80, 150_000, seed),
            Stream::open(&mut lan, 0, 1, true, 81, 150_000, seed),
        ];
        let mut hostile = 0;
        lan.run("the transfers beside", |lan| {
            for _ in 0..50 {
                let mut samples = samples(lan, attacker, &mut chance);
                let chosen = samples.swap_remove(chance.below(samples.len()));
                let bytes = mutated(chosen, &mut chance);
                let skip = if seed % 2 == 0 { 0 } else { HEADER_LEN.min(bytes.len()) };
                lan.hosts[attacker].line.inject(&bytes[skip..]);
                hostile += 1;
            }
            let mut done = true;
            for stream in &mut streams {
                done &= stream.pump(lan);
            }
            done && hostile > 5000
        });
        finish(&mut lan, "what is left", &mut streams);
        lan.check();
        let counts = lan.counts(lan.hosts[attacker].port);
        assert!(counts.rx_drops.iter().filter(|&&dropped| dropped > 0).count() > 5, "{counts:?}");
    });
}
