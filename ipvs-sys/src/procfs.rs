//! Fast readers of `/proc/net/ip_vs` and `/proc/net/ip_vs_conn`.
