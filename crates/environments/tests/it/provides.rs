//! Which layer a task is given, and when one is built for it.

use domain::{
    FaultClass,
    environment::Health,
    ports::environments::{Environments as _, Start},
};

use crate::{
    registry::HOST,
    world::{World, fetch},
};

fn file(lock: &str) -> Vec<(&'static str, String)> {
    let line = format!("mkdir -p out && {} > out/package && cat lock > out/lock", fetch("package"));
    let text = format!("[environment]\ninstall = '{line}'\ninstall_network = ['{HOST}']\nlocks = ['lock']");
    vec![("overnight.toml", text), ("lock", lock.to_owned()), (".gitignore", "out".to_owned())]
}

fn commit(world: &World, lock: &str) {
    let files = file(lock);
    world.commit(&files.iter().map(|(path, content)| (*path, content.as_str())).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_file_s_environment_is_built_once_and_waited_for() {
    let world = World::new().await;
    commit(&world, "1");
    let (one, two) = (world.request(&["cat out/lock"]).await, world.request(&["cat out/lock"]).await);
    let (first, second) = tokio::join!(world.environments.provide(one), world.environments.provide(two));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((&first, &first.health, &first.note), (&second, &Health::Healthy, &None));
    assert_eq!(world.registry.asked().len(), 1, "built once for both");
    let installing = world.told().iter().filter(|line| line.starts_with("installing: ")).count();
    assert_eq!(installing, 2, "both hear of it: {:?}", world.told());
    let third = world.environments.provide(world.request(&[]).await).await.unwrap();
    assert_eq!(third, first);
    assert_eq!(world.registry.asked().len(), 1);
}

#[tokio::test]
async fn an_older_layer_serves_while_a_newer_one_is_built() {
    let world = World::new().await;
    commit(&world, "1");
    let old = world.environments.provide(world.request(&[]).await).await.unwrap();
    commit(&world, "2");
    let meanwhile = world.environments.provide(world.request(&[]).await).await.unwrap();
    assert_eq!(meanwhile.layer, old.layer);
    let note = meanwhile.note.unwrap();
    assert!(
        note.contains(" serves while a newer one is built. It has the dependencies of an older lock file"),
        "{note}"
    );
    assert_eq!(world.run(meanwhile.layer, "cat out/lock lock").await.0, "12");

    // Joins the build that is under way, or finds what it made.
    let built = world.build(&[], Start::Newest).await.unwrap();
    let now = world.environments.provide(world.request(&[]).await).await.unwrap();
    assert_eq!((&now.layer, &now.note), (&built.used.layer, &None));
    assert_eq!(world.run(now.layer, "cat out/lock lock").await.0, "22");

    world.commit(&[("other", "")]);
    let same = world.environments.provide(world.request(&[]).await).await.unwrap();
    assert!(same.note.unwrap().ends_with(" serves while a newer one is built."), "the lock file is the same");
}

#[tokio::test]
async fn an_older_layer_goes_on_serving_where_the_newer_one_fails() {
    let world = World::new().await;
    commit(&world, "1");
    let old = world.environments.provide(world.request(&[]).await).await.unwrap();
    world.commit(&[("overnight.toml", "[environment]\ninstall = 'false'")]);
    let request = world.request(&[]).await;
    let failed = world.environments.build(request.clone(), Start::Newest).await.unwrap_err();
    assert_eq!(failed.class, FaultClass::Environment);
    let provided = world.environments.provide(request).await.unwrap();
    assert_eq!(provided.layer, old.layer);
    let note = provided.note.unwrap();
    assert!(note.contains("building a newer one failed: installing the environment failed: `false`"), "{note}");
}

#[tokio::test]
async fn what_is_detected_is_built_only_once_a_person_asked() {
    let install = |lines: &str| format!("{{ \"name\": \"x\", \"version\": \"1.0.0\", \"scripts\": {{ {lines} }} }}");
    let lock = r#"{ "name": "x", "version": "1.0.0", "lockfileVersion": 3, "packages": { "": { "name": "x", "version": "1.0.0" } } }"#;
    let world =
        World::of(&[("package.json", &install("\"postinstall\": \"echo a > made\"")), ("package-lock.json", lock)])
            .await;
    let none = world.environments.provide(world.request(&[]).await).await.unwrap();
    assert_eq!((none.layer, none.health), (None, Health::Unknown));
    let note = none.note.unwrap();
    assert_eq!(note, "No environment is built (detected: package-lock.json): `overnight env build` makes one.");
    let absent = world.environments.check(world.request(&[]).await).await.unwrap_err();
    assert_eq!(absent.class, FaultClass::NotFound);

    let built = world.build(&[], Start::Newest).await.unwrap();
    assert_eq!(world.run(built.used.layer.clone(), "cat made").await.0, "a\n");
    world.commit(&[("package.json", &install("\"postinstall\": \"echo b > made\""))]);
    let old = world.environments.provide(world.request(&[]).await).await.unwrap();
    assert_eq!(old.layer, built.used.layer);
    assert!(old.note.unwrap().contains("while a newer one is built"));
}

#[tokio::test]
async fn nothing_to_install_needs_no_layer() {
    let world = World::of(&[("README.md", "hello")]).await;
    let used = world.environments.provide(world.request(&["true"]).await).await.unwrap();
    assert_eq!((used.layer, used.note), (None, None));
}
