//! SQL statements that are assembled at run time. Every value is bound and cannot become part of the text.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Double, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use uuid::Uuid;

/// A value of a statement.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Uuid(Option<Uuid>),
    Uuids(Vec<Uuid>),
    Text(Option<String>),
    Texts(Vec<String>),
    NullableTexts(Vec<Option<String>>),
    Bytes(Option<Vec<u8>>),
    NullableBytes(Vec<Option<Vec<u8>>>),
    Number(Option<i64>),
    Numbers(Vec<i64>),
    Integers(Vec<i32>),
    SmallInts(Vec<i16>),
    Switch(bool),
    Switches(Vec<bool>),
    Seconds(f64),
    Time(Option<DateTime<Utc>>),
    Times(Vec<DateTime<Utc>>),
}

/// The values of a statement, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Values(Vec<Value>);

impl Values {
    /// Binds a value and returns its placeholder.
    pub(super) fn bind(&mut self, value: Value) -> String {
        let kind = match value {
            Value::Uuid(_) => "uuid",
            Value::Uuids(_) => "uuid[]",
            Value::Text(_) => "text",
            Value::Texts(_) | Value::NullableTexts(_) => "text[]",
            Value::Bytes(_) => "bytea",
            Value::NullableBytes(_) => "bytea[]",
            Value::Number(_) => "bigint",
            Value::Numbers(_) => "bigint[]",
            Value::Integers(_) => "integer[]",
            Value::SmallInts(_) => "smallint[]",
            Value::Switch(_) => "boolean",
            Value::Switches(_) => "boolean[]",
            Value::Seconds(_) => "double precision",
            Value::Time(_) => "timestamptz",
            Value::Times(_) => "timestamptz[]",
        };
        self.0.push(value);
        format!("${}::{kind}", self.0.len())
    }

    pub(super) fn id(&mut self, id: impl Into<Uuid>) -> String {
        self.bind(Value::Uuid(Some(id.into())))
    }

    pub(super) fn ids<I: Copy + Into<Uuid>>(&mut self, ids: &[I]) -> String {
        self.bind(Value::Uuids(ids.iter().map(|id| (*id).into()).collect()))
    }

    pub(super) fn text(&mut self, text: impl Into<String>) -> String {
        self.bind(Value::Text(Some(text.into())))
    }

    pub(super) fn text_or_null(&mut self, text: Option<&str>) -> String {
        self.bind(Value::Text(text.map(str::to_owned)))
    }

    pub(super) fn texts<T: AsRef<str>>(&mut self, texts: &[T]) -> String {
        self.bind(Value::Texts(texts.iter().map(|text| text.as_ref().to_owned()).collect()))
    }

    pub(super) fn bytes_or_null(&mut self, bytes: Option<&[u8]>) -> String {
        self.bind(Value::Bytes(bytes.map(<[u8]>::to_vec)))
    }

    pub(super) fn number(&mut self, number: impl Into<i64>) -> String {
        self.bind(Value::Number(Some(number.into())))
    }

    /// Binds a duration in seconds.
    pub(super) fn seconds(&mut self, length: Duration) -> String {
        self.bind(Value::Seconds(length.as_secs_f64()))
    }

    pub(super) fn time(&mut self, time: DateTime<Utc>) -> String {
        self.bind(Value::Time(Some(time)))
    }

    /// The statement `text` with these values.
    pub(super) fn query(self, text: &str) -> BoxedSqlQuery<'static, Pg, SqlQuery> {
        let mut query = diesel::sql_query(text).into_boxed::<Pg>();
        for value in self.0 {
            query = match value {
                Value::Uuid(id) => query.bind::<Nullable<SqlUuid>, _>(id),
                Value::Uuids(ids) => query.bind::<Array<SqlUuid>, _>(ids),
                Value::Text(text) => query.bind::<Nullable<Text>, _>(text),
                Value::Texts(texts) => query.bind::<Array<Text>, _>(texts),
                Value::NullableTexts(texts) => query.bind::<Array<Nullable<Text>>, _>(texts),
                Value::Bytes(bytes) => query.bind::<Nullable<Bytea>, _>(bytes),
                Value::NullableBytes(bytes) => query.bind::<Array<Nullable<Bytea>>, _>(bytes),
                Value::Number(number) => query.bind::<Nullable<BigInt>, _>(number),
                Value::Numbers(numbers) => query.bind::<Array<BigInt>, _>(numbers),
                Value::Integers(numbers) => query.bind::<Array<Integer>, _>(numbers),
                Value::SmallInts(numbers) => query.bind::<Array<SmallInt>, _>(numbers),
                Value::Switch(switch) => query.bind::<Bool, _>(switch),
                Value::Switches(switches) => query.bind::<Array<Bool>, _>(switches),
                Value::Seconds(seconds) => query.bind::<Double, _>(seconds),
                Value::Time(time) => query.bind::<Nullable<Timestamptz>, _>(time),
                Value::Times(times) => query.bind::<Array<Timestamptz>, _>(times),
            };
        }
        query
    }
}
