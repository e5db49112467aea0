//! Limits by hours of the week: the transfer window and the bandwidth of a worker. Independent of the configuration.

mod bandwidth;
mod hours;
mod window;

pub use self::bandwidth::Bandwidth;
pub use self::window::Window;
