//! Names for the hosts that package clients need.

/// Each with the entries it stands for. Where one host also takes what anybody sends (forges, registries that are published to
/// where they are read from), it is for fetching only. Maven's are not: Java believes no authority of ours, and they take
/// nothing from strangers but Gradle's plugins.
pub(crate) const PRESETS: [(&str, &[&str]); 17] = [
    ("alpine", &["dl-cdn.alpinelinux.org fetch"]),
    ("conda", &["conda.anaconda.org fetch", "repo.anaconda.com fetch"]),
    ("crates", &["crates.io fetch", "index.crates.io", "static.crates.io"]),
    ("debian", &["deb.debian.org fetch", "security.debian.org fetch"]),
    (
        "docker",
        &[
            "registry-1.docker.io fetch",
            "auth.docker.io fetch",
            "production.cloudflare.docker.com fetch",
            "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com fetch",
        ],
    ),
    (
        "github",
        &[
            "github.com fetch",
            "api.github.com fetch",
            "codeload.github.com fetch",
            "raw.githubusercontent.com fetch",
            "objects.githubusercontent.com fetch",
            "release-assets.githubusercontent.com fetch",
        ],
    ),
    ("gitlab", &["gitlab.com fetch"]),
    ("go", &["proxy.golang.org", "sum.golang.org", "storage.googleapis.com fetch"]),
    (
        "maven",
        &[
            "repo.maven.apache.org",
            "repo1.maven.org",
            "plugins.gradle.org",
            "plugins-artifacts.gradle.org",
            "services.gradle.org",
            "downloads.gradle.org",
        ],
    ),
    ("node", &["nodejs.org"]),
    ("npm", &["registry.npmjs.org fetch", "registry.yarnpkg.com fetch", "repo.yarnpkg.com"]),
    ("nuget", &["api.nuget.org", "www.nuget.org fetch"]),
    ("packagist", &["packagist.org fetch", "repo.packagist.org"]),
    ("pypi", &["pypi.org", "files.pythonhosted.org"]),
    ("rubygems", &["rubygems.org fetch", "index.rubygems.org"]),
    ("rustup", &["static.rust-lang.org"]),
    ("ubuntu", &["archive.ubuntu.com fetch", "security.ubuntu.com fetch", "ports.ubuntu.com fetch"]),
];

pub(crate) fn named(name: &str) -> Option<&'static [&'static str]> {
    PRESETS.iter().find(|(preset, _)| *preset == name).map(|(_, entries)| *entries)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_preset_can_be_read() {
        for (name, entries) in super::PRESETS {
            assert_eq!(crate::entry::read(name).map(|read| read.len()), Ok(entries.len()));
        }
    }
}
