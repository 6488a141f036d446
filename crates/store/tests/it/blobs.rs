//! Blobs: content by its hash.

use std::fs;

use bytes::Bytes;
use domain::{FaultClass, check::BlobId, ports::store::Blobs};

use crate::sample::open;

const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[tokio::test]
async fn content_is_kept_once_under_its_sha256() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let blobs: &dyn Blobs = &*store;
    for _ in 0..2 {
        assert_eq!(blobs.put(Bytes::from_static(b"abc")).await.unwrap(), BlobId(ABC.to_owned()));
    }
    assert_eq!(fs::read(home.path().join("blobs/ba").join(&ABC[2..])).unwrap(), b"abc");
    assert_eq!(fs::read_dir(home.path().join("blobs/new")).unwrap().count(), 0);
    let empty = blobs.put(Bytes::new()).await.unwrap();
    drop(store);

    let store = open(home.path());
    let blobs: &dyn Blobs = &*store;
    assert_eq!(blobs.get(BlobId(ABC.to_owned())).await.unwrap(), "abc");
    assert_eq!(blobs.get(empty).await.unwrap(), "");
}

#[tokio::test]
async fn an_unknown_id_is_not_found_and_a_damaged_file_is_told_and_mended_by_the_next_put() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let blobs: &dyn Blobs = &*store;
    for id in [ABC, "", "abc", "../../../../etc/passwd", &"é".repeat(32), &ABC.to_uppercase()] {
        assert_eq!(blobs.get(BlobId(id.to_owned())).await.unwrap_err().class, FaultClass::NotFound, "{id}");
    }
    let id = blobs.put(Bytes::from_static(b"abc")).await.unwrap();
    let path = home.path().join("blobs/ba").join(&ABC[2..]);
    fs::write(&path, "abd").unwrap();
    let fault = blobs.get(id.clone()).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Environment);
    assert!(fault.what.contains(path.to_str().unwrap()), "{fault}");
    blobs.put(Bytes::from_static(b"abc")).await.unwrap();
    assert_eq!(blobs.get(id).await.unwrap(), "abc");
}

#[tokio::test]
async fn what_was_half_written_is_cleared_at_the_next_start() {
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path()));
    let half = home.path().join("blobs/new/1-0");
    fs::write(&half, "ab").unwrap();
    drop(open(home.path()));
    assert!(!half.exists());
}
