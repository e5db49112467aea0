//! What tests stand on: servers and a fault proxy.

pub mod fault_proxy;
pub mod servers;
