//! Files as people write them, and every mistake with what it is told.

use std::time::Duration;

use domain::{
    Fault, FaultClass,
    check::Tier,
    environment::{Readiness, Resources, SecretPurpose, Stage},
};
use egress::Proxy;

use super::{cursor, devcontainer, overnight};

fn proxy() -> (tempfile::TempDir, Proxy) {
    let directory = tempfile::tempdir().unwrap();
    let proxy = Proxy::new(egress::Options::new(directory.path().join("certificates"))).unwrap();
    (directory, proxy)
}

fn ours(text: &str) -> Result<overnight::Read, Fault> {
    overnight::parse(text, &proxy().1)
}

#[test]
fn a_whole_file_of_ours() {
    let file = ours(include_str!("../../tests/overnight.toml")).unwrap();
    let definition = file.environment.unwrap().definition;
    assert_eq!(definition.install, ["npm ci", "npm run build"]);
    assert_eq!(definition.install_network, ["npm", "registry.example.com"]);
    assert_eq!(definition.network, ["npm", "github"]);
    assert_eq!(definition.variables["NODE_ENV"], "test");
    assert_eq!(definition.variables["WORKERS"], "2");
    assert_eq!(definition.caches, ["~/.npm", "web/target"]);
    assert_eq!(definition.locks, ["package-lock.json"]);
    assert_eq!(definition.stage, Stage::Staging);
    let bounds = Resources {
        memory_bytes: Some(4 << 30),
        processes: Some(500),
        processor_percent: Some(150),
        disk_bytes: Some(20_000_000_000),
    };
    assert_eq!(definition.resources, bounds);
    let secrets: Vec<_> = definition.secrets.iter().map(|secret| (secret.name.as_str(), &secret.to)).collect();
    let proxied = |host: &str, header: &str, value: &str| SecretPurpose::Proxy {
        host: host.to_owned(),
        header: header.to_owned(),
        value: value.to_owned(),
    };
    assert_eq!(
        secrets,
        [
            ("API_KEY", &proxied("api.example.com", "X-Api-Key", "{}")),
            ("GITHUB_TOKEN", &proxied("api.github.com", "Authorization", "Bearer {}")),
            ("NPM_TOKEN", &SecretPurpose::Install),
        ]
    );
    let [web, database] = &definition.services[..] else { panic!("{:?}", definition.services) };
    assert_eq!(web.ready, Some(Readiness::Http { port: 3000, path: "/health".to_owned() }));
    assert_eq!((web.port, web.ready_within), (Some(3000), Duration::from_secs(60)));
    assert_eq!(database.ready, Some(Readiness::Command("pg_isready".to_owned())));
    assert_eq!((database.port, database.ready_within), (Some(5432), Duration::from_secs(120)));
    let checks: Vec<_> = file.checks.iter().map(|check| (check.name.as_str(), check.timeout_s, check.tier)).collect();
    assert_eq!(
        checks,
        [("npm test", None, Tier::Fast), ("unit", Some(600), Tier::Fast), ("npm run e2e", None, Tier::Slow)]
    );
    assert_eq!(file.checks_network, ["npm"]);
}

#[test]
fn every_mistake_is_told_with_its_place() {
    for (text, told) in [
        ("[environment", "overnight.toml:1: "),
        ("[environment]\ninstal = \"x\"", "overnight.toml:2: unknown field `instal`, expected one of `install`"),
        (
            "[enviroment]",
            "overnight.toml:1: unknown field `enviroment`, expected one of `environment`, `checks`, `profiles`",
        ),
        ("\n[environment]\ninstall = 3", "overnight.toml:3: invalid type: integer `3`, expected a command, or a list"),
        ("[environment]\ninstall = [\"a\",\n\" \"]", "an empty command: write a line for `sh -c`"),
        ("[environment]\nnetwork = [\n\"pypi\",\n\"10.0.0.1\"]", "overnight.toml:4: "),
        ("[environment]\nnetwork = [\"http://x.example\"]", "http://x.example"),
        ("[environment]\nstage = \"prod\"", "unknown variant `prod`, expected `staging` or `production`"),
        ("[environment]\ncaches = [\"../x\"]", "overnight.toml:2: `../x` is not a path from the root"),
        ("[environment]\ncaches = [\"/var\"]", "`/var` is not a path"),
        ("[environment]\nlocks = [\"~/x\"]", "`~/x` is not a path"),
        ("[environment]\nvariables.\"A B\" = \"x\"", "overnight.toml:2: `A B` cannot name a variable"),
        ("[environment]\nvariables.A = [1]", "overnight.toml:2: array, expected a string such as"),
        (
            "[environment.resources]\nmemory = \"lots\"",
            "overnight.toml:2: invalid value: string \"lots\", expected a size",
        ),
        ("[environment.resources]\ncpus = 0", "expected a number of processors such as 2 or 0.5"),
        ("[environment.resources]\nprocesses = 0", "overnight.toml:2: invalid value: integer `0`"),
        ("[environment.resources]\nmemory = \"1 kB\"", "overnight.toml:2: 1000 bytes of memory are too few"),
        ("[environment.resources]\ncores = 2", "unknown field `cores`"),
        (
            "[environment.secrets]\nT = \"s3cret-value\"",
            "overnight.toml:2: invalid type: another string, expected what the",
        ),
        ("[environment.secrets]\nT = { proxy = \"npm\" }", "`npm` is not the name of one host"),
        ("[environment.secrets]\nT = { proxy = \"*.x.example\" }", "is not the name of one host"),
        ("[environment.secrets]\nT = { proxy = \"x.example:port\" }", "is not the name of one host"),
        (
            "[environment.secrets]\nT = { proxy = \"x.example\", value = \"Bearer\" }",
            "needs `{}` where the secret goes",
        ),
        ("[environment.secrets]\nT = { proxy = \"x.example\", header = \"A: b\" }", "is not the name of a header"),
        ("[environment.secrets]\n1T = \"install\"", "`1T` cannot name a variable"),
        ("[[environment.service]]\nname = \"a\"", "missing field `command`"),
        ("[[environment.service]]\nname = \"a\"\ncommand = \"\"", "overnight.toml:3: an empty command"),
        ("[[environment.service]]\nname = \"a\"\ncommand = \"b\"\nready = { port = 70000 }", "70000 is no port"),
        ("[[environment.service]]\nname = \"a\"\ncommand = \"b\"\nready = { prot = 1 }", "unknown variant `prot`"),
        (
            "[[environment.service]]\nname = \"a\"\ncommand = \"b\"\nready = { http = \"https://x\" }",
            "overnight.toml:4: `https://x` is",
        ),
        (
            "[[environment.service]]\nname = \"a\"\ncommand = \"b\"\nready = { http = \"http://x.example/\" }",
            "is not a page of the sandbox",
        ),
        ("[[environment.service]]\nname = \"a\"\ncommand = \"b\"\nready_within = \"soon\"", "expected a time such as"),
        (
            "[[environment.service]]\nname='a'\ncommand='b'\n[[environment.service]]\nname='a'\ncommand='c'",
            "overnight.toml:5: two services are called `a`",
        ),
        ("[checks]\nfast = [\"a\", \"a\"]", "overnight.toml:1: two checks are called `a`"),
        ("[checks]\nfast = [{ comand = \"a\" }]", "unknown field `comand`"),
        ("[checks]\nfast = \"a\"", "overnight.toml:2: invalid type: string \"a\", expected a sequence"),
        ("[checks]\nnetwork = [\"a b\"]", "overnight.toml:2: "),
    ] {
        let fault = ours(text).unwrap_err();
        assert_eq!(fault.class, FaultClass::Input, "{text}");
        assert!(fault.what.starts_with("overnight.toml:") && fault.what.contains(told), "{text}\n{fault}");
        assert!(!fault.to_string().contains("s3cret-value"), "{fault}");
    }
}

#[test]
fn a_file_of_checks_only_says_nothing_of_the_environment() {
    let file = ours("[checks]\nslow = [{ command = \"make all\" }]").unwrap();
    assert!(file.environment.is_none());
    assert_eq!(file.checks[0].name, "make all");
    assert!(ours("").unwrap().environment.is_none());
    assert!(!ours("[environment]").unwrap().environment.unwrap().says_what_to_install);
    assert!(ours("[environment]\ninstall = []").unwrap().environment.unwrap().says_what_to_install);
}

#[test]
fn cursor_s_file() {
    let text = r#"{
        // comment
        "build": { "dockerfile": "Dockerfile" },
        "install": " npm ci ",
        "start": "docker start",
        "terminals": [{ "name": "web", "command": "npm run dev" }, { "command": "npm run worker" }],
        "ports": [{ "name": "web", "port": 3000 }],
    }"#;
    let definition = cursor::parse("e.json", text).unwrap();
    assert_eq!(definition.install, ["npm ci"]);
    let services: Vec<_> = definition.services.iter().map(|s| (s.name.as_str(), s.command.as_str(), s.port)).collect();
    assert_eq!(
        services,
        [("start", "docker start", None), ("web", "npm run dev", Some(3000)), ("terminal 2", "npm run worker", None)]
    );
    assert_eq!(definition.notes, ["`build` of e.json is not used: the programs of this machine are used."]);
    for (text, told) in [
        ("{", "e.json:1: "),
        ("[]", "e.json: is not an object"),
        ("{\"install\": [\"a\"]}", "e.json: `install` is not a string"),
        ("{\"terminals\": [{}]}", "e.json: terminal 1 has no `command`"),
        ("{\"terminals\": {}}", "e.json: `terminals` is not a list"),
        ("{\"ports\": [\"x\"]}", "e.json: \"x\" is no port"),
    ] {
        let fault = cursor::parse("e.json", text).unwrap_err();
        assert!(fault.class == FaultClass::Input && fault.what.contains(told), "{text}\n{fault}");
    }
}

#[test]
fn a_dev_container() {
    let text = r#"{
        "image": "mcr.example/base", "features": {},
        "onCreateCommand": ["git", "config", "a b", "it's"],
        "updateContentCommand": "npm ci",
        "postCreateCommand": { "server": "npm run build", "client": ["make", "x"] },
        "postStartCommand": "npm run dev",
        "forwardPorts": [3000, "db:5432"],
        "containerEnv": { "ROOT": "${containerWorkspaceFolder}/x", "OWN": "${localEnv:OWN}" },
        "remoteEnv": { "B": "2", "UNSET": null }
    }"#;
    let definition = devcontainer::parse("d.json", text).unwrap();
    assert_eq!(definition.install, ["git config 'a b' 'it'\\''s'", "npm ci", "make x", "npm run build"]);
    assert_eq!(definition.services[0].command, "npm run dev");
    assert_eq!(definition.services[0].port, Some(3000));
    assert_eq!(definition.variables["ROOT"], "/workspace/x");
    assert_eq!(definition.variables["B"], "2");
    assert_eq!(definition.variables.len(), 2);
    let notes = definition.notes.join("\n");
    for told in ["OWN of d.json is not used", "UNSET", "`image`", "`features`"] {
        assert!(notes.contains(told), "{notes}");
    }
    for (text, told) in [
        ("{ \"postCreateCommand\": 3 }", "d.json: `postCreateCommand` is no command"),
        ("{ \"postCreateCommand\": { \"a\": { \"b\": \"c\" } } }", "is no command"),
        ("{ \"forwardPorts\": [\"x\"] }", "`forwardPorts` names \"x\", which is no port"),
        ("{ \"forwardPorts\": 3 }", "is not a list of ports"),
        ("{ \"remoteEnv\": [] }", "`remoteEnv` is not an object of variables"),
    ] {
        let fault = devcontainer::parse("d.json", text).unwrap_err();
        assert!(fault.class == FaultClass::Input && fault.what.contains(told), "{text}\n{fault}");
    }
}
