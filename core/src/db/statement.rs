//! SQL whose text depends on what is asked for, with every value bound: a value has no way into the text.

use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, SmallInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

/// A value of a statement.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Uuid(Uuid),
    Uuids(Vec<Uuid>),
    Text(String),
    Texts(Vec<String>),
    NullableTexts(Vec<Option<String>>),
    Number(i64),
    Integers(Vec<i32>),
    SmallInts(Vec<i16>),
    Switches(Vec<bool>),
    Seconds(f64),
}

/// The values of a statement, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Values(Vec<Value>);

impl Values {
    /// Binds a value and answers how the text refers to it.
    pub(super) fn bind(&mut self, value: Value) -> String {
        let kind = match value {
            Value::Uuid(_) => "uuid",
            Value::Uuids(_) => "uuid[]",
            Value::Text(_) => "text",
            Value::Texts(_) | Value::NullableTexts(_) => "text[]",
            Value::Number(_) => "bigint",
            Value::Integers(_) => "integer[]",
            Value::SmallInts(_) => "smallint[]",
            Value::Switches(_) => "boolean[]",
            Value::Seconds(_) => "double precision",
        };
        self.0.push(value);
        format!("${}::{kind}", self.0.len())
    }

    /// Binds an id.
    pub(super) fn id(&mut self, id: impl Into<Uuid>) -> String {
        self.bind(Value::Uuid(id.into()))
    }

    /// Binds a text.
    pub(super) fn text(&mut self, text: impl Into<String>) -> String {
        self.bind(Value::Text(text.into()))
    }

    /// Binds a list of texts.
    pub(super) fn texts(&mut self, texts: &[&str]) -> String {
        self.bind(Value::Texts(texts.iter().map(|text| (*text).to_owned()).collect()))
    }

    /// The statement of `text` with these values.
    pub(super) fn query(self, text: &str) -> BoxedSqlQuery<'static, Pg, SqlQuery> {
        let mut query = diesel::sql_query(text).into_boxed::<Pg>();
        for value in self.0 {
            query = match value {
                Value::Uuid(id) => query.bind::<SqlUuid, _>(id),
                Value::Uuids(ids) => query.bind::<Array<SqlUuid>, _>(ids),
                Value::Text(text) => query.bind::<Text, _>(text),
                Value::Texts(texts) => query.bind::<Array<Text>, _>(texts),
                Value::NullableTexts(texts) => query.bind::<Array<Nullable<Text>>, _>(texts),
                Value::Number(number) => query.bind::<BigInt, _>(number),
                Value::Integers(numbers) => query.bind::<Array<Integer>, _>(numbers),
                Value::SmallInts(numbers) => query.bind::<Array<SmallInt>, _>(numbers),
                Value::Switches(switches) => query.bind::<Array<Bool>, _>(switches),
                Value::Seconds(seconds) => query.bind::<Double, _>(seconds),
            };
        }
        query
    }
}
