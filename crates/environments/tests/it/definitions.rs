//! Which file of a base speaks, and what its files suggest where none does.

use domain::{
    environment::{Definition, Source},
    ports::environments::Environments as _,
};

use crate::world::World;

async fn defined(world: &World) -> Definition {
    let (repository, base) = world.origin().await;
    Definition::clone(&*world.environments.definition(repository, base).await.unwrap())
}

#[tokio::test]
async fn the_first_file_that_speaks_is_heard() {
    let world = World::of(&[("README.md", "hello")]).await;
    assert_eq!(defined(&world).await, Definition::default());
    let source = |path: &str| Source::File(path.to_owned());

    world.commit(&[("package.json", "{}"), ("package-lock.json", "{}")]);
    let detected = defined(&world).await;
    assert_eq!(detected.source, Source::Detected(vec!["package-lock.json".to_owned()]));
    assert_eq!(detected.install, ["npm ci --no-audit --no-fund"]);
    assert_eq!(detected.install_network, ["npm"]);
    assert_eq!((&detected.network, &detected.checks_network), (&detected.install_network, &detected.install_network));

    world.commit(&[(".devcontainer/devcontainer.json", "{ \"postCreateCommand\": \"make setup\", }")]);
    let container = defined(&world).await;
    assert_eq!(container.source, source(".devcontainer/devcontainer.json"));
    assert_eq!((container.install, container.install_network), (vec!["make setup".to_owned()], vec!["npm".to_owned()]));
    assert!(container.network.is_empty());

    world.commit(&[(".cursor/environment.json", "{ \"terminals\": [] }")]);
    let cursor = defined(&world).await;
    assert_eq!(cursor.source, source(".cursor/environment.json"));
    assert_eq!(cursor.install, detected.install, "it says nothing of it");

    world.commit(&[("overnight.toml", "[checks]\nfast = [\"npm run lint\"]\nnetwork = [\"lint.example\"]")]);
    let checks = defined(&world).await;
    assert_eq!(checks.source, source(".cursor/environment.json"), "ours speaks of checks only");
    assert_eq!(checks.checks[0].command, "npm run lint");
    assert_eq!(checks.checks_network, ["lint.example"]);

    world.commit(&[("overnight.toml", "[environment]\ninstall_network = [\"more.example\"]")]);
    let ours = defined(&world).await;
    assert_eq!(ours.source, source("overnight.toml"));
    assert_eq!(ours.install, detected.install, "it says nothing of it");
    assert_eq!(ours.install_network, ["more.example", "npm"]);
    assert!(ours.network.is_empty() && ours.checks_network.is_empty());

    world.commit(&[("overnight.toml", "[environment]\ninstall = 'npm install'")]);
    let ours = defined(&world).await;
    assert_eq!(
        (&ours.install[..], &ours.install_network[..]),
        (&["npm install".to_owned()][..], &["npm".to_owned()][..])
    );

    world.commit(&[("overnight.toml", "[environment]\ninstall = []\ninstall_network = []")]);
    let ours = defined(&world).await;
    assert!(ours.install.is_empty() && ours.install_network.is_empty());
}

#[tokio::test]
async fn a_mistake_names_its_place() {
    let world = World::of(&[("overnight.toml", "\n[environment]\ninstal = 1")]).await;
    let (repository, base) = world.origin().await;
    let fault = world.environments.definition(repository, base).await.unwrap_err();
    assert!(fault.what.starts_with("overnight.toml:3: unknown field `instal`"), "{fault}");
}

#[tokio::test]
async fn what_files_suggest() {
    let world = World::new().await;
    let pip = ".venv/bin/pip install --disable-pip-version-check";
    let rows: [(&[(&str, &str)], &[&str], &[&str]); 16] = [
        (
            &[("Cargo.toml", ""), ("Cargo.lock", "")],
            &[
                "cargo fetch --locked",
                "cargo check --offline --all-targets || true",
                "cargo test --offline --no-run || true",
            ],
            &["crates"],
        ),
        (&[("package.json", "{}")], &["npm install --no-package-lock --no-audit --no-fund"], &["npm"]),
        (&[("package.json", "{}"), ("pnpm-lock.yaml", "")], &["pnpm install --frozen-lockfile"], &["npm"]),
        (&[("package.json", "{}"), ("yarn.lock", "")], &["yarn install --frozen-lockfile --non-interactive"], &["npm"]),
        (&[("package.json", "{}"), ("yarn.lock", ""), (".yarnrc.yml", "")], &["yarn install --immutable"], &["npm"]),
        (&[("uv.lock", ""), ("pyproject.toml", "")], &["uv sync --locked"], &["pypi"]),
        (
            &[("requirements.txt", ""), ("requirements-dev.txt", ""), ("pyproject.toml", "")],
            &["VENV", &format!("{pip} -r requirements.txt -r requirements-dev.txt")],
            &["pypi"],
        ),
        (&[("pyproject.toml", "")], &["VENV", &format!("{pip} --editable .")], &["pypi"]),
        (
            &[("go.mod", ""), ("go.sum", "")],
            &["go mod download", "go build ./... || true", "go vet ./... || true"],
            &["go"],
        ),
        (
            &[("pom.xml", "")],
            &[
                "mvn --batch-mode --no-transfer-progress dependency:go-offline",
                "mvn --batch-mode --no-transfer-progress test-compile || true",
            ],
            &["maven"],
        ),
        (
            &[("build.gradle.kts", ""), ("gradlew", "")],
            &["sh ./gradlew --no-daemon --console=plain testClasses"],
            &["maven"],
        ),
        (&[("Makefile", "test:\n\ttrue\n")], &[], &[]),
        (
            &[("package.json", "{}"), ("go.mod", "")],
            &[
                "npm install --no-package-lock --no-audit --no-fund",
                "go mod download",
                "go build ./... || true",
                "go vet ./... || true",
            ],
            &["npm", "go"],
        ),
        (
            &[("web/package.json", "{}"), ("web/package-lock.json", ""), ("a b/go.mod", "")],
            &["cd web && npm ci --no-audit --no-fund"],
            &["npm"],
        ),
        (&[("api/uv.lock", ""), ("api/pyproject.toml", "")], &["cd api && uv sync --locked"], &["pypi"]),
        (&[(".hidden/package.json", "{}")], &[], &[]),
    ];
    for (files, lines, network) in rows {
        let old: Vec<_> = std::fs::read_dir(world.user()).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in old.iter().filter(|path| !path.ends_with(".git")) {
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        world.commit(files);
        let definition = defined(&world).await;
        let venv = "python3 -m venv .venv && printf '*\\n' > .venv/.gitignore";
        let lines: Vec<_> = lines.iter().map(|line| if *line == "VENV" { venv } else { line }).collect();
        assert_eq!(definition.install, lines, "{files:?}");
        assert_eq!(definition.install_network, network, "{files:?}");
        let python = files.iter().find_map(|(path, _)| path.strip_suffix("pyproject.toml"));
        let programs = python.map(|directory| format!("/workspace/{directory}.venv/bin"));
        assert_eq!(definition.variables.get("PATH"), programs.as_ref(), "{files:?}");
        for lock in &definition.locks {
            assert!(!lock.starts_with('/'), "{lock}");
        }
    }
}
