//! The types of settings, and how each is created from the normal form of a value.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use config::ValueKind;
use ipnet::IpNet;
use secrecy::SecretString;
use strum::VariantNames as _;

use super::spec::Kind;
use super::{
    ArchiveTier, Bandwidth, DatabaseTls, ForwardedHeader, FreeLocalAfter, Globs, LogFormat, Price,
    SigningAlgorithm, StoreRole, TransferOrder, VerifyMode, Window, validators,
};
use nightferry_ground::units::{ByteCount, parse_duration};

/// A type that a setting can have.
pub(super) trait SettingValue: Sized {
    /// The accepted values, unless the declaration restricts them.
    const KIND: Kind;
    /// Whether values must never be shown.
    const SECRET: bool = false;

    /// Creates it from the result of [`Kind::read`]; an empty text means "not set".
    fn from_normal(value: &ValueKind) -> Option<Self>;
}

fn text(value: &ValueKind) -> Option<&str> {
    if let ValueKind::String(text) = value { Some(text) } else { None }
}

impl SettingValue for bool {
    const KIND: Kind = Kind::Switch;

    fn from_normal(value: &ValueKind) -> Option<Self> {
        if let ValueKind::Boolean(switch) = value { Some(*switch) } else { None }
    }
}

impl SettingValue for Duration {
    const KIND: Kind = Kind::Duration { min: "0s", max: "36500d" };

    fn from_normal(value: &ValueKind) -> Option<Self> {
        parse_duration(text(value)?).ok()
    }
}

impl SettingValue for SecretString {
    const KIND: Kind = String::KIND;
    const SECRET: bool = true;

    fn from_normal(value: &ValueKind) -> Option<Self> {
        text(value).map(Self::from)
    }
}

/// `None` for an empty text, and for `never` if the type has no value of that name.
impl<T: SettingValue> SettingValue for Option<T> {
    const KIND: Kind = T::KIND;
    const SECRET: bool = T::SECRET;

    fn from_normal(value: &ValueKind) -> Option<Self> {
        if text(value) == Some("") {
            return Some(None);
        }
        match T::from_normal(value) {
            None if text(value) == Some("never") => Some(None),
            value => value.map(Some),
        }
    }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl SettingValue for $type {
            const KIND: Kind = Kind::Integer { min: 0, max: u64::MAX, step: 1, unit: "" };

            fn from_normal(value: &ValueKind) -> Option<Self> {
                if let ValueKind::U64(number) = value { Self::try_from(*number).ok() } else { None }
            }
        }
    )*};
}

macro_rules! parsed {
    ($($type:ty: $kind:expr;)*) => {$(
        impl SettingValue for $type {
            const KIND: Kind = $kind;

            fn from_normal(value: &ValueKind) -> Option<Self> {
                text(value)?.parse().ok()
            }
        }
    )*};
}

macro_rules! lists {
    ($($type:ty),*) => {$(
        impl SettingValue for Vec<$type> {
            const KIND: Kind = String::KIND;

            fn from_normal(value: &ValueKind) -> Option<Self> {
                split_list(text(value)?).map(|word| word.parse().ok()).collect()
            }
        }
    )*};
}

whole_numbers!(i16, u16, u32, u64, usize);
lists!(String, IpNet);
parsed! {
    ArchiveTier: Kind::OneOf(Self::VARIANTS);
    DatabaseTls: Kind::OneOf(Self::VARIANTS);
    ForwardedHeader: Kind::OneOf(Self::VARIANTS);
    LogFormat: Kind::OneOf(Self::VARIANTS);
    SigningAlgorithm: Kind::OneOf(Self::VARIANTS);
    StoreRole: Kind::OneOf(Self::VARIANTS);
    TransferOrder: Kind::OneOf(Self::VARIANTS);
    VerifyMode: Kind::OneOf(Self::VARIANTS);
    FreeLocalAfter: Kind::DurationOrNever;
    String: Kind::Text { what: "a text", rule: validators::any };
    PathBuf: Kind::Text { what: "a path of a file", rule: validators::file_path };
    IpAddr: Kind::Text { what: "an IP address such as \"127.0.0.1\" or \"0.0.0.0\"", rule: validators::ip_address };
    Tz: Kind::Text { what: "an IANA time zone such as \"Europe/Berlin\"", rule: validators::time_zone };
    ByteCount: Kind::Text { what: "a size such as \"500GiB\" or \"2TB\"", rule: validators::size };
    Globs: Kind::Text { what: "patterns such as \"a*, b?\"", rule: validators::parsed::<Self> };
    Price: Kind::Text { what: "a price such as \"0.023\"", rule: validators::parsed::<Self> };
    Window: Kind::Text {
        what: "hours such as \"22:00-06:00\" or \"Mon-Fri 22:00-06:00, Sat-Sun\"",
        rule: validators::parsed::<Self>,
    };
    Bandwidth: Kind::Text {
        what: "a rate such as \"10MiB/s\", or rates by hours such as \"Mon-Fri 08:00-18:00 2MiB/s, 18:00-08:00 unlimited\"",
        rule: validators::parsed::<Self>,
    };
}

/// Splits a text at commas.
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}
