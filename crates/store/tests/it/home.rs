//! Opening: epochs and fencing, versions, permissions, damaged files.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use bytes::Bytes;
use domain::{
    Fault, FaultClass,
    budget::{Amount, Budget},
    ids::TaskId,
    ports::{
        checks::CheckCache,
        ledger::{Ledger, Reservation},
        model::Credentials,
        store::{Blobs, CommitFault, Secrets, Store, Transcripts},
    },
};
use rusqlite::Connection;

use crate::sample::{attempt, next, open, options, output, submit};

fn refused(home: &Path) -> Fault {
    store::Store::open(options(home)).unwrap_err()
}

#[tokio::test]
async fn an_older_epoch_reads_on_but_writes_nothing_more() {
    let home = tempfile::tempdir().unwrap();
    let old = open(home.path());
    let (mut task, first) = submit(TaskId(1), "run 1");
    old.commit(first).await.unwrap();
    let new = open(home.path());
    assert!(new.epoch() > old.epoch());

    let Err(CommitFault::Port(fault)) = old.commit(next(&mut task.clone())).await else { panic!("committed") };
    assert!(fault.what.contains(home.path().to_str().unwrap()), "{fault}");
    let reservation = Reservation {
        id: "a".to_owned(),
        key: attempt(1, 1),
        amount: Amount::default(),
        budget: Budget::default(),
        purses: Vec::new(),
    };
    let faults = [
        fault,
        Transcripts::open(&*old, attempt(1, 1)).append(output("a")).await.unwrap_err(),
        old.reserve(reservation).await.unwrap_err(),
        Secrets::put(&*old, "home".to_owned(), Credentials::default()).await.unwrap_err(),
        CheckCache::put(&*old, "a".to_owned(), "b".to_owned()).await.unwrap_err(),
    ];
    for fault in faults {
        assert_eq!(fault.class, FaultClass::Fenced, "{fault}");
    }
    assert_eq!(old.task(TaskId(1)).await.unwrap(), Some(task.clone()));
    new.commit(next(&mut task)).await.unwrap();
    assert_eq!(Transcripts::open(&*new, attempt(1, 1)).load().await.unwrap(), []);
    assert_eq!(new.calls(TaskId(1)).await.unwrap(), []);
    assert_eq!(old.task(TaskId(1)).await.unwrap(), Some(task));
}

#[tokio::test]
async fn many_that_open_a_new_home_at_once_get_an_epoch_each_and_the_last_one_writes() {
    let above = tempfile::tempdir().unwrap();
    let home = above.path().join("home");
    let openers: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn({
                let home = home.clone();
                move || open(&home)
            })
        })
        .collect();
    let mut stores: Vec<_> = openers.into_iter().map(|opener| opener.join().unwrap()).collect();
    stores.sort_by_key(|store| store.epoch());
    let epochs: Vec<_> = stores.iter().map(|store| store.epoch().0).collect();
    assert_eq!(epochs, [1, 2, 3, 4, 5, 6, 7, 8]);
    for (n, store) in (1..).zip(&stores) {
        let credentials = Credentials([("A".to_owned(), n.to_string())].into());
        let put = Secrets::put(&**store, "home".to_owned(), credentials).await;
        assert_eq!(put.is_ok(), n == 8);
    }
    // All have the same key.
    for store in &stores {
        assert_eq!(Secrets::get(&**store, "home".to_owned()).await.unwrap().get("A"), Some("8"));
    }
}

#[tokio::test]
async fn everything_in_a_home_is_for_its_owner_only() {
    let above = tempfile::tempdir().unwrap();
    let home = above.path().join("a/home");
    let store = open(&home);
    store.commit(submit(TaskId(1), "run 1").1).await.unwrap();
    Blobs::put(&*store, Bytes::from_static(b"abc")).await.unwrap();
    let mut seen = Vec::new();
    let mut left = vec![home.clone()];
    while let Some(path) = left.pop() {
        let metadata = fs::metadata(&path).unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, expected, "{}", path.display());
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen.push(path.strip_prefix(&home).unwrap().to_string_lossy().into_owned());
    }
    for name in ["overnight.db", "overnight.db-wal", "overnight.db-shm", "secret.key", "blobs/new"] {
        assert!(seen.iter().any(|path| path == name), "{name} is not in {seen:?}");
    }
}

#[test]
fn a_home_from_a_newer_version_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path()));
    let file = home.path().join("overnight.db");
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&file).unwrap();
    let fault = refused(home.path());
    assert_eq!(fault.class, FaultClass::Environment);
    for word in ["99", "version 2", home.path().to_str().unwrap(), "OVERNIGHT_HOME"] {
        assert!(fault.to_string().contains(word), "{word}: {fault}");
    }
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_home_that_is_no_directory_and_a_database_that_is_none_are_named() {
    let above = tempfile::tempdir().unwrap();
    let home = above.path().join("home");
    fs::write(&home, "a file").unwrap();
    let fault = refused(&home);
    assert_eq!(fault.class, FaultClass::Environment);
    assert!(fault.what.contains(home.to_str().unwrap()), "{fault}");

    let home = above.path().join("other");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("overnight.db"), "this was once a database, said the disk".repeat(100)).unwrap();
    let fault = refused(&home);
    assert_eq!(fault.class, FaultClass::Environment);
    assert!(fault.what.contains("overnight.db") && fault.to_string().contains(".recover"), "{fault}");
}

#[test]
fn a_damaged_key_is_named_and_not_replaced() {
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path()));
    let key = home.path().join("secret.key");
    fs::write(&key, "short").unwrap();
    let fault = refused(home.path());
    assert!(fault.class == FaultClass::Environment && fault.what.contains(key.to_str().unwrap()), "{fault}");
    assert_eq!(fs::read(&key).unwrap(), b"short");
}

#[tokio::test]
async fn damaged_pages_are_an_environment_fault_that_names_the_file() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    for n in 1..=50 {
        store.commit(submit(TaskId(n), &format!("run {n}")).1).await.unwrap();
    }
    drop(store);
    let file = home.path().join("overnight.db");
    let mut content = fs::read(&file).unwrap();
    let root: i64 = Connection::open(&file)
        .unwrap()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'events'", [], |row| row.get(0))
        .unwrap();
    let start = (root as usize - 1) * 4096;
    content[start..start + 4096].fill(0x5a);
    fs::write(&file, content).unwrap();

    let store = open(home.path());
    let fault = store.journal(TaskId(1), 0, 9).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Environment, "{fault}");
    assert!(fault.what.contains("overnight.db") && fault.hint.is_some(), "{fault}");
    assert!(store.task(TaskId(1)).await.unwrap().is_some());
}

const READ_ONLY_HOME: &str = "OVERNIGHT_TEST_READ_ONLY_HOME";

/// In another process, because permissions bind everybody but root.
#[test]
fn a_home_that_cannot_be_written_is_told() {
    let above = tempfile::tempdir().unwrap();
    let home = above.path().join("home");
    drop(open(&home));
    let program = above.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for (path, mode) in [(above.path(), 0o755), (&home, 0o555), (&home.join("overnight.db"), 0o444)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut child = Command::new(&program);
    child.args(["home::in_a_read_only_home", "--exact", "--nocapture"]).env_clear().env(READ_ONLY_HOME, &home);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        child.uid(65534).gid(65534);
    }
    let output = child.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}{}", String::from_utf8_lossy(&output.stderr));
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn in_a_read_only_home() {
    let Some(home) = std::env::var_os(READ_ONLY_HOME) else { return };
    let fault = refused(Path::new(&home));
    assert_eq!(fault.class, FaultClass::Environment);
    assert!(fault.what.contains(home.to_str().unwrap()) && fault.to_string().contains("writable"), "{fault}");
}
