//! `ipvs-agent explain`: its question read, its answers as text.

pub mod layout;
pub mod packet;
pub mod question;
pub mod service;
