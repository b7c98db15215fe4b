//! Any text through the readers of `/proc`.
#![no_main]

use ipvs_sys::procfs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = procfs::services(&String::from_utf8_lossy(bytes));
    let _ = procfs::connections(bytes).take(10_000).count();
});
