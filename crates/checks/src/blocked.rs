//! Hosts that an execution was not let reach, told with what came of it.

use domain::ports::egress::Refusal;

use crate::parse::cut;

/// Different ones kept of one execution.
pub(crate) const MOST: usize = 20;
/// Hosts named in a reason, and bytes of each.
const NAMED: usize = 5;
const NAME: usize = 100;

/// As a run keeps them: `pypi.org:443`.
pub(crate) fn places(refusals: &[Refusal]) -> Vec<String> {
    refusals.iter().map(|refusal| format!("{}:{}", refusal.host, refusal.port)).collect()
}

/// One clause for a reason; `None` where nothing was refused.
pub(crate) fn clause(refusals: &[Refusal]) -> Option<String> {
    let mut entries: Vec<&str> = refusals.iter().filter_map(|refusal| refusal.entry.as_deref()).collect();
    entries.sort_unstable();
    entries.dedup();
    let barred: Vec<String> = refusals
        .iter()
        .filter(|refusal| refusal.entry.is_none())
        .map(|refusal| format!("{} ({})", cut(&refusal.host, NAME), refusal.why))
        .collect();
    let them = if entries.len() == 1 { "it" } else { "them" };
    let allowable = (!entries.is_empty())
        .then(|| format!("{} — add {them} to [checks] network in overnight.toml", listed(&entries)));
    let barred = (!barred.is_empty()).then(|| listed(&barred));
    let parts: Vec<String> = barred.into_iter().chain(allowable).collect();
    (!parts.is_empty()).then(|| format!("blocked: {}", parts.join(", ")))
}

fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let shown = names.iter().take(NAMED).map(|name| cut(name.as_ref(), NAME)).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(host: &str, entry: Option<&str>) -> Refusal {
        let why = "not on the allow-list".to_owned();
        Refusal { host: host.to_owned(), port: 443, why, entry: entry.map(str::to_owned), by: None }
    }

    #[test]
    fn the_clause_says_what_to_add() {
        assert_eq!(clause(&[]), None);
        let pypi = refusal("pypi.org", Some("pypi.org"));
        let told = "blocked: pypi.org — add it to [checks] network in overnight.toml";
        assert_eq!(clause(std::slice::from_ref(&pypi)).as_deref(), Some(told));
        let metadata = refusal("169.254.169.254", None);
        assert_eq!(
            clause(&[pypi, refusal("a.example", Some("a.example:8080")), metadata]).as_deref(),
            Some(
                "blocked: 169.254.169.254 (not on the allow-list), a.example:8080, pypi.org — add them to [checks] network in overnight.toml"
            )
        );
        let many: Vec<Refusal> = (0..9).map(|nth| refusal("x", Some(&"é".repeat(90 + nth)))).collect();
        let told = clause(&many).unwrap();
        assert!(told.contains("and 4 more") && told.len() < 700, "{told}");
    }
}
