//! What a store is for, in the configuration and in the client of the store alike.

/// The role of a store.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[strum(serialize_all = "lowercase")]
pub enum StoreRole {
    /// Near and fast: receives uploads.
    Local,
    /// Far and cheap: receives copies from the worker.
    Cloud,
}
