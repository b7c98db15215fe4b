//! One file for each subcommand: the wiring from arguments to the parts.

pub mod check;
mod choice;
pub mod cleanup;
mod config;
pub mod connections;
pub mod diff;
pub mod explain;
pub mod ipvsadm;
mod line;
pub mod list;
pub mod manual;
mod names;
mod offline;
pub mod restore;
pub mod run;
pub mod save;
mod stream;
mod systemd;
pub mod top;

use anyhow::bail;
use stream::print;
pub use stream::tell;

use crate::cli::KernelArgs;
use crate::dataplane::ipvs::Settings;
use crate::dataplane::policy::PolicySettings;

/// An error of opening IPVS, with what to do about it.
fn explain_ipvs(error: ipvs_sys::Error) -> anyhow::Error {
    let advice = if error.is_permission() {
        "IPVS needs CAP_NET_ADMIN in the initial user namespace: run as root, or add NET_ADMIN to \
         the container's capabilities"
    } else if error.is_no_module() {
        "this kernel has no ip_vs: load it with `modprobe ip_vs`, or install the kernel's modules"
    } else {
        "cannot use the kernel's IPVS"
    };
    anyhow::Error::new(error).context(advice)
}

/// The dataplane's settings by the objects it uses in the kernel, if the flags go together.
fn settings(kernel: &KernelArgs) -> anyhow::Result<Settings> {
    if kernel.route_mark == kernel.masquerade_mark {
        bail!(
            "--route-mark and --masquerade-mark are both {:#x}; they must be two bits",
            kernel.route_mark
        );
    }
    if KERNEL_TABLES.contains(&kernel.route_table) {
        bail!(
            "--route-table {}: the kernel's own tables are not the agent's to write to; take a free one",
            kernel.route_table
        );
    }
    if kernel.near_marks & (kernel.route_mark | kernel.masquerade_mark) != 0 {
        bail!(
            "--near-marks {:#x} holds the bit of --route-mark or --masquerade-mark; they must be apart",
            kernel.near_marks
        );
    }
    Ok(Settings {
        near_marks: kernel.near_marks,
        route_mark: kernel.route_mark,
        policy: PolicySettings {
            masquerade_mark: kernel.masquerade_mark,
            ..PolicySettings::default()
        },
        route_table: kernel.route_table,
        rule_priority: kernel.rule_priority,
        ..Settings::default()
    })
}

/// unspec, default, main and local (`linux/rtnetlink.h`).
const KERNEL_TABLES: [u32; 4] = [0, 253, 254, 255];
