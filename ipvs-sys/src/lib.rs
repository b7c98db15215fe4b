//! A client for IPVS.
