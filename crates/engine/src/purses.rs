//! What is left of the budgets that several tasks share.

use std::collections::BTreeMap;

use domain::{
    Fault,
    budget::{Amount, BudgetRule, Spend, Spender, Whose, purses},
    ids::AttemptKey,
    ports::store::SummaryQuery,
    summary::Phase,
};

use crate::{Handle, perform::reach};

/// A purse as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurseState {
    pub rule: BudgetRule,
    /// See [`domain::budget::Purse`].
    pub key: String,
    pub spent: Spend,
    /// What calls that are out hold of it on top.
    pub reserved: Amount,
}

impl Handle {
    /// The purses of today: those of this person, and those that tasks which have not ended spend from. By rule, then by key.
    pub async fn purses(&self, person: &str) -> Result<Vec<PurseState>, Fault> {
        let rules = &self.core.site.terms.budgets;
        if rules.is_empty() {
            return Ok(Vec::new());
        }
        let today = reach::today(&self.core.site);
        let mut open = vec![(None, person.to_owned(), BTreeMap::new())];
        // Whose purse it is stands in a task's brief alone where labels or attempts have purses.
        let phases = vec![Phase::Working, Phase::NeedsYou, Phase::Landing, Phase::Closing];
        let query = SummaryQuery { phases, limit: u32::MAX, ..SummaryQuery::default() };
        for summary in self.ports().store.summaries(query).await? {
            let Some(task) = self.ports().store.task(summary.id).await? else { continue };
            let keys = task.attempts.iter().map(|attempt| AttemptKey { task: task.id, attempt: attempt.no });
            let person = task.submitted_by.to_string();
            open.extend(keys.map(|key| (Some(key), person.clone(), task.brief.labels.clone())));
        }
        let mut states = Vec::new();
        for rule in rules {
            let mut keys = Vec::new();
            for (key, person, labels) in &open {
                if key.is_none() && rule.of == Whose::Attempt {
                    continue;
                }
                let spender = Spender { key: *key, person, labels };
                keys.extend(purses(std::slice::from_ref(rule), spender, today).into_iter().map(|purse| purse.key));
            }
            keys.sort();
            keys.dedup();
            for key in keys {
                let (spent, reserved) = self.ports().ledger.spent_from(key.clone()).await?;
                states.push(PurseState { rule: rule.clone(), key, spent, reserved });
            }
        }
        Ok(states)
    }
}
