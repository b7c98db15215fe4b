//! ipvs-agent: the service proxy of a Kubernetes node, on the kernel's IPVS.
//!
//! ```text
//!  Kubernetes watches ─┐                                     ┌─ dataplane::ipvs
//!                      ├→ index ─→ resolve ─→ desired ─→ plan ┤
//!  manifest directory ─┘  (pure)   (pure)     state     (pure)└─ (another one, later)
//!                                               ▲          │ apply
//!                         kernel ── observe ────┘          └→ board → metrics, health, log
//! ```
//! * `model` values; imports nothing of the rest
//! * `cluster` Kubernetes and manifests in: sources and the index
//! * `resolve` what a Service means on this node, with a reason for everything left out
//! * `dataplane` how a kernel is made to do it: observe, plan, apply
//! * `netfilter`, `routing` clients of the kernel that know nothing of Services
//! * `explain` why a Service is served as it is, and what becomes of a packet
//! * `sync` the loop; `metrics`, `http`, `events`, `telemetry` its windows
//! * `ask` what a running agent is asked by the other commands on its node
//! * `inspect` what people look at; `cli`, `commands` the command line

pub mod ask;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod dataplane;
pub mod events;
pub mod explain;
pub mod http;
pub mod inspect;
pub mod metrics;
pub mod model;
pub mod netfilter;
pub mod resolve;
pub mod routing;
pub mod sync;
pub mod telemetry;
