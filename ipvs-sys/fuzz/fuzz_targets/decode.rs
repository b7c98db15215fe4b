//! Any bytes through the decoders; what decodes as a command must encode to what decodes alike.
#![no_main]

use ipvs_sys::Family;
use ipvs_sys::codec::{
    Body, Envelope, Reply, decode_command, decode_family_id, encode_command, frames,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for frame in frames(bytes) {
        let Ok(frame) = frame else { break };
        if let Body::Payload(payload) = frame.body {
            payload_of_any_kind(payload);
        }
    }
    payload_of_any_kind(bytes);
});

fn payload_of_any_kind(payload: &[u8]) {
    let _ = Reply::decode(payload, Family::Inet);
    let _ = Reply::decode(payload, Family::Inet6);
    let _ = decode_family_id(payload);
    let Ok(command) = decode_command(payload) else {
        return;
    };
    let _ = command.validate();
    let _ = command.to_string();
    let envelope = Envelope {
        family_id: 34,
        sequence: 1,
        acknowledge: true,
    };
    let mut encoded = Vec::new();
    encode_command(&mut encoded, &envelope, &command);
    let again = frames(&encoded).next().map(|frame| match frame {
        Ok(frame) => match frame.body {
            Body::Payload(payload) => decode_command(payload),
            other => panic!("a message of the family: {other:?}"),
        },
        Err(error) => panic!("what was encoded cannot be walked: {error}"),
    });
    assert_eq!(again, Some(Ok(command)));
}
