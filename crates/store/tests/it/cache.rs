//! The cache of base results.

use domain::ports::checks::CheckCache;

use crate::sample::open;

#[tokio::test]
async fn values_are_kept_replaced_and_bounded() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let cache: &dyn CheckCache = &*store;
    assert_eq!(cache.get("a".to_owned()).await.unwrap(), None);
    cache.put("a".to_owned(), "1".to_owned()).await.unwrap();
    cache.put("a".to_owned(), "2".to_owned()).await.unwrap();
    assert_eq!(cache.get("a".to_owned()).await.unwrap(), Some("2".to_owned()));
    let puts: Vec<_> = (0..1000).map(|n| cache.put(format!("key {n}"), String::new())).collect();
    for put in puts {
        put.await.unwrap();
    }
    assert_eq!(cache.get("a".to_owned()).await.unwrap(), None);
    assert_eq!(cache.get("key 0".to_owned()).await.unwrap(), Some(String::new()));
}
