//! Laws of the codec: what is written is read back, what is unknown is kept, and no bytes panic.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod generate;

use ipvs_sys::codec::{
    Body, Envelope, Reply, decode_command, decode_family_id, encode_command, frames,
};
use ipvs_sys::{Attribute, Command, Family, Nest};
use proptest::collection::vec;
use proptest::prelude::*;

const FAMILY_ID: u16 = 0x22;

fn encode(commands: &[Command]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (sequence, command) in (1..).zip(commands) {
        let envelope = Envelope {
            family_id: FAMILY_ID,
            sequence,
            acknowledge: false,
        };
        encode_command(&mut bytes, &envelope, command);
    }
    bytes
}

fn payloads(bytes: &[u8]) -> Vec<Vec<u8>> {
    frames(bytes)
        .map(|frame| match frame.unwrap().body {
            Body::Payload(payload) => payload.to_vec(),
            other => panic!("a message of the family: {other:?}"),
        })
        .collect()
}

/// Appends an attribute to the first nest of a payload, and one behind the nest.
fn with_strangers(payload: &[u8], value: &[u8]) -> Vec<u8> {
    let attribute = |kind: u16| {
        let mut bytes = Vec::new();
        let length = u16::try_from(4 + value.len()).unwrap();
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let (header, nest) = payload.split_at(4);
    let length = usize::from(u16::from_ne_bytes([nest[0], nest[1]]));
    let inner = attribute(200);
    let mut bytes = header.to_vec();
    let longer = u16::try_from(length.next_multiple_of(4) + inner.len()).unwrap();
    bytes.extend(longer.to_ne_bytes());
    bytes.extend(&nest[2..length]);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(inner);
    bytes.extend(attribute(201));
    bytes
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(commands in vec(generate::command(), 0..20)) {
        let read: Vec<_> = payloads(&encode(&commands))
            .iter()
            .map(|payload| decode_command(payload).unwrap())
            .collect();
        prop_assert_eq!(read, commands);
    }

    #[test]
    fn what_is_unknown_is_kept(service in generate::service(), value in vec(any::<u8>(), 0..40)) {
        let command = Command::NewService(service);
        let payload = payloads(&encode(std::slice::from_ref(&command))).remove(0);
        let reply = Reply::decode(&with_strangers(&payload, &value), Family::Inet).unwrap();
        let Reply::Service(entry) = reply else { panic!("a service: {reply:?}") };
        prop_assert_eq!(Command::NewService(entry.service), command);
        prop_assert_eq!(entry.unknown, [
            Attribute { nest: Nest::Service, kind: 200, value: value.clone() },
            Attribute { nest: Nest::Command, kind: 201, value },
        ]);
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..400)) {
        read_everything(&bytes);
    }

    /// Messages that are nearly right reach deeper than random ones.
    #[test]
    fn no_damaged_message_panics(
        commands in vec(generate::command(), 1..4),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(&commands);
        let at = at.index(bytes.len());
        bytes[at] = with;
        read_everything(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        read_everything(&bytes);
    }
}

fn read_everything(bytes: &[u8]) {
    let _ = Reply::decode(bytes, Family::Inet);
    let _ = Reply::decode(bytes, Family::Inet6);
    let _ = decode_command(bytes);
    let _ = decode_family_id(bytes);
    for frame in frames(bytes) {
        if let Ok(frame) = frame
            && let Body::Payload(payload) = frame.body
        {
            let _ = Reply::decode(payload, Family::Inet6);
            let _ = decode_command(payload);
            let _ = decode_family_id(payload);
        }
    }
}
