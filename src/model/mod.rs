//! Values that every layer speaks: addresses, virtual servers, Kubernetes objects in slim form.
//!
//! Nothing here does I/O, reads a clock or knows a wire format; the module imports `std` and `ipnet` only,
//! and serde's derives where a value is told to other commands.

pub mod addr;
pub mod causes;
pub mod drift;
pub mod health_check;
pub mod moment;
pub mod node;
pub mod notice;
pub mod real_server;
pub mod service;
pub mod virtual_server;

pub use addr::{Family, HostPort, ParseAddrError, Protocol, VipPort};
pub use causes::causes;
pub use drift::Drift;
pub use health_check::{HealthCheck, HealthCheckChange};
pub use moment::Moment;
pub use node::{LEAVING_TAINT, Leaving, NodeInfo, NodeNetwork};
pub use notice::{Notice, Problem, Reason, Topic};
pub use real_server::{MAX_WEIGHT, RealServer, RealServerKey, RealServers, WEIGHTED_SCHEDULERS};
pub use service::{
    AddressType, Endpoint, EndpointPort, EndpointSlice, ObjectName, ServicePort, ServicePortName,
    ServiceSpec, ServiceType, SliceName, TrafficDistribution, TrafficPolicy, endpoints_of,
};
pub use virtual_server::{
    Named, Persistence, Scheduler, Thresholds, Tuning, Unserved, VipKind, VirtualServer,
};
