//! Dumps that are what they seem.
//!
//! The kernel's position in a dump is a plain index, its lock is released between datagrams, and it
//! does not say when the table changed meanwhile: with a writer at work, entries that nobody touched
//! are skipped or repeated. What fits one datagram is a snapshot. For what does not, two passes in a
//! row must show the same keys in the same order, none of them twice.

use std::collections::BTreeSet;

use super::Client;
use super::exchange::{Answers, Until};
use crate::codec::{self, Reply};
use crate::command::Query;
use crate::error::{Error, Kind, Request};
use crate::key::Family;
use crate::transport::Transport;

impl<T: Transport> Client<T> {
    /// Reads a table until it held still.
    pub(super) fn consistent<R, K: Ord>(
        &mut self,
        query: Query,
        take: fn(Reply) -> Option<R>,
        key: fn(&R) -> K,
    ) -> Result<Vec<R>, Error> {
        let mut before: Option<Vec<K>> = None;
        for _ in 0..MAX_PASSES {
            let (entries, answers) = self.pass(query, take)?;
            let keys: Vec<K> = entries.iter().map(key).collect();
            let clean = !answers.interrupted && all_differ(&keys);
            if clean && (answers.datagrams <= 1 || before.as_ref() == Some(&keys)) {
                return Ok(entries);
            }
            before = clean.then_some(keys);
        }
        let attempts = MAX_PASSES;
        Err(Error::new(
            Request::Query(query),
            Kind::Inconsistent { attempts },
        ))
    }

    /// Reads a table once.
    fn pass<R>(
        &mut self,
        query: Query,
        take: fn(Reply) -> Option<R>,
    ) -> Result<(Vec<R>, Answers), Error> {
        let family = match query {
            Query::Destinations(key) => key.family(),
            _ => Family::Inet,
        };
        self.with_family(
            || Request::Query(query),
            |client| {
                let envelope = client.envelope(false);
                let mut datagram = Vec::new();
                codec::encode_query(&mut datagram, &envelope, &query);
                let mut entries = Vec::new();
                let sequence = envelope.sequence;
                let answers = client.exchange(&datagram, sequence, Until::Done, |payload| {
                    entries.extend(take(Reply::decode(payload, family)?));
                    Ok(())
                })?;
                Ok((entries, answers))
            },
        )
    }
}

fn all_differ<K: Ord>(keys: &[K]) -> bool {
    keys.iter().collect::<BTreeSet<_>>().len() == keys.len()
}

/// A writer that never rests must not keep a reader for ever.
const MAX_PASSES: usize = 8;
