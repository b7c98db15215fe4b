//! Short names for what has long ones: chains and sets have room for a few letters only.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};

/// 80 bits of a SHA-256, written in sixteen letters and digits (RFC 4648, base 32). Not a weaker hash and
/// not a shorter one: who may create Services must not find a name that takes another's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(u128);

impl Digest {
    /// Of several texts, none of which has a NUL.
    pub fn of(parts: &[&str]) -> Self {
        let whole = digest(&SHA256, parts.join("\0").as_bytes());
        let bytes = whole.as_ref().iter().take(BITS / 8);
        let number = bytes.fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        Self(number)
    }

    /// The same as a number between 0 and 1, and neither.
    #[expect(clippy::cast_precision_loss, reason = "53 bits of 80 are enough")]
    pub fn fraction(self) -> f64 {
        (self.0 as f64 + 0.5) / (1_u128 << BITS) as f64
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = (0..LETTERS).rev().map(|place| self.0 >> (5 * place) & 31);
        for letter in letters {
            let letter = usize::try_from(letter).ok().and_then(|at| ALPHABET.get(at));
            write!(f, "{}", char::from(*letter.unwrap_or(&b'A')))?;
        }
        Ok(())
    }
}

/// A text that is not one.
#[derive(Debug, PartialEq, Eq)]
pub struct NoDigest;

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        if text.len() != LETTERS {
            return Err(NoDigest);
        }
        let mut number = 0;
        for letter in text.bytes() {
            let at = ALPHABET.iter().position(|known| *known == letter);
            number = number << 5 | at.ok_or(NoDigest)? as u128;
        }
        Ok(Self(number))
    }
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const LETTERS: usize = 16;
const BITS: usize = 5 * LETTERS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back() {
        // The first bytes of `printf 'a\0b' | sha256sum | cut -c1-20 | xxd -r -p | base32`.
        let known = Digest::of(&["a", "b"]);
        assert_eq!(known.to_string(), "LGZHDLQ3XSY5GHKB");
        assert_eq!(known.to_string().parse(), Ok(known));
        assert_eq!("lower-case1".parse::<Digest>(), Err(NoDigest));
        assert_eq!("SHORT".parse::<Digest>(), Err(NoDigest));
    }
}
