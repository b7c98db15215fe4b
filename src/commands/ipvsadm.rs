//! `ipvs-agent ipvsadm`, and this program under the names `ipvsadm`, `ipvsadm-save` and
//! `ipvsadm-restore`. It exits as ipvsadm does: 2 for a command line that is wrong, 1 for a virtual
//! server that is not there to be listed, 255 where the kernel refuses.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::bail;
use ipvs_sys::{Client, Command, Service};

use super::line::understand;
use super::restore::{Manner, WrongRules, restore, standard_input};
use super::{explain_ipvs, list, print, save, tell};
use crate::dataplane::ipvs::signature::is_signed;
use crate::inspect::connections::Selection;
use crate::inspect::rules::outcome::{Existing, keep_unwritten_flags};
use crate::inspect::rules::save::Dialect;
use crate::inspect::rules::{Invocation, ListOptions, Mistake, Word};
use crate::inspect::table::names::Names as NoNames;

/// Does what the words ask for.
pub fn run(words: Vec<OsString>) -> ExitCode {
    ending(verb(&text(words)))
}

/// Does what this program's own name and arguments ask for, if it is one of ipvsadm's.
pub fn by_name(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = text(arguments).into_iter();
    let name = arguments.next()?;
    let words: Vec<String> = arguments.collect();
    let result = match name.rsplit('/').next()? {
        "ipvsadm" => verb(&words),
        "ipvsadm-save" | "ipvsadm-restore" if words.iter().any(|word| is_help(word)) => {
            print(HELP).map(|()| ExitCode::SUCCESS)
        }
        name @ ("ipvsadm-save" | "ipvsadm-restore")
            if !words.iter().all(|word| is_numeric(word)) =>
        {
            Err(anyhow::anyhow!("{name} takes -n and nothing else"))
        }
        "ipvsadm-save" => save::rules(Dialect::Ipvsadm, false, false),
        // ipvsadm's own empties the table first. Here it becomes what the rules say by the difference.
        "ipvsadm-restore" => standard_input().and_then(|rules| {
            restore(
                &rules,
                Manner {
                    existing: Existing::Replace,
                    force: false,
                    dry_run: false,
                },
            )
        }),
        _ => return None,
    };
    Some(ending(result))
}

fn is_help(word: &str) -> bool {
    matches!(word, "-h" | "--help")
}

fn is_numeric(word: &str) -> bool {
    matches!(word, "-n" | "--numeric")
}

fn text(words: impl IntoIterator<Item = OsString>) -> Vec<String> {
    words
        .into_iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

/// ipvsadm's exit codes.
fn ending(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        tell(format_args!("ipvsadm: {error:#}"));
        ExitCode::from(if error.is::<Mistake>() || error.is::<WrongRules>() {
            WRONG_LINE
        } else {
            REFUSED
        })
    })
}

fn verb(words: &[String]) -> anyhow::Result<ExitCode> {
    let force = words.first().is_some_and(|word| word == "--force");
    let words = &words[usize::from(force)..];
    // Without an argument it lists.
    let invocation = match words {
        [] => Invocation::List(ListOptions::default()),
        _ => understand(&placed(words))?,
    };
    match invocation {
        Invocation::List(options) => {
            list::classic(&options, &Selection::default(), &NoNames::new())
        }
        Invocation::Save { nosort } => save::rules(Dialect::Ipvsadm, nosort, false),
        Invocation::Restore => {
            let manner = Manner {
                existing: Existing::Keep,
                force,
                dry_run: false,
            };
            restore(&standard_input()?, manner)
        }
        Invocation::Help => {
            print(HELP)?;
            Ok(ExitCode::SUCCESS)
        }
        Invocation::Version => {
            let version = env!("CARGO_PKG_VERSION");
            print(&format!(
                "ipvs-agent {version} as ipvsadm 1.31, IPVS v1.2.1\n"
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Invocation::Change(command) => change(command, force),
    }
}

/// One command, straight to the kernel.
fn change(mut command: Command, force: bool) -> anyhow::Result<ExitCode> {
    let mut client = Client::open().map_err(explain_ipvs)?;
    if let Some(there) = concerned(&mut client, &command)? {
        if is_signed(&there) && !force {
            bail!(
                "{} belongs to an agent on this node, which would set it right again; nothing was \
                 changed (`--force` before the command changes it all the same, `ipvs-agent \
                 cleanup` removes what an agent made)",
                there.key
            );
        }
        if let Command::SetService(service) = &mut command {
            keep_unwritten_flags(service, &there);
        }
    }
    client.execute(&command)?;
    Ok(ExitCode::SUCCESS)
}

/// A virtual service that the command would change; an agent's if it would change such.
fn concerned(client: &mut Client, command: &Command) -> anyhow::Result<Option<Service>> {
    let key = match command {
        Command::Zero(_) => return Ok(None),
        Command::Flush => {
            let mut services = client.services()?.into_iter().map(|entry| entry.service);
            return Ok(services.find(is_signed));
        }
        command => command.service_key(),
    };
    match key.map(|key| client.service(key)) {
        None => Ok(None),
        Some(Ok(entry)) => Ok(Some(entry.service)),
        // The kernel says so of the command itself.
        Some(Err(error)) if error.is_not_found() => Ok(None),
        Some(Err(error)) => Err(error.into()),
    }
}

/// Arguments, with their columns as if they stood in one line.
fn placed(words: &[String]) -> Vec<Word<'_>> {
    let mut column = 1;
    let mut place = |text| {
        let word = Word { column, text };
        column += word.text.chars().count() + 1;
        word
    };
    words.iter().map(|word| place(word.as_str())).collect()
}

const WRONG_LINE: u8 = 2;
const REFUSED: u8 = 255;

const HELP: &str = "\
Usage: ipvsadm -A|-E SERVICE [-s SCHEDULER] [-p [SECONDS]] [-M NETMASK] [-o] [--pe ENGINE] [-b FLAGS]
       ipvsadm -D SERVICE
       ipvsadm -C | -R | -S [-n]
       ipvsadm -a|-e SERVICE -r ADDR[:PORT] [-g|-i|-m] [-w WEIGHT] [-x UPPER] [-y LOWER] [TUNNEL]
       ipvsadm -d SERVICE -r ADDR[:PORT]
       ipvsadm -L|-l [SERVICE] [-c] [-n] [--exact] [--stats] [--rate] [--thresholds]
                     [--persistent-conn] [--tun-info] [--timeout] [--daemon] [--sort|--nosort]
       ipvsadm -Z [SERVICE]
       ipvsadm --set TCP TCPFIN UDP
       ipvsadm --start-daemon master|backup --mcast-interface NAME [--syncid N] [--sync-maxlen N]
                     [--mcast-group ADDR] [--mcast-port N] [--mcast-ttl N]
       ipvsadm --stop-daemon master|backup

SERVICE  -t|-u|--sctp-service ADDR[:PORT], or -f MARK [-6]
TUNNEL   --tun-type ipip|gue|gre [--tun-port N] [--tun-nocsum|--tun-csum|--tun-remcsum], behind -i

This is ipvs-agent. It prints numbers, not names, and changes what an agent made only after --force,
which comes first. `ipvs-agent help` tells of what ipvsadm does not have.

Examples:
  A virtual server with two real servers, and what the kernel makes of it:
    ipvs-agent ipvsadm -A -t 192.0.2.1:80 -s wlc
    ipvs-agent ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.5:8080 -m -w 2
    ipvs-agent ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.6:8080 -m
    ipvs-agent ipvsadm -Ln
  Under its own name, for scripts that call it:
    ln -s /usr/local/bin/ipvs-agent /usr/local/sbin/ipvsadm
";
