//! The guest's kernel.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::sh;

/// `uname -r`.
pub fn release() -> Result<String> {
    Ok(sh("uname -r")?.trim().to_owned())
}

/// The schedulers that this kernel has as modules.
pub fn schedulers() -> Result<BTreeSet<String>> {
    let path = format!("/lib/modules/{}/modules.dep", release()?);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(schedulers_of(&text))
}

/// Of `ip_vs_….ko` all but the application helper and the persistence engine.
fn schedulers_of(modules_dep: &str) -> BTreeSet<String> {
    let paths = modules_dep
        .lines()
        .filter_map(|line| line.split(':').next());
    let files = paths.filter_map(|path| path.rsplit('/').next());
    let names = files.filter_map(|file| file.split(".ko").next()?.strip_prefix("ip_vs_"));
    let schedulers = names.filter(|name| !["ftp", "pe_sip"].contains(name));
    schedulers.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedulers_are_the_modules_that_are_nothing_else() {
        let dep = "kernel/net/netfilter/ipvs/ip_vs.ko: kernel/net/netfilter/nf_conntrack.ko\n\
                   kernel/net/netfilter/ipvs/ip_vs_twos.ko.xz: kernel/net/netfilter/ipvs/ip_vs.ko.xz\n\
                   kernel/net/netfilter/ipvs/ip_vs_ftp.ko.xz:\n\
                   kernel/net/netfilter/ipvs/ip_vs_pe_sip.ko.xz:\n\
                   kernel/net/netfilter/ipvs/ip_vs_rr.ko:\n";
        assert_eq!(Vec::from_iter(schedulers_of(dep)), ["rr", "twos"]);
    }
}
