//! Values between Rust and SQLite: numbers, kinds, actions, keys and ranges of keys.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use sha2::{Digest, Sha256};

use crate::delivery::types::{Hash, Key, Token};
use crate::wire::{Action, DataType};

/// A number as SQLite keeps it; nothing counted here comes near 2^63, and what does (a bound) means "no bound".
pub(super) fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A limit as SQLite takes it.
pub(super) fn limit(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A column that counts.
pub(super) struct Count(pub(super) u64);

impl FromSql for Count {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let n = value.as_i64()?;
        u64::try_from(n).map(Self).map_err(|_| FromSqlError::OutOfRange(n))
    }
}

/// A column that names a kind.
pub(super) struct Kind(pub(super) DataType);

impl FromSql for Kind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let Count(code) = Count::column_result(value)?;
        DataType::from_code(code).map(Self).ok_or(FromSqlError::InvalidType)
    }
}

/// A column that names an action.
pub(super) struct Did(pub(super) Action);

impl FromSql for Did {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let Count(code) = Count::column_result(value)?;
        Action::from_code(code).map(Self).ok_or(FromSqlError::InvalidType)
    }
}

impl FromSql for Hash {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(Self)
    }
}

impl ToSql for Hash {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

impl FromSql for Token {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(Self)
    }
}

impl ToSql for Token {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

/// Two columns that are a key, from the `first` on.
pub(super) fn key(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Key> {
    let Kind(datatype) = row.get(first)?;
    let id = row.get(first + 1)?;
    Ok(Key { datatype, id })
}

/// Keys behind one and up to another: four values to compare `(datatype, id)` with. No kind has the codes that stand for
/// "from the first" and "to the last".
pub(super) struct Range<'a> {
    pub(super) after: (i64, &'a str),
    pub(super) to: (i64, &'a str),
}

impl<'a> Range<'a> {
    pub(super) fn new(after: Option<&'a Key>, to: Option<&'a Key>) -> Self {
        let place = |key: &'a Key| (i64::from(key.datatype.code()), key.id.as_str());
        Self {
            after: after.map_or((-1, ""), place),
            to: to.map_or((i64::MAX, ""), place),
        }
    }
}

/// The hash over a list of keys and their hashes.
#[derive(Default)]
pub(super) struct Sum {
    count: u64,
    hasher: Sha256,
}

impl Sum {
    /// Adds `(datatype, id, hash)`, a row's first three columns.
    pub(super) fn add(&mut self, row: &rusqlite::Row<'_>) -> rusqlite::Result<()> {
        let Kind(datatype) = row.get(0)?;
        let hash: Hash = row.get(2)?;
        self.hasher.update([datatype.code()]);
        self.hasher.update(row.get_ref(1)?.as_bytes()?);
        self.hasher.update([0]);
        self.hasher.update(hash.0);
        self.count += 1;
        Ok(())
    }

    pub(super) fn finish(self) -> (u64, Hash) {
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(self.hasher.finalize()) {
            *to = from;
        }
        (self.count, Hash(short))
    }
}
