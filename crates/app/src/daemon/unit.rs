//! The daemon as a systemd user service, so that it is there again after a reboot.

use std::{env, fs, path::Path, path::PathBuf};

use domain::Fault;

use crate::home::{Home, VARIABLE};

/// Writes the unit, and returns its path and the commands that put it to work.
///
/// Errors: `Environment` where systemd does not run this machine.
pub fn install(home: &Home) -> Result<(PathBuf, Vec<String>), Fault> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(Fault::environment("this machine is not run by systemd, so there is no user service to install")
            .hint(
                "let your own supervisor run `overnight serve`; until then the first command after a reboot starts it",
            ));
    }
    let program =
        env::current_exe().map_err(|error| Fault::environment(format!("this program cannot be found: {error}")))?;
    let directory = configuration().ok_or_else(|| Fault::environment("HOME is not set").hint("set HOME"))?;
    let path = directory.join("systemd/user/overnight.service");
    let written =
        path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, unit(&program, home)));
    written.map_err(|error| Fault::environment(format!("{} cannot be written: {error}", path.display())))?;
    let next = [
        "overnight daemon stop",
        "systemctl --user daemon-reload",
        "systemctl --user enable --now overnight",
        "loginctl enable-linger",
    ];
    Ok((path, next.map(str::to_owned).to_vec()))
}

fn configuration() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))
}

fn unit(program: &Path, home: &Home) -> String {
    format!(
        "[Unit]\n\
         Description=Overnight: background coding agents\n\
         \n\
         [Service]\n\
         ExecStart={} serve\n\
         Environment={}\n\
         Restart=on-failure\n\
         TimeoutStopSec=60\n\
         Delegate=yes\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        quoted(&program.display().to_string()),
        quoted(&format!("{VARIABLE}={}", home.path().display())),
    )
}

/// Quotes a word for a unit file: `%` starts a specifier there, `\` and `"` as in C.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_survives_odd_paths() {
        let home = Home::at(Path::new("/srv/a b/100%")).unwrap();
        let unit = unit(Path::new("/opt/over night/bin"), &home);
        assert!(unit.contains("ExecStart=\"/opt/over night/bin\" serve\n"), "{unit}");
        assert!(unit.contains("Environment=\"OVERNIGHT_HOME=/srv/a b/100%%\"\n"), "{unit}");
    }
}
