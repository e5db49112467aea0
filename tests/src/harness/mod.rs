//! The parts of a test's world, one module each.

pub mod api;
mod body;
pub mod catalogue;
pub mod database;
pub mod fault_proxy;
pub mod invariants;
pub mod memory_s3;
pub mod oidc_provider;
pub mod process;
pub mod redis;
pub mod servers;
mod wait;
pub mod world;

pub use body::{Pattern, pattern};
pub use catalogue::Catalogue;
pub use invariants::{assert_invariants, states};
pub use wait::eventually;
pub use world::{WorkerHandle, World, WorldBuilder};
