//! Which schedulers a kernel has: loaded, built in or installed as modules.

use std::collections::BTreeSet;
use std::fs;

/// The schedulers among loaded modules (`/proc/modules`) and installed ones. Empty if the
/// installed ones cannot be seen, as in a container without `/lib/modules`: then the kernel may
/// have others that it loads by itself.
pub fn schedulers(loaded: &str, installed: &str) -> BTreeSet<String> {
    if installed.is_empty() {
        return BTreeSet::new();
    }
    let loaded = loaded.lines().filter_map(|line| line.split(' ').next());
    let installed = installed.lines().filter_map(|line| {
        let path = line.split(':').next()?;
        Some(path.rsplit('/').next()?.split(".ko").next().unwrap_or(path))
    });
    loaded
        .chain(installed)
        .filter_map(|module| module.strip_prefix("ip_vs_"))
        // ip_vs_ftp is an application helper, ip_vs_pe_sip a persistence engine.
        .filter(|name| *name != "ftp" && !name.starts_with("pe_"))
        .map(str::to_owned)
        .collect()
}

/// Whether IPVS is among installed modules.
pub fn has_ipvs(installed: &str) -> bool {
    let mut files = installed.lines().filter_map(|line| line.split(':').next());
    files.any(|path| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split(".ko").next() == Some("ip_vs")
    })
}

/// The lists of modules that this kernel can load or has built in.
pub fn installed() -> String {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    ["modules.dep", "modules.builtin"]
        .iter()
        .filter_map(|file| fs::read_to_string(format!("/lib/modules/{release}/{file}")).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 101 of `docs/checklist.md`.
    #[test]
    fn schedulers_are_found_among_loaded_and_installed_modules() {
        let loaded = "ip_vs_rr 16384 5 - Live 0x0\nip_vs 200704 7 ip_vs_rr, Live 0x0\n";
        let installed = "kernel/net/netfilter/ipvs/ip_vs_mh.ko.xz: kernel/net/netfilter/ipvs/ip_vs.ko.xz\n\
             kernel/net/netfilter/ipvs/ip_vs_ftp.ko: x\nkernel/net/netfilter/ipvs/ip_vs_wlc.ko\n\
             kernel/net/netfilter/ipvs/ip_vs.ko.xz: y\n";
        let found = schedulers(loaded, installed);
        assert_eq!(
            found.iter().map(String::as_str).collect::<Vec<_>>(),
            ["mh", "rr", "wlc"]
        );
        assert!(schedulers(loaded, "").is_empty());
        assert!(has_ipvs(installed) && !has_ipvs("kernel/x/ip_vs_mh.ko: kernel/y/z.ko\n"));
    }
}
