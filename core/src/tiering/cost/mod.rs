//! What copies cost in cloud stores.

pub mod money;
pub mod storage_class;
