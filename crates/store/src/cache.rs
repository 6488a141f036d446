//! The port [`CheckCache`]: what the checks said of a base, kept for the next task on it.

use domain::{
    Fault,
    ports::{BoxFuture, checks::CheckCache},
};
use rusqlite::OptionalExtension;

use crate::Store;

/// Results kept. The oldest go first; a lost one is only computed again.
const KEPT: i64 = 1000;

impl CheckCache for Store {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<String>, Fault>> {
        self.readers.read(move |tx| {
            let mut select = tx.prepare_cached("SELECT value FROM check_cache WHERE key = ?1")?;
            Ok(select.query_row([key], |row| row.get(0)).optional()?)
        })
    }

    fn put(&self, key: String, value: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.writer.write(move |scope| {
            scope
                .tx
                .prepare_cached("INSERT OR REPLACE INTO check_cache (key, value) VALUES (?1, ?2)")?
                .execute([&key, &value])?;
            let youngest = scope.tx.last_insert_rowid();
            scope.tx.prepare_cached("DELETE FROM check_cache WHERE age <= ?1")?.execute([youngest - KEPT])?;
            Ok(())
        })
    }
}
