//! Secrets: what the proxy stamps never enters a sandbox, what installs is gone afterwards, and neither is found anywhere.
//!
//! The controls: the value is in use (the server saw it, the installation printed its name), and a value that is no secret is
//! found in the same places.

use std::{os::unix::fs::MetadataExt, process::Command};

use domain::{
    environment::{EnvironmentId, Stage},
    ports::{
        sandbox::Confinement,
        store::Blobs as _,
        workspace::{Surroundings, Workspaces as _},
    },
};

use crate::world::{World, holding, write};

const VALUE: &str = "hunter2/+very=S3CRET";

/// As programs print it: plain, base64 with nothing, one or two bytes before it, hexadecimal, URL.
fn forms() -> Vec<String> {
    [
        VALUE,
        "aHVudGVyMi8rdmVyeT1TM0NSRV",
        "h1bnRlcjIvK3Zlcnk9UzNDUkVU",
        "odW50ZXIyLyt2ZXJ5PVMzQ1JFV",
        "68756e746572322f2b766572793d533343524554",
        "68756E746572322F2B766572793D533343524554",
        "hunter2%2F%2Bvery%3DS3CRET",
        "hunter2%2f%2bvery%3dS3CRET",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn hidden(text: &str) -> bool {
    !forms().iter().any(|form| text.contains(form.as_str()))
}

/// Prints a value that it was told in every form; it has no need to know it: an agent that has learnt it some other way.
fn print_all(value: &str) -> String {
    format!(
        "import base64, json, urllib.parse as u\nv = {value:?}\nprint(v); print(base64.b64encode(v.encode()).decode()); print(base64.b64encode(b'x' + v.encode()).decode()); \
         print(base64.b64encode(b'xy' + v.encode()).decode()); print(base64.urlsafe_b64encode(v.encode()).decode()); print(v.encode().hex()); print(v.encode().hex().upper()); \
         print(u.quote(v, safe='')); print(u.quote(v, safe='').lower()); print(json.dumps({{'v': v}})); print(f'https://user:{{v}}@host/')"
    )
}

const STAMPED: &str = "[environment]\n[environment.secrets]\nAPI = { proxy = 'api.site.test' }\n\
                       [[environment.service]]\nname = 'web'\ncommand = 'echo up > ~/up; sleep 1000'\nready = { command = 'test -e ~/up' }\n";

async fn stamped() -> World {
    let world = World::defined(STAMPED).await;
    world.secret("API", VALUE).await;
    world
}

#[tokio::test]
async fn a_stamped_secret_is_in_the_sandbox() {
    let world = stamped().await;
    let attempt = world.attempt(1).await;
    // The agent cannot print what it finds without its being taken out: it counts instead.
    let turned: String = VALUE.bytes().map(|byte| format!("{:02x}", byte ^ 255)).collect();
    let code = format!(
        "import os\nneedle = bytes(255 ^ b for b in bytes.fromhex('{turned}'))\nfound = []\n\
         for top in ['/workspace', '/home', '/tmp', '/run', '/dev/shm', '/proc', '/etc']:\n\
         \x20for d, _, names in os.walk(top):\n\
         \x20 for name in names:\n\
         \x20  path = os.path.join(d, name)\n\
         \x20  if path.startswith('/proc') and name not in ('environ', 'cmdline', 'comm', 'maps'): continue\n\
         \x20  try:\n\
         \x20   if os.path.isfile(path) and needle in open(path, 'rb').read(1 << 22): found.append(path)\n\
         \x20  except OSError: pass\nprint(found, any(needle in v for v in os.environb.values()), len(needle))"
    );
    assert_eq!(attempt.python(&code).await, format!("[] False {}\n", VALUE.len()));
}

#[tokio::test]
async fn a_server_sends_the_stamp_back() {
    let world = stamped().await;
    let attempt = world.attempt(1).await;
    let told = attempt.sh("curl -s --max-time 20 https://api.site.test/ | tee answer.txt; curl -sv --max-time 20 https://api.site.test/ 2>&1; wc -c < answer.txt").await;
    assert!(world.upstreams.seen()[0].contains(VALUE), "it is stamped: {told}");
    assert!(told.contains("arrived") && hidden(&told), "{told}");
    assert!(holding(&world.home(), &forms()).is_empty());
}

#[tokio::test]
async fn output_shows_a_secret_in_any_encoding() {
    let world = stamped().await;
    let attempt = world.attempt(1).await;
    let told = attempt.python(&print_all(VALUE)).await;
    assert!(hidden(&told) && told.matches("API redacted").count() >= 9, "{told}");
    let told = attempt.python(&print_all("no+secret/of=anyone")).await;
    assert!(told.contains("no+secret/of=anyone"), "the control: {told}");
    // A byte at a time, on both outputs.
    let slowly = format!(
        "import os, time\nfor n, b in enumerate({VALUE:?}.encode()): os.write(1, bytes([b]))\nos.write(1, b' end')"
    );
    let told = attempt.python(&slowly).await;
    assert!(hidden(&told) && told.ends_with(" end"), "{told}");
}

#[tokio::test]
async fn long_output_spills_a_secret_to_disk() {
    let world = stamped().await;
    let attempt = world.attempt(1).await;
    let told = attempt
        .sh(&format!("yes 'line of text' | head -c 300K; echo '{VALUE}'; yes 'line of text' | head -c 300K"))
        .await;
    assert!(hidden(&told));
    assert_eq!(holding(&attempt.place.spill, &["line of text".to_owned()]).len(), 1, "the control: it spilled");
    assert!(holding(&attempt.place.spill, &forms()).is_empty());
}

#[tokio::test]
async fn a_snapshot_carries_a_secret_away() {
    let world = stamped().await;
    let attempt = world.attempt(1).await;
    let code = print_all(VALUE);
    write(&world.path("script"), &code);
    attempt.files().await.write("run.py", b"import sys; exec(sys.stdin.read())").unwrap();
    let told = attempt.sh(&format!("cat > code.py <<'E'\n{code}\nE\npython3 code.py > out.txt; wc -l < out.txt")).await;
    assert_eq!(told, "11\n");
    let head = attempt.snapshot().await.unwrap().commit;
    for path in ["code.py", "out.txt"] {
        let stored = attempt.stored(&["show", &format!("{head}:{path}")]);
        assert!(hidden(&stored) && stored.contains("API redacted"), "{path}: {stored}");
    }
    let (repository, base) = (attempt.origin.repository.clone(), attempt.origin.base.clone());
    let diff = world.workspaces.diff(repository, base, head).await.unwrap();
    assert!(hidden(&String::from_utf8_lossy(&diff)) && diff.len() > 100);
    // What the daemon reads of the workspace for the agent is looked through as well.
    let (content, _) = attempt.files().await.read("out.txt", 0, 1 << 20).unwrap();
    assert!(hidden(&String::from_utf8_lossy(&content)));
}

#[tokio::test]
async fn services_inherit_secrets() {
    let world = World::of(&[(
        "overnight.toml",
        "[environment]\ninstall = 'true'\n[environment.secrets]\nAPI = { proxy = 'api.site.test' }\nTOKEN = 'install'\n\
         [[environment.service]]\nname = 'web'\ncommand = 'env > ~/service; sleep 1000'\nready = { command = 'test -s ~/service' }\n",
    )])
    .await;
    world.secrets(&[("API", VALUE), ("TOKEN", "t0ken-for-installing")]).await;
    let attempt = world.attempt(1).await;
    assert!(attempt.notes.is_empty(), "{:?}", attempt.notes);
    let told = attempt.sh("grep -c -e TOKEN -e API ~/service; wc -l < ~/service; cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c -e ^TOKEN -e ^API").await;
    let counts: Vec<u32> = told.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(counts[0] == 0 && counts[1] > 5 && counts[2] == 0, "{told}");
}

/// An installation that does with its secret what careless ones do.
const CARELESS: &str = "[environment]\ninstall = '''
set -e
test ${#TOKEN} = 20
mkdir -p deps ~/.config/tool
echo $TOKEN > deps/token
echo //registry/:_authToken=$TOKEN > ~/.npmrc
printf %s $TOKEN | base64 > ~/.config/tool/encoded
git config http.extraHeader \"Authorization: $TOKEN\"
env > deps/environment
echo installing with $TOKEN; echo $TOKEN >&2
(setsid sh -c \"sleep 1000; echo $TOKEN\" &)
echo kept > deps/kept
'''
[environment.secrets]
TOKEN = \"install\"
";

#[tokio::test]
async fn an_installation_leaves_its_secret_behind() {
    let world = World::of(&[("overnight.toml", CARELESS), (".gitignore", "deps/\n")]).await;
    world.secret("TOKEN", VALUE).await;
    let built = world.build().await;
    if let Ok(built) = &built {
        let log = world.store.get(built.log.clone().unwrap()).await.unwrap();
        assert!(hidden(&String::from_utf8_lossy(&log)), "{}", String::from_utf8_lossy(&log));
        assert!(String::from_utf8_lossy(&log).contains("installing with [TOKEN redacted]"));
        let environment: Option<EnvironmentId> = built.used.layer.clone();
        let surroundings = Surroundings { environment, confinement: Confinement::Confined };
        let attempt = world.attempt_over(1, surroundings).await;
        let told = attempt.sh("cat deps/kept; git config http.extraHeader; env | grep -c TOKEN; ps ax | grep -c 'sleep 1000' ; cat deps/token ~/.npmrc ~/.config/tool/encoded | wc -c").await;
        assert!(told.starts_with("kept\n0\n"), "{told}");
    }
    // Whether it was taken out or the build refused: it is nowhere.
    if let Err(fault) = &built {
        assert!(hidden(&fault.to_string()), "{fault}");
    }
    assert_eq!(holding(&world.home(), &forms()), Vec::<std::path::PathBuf>::new());
    assert_eq!(Command::new("pgrep").args(["-f", VALUE]).output().unwrap().stdout, b"");
}

#[tokio::test]
async fn an_error_message_tells_a_secret() {
    let world = World::of(&[(
        "overnight.toml",
        "[environment]\ninstall = \"echo cannot log in with $TOKEN; printf %s $TOKEN | base64; curl -s http://$TOKEN.example/; exit 3\"\n[environment.secrets]\nTOKEN = \"install\"\n",
    )])
    .await;
    world.secret("TOKEN", VALUE).await;
    let fault = world.build().await.unwrap_err();
    let told = format!("{fault:?} {fault} {:?}", fault.hint);
    assert!(told.contains("cannot log in with") && hidden(&told), "{told}");
    assert_eq!(holding(&world.home(), &forms()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_crash_leaves_a_secret_in_a_dump() {
    let world = World::of(&[(
        "overnight.toml",
        "[environment]\ninstall = \"ulimit -c unlimited; sh -c 'kill -SEGV $$'; ls -a; sh -c 'kill -ABRT $$'; true\"\n[environment.secrets]\nTOKEN = \"install\"\n",
    )])
    .await;
    world.secret("TOKEN", VALUE).await;
    world.build().await.unwrap();
    assert_eq!(holding(&world.home(), &forms()), Vec::<std::path::PathBuf>::new());
    let cores = crate::world::files_below(&world.home())
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core")));
    assert_eq!(cores.filter(|path| path.extension().is_none_or(|end| end != "rs")).count(), 0);
}

#[tokio::test]
async fn the_home_holds_a_secret_unsealed() {
    let world = stamped().await;
    world.attempt(1).await.sh("curl -s https://api.site.test/").await;
    assert_eq!(holding(&world.home(), &forms()), Vec::<std::path::PathBuf>::new());
    // What opens the seal is its owner's alone.
    assert_eq!(std::fs::metadata(world.home()).unwrap().mode() & 0o077, 0);
    let keys: Vec<_> = std::fs::read_dir(world.home())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("key"))
        .collect();
    assert!(!keys.is_empty());
    for key in keys {
        assert_eq!(key.metadata().unwrap().mode() & 0o177, 0, "{:?}", key.path());
    }
}

#[tokio::test]
async fn the_agent_lists_what_secrets_are_used() {
    // Names may be known, as the definition says them; not what else is kept for the repository, nor for another stage.
    let world = World::defined(STAMPED).await;
    world.secrets(&[("API", VALUE), ("UNUSED", "of-no-use-here")]).await;
    world.secrets_of(Stage::Production, &[("API", "of-production"), ("DEPLOY", "of-deploying")]).await;
    let attempt = world.attempt(1).await;
    let others = ["UNUSED", "DEPLOY", "of-no-use-here", "of-production", "of-deploying"].map(str::to_owned);
    let names = format!("API|{}", others.join("|"));
    let script = format!(
        "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -aE '{names}'; grep -rsaoE '{names}' . ~ /run /tmp /etc; curl -s https://api.site.test/; echo listed"
    );
    let told = attempt.sh(&script).await;
    assert!(told.contains("overnight.toml:API") && told.ends_with("listed\n"), "the control: {told}");
    assert!(hidden(&told) && !others.iter().any(|other| told.contains(other.as_str())), "{told}");
    let seen = world.upstreams.seen().concat();
    assert!(seen.contains(VALUE) && !others.iter().any(|other| seen.contains(other.as_str())), "{seen}");
}

#[test]
fn a_whole_tasks_traces_are_searched() {
    // The daemon itself, as a person uses it: every file of its home, the repository, and all that it prints.
    let directory = tempfile::Builder::new().prefix("overnight-escape-").tempdir().unwrap();
    let (home, repository) = (directory.path().join("home"), directory.path().join("repository"));
    write(
        &repository.join("overnight.toml"),
        "[environment]\ninstall = \"echo installing with $TOKEN; echo $TOKEN | base64; mkdir -p deps; echo x > deps/x\"\n[environment.secrets]\nTOKEN = \"install\"\n",
    );
    write(&repository.join(".gitignore"), "deps/\n");
    crate::world::git(&repository, &["init", "-q", "-b", "main"]);
    crate::world::git(&repository, &["add", "-A"]);
    crate::world::git(&repository, &["commit", "-q", "-m", "First"]);
    let program = std::env::var("ESCAPE_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_overnight").to_owned());
    let on = |arguments: &[&str], input: &str| {
        let input_file = directory.path().join("input");
        std::fs::write(&input_file, input).unwrap();
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(&repository).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command
            .env("HOME", directory.path())
            .env("OVERNIGHT_HOME", &home)
            .stdin(std::fs::File::open(&input_file).unwrap());
        let output = command.output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let mut told = on(&["secret", "set", "TOKEN"], VALUE);
    told += &on(&["env", "build"], "");
    told += &on(&["env", "log"], "");
    assert!(told.contains("installing with"), "{told}");
    std::fs::write(directory.path().join("leak.py"), print_all(VALUE)).unwrap();
    let leak =
        format!("cat > leak.py <<'E'\n{}\nE\npython3 leak.py | tee leaked.txt; python3 leak.py >&2", print_all(VALUE));
    // The script is on a command line, so it is in the brief, which a person wrote: only what the task makes of it is searched.
    let script = directory.path().join("agent.sh");
    std::fs::write(&script, leak).unwrap();
    let encoded: String = std::fs::read(&script).unwrap().iter().map(|byte| format!("{:02x}", byte ^ 255)).collect();
    let agent = format!(
        "python3 -c \"s = '{encoded}'; print(''.join(chr(int(s[n:n+2], 16) ^ 255) for n in range(0, len(s), 2)))\" > /tmp/a; sh /tmp/a"
    );
    told += &on(
        &["run", "Leak", "--wait", "--check", "cat leaked.txt; false", "--agent", "command", "--", "sh", "-c", &agent],
        "",
    );
    for arguments in
        [&["show", "1"][..], &["show", "1", "--json"], &["logs", "1"], &["diff", "1"], &["export", "1"], &["inbox"]]
    {
        told += &on(arguments, "");
    }
    on(&["daemon", "stop"], "");
    assert!(told.contains("leaked.txt") && told.contains("TOKEN redacted"), "{told}");
    assert!(hidden(&told), "{told}");
    // Where the agent itself wrote it, in its own workspace and HOME, is the only place.
    let elsewhere: Vec<_> =
        holding(&home, &forms()).into_iter().filter(|path| !path.starts_with(home.join("workspaces"))).collect();
    assert_eq!(elsewhere, Vec::<std::path::PathBuf>::new());
}
