//! Flags that name the agent's objects in the kernel.

use clap::Args;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Objects in the kernel")]
pub struct KernelArgs {
    /// Mark bit that routes a packet to IPVS; one that no network plugin uses
    #[arg(long, value_name = "BIT", default_value = "0x2000", value_parser = mark_bit)]
    pub route_mark: u32,
    /// Mark bit of connections to be masqueraded
    #[arg(long, value_name = "BIT", default_value = "0x4000", value_parser = mark_bit)]
    pub masquerade_mark: u32,
    /// Mark bits by which pods and processes of this node reach all endpoints of a Service with
    /// `externalTrafficPolicy: Local`; bits that no network plugin tests
    #[arg(long, value_name = "MASK", default_value = "0x7ff000ff", value_parser = mark_mask)]
    pub near_marks: u32,
    /// Routing table that holds the virtual addresses
    #[arg(long, value_name = "NUMBER", default_value_t = 10256)]
    pub route_table: u32,
    /// Priority of the policy rule that leads to it, before the main table's 32766
    #[arg(long, value_name = "NUMBER", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..32766))]
    pub rule_priority: u32,
}

/// One bit, decimal or hexadecimal.
fn mark_bit(text: &str) -> Result<u32, String> {
    match mark_number(text) {
        Some(bits) if bits.count_ones() == 1 => Ok(bits),
        _ => Err("it takes one bit of 32, such as 0x2000".to_owned()),
    }
}

/// Eight bits at least: 255 Service ports.
fn mark_mask(text: &str) -> Result<u32, String> {
    match mark_number(text) {
        Some(bits) if bits.count_ones() >= 8 => Ok(bits),
        _ => Err("it takes 8 bits of 32 or more, such as 0x7ff000ff".to_owned()),
    }
}

fn mark_number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
