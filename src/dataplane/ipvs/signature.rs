//! What tells a virtual server of ours from somebody else's: it is signed.
//!
//! The kernel keeps the flag bits of a virtual server that have no meaning to it, and gives them back.
//! So the signature comes into being with the virtual server, in one request, and goes with it: there
//! is no moment at which a crash leaves one without the other. No set beside it could say so. `ipvsadm`
//! shows none of these bits and, in what it makes, edits and restores, leaves them empty.

use ipvs_sys::{Service, ServiceFlags};

/// The bits that are ours: kernels hand out theirs from below, and have come to 0x20.
const BITS: ServiceFlags = ServiceFlags::from_bits_retain(0xffff_0000);

/// What they say: "ia", for ipvs-agent.
const SIGNATURE: ServiceFlags = ServiceFlags::from_bits_retain(0x6961_0000);

/// Signs a virtual server that is to be made or changed.
pub fn sign(service: &mut Service) {
    service.flags = service.flags.difference(BITS).union(SIGNATURE);
}

/// Whether an agent made it.
pub fn is_signed(service: &Service) -> bool {
    service.flags.intersection(BITS) == SIGNATURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_of_the_signature_is_one() {
        let key = ipvs_sys::ServiceKey::Address {
            protocol: ipvs_sys::Protocol::Tcp,
            addr: [10, 96, 0, 1].into(),
            port: 80,
        };
        let theirs = Service::new(key, "rr".parse().unwrap());
        for (flags, signed) in [
            (0, false),
            (0x1f, false),
            (0x6961_0000, true),
            (0x6961_001d, true),
            (0x6960_0000, false),
            (0xffff_0000, false),
            (u32::MAX, false),
        ] {
            let flags = ServiceFlags::from_bits_retain(flags);
            let service = theirs.clone().with_flags(flags);
            assert_eq!(is_signed(&service), signed, "{flags:?}");
            let mut ours = service;
            sign(&mut ours);
            assert!(is_signed(&ours), "{flags:?}");
            let low = |service: &Service| service.flags.bits() & 0xffff;
            assert_eq!(low(&ours), flags.bits() & 0xffff);
            // Nobody who looks with `ipvsadm` sees a difference.
            assert_eq!(
                ours.to_string(),
                theirs.clone().with_flags(flags).to_string()
            );
        }
    }
}
