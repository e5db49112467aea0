//! `settings!` declares a section: each setting once, with its documentation, type, default and bounds. The struct, the
//! code that reads it, the example file and the reference page are generated from that declaration.
//!
//! ```text
//! settings! {
//!     /// The `[health]` section.
//!     pub struct HealthConfig {
//!         /// How often each process probes every store.
//!         pub interval: Duration = "5s", lasts("100ms", "1h");
//!     }
//!     derived {
//!         /// Filled in after reading; not a setting.
//!         pub something: Option<u64>,
//!     }
//! }
//! ```
//!
//! The default is followed by calls of methods of [`Spec`]. A field whose type is itself declared by `settings!`, or a
//! map of such types, is a nested section.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::reader::Reader;
use super::spec::Spec;
use super::table::{Form, Table};
use super::value::SettingValue;

/// A key and its documentation, line by line.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub(super) key: String,
    pub(super) doc: &'static [&'static str],
    pub(super) form: Form,
}

impl Declared {
    /// A key in this section.
    pub(super) fn member(&self, name: &str, doc: &'static [&'static str]) -> Self {
        Self { key: join(&self.key, name), doc, form: Form::Single }
    }
}

/// The key of a member of a section; the key of the root is empty.
pub(super) fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// A setting, a section, or a map of sections.
pub(super) trait Field: Sized {
    /// Adds the settings to the table.
    fn describe(at: Declared, adjust: impl FnOnce(Spec) -> Spec, table: &mut Table);

    /// Reads the value. Problems with values are recorded. Returns `None` only if the declaration is inconsistent,
    /// which is also recorded.
    fn read(key: &str, reader: &mut Reader<'_>) -> Option<Self>;
}

impl<T: SettingValue> Field for T {
    fn describe(at: Declared, adjust: impl FnOnce(Spec) -> Spec, table: &mut Table) {
        table.settings.push(adjust(Spec::new::<T>(at)));
    }

    fn read(key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        reader.value(key)
    }
}

impl<K: MemberKey, T: Field> Field for BTreeMap<K, T> {
    fn describe(at: Declared, adjust: impl FnOnce(Spec) -> Spec, table: &mut Table) {
        T::describe(Declared { key: join(&at.key, "*"), form: K::FORM, ..at }, adjust, table);
    }

    fn read(key: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let mut members = Self::new();
        for name in reader.members(key) {
            members.insert(name.parse().ok()?, T::read(&join(key, &name), reader)?);
        }
        Some(members)
    }
}

/// The key of a map of sections.
pub(super) trait MemberKey: FromStr + Ord {
    /// How the sections are identified.
    const FORM: Form;
}

impl MemberKey for String {
    const FORM: Form = Form::Named;
}

impl MemberKey for u32 {
    const FORM: Form = Form::Numbered;
}

macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {$(
            $(#[doc = $doc:literal])+
            pub $field:ident: $type:ty $(= $default:expr)? $(, $option:ident($($argument:expr),*))*;
        )*}
        $(derived {$(
            $(#[doc = $derived_doc:literal])+
            $visibility:vis $derived:ident: $derived_type:ty,
        )*})?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)*
            $($($(#[doc = $derived_doc])+ $visibility $derived: $derived_type,)*)?
        }

        impl $crate::declare::Field for $name {
            fn describe(
                at: $crate::declare::Declared,
                _: impl FnOnce($crate::spec::Spec) -> $crate::spec::Spec,
                table: &mut $crate::table::Table,
            ) {
                table.sections.push(at.clone());
                $(<$type as $crate::declare::Field>::describe(
                    at.member(stringify!($field), &[$($doc),+]),
                    |spec| spec $(.default($default))? $(.$option($($argument),*))*,
                    table,
                );)*
            }

            fn read(key: &str, reader: &mut $crate::reader::Reader<'_>) -> Option<Self> {
                Some(Self {
                    $($field: $crate::declare::Field::read(
                        &$crate::declare::join(key, stringify!($field)),
                        reader,
                    )?,)*
                    $($($derived: Default::default(),)*)?
                })
            }
        }
    };
}

pub(super) use settings;
