//! What bases of many kinds suggest.

use domain::ports::checks::Checks as _;

use crate::world::{World, base, repository};

async fn detect(files: &[(&str, &str)]) -> Vec<String> {
    let world = World::new(files, &[]);
    let checks = world.checks.detect(repository(), base()).await.unwrap();
    checks.into_iter().map(|check| check.command).collect()
}

#[tokio::test]
async fn nothing_suggests_nothing() {
    assert!(detect(&[("README.md", "hello")]).await.is_empty());
    assert!(detect(&[]).await.is_empty());
}

#[tokio::test]
async fn rust_and_go() {
    assert_eq!(detect(&[("Cargo.toml", "")]).await, ["cargo test"]);
    assert_eq!(detect(&[("go.mod", "")]).await, ["go test ./..."]);
}

#[tokio::test]
async fn the_package_manager_is_the_lock_files() {
    let manifest = r#"{"scripts": {"test": "tape test/*.js"}}"#;
    assert_eq!(detect(&[("package.json", manifest)]).await, ["npm test"]);
    assert_eq!(detect(&[("package.json", manifest), ("pnpm-lock.yaml", "")]).await, ["pnpm test"]);
    assert_eq!(detect(&[("package.json", manifest), ("yarn.lock", "")]).await, ["yarn test"]);
}

#[tokio::test]
async fn a_script_that_tests_nothing_is_none() {
    let init = r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#;
    assert!(detect(&[("package.json", init)]).await.is_empty());
    assert!(detect(&[("package.json", "{broken")]).await.is_empty());
    assert!(detect(&[("package.json", "{}")]).await.is_empty());
}

#[tokio::test]
async fn python_by_its_signs() {
    let pytest = ["python3 -m pytest -q"];
    assert_eq!(detect(&[("pytest.ini", "")]).await, pytest);
    assert_eq!(detect(&[("setup.cfg", "[tool:pytest]"), ("tests/test_a.py", "")]).await, pytest);
    assert_eq!(detect(&[("pyproject.toml", "x"), ("tests/conftest.py", "")]).await, pytest);
    assert_eq!(detect(&[("tests/test_a.py", "import pytest")]).await, pytest);
    assert_eq!(detect(&[("test_a.py", "def test_x(): pass")]).await, pytest);
    assert!(detect(&[("pyproject.toml", "[project]"), ("app.py", "")]).await.is_empty());
}

#[tokio::test]
async fn unittest_where_nothing_speaks_of_pytest() {
    let case = "import unittest\nclass A(unittest.TestCase): pass";
    assert_eq!(detect(&[("test_a.py", case)]).await, ["python3 -m unittest -v"]);
    assert_eq!(detect(&[("tests/__init__.py", ""), ("tests/test_a.py", case)]).await, ["python3 -m unittest -v"]);
    assert_eq!(detect(&[("tests/test_a.py", case)]).await, ["python3 -m unittest discover -v -s tests"]);
}

#[tokio::test]
async fn a_task_runner_where_no_ecosystem_is() {
    assert_eq!(detect(&[("Makefile", "all: x\ntest: all\n\tsh t.sh\n")]).await, ["make test"]);
    assert_eq!(detect(&[("Makefile", "check:\n\ttrue\n")]).await, ["make check"]);
    assert!(detect(&[("Makefile", "test := 1\ntests: x\n\ttest: y\n")]).await.is_empty());
    assert_eq!(detect(&[("justfile", "test arg='':\n  true\n")]).await, ["just test"]);
    assert_eq!(detect(&[("justfile", "test:\n  true\n")]).await, ["just test"]);
    assert_eq!(detect(&[("Cargo.toml", ""), ("Makefile", "test:\n\tcargo test\n")]).await, ["cargo test"]);
}

#[tokio::test]
async fn several_at_the_root_and_directories_only_without_it() {
    let manifest = r#"{"scripts": {"test": "node --test"}}"#;
    assert_eq!(detect(&[("Cargo.toml", ""), ("package.json", manifest)]).await, ["cargo test", "npm test"]);
    let below =
        [("api/go.mod", ""), ("web/package.json", manifest), (".hidden/Cargo.toml", ""), ("a b/Cargo.toml", "")];
    assert_eq!(detect(&below).await, ["cd api && go test ./...", "cd web && npm test"]);
}
