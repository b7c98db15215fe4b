//! A table as the lines that make it.
//!
//! [`Dialect::Ipvsadm`] is what `ipvsadm -Sn` writes, with what it loses: thresholds, and marks from
//! 2³¹, which it writes with a minus sign and cannot read back. [`Dialect::Whole`] loses nothing, and
//! `ipvsadm -R` reads all of it.

use std::fmt::Write;

use ipvs_sys::{Destination, ForwardMethod, Protocol, ServiceEntry, ServiceKey};

use crate::inspect::table::Row;

/// How much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Byte for byte as `ipvsadm -Sn`.
    Ipvsadm,
    /// Thresholds too, and marks as `ipvsadm -A` takes them.
    Whole,
}

/// Adds the lines of a row; gives how many things no line can say: they are comments in it.
pub fn save(out: &mut String, row: &Row, dialect: Dialect) -> usize {
    let mut unspeakable = 0;
    let key = key(&row.service.service.key, dialect);
    let speakable = can_be_written(&row.service);
    unspeakable += usize::from(!speakable);
    let comment = if speakable { "" } else { "# " };
    let _ = writeln!(out, "{comment}-A {key}{}", configuration(&row.service));
    for entry in &row.destinations {
        let mut destination = entry.destination;
        if dialect == Dialect::Ipvsadm {
            destination = destination.with_thresholds(0, 0);
        }
        let written = speakable && has_option(&destination);
        unspeakable += usize::from(speakable && !written);
        let comment = if written { "" } else { "# " };
        let _ = writeln!(out, "{comment}-a {key} {destination}");
    }
    unspeakable
}

fn key(key: &ServiceKey, dialect: Dialect) -> String {
    match (key, dialect) {
        (ServiceKey::Mark { mark, .. }, Dialect::Ipvsadm) => {
            let signed = mark.get().cast_signed();
            key.to_string()
                .replace(&mark.to_string(), &signed.to_string())
        }
        _ => key.to_string(),
    }
}

/// All behind the key.
fn configuration(entry: &ServiceEntry) -> String {
    let whole = entry.service.to_string();
    let key = entry.service.key.to_string();
    whole.strip_prefix(&key).unwrap_or_default().to_owned()
}

fn can_be_written(entry: &ServiceEntry) -> bool {
    !matches!(
        entry.service.key,
        ServiceKey::Address {
            protocol: Protocol::Other(_),
            ..
        }
    )
}

fn has_option(destination: &Destination) -> bool {
    !matches!(
        destination.forward,
        ForwardMethod::Local | ForwardMethod::Bypass | ForwardMethod::Other(_)
    )
}
