//! Errors on the wire: RFC 9457 problem details with what a [`Fault`] says.

use domain::{Fault, FaultClass};
use serde::{Deserialize, Serialize};

/// Body of every answer with a status of 400 or above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:overnight:` and the class.
    #[serde(rename = "type")]
    pub kind: String,
    /// The class in words; the same for every problem of it.
    pub title: String,
    pub status: u16,
    /// What went wrong, and where.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    pub class: FaultClass,
}

impl Problem {
    pub fn new(status: u16, fault: Fault) -> Self {
        let (word, title) = match fault.class {
            FaultClass::Input => ("input", "What was asked for cannot be"),
            FaultClass::NotFound => ("not-found", "There is no such thing"),
            FaultClass::Conflict => ("conflict", "The state does not allow it now"),
            FaultClass::Environment => ("environment", "The machine lacks something"),
            FaultClass::Transient => ("transient", "Trying again later can help"),
            FaultClass::Fenced => ("fenced", "Another daemon has taken over this home"),
            FaultClass::Bug => ("bug", "Overnight made a mistake"),
        };
        Self {
            kind: format!("urn:overnight:{word}"),
            title: title.to_owned(),
            status,
            detail: fault.what,
            hint: fault.hint,
            class: fault.class,
        }
    }
}

/// The status of a fault's class where the place says nothing more precise.
pub fn status_of(class: FaultClass) -> u16 {
    match class {
        FaultClass::Input => 422,
        FaultClass::NotFound => 404,
        FaultClass::Conflict => 409,
        FaultClass::Environment | FaultClass::Transient | FaultClass::Fenced => 503,
        FaultClass::Bug => 500,
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::new(status_of(fault.class), fault)
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self { class: problem.class, what: problem.detail, hint: problem.hint }
    }
}
