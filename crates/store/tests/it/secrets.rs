//! Secrets: sealed, bound to their place, forgotten.

use std::{collections::BTreeMap, fs, path::Path};

use domain::{
    FaultClass,
    ids::TaskId,
    ports::{
        model::Credentials,
        store::{Secrets, Store},
    },
};
use rusqlite::Connection;

use crate::sample::{open, submit};

const KEY: &str = "sk-ant-not-a-real-key-0123456789";

fn credentials(name: &str, value: &str) -> Credentials {
    Credentials(BTreeMap::from([(name.to_owned(), value.to_owned())]))
}

/// Whether the text is in any file of the home.
fn is_found(home: &Path, text: &[u8]) -> bool {
    fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).any(|path| {
        let content = fs::read(path).unwrap();
        content.windows(text.len()).any(|window| window == text)
    })
}

#[tokio::test]
async fn values_are_sealed_replaced_and_read_back() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let secrets: &dyn Secrets = &*store;
    secrets.put("home".to_owned(), credentials("OPENAI_API_KEY", "old")).await.unwrap();
    secrets.put("home".to_owned(), credentials("ANTHROPIC_API_KEY", KEY)).await.unwrap();
    assert_eq!(secrets.get("task/1".to_owned()).await.unwrap(), Credentials::default());
    assert!(!is_found(home.path(), KEY.as_bytes()));
    drop(store);
    let store = open(home.path());
    let secrets: &dyn Secrets = &*store;
    assert_eq!(secrets.get("home".to_owned()).await.unwrap(), credentials("ANTHROPIC_API_KEY", KEY));
}

#[tokio::test]
async fn what_is_forgotten_is_overwritten() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let secrets: &dyn Secrets = &*store;
    store.commit(submit(TaskId(1), "run 1").1).await.unwrap();
    secrets.put("task/1".to_owned(), credentials("ANTHROPIC_API_KEY", KEY)).await.unwrap();
    secrets.put("task/12".to_owned(), credentials("ANTHROPIC_API_KEY", KEY)).await.unwrap();
    let database = Connection::open(home.path().join("overnight.db")).unwrap();
    let sealed: Vec<u8> =
        database.query_row("SELECT sealed FROM secrets WHERE scope = 'task/1'", [], |row| row.get(0)).unwrap();
    assert!(is_found(home.path(), &sealed));
    for _ in 0..2 {
        secrets.forget("task/1".to_owned()).await.unwrap();
    }
    assert_eq!(secrets.get("task/1".to_owned()).await.unwrap(), Credentials::default());
    assert_eq!(secrets.get("task/12".to_owned()).await.unwrap(), credentials("ANTHROPIC_API_KEY", KEY));
    drop((database, store));
    assert!(!is_found(home.path(), &sealed));
}

#[tokio::test]
async fn keys_of_a_submission_that_never_came_to_be_are_forgotten_at_the_next_start() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let secrets: &dyn Secrets = &*store;
    store.commit(submit(TaskId(1), "run 1").1).await.unwrap();
    for scope in ["task/1", "task/2", "home"] {
        secrets.put(scope.to_owned(), credentials("ANTHROPIC_API_KEY", scope)).await.unwrap();
    }
    drop(store);
    let store = open(home.path());
    let secrets: &dyn Secrets = &*store;
    assert_eq!(store.next_task(), TaskId(2));
    for (scope, left) in [("task/1", 1), ("task/2", 0), ("home", 1)] {
        assert_eq!(secrets.get(scope.to_owned()).await.unwrap().0.len(), left, "{scope}");
    }
}

#[tokio::test]
async fn a_sealed_value_opens_nowhere_else_and_with_no_other_key() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let secrets: &dyn Secrets = &*store;
    secrets.put("home".to_owned(), credentials("A", KEY)).await.unwrap();
    let vandal = Connection::open(home.path().join("overnight.db")).unwrap();
    vandal.execute_batch("INSERT INTO secrets SELECT 'hom', 'eA', nonce, sealed FROM secrets").unwrap();
    vandal
        .execute_batch("INSERT INTO secrets SELECT 'short', 'A', x'00', sealed FROM secrets WHERE name = 'A'")
        .unwrap();
    for scope in ["hom", "short"] {
        let fault = secrets.get(scope.to_owned()).await.unwrap_err();
        assert_eq!(fault.class, FaultClass::Environment, "{fault}");
    }
    drop(store);
    fs::write(home.path().join("secret.key"), [7; 32]).unwrap();
    let store = open(home.path());
    let fault = Secrets::get(&*store, "home".to_owned()).await.unwrap_err();
    assert!(fault.what.contains("secret.key") && !fault.to_string().contains(KEY), "{fault}");
}
