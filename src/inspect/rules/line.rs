//! One command line of `ipvsadm` to what it asks for.
//!
//! As there, the verb comes first and the rest in any order, short options may stand together
//! (`-Ln`), and a short option's value may follow it at once. What `ipvsadm` silently puts right is
//! put right here too: a tunnelled or directly routed real server has the port of its service.

use std::collections::BTreeMap;

use ipvs_sys::{Command, DaemonState, Timeouts};

use super::options::{ListOptions, OPTIONS, Opt, Spelling, Takes, VERBS, Verb};
use super::{Names, Word};

mod change;

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// A change of the kernel's table, timeouts or daemons.
    Change(Command),
    /// `-L`.
    List(ListOptions),
    /// `-S`, sorted or in the kernel's order.
    Save {
        /// In the kernel's order.
        nosort: bool,
    },
    /// `-R`.
    Restore,
    /// `-h`.
    Help,
    /// `--version`.
    Version,
}

/// What is wrong with a line, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Mistake {
    /// Where it begins, in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// The ways in which a line can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing, or no verb at its beginning.
    #[error(
        "a command comes first: one of -A -E -D -C -R -S -a -e -d -L -Z --set --start-daemon --stop-daemon -h"
    )]
    NoVerb,
    /// No such option.
    #[error("there is no option {0}")]
    UnknownOption(String),
    /// An option that the verb does not have.
    #[error("{option} does not go with {verb}, which takes {allowed}")]
    NotAllowed {
        /// The option.
        option: String,
        /// The verb.
        verb: String,
        /// What it takes.
        allowed: String,
    },
    /// One of each kind is enough.
    #[error("{option} is one too many: {before} stands there already")]
    Twice {
        /// The second.
        option: String,
        /// The first.
        before: String,
    },
    /// Something that the verb cannot do without.
    #[error("{verb} needs {what}")]
    Missing {
        /// The verb.
        verb: String,
        /// What it needs.
        what: &'static str,
    },
    /// An option without its value.
    #[error("{option} needs a value")]
    NoValue {
        /// The option.
        option: String,
    },
    /// A value that the option does not take.
    #[error("{option} cannot be {value:?}: {allowed}")]
    Value {
        /// The option.
        option: String,
        /// What was given.
        value: String,
        /// What it takes.
        allowed: String,
    },
    /// A word that belongs to nothing.
    #[error("{0:?} belongs to no option")]
    Extra(String),
    /// Options that do not go together.
    #[error("{0}")]
    Conflict(&'static str),
    /// What the kernel would refuse, or take and not act upon.
    #[error("{0}")]
    Invalid(ipvs_sys::Invalid),
    /// Reading and `-R` inside the input of `-R`.
    #[error("{0} changes nothing; only commands that change the table can stand here")]
    NoChange(String),
}

/// Understands a command line, without the program's name.
///
/// # Errors
/// At the first thing that is wrong with it.
pub fn parse(words: &[Word<'_>], names: Names<'_>) -> Result<Invocation, Mistake> {
    let line = Line::read(words)?;
    line.check()?;
    let service = line.service(names)?;
    let change = |command: Command| {
        let checked = command.validate();
        checked.map_err(|invalid| line.mistake(line.start, Problem::Invalid(invalid)))?;
        Ok(Invocation::Change(command))
    };
    match line.verb {
        Verb::AddService => change(Command::NewService(line.new_service(service)?)),
        Verb::EditService => change(Command::SetService(line.new_service(service)?)),
        Verb::DeleteService => change(Command::DelService(line.needed(service)?)),
        Verb::AddServer => {
            let (key, destination) = line.new_destination(service, names)?;
            change(Command::NewDest(key, destination))
        }
        Verb::EditServer => {
            let (key, destination) = line.new_destination(service, names)?;
            change(Command::SetDest(key, destination))
        }
        Verb::DeleteServer => {
            let key = line.needed(service)?;
            change(Command::DelDest(key, line.real_server(&key, names)?))
        }
        Verb::Clear => change(Command::Flush),
        Verb::Zero => change(Command::Zero(service)),
        Verb::Set => change(Command::SetTimeouts(line.timeouts()?)),
        Verb::StartDaemon => change(Command::NewDaemon(line.daemon(names)?)),
        Verb::StopDaemon => change(Command::DelDaemon(line.daemon_state()?)),
        Verb::List => Ok(Invocation::List(line.list(service)?)),
        Verb::Save => Ok(Invocation::Save {
            nosort: line.has(Opt::NoSort),
        }),
        Verb::Restore => Ok(Invocation::Restore),
        Verb::Help => Ok(Invocation::Help),
        Verb::Version => Ok(Invocation::Version),
    }
}

/// A line taken apart: options with their values, in no order.
struct Line<'a> {
    verb: Verb,
    /// Where the verb stands.
    start: usize,
    /// Behind the last word.
    end: usize,
    /// Of `--start-daemon`, `--stop-daemon`.
    value: Option<Word<'a>>,
    /// Option → where it stands, and its value.
    options: BTreeMap<Opt, (usize, Option<Word<'a>>)>,
    /// Words that belong to no option.
    rest: Vec<Word<'a>>,
}

impl<'a> Line<'a> {
    fn read(words: &[Word<'a>]) -> Result<Self, Mistake> {
        let first = words.first().copied().unwrap_or(Word {
            column: 1,
            text: "",
        });
        let no_verb = || Mistake {
            column: first.column,
            problem: Problem::NoVerb,
        };
        let end = words
            .last()
            .map_or(1, |word| word.column + word.text.chars().count());
        let mut reader = Reader { words, at: 1 };
        let mut line = Line {
            verb: Verb::Help,
            start: first.column,
            end,
            value: None,
            options: BTreeMap::new(),
            rest: Vec::new(),
        };
        if let Some(name) = first.text.strip_prefix("--") {
            let (name, attached) = attached(first.column + 2, name);
            let verb = VERBS
                .iter()
                .find(|verb| verb.long == name)
                .ok_or_else(no_verb)?;
            line.verb = verb.means;
            line.value = reader.value(verb, first, attached)?;
        } else {
            let mut letters = first.text.strip_prefix('-').ok_or_else(no_verb)?.chars();
            let letter = letters.next().ok_or_else(no_verb)?;
            let verb = VERBS.iter().find(|verb| verb.short == Some(letter));
            line.verb = verb.ok_or_else(no_verb)?.means;
            line.bundle(first.column + 2, 0, letters.as_str(), &mut reader)?;
        }
        while let Some(word) = reader.next() {
            if let Some(name) = word.text.strip_prefix("--") {
                let (name, attached) = attached(word.column + 2, name);
                let option = OPTIONS.iter().find(|option| option.long == name);
                let option = option.ok_or_else(|| unknown(word.column, format!("--{name}")))?;
                let value = reader.value(option, word, attached)?;
                line.add(option.means, word.column, value)?;
            } else if let Some(letters) = word.text.strip_prefix('-').filter(|l| !l.is_empty()) {
                line.bundle(word.column + 1, 1, letters, &mut reader)?;
            } else {
                line.rest.push(word);
            }
        }
        Ok(line)
    }

    /// Short options that stand together; a value takes what is left of the word. The first one
    /// begins `dash` before its letter.
    fn bundle(
        &mut self,
        column: usize,
        dash: usize,
        letters: &'a str,
        reader: &mut Reader<'_, 'a>,
    ) -> Result<(), Mistake> {
        for ((at, letter), column) in letters.char_indices().zip(column..) {
            let letter_at = column;
            let column = if at == 0 { column - dash } else { column };
            let option = OPTIONS.iter().find(|option| option.short == Some(letter));
            let option = option.ok_or_else(|| unknown(column, format!("-{letter}")))?;
            let word = Word { column, text: "" };
            if option.takes == Takes::Nothing {
                self.add(option.means, column, None)?;
                continue;
            }
            let left = &letters[at + letter.len_utf8()..];
            let left = left.strip_prefix('=').unwrap_or(left);
            let attached = (!left.is_empty()).then_some(Word {
                column: letter_at + 1,
                text: left,
            });
            let value = reader.value(option, word, attached)?;
            return self.add(option.means, column, value);
        }
        Ok(())
    }

    fn add(&mut self, option: Opt, column: usize, value: Option<Word<'a>>) -> Result<(), Mistake> {
        let rivals = option.rivals();
        let before = self
            .options
            .keys()
            .find(|there| **there == option || rivals.contains(there));
        if let Some(before) = before {
            let problem = Problem::Twice {
                option: option.written(),
                before: before.written(),
            };
            return Err(Mistake { column, problem });
        }
        self.options.insert(option, (column, value));
        Ok(())
    }

    /// Only what the verb takes, and what it needs.
    fn check(&self) -> Result<(), Mistake> {
        let verb = self.verb;
        let allowed = verb.options();
        let strangers = self
            .options
            .iter()
            .filter(|(option, _)| !allowed.contains(option));
        if let Some((option, (column, _))) = strangers.min_by_key(|(_, (column, _))| *column) {
            let names: Vec<String> = allowed.iter().map(|option| option.written()).collect();
            let allowed = match names.is_empty() {
                true => "no option".to_owned(),
                false => names.join(" "),
            };
            let (option, verb) = (option.written(), verb.written());
            return Err(self.mistake(
                *column,
                Problem::NotAllowed {
                    option,
                    verb,
                    allowed,
                },
            ));
        }
        if verb != Verb::Set
            && let Some(word) = self.rest.first()
        {
            return Err(self.mistake(word.column, Problem::Extra(word.text.to_owned())));
        }
        let services = [Opt::Tcp, Opt::Udp, Opt::Sctp, Opt::Mark];
        if verb.needs_service() && !services.iter().any(|option| self.has(*option)) {
            return Err(self.missing("a virtual service: -t, -u, --sctp-service or -f"));
        }
        match self.options.get(&Opt::Ipv6) {
            Some((column, _)) if !self.has(Opt::Mark) => Err(self.mistake(
                *column,
                Problem::Conflict("-6 says of -f which family it is"),
            )),
            _ => Ok(()),
        }
    }

    fn has(&self, option: Opt) -> bool {
        self.options.contains_key(&option)
    }

    /// The value of an option.
    fn word(&self, option: Opt) -> Option<Word<'a>> {
        self.options.get(&option).and_then(|(_, value)| *value)
    }

    fn mistake(&self, column: usize, problem: Problem) -> Mistake {
        Mistake { column, problem }
    }

    fn missing(&self, what: &'static str) -> Mistake {
        let verb = self.verb.written();
        self.mistake(self.end, Problem::Missing { verb, what })
    }

    fn needed<T>(&self, thing: Option<T>) -> Result<T, Mistake> {
        thing.ok_or_else(|| self.missing("a virtual service"))
    }

    fn timeouts(&self) -> Result<Timeouts, Mistake> {
        let [tcp, tcp_fin, udp] = self.rest[..] else {
            return Err(self.missing("three numbers of seconds: tcp, tcpfin, udp"));
        };
        let seconds = |word: Word<'_>| {
            super::value::number(word.text, 0..=super::value::MAX_TIMEOUT, "seconds")
                .map_err(|allowed| self.wrong("--set".to_owned(), word, allowed))
        };
        Ok(Timeouts {
            tcp: seconds(tcp)?,
            tcp_fin: seconds(tcp_fin)?,
            udp: seconds(udp)?,
        })
    }

    fn daemon_state(&self) -> Result<DaemonState, Mistake> {
        let word = self
            .value
            .ok_or_else(|| self.missing("a state: master or backup"))?;
        match word.text {
            "master" => Ok(DaemonState::Master),
            "backup" => Ok(DaemonState::Backup),
            _ => {
                let allowed = "a daemon is master or backup".to_owned();
                Err(self.wrong(self.verb.written(), word, allowed))
            }
        }
    }

    fn list(&self, service: Option<ipvs_sys::ServiceKey>) -> Result<ListOptions, Mistake> {
        let list = ListOptions {
            service,
            connection: self.has(Opt::Connection),
            exact: self.has(Opt::Exact),
            timeout: self.has(Opt::Timeout),
            daemon: self.has(Opt::Daemon),
            stats: self.has(Opt::Stats),
            rate: self.has(Opt::Rate),
            thresholds: self.has(Opt::Thresholds),
            persistent_conn: self.has(Opt::PersistentConn),
            tun_info: self.has(Opt::TunnelInfo),
            nosort: self.has(Opt::NoSort),
        };
        if list.conflicts() {
            return Err(self.mistake(self.start, Problem::Conflict(LIST_CONFLICT)));
        }
        Ok(list)
    }

    fn wrong(&self, option: String, word: Word<'_>, allowed: String) -> Mistake {
        let value = word.text.to_owned();
        self.mistake(
            word.column,
            Problem::Value {
                option,
                value,
                allowed,
            },
        )
    }
}

impl ListOptions {
    /// Other tables have no such columns.
    pub const fn conflicts(&self) -> bool {
        (self.connection || self.timeout || self.daemon)
            && (self.stats || self.rate || self.thresholds)
    }
}

/// Of [`ListOptions::conflicts`].
pub const LIST_CONFLICT: &str =
    "-c, --timeout and --daemon list something else than --stats, --rate and --thresholds";

struct Reader<'r, 'a> {
    words: &'r [Word<'a>],
    at: usize,
}

impl<'a> Reader<'_, 'a> {
    fn next(&mut self) -> Option<Word<'a>> {
        let word = self.words.get(self.at).copied();
        self.at += 1;
        word
    }

    fn value<T: Copy + PartialEq>(
        &mut self,
        option: &Spelling<T>,
        word: Word<'_>,
        attached: Option<Word<'a>>,
    ) -> Result<Option<Word<'a>>, Mistake> {
        match (option.takes, attached) {
            (Takes::Nothing, Some(value)) => {
                let problem = Problem::Extra(value.text.to_owned());
                Err(Mistake {
                    column: value.column,
                    problem,
                })
            }
            (Takes::Nothing, None) => Ok(None),
            (_, Some(value)) => Ok(Some(value)),
            (Takes::Perhaps, None) => {
                let next = self
                    .words
                    .get(self.at)
                    .filter(|next| !next.text.starts_with('-'));
                self.at += usize::from(next.is_some());
                Ok(next.copied())
            }
            (Takes::Value, None) => self.next().map(Some).ok_or_else(|| Mistake {
                column: word.column,
                problem: Problem::NoValue {
                    option: option.written(),
                },
            }),
        }
    }
}

fn attached(column: usize, name: &str) -> (&str, Option<Word<'_>>) {
    match name.split_once('=') {
        Some((name, text)) => {
            let column = column + name.chars().count() + 1;
            (name, Some(Word { column, text }))
        }
        None => (name, None),
    }
}

fn unknown(column: usize, option: String) -> Mistake {
    Mistake {
        column,
        problem: Problem::UnknownOption(option),
    }
}

#[cfg(test)]
mod tests;
