//! Test material that nobody here wrote: published versions of packages and the runners of their tests, fetched once through
//! the registries' own clients into a cache outside the repository. Nothing of it is ever committed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::house;

/// Rises when what is kept changes its form.
const FORM: &str = "material-1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registry {
    /// A crate's sources.
    Crate,
    /// A package's sources, without its dependencies.
    Npm,
    /// A package that is run: `node_modules`.
    NodeModules,
    /// A source distribution.
    Python,
    /// A package that is run: a directory for PYTHONPATH.
    PythonPath,
}

/// One package in one version.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    registry: Registry,
    name: &'static str,
    version: &'static str,
}

const fn item(registry: Registry, name: &'static str, version: &'static str) -> Item {
    Item { registry, name, version }
}

const ITEMS: [Item; 10] = [
    item(Registry::Crate, "smallvec", "1.6.0"),
    item(Registry::Crate, "smallvec", "1.6.1"),
    item(Registry::Npm, "minimist", "1.2.5"),
    item(Registry::Npm, "minimist", "1.2.6"),
    item(Registry::Python, "sqlparse", "0.4.4"),
    item(Registry::Python, "sqlparse", "0.5.0"),
    item(Registry::Python, "xmltodict", "0.13.0"),
    item(Registry::Python, "xmltodict", "0.14.0"),
    item(Registry::NodeModules, "tape", "3.6.1"),
    item(Registry::PythonPath, "pytest", "8.3.4"),
];

/// Where a package is, once [`fetch`] has run. Error: it is not there.
pub fn find(name: &str, version: &str) -> Result<PathBuf> {
    let path = house::cache()?.join(FORM).join(format!("{name}-{version}"));
    if !path.is_dir() {
        bail!("{} is not there: `cargo xtask material` fetches it", path.display());
    }
    Ok(path)
}

/// Fetches what is not there yet.
pub fn fetch() -> Result<()> {
    let cache = house::cache()?.join(FORM);
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    for item in ITEMS {
        let kept = cache.join(format!("{}-{}", item.name, item.version));
        if kept.is_dir() {
            continue;
        }
        eprintln!("fetching {} {}", item.name, item.version);
        let scratch = cache.join(format!(".fetch-{}-{}-{}", std::process::id(), item.name, item.version));
        fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        let got = item.get(&scratch).with_context(|| {
            format!("cannot fetch {} {}: is its registry reachable from here?", item.name, item.version)
        })?;
        // Another run may have been quicker: its copy is as good.
        if let Err(error) = fs::rename(&got, &kept)
            && !kept.is_dir()
        {
            bail!("cannot move {} to {}: {error}", got.display(), kept.display());
        }
        fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    }
    Ok(())
}

impl Item {
    /// Fetches into `scratch`; the answer is the directory to keep.
    fn get(self, scratch: &Path) -> Result<PathBuf> {
        let Self { registry, name, version } = self;
        let run = |program: &str, arguments: &[&str]| {
            house::output(Command::new(program).current_dir(scratch).args(arguments)).map(drop)
        };
        let unpack = |archive: String| run("tar", &["--no-same-owner", "-xzf", &archive]);
        match registry {
            Registry::Crate => {
                let manifest = format!(
                    "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n\
                     [dependencies]\n{name} = \"={version}\"\n"
                );
                fs::create_dir(scratch.join("src"))?;
                fs::write(scratch.join("src/lib.rs"), "")?;
                fs::write(scratch.join("Cargo.toml"), manifest)?;
                run(env!("CARGO"), &["vendor", "--quiet", "vendor"])?;
                Ok(scratch.join("vendor").join(name))
            }
            Registry::Npm => {
                run("npm", &["pack", "--silent", &format!("{name}@{version}")])?;
                unpack(format!("{name}-{version}.tgz"))?;
                Ok(scratch.join("package"))
            }
            Registry::NodeModules => {
                fs::write(scratch.join("package.json"), "{}")?;
                let package = format!("{name}@{version}");
                run("npm", &["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", &package])?;
                Ok(scratch.join("node_modules"))
            }
            Registry::Python => {
                let package = format!("{name}=={version}");
                run("python3", &["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", &package])?;
                unpack(format!("{name}-{version}.tar.gz"))?;
                Ok(scratch.join(format!("{name}-{version}")))
            }
            Registry::PythonPath => {
                let package = format!("{name}=={version}");
                run("python3", &["-m", "pip", "install", "--quiet", "--target=site", "--only-binary=:all:", &package])?;
                Ok(scratch.join("site"))
            }
        }
    }
}
