//! Which changed paths a brief does not allow, and which ones checks take from the base whatever the agent wrote.

use domain::{Fault, ports::workspace::ChangedPath};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Protected in every repository: what defines checks and the environment, what runs outside any check, and which toolchain runs it. Tests are not
/// among them, as changing tests is often the work; a removed test is found by its absence instead.
pub const PROTECTED: &[&str] = &[
    "/.github/workflows/",
    "/.github/actions/",
    "/.gitlab-ci.yml",
    "/.gitlab/ci/",
    "/.circleci/",
    "/.buildkite/",
    "/.woodpecker/",
    "/.woodpecker.y*ml",
    "/.forgejo/workflows/",
    "/.gitea/workflows/",
    "/azure-pipelines.yml",
    "/bitbucket-pipelines.yml",
    "/Jenkinsfile",
    "/.travis.yml",
    "/.husky/",
    "/.githooks/",
    "/lefthook.y*ml",
    "/.pre-commit-config.yaml",
    "/overnight.toml",
    "/.cursor/environment.json",
    "/devcontainer.json",
    "/.devcontainer.json",
    "/.devcontainer/",
    "/rust-toolchain",
    "/rust-toolchain.toml",
    "/.tool-versions",
];

/// Paths listed in a judgement, each kind.
const LISTED: usize = 50;

/// The path rules of one brief.
pub(crate) struct Contract {
    allowed: Option<Gitignore>,
    protected: Gitignore,
    protected_globs: Vec<String>,
}

/// What of a change the rules speak of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// At most 50.
    pub outside_allowed: Vec<String>,
    /// At most 50.
    pub protected: Vec<String>,
}

impl Contract {
    /// `Input` for a glob that cannot be read.
    pub fn new(allowed: &[String], protected: &[String]) -> Result<Self, Fault> {
        let protected_globs: Vec<String> =
            PROTECTED.iter().map(|glob| (*glob).to_owned()).chain(protected.iter().cloned()).collect();
        let allowed = if allowed.is_empty() { None } else { Some(matcher("allowed", allowed)?) };
        Ok(Self { allowed, protected: matcher("protected", &protected_globs)?, protected_globs })
    }

    /// The globs whose files come from the base.
    pub fn protected_globs(&self) -> Vec<String> {
        self.protected_globs.clone()
    }

    pub fn examine(&self, changed: &[ChangedPath]) -> Touched {
        let mut touched = Touched::default();
        for path in changed.iter().map(|change| change.path.trim_start_matches('/')) {
            let outside = self.allowed.as_ref().is_some_and(|allowed| !matches(allowed, path));
            if outside && touched.outside_allowed.len() < LISTED {
                touched.outside_allowed.push(path.to_owned());
            }
            if matches(&self.protected, path) && touched.protected.len() < LISTED {
                touched.protected.push(path.to_owned());
            }
        }
        touched
    }
}

fn matches(globs: &Gitignore, path: &str) -> bool {
    globs.matched_path_or_any_parents(path, false).is_ignore()
}

fn matcher(what: &str, globs: &[String]) -> Result<Gitignore, Fault> {
    let unreadable = |glob: &str, error: ignore::Error| {
        Fault::input(format!("the {what} path `{glob}` is not a glob: {error}"))
            .hint("write paths from the root of the repository in gitignore syntax, such as `src/` or `docs/**/*.md`")
    };
    let mut builder = GitignoreBuilder::new("");
    for glob in globs {
        builder.add_line(None, glob).map_err(|error| unreadable(glob, error))?;
    }
    builder.build().map_err(|error| unreadable(&globs.join(" "), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{FaultClass, ports::workspace::ChangeKind};

    fn examine(allowed: &[&str], protected: &[&str], changed: &[&str]) -> Touched {
        let owned = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>();
        let change = |path: &&str| ChangedPath {
            path: (*path).to_owned(),
            kind: ChangeKind::Modified,
            added: 1,
            deleted: 1,
            binary: false,
        };
        let changed: Vec<_> = changed.iter().map(change).collect();
        Contract::new(&owned(allowed), &owned(protected)).unwrap().examine(&changed)
    }

    #[test]
    fn allows_everything_that_is_not_named_where_nothing_is() {
        assert_eq!(examine(&[], &[], &["src/lib.rs", "a b/ü.txt"]), Touched::default());
    }

    #[test]
    fn allowed_paths_are_directories_globs_and_exceptions() {
        let touched = examine(
            &["/src/", "docs/**/*.md", "!/src/secret.rs"],
            &[],
            &["src/a/b.rs", "docs/x/y.md", "docs/x/y.png", "src/secret.rs", "other/src.rs"],
        );
        assert_eq!(touched.outside_allowed, ["docs/x/y.png", "src/secret.rs", "other/src.rs"]);
    }

    #[test]
    fn protects_what_defines_checks_at_the_root_only() {
        let protected = [
            ".github/workflows/ci.yml",
            "overnight.toml",
            ".cursor/environment.json",
            ".devcontainer/a/devcontainer.json",
            "devcontainer.json",
            ".husky/pre-commit",
            "tests/a.rs",
        ];
        let free = ["sub/overnight.toml", ".cursor/rules.md", "src/devcontainer.json"];
        let touched = examine(&[], &["/tests/"], &[&protected[..], &free[..]].concat());
        assert_eq!(touched.protected, protected);
    }

    #[test]
    fn lists_at_most_fifty() {
        let many: Vec<String> = (0..90).map(|n| format!("f{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(examine(&["/src/"], &[], &many).outside_allowed.len(), 50);
    }

    #[test]
    fn an_unreadable_glob_is_the_persons_mistake() {
        let Err(fault) = Contract::new(&["src/[z-a]".to_owned()], &[]) else { panic!("accepted") };
        assert_eq!(fault.class, FaultClass::Input);
        assert!(fault.what.contains("src/[z-a]"), "{fault}");
    }
}
