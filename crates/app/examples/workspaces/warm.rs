//! First builds in a fresh workspace over an environment layer: what the base had built is not built again.

use std::{fs, path::Path, process::Command, time::Instant};

use domain::{
    environment::EnvironmentId,
    ports::{
        sandbox::{Confinement, Sandboxes as _},
        workspace::{PrepareRequest, RaiseRequest, ResolveRequest, Surroundings, Workspaces as _},
    },
};

use crate::{
    ground::{Ground, run},
    milliseconds, tell,
};

const CRATES: usize = 12;

pub async fn measure(ground: &Ground, directory: &Path) {
    let root = directory.join("builds");
    cargo_project(&root.join("rust"));
    node_project(&root.join("node"));
    for (name, install, first) in [
        ("cargo", "cargo check --offline --all-targets", "cargo check --offline --all-targets 2>&1"),
        ("npm", "npm run build", "npm test 2>&1"),
    ] {
        let root = root.join(if name == "cargo" { "rust" } else { "node" });
        let request = ResolveRequest { directory: root, ..ResolveRequest::default() };
        let origin = ground.workspaces.resolve(request).await.unwrap();
        let id =
            EnvironmentId::parse(&format!("{name:x<8}").bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
        let id = id.unwrap();
        let request = RaiseRequest {
            repository: origin.repository.clone(),
            base: origin.base.clone(),
            id: id.clone(),
            over: None,
            confinement: Confinement::Confined,
        };
        let place = ground.workspaces.raise(request).await.unwrap();
        let sandbox = ground.sandboxes.open(ground.spec(place, "overlay")).await.unwrap();
        let since = Instant::now();
        run(&*sandbox, &["sh", "-c", install]).await;
        tell(&format!("{name}_cold_ms"), milliseconds(since));
        sandbox.kill().await;
        drop(sandbox);
        ground.workspaces.freeze(origin.repository.clone(), id.clone(), String::new()).await.unwrap();
        for _ in 0..5 {
            let key = ground.next_key();
            let surroundings = Surroundings { environment: Some(id.clone()), confinement: Confinement::Confined };
            let (repository, commit) = (origin.repository.clone(), origin.base.clone());
            let request = PrepareRequest { repository: repository.clone(), key, commit, surroundings };
            let place = ground.workspaces.prepare(request).await.unwrap();
            let sandbox = ground.sandboxes.open(ground.spec(place, "overlay")).await.unwrap();
            let since = Instant::now();
            let printed = run(&*sandbox, &["sh", "-c", first]).await;
            tell(&format!("{name}_warm_ms"), milliseconds(since));
            let built = printed
                .lines()
                .filter(|line| ["Compiling", "Checking", "building"].iter().any(|word| line.contains(word)));
            tell(&format!("{name}_built_again"), built.count() as f64);
            sandbox.kill().await;
            drop(sandbox);
            ground.workspaces.release(repository, key, None).await.unwrap();
        }
    }
}

fn commit(root: &Path) {
    for arguments in [
        &["init", "-q", "-b", "main"][..],
        &["add", "-A"],
        &["-c", "user.name=Bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "base"],
    ] {
        assert!(Command::new("git").current_dir(root).args(arguments).status().unwrap().success());
    }
}

/// A workspace of crates, each over the one before.
fn cargo_project(root: &Path) {
    let put = |path: String, text: String| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("Cargo.toml".to_owned(), "[workspace]\nmembers = [\"crates/*\"]\nresolver = \"3\"\n".to_owned());
    put(".gitignore".to_owned(), "target/\n".to_owned());
    for nth in 0..CRATES {
        let before = nth.checked_sub(1);
        let needs = before.map_or(String::new(), |before| format!("c{before} = {{ path = \"../c{before}\" }}\n"));
        put(
            format!("crates/c{nth}/Cargo.toml"),
            format!("[package]\nname = \"c{nth}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\n{needs}"),
        );
        let call = before.map_or("1".to_owned(), |before| format!("c{before}::count() + 1"));
        put(format!("crates/c{nth}/src/lib.rs"), format!("pub fn count() -> u32 {{\n    {call}\n}}\n"));
    }
    let lock = Command::new("cargo").current_dir(root).args(["generate-lockfile", "--offline"]).status().unwrap();
    assert!(lock.success());
    commit(root);
}

/// A package whose tests build first what is older than its source, as build tools do.
fn node_project(root: &Path) {
    fs::create_dir_all(root.join("src")).unwrap();
    for nth in 0..20 {
        fs::write(root.join(format!("src/m{nth}.js")), format!("module.exports = {nth};\n")).unwrap();
    }
    let build = "const fs = require('fs');\nfs.mkdirSync('dist', { recursive: true });\nfor (const name of fs.readdirSync('src')) {\n  \
                 const [from, to] = ['src/' + name, 'dist/' + name];\n  if (fs.existsSync(to) && fs.statSync(to).mtimeMs >= \
                 fs.statSync(from).mtimeMs) continue;\n  console.log('building ' + name);\n  fs.copyFileSync(from, to);\n}\n";
    fs::write(root.join("build.js"), build).unwrap();
    let package = r#"{"name":"bench","version":"1.0.0","scripts":{"build":"node build.js","pretest":"node build.js","test":"node -e \"require('./dist/m1.js')\""}}"#;
    fs::write(root.join("package.json"), package).unwrap();
    fs::write(root.join(".gitignore"), "dist/\n").unwrap();
    commit(root);
}
