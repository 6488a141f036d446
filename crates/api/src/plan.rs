//! Plans as people speak of them: by the numbers of their steps.

use domain::Fault;

use crate::wire::StepComment;

/// The most that is quoted of a step, in characters.
const QUOTED: usize = 300;

/// What a refinement says to the agent: each remark under the step that it is on, then what is said of the whole plan. A plan that
/// is `None` is not open, and its steps are named by their numbers only.
///
/// Errors: `Input` for a step that the plan does not have.
pub(crate) fn refinement(plan: Option<&str>, comments: &[StepComment], whole: Option<&str>) -> Result<String, Fault> {
    let steps = plan.map(steps);
    let mut parts = Vec::new();
    for StepComment { step, text } in comments {
        if text.trim().is_empty() {
            return Err(Fault::input(format!("the comment on step {step} is empty")).hint("say something"));
        }
        let quoted = match &steps {
            None => String::new(),
            Some(steps) => match steps.iter().find(|(number, _)| number == step) {
                Some((_, words)) => format!(": {}", words.chars().take(QUOTED).collect::<String>()),
                None => return Err(no_step(*step, steps)),
            },
        };
        parts.push(format!("> step {step}{quoted}\n\n{}", text.trim()));
    }
    parts.extend(whole.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()));
    Ok(parts.join("\n\n"))
}

fn no_step(step: u32, steps: &[(u32, &str)]) -> Fault {
    let hint = match (steps.first(), steps.last()) {
        (Some((first, _)), Some((last, _))) => format!("its steps are {first} to {last}"),
        _ => "its steps have no numbers: say it of the whole plan, with `refine`".to_owned(),
    };
    Fault::input(format!("the plan has no step {step}")).hint(hint)
}

/// Lines that begin with a number and `.` or `)` are steps, and end with their line. Those that stand under another are part of it.
fn steps(plan: &str) -> Vec<(u32, &str)> {
    plan.lines().filter_map(step).collect()
}

fn step(line: &str) -> Option<(u32, &str)> {
    let words = line.trim_start_matches(' ');
    if line.len() - words.len() >= 3 {
        return None;
    }
    let digits = words.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = words.split_at_checked(digits)?;
    let rest = rest.strip_prefix(['.', ')'])?.strip_prefix(' ')?;
    Some((number.parse().ok()?, rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str =
        "First a word.\n1. Read the parser\n   1. its tests\n2) Mend `parse`\n3. Run the tests\n\n---\nCriticism: none";

    fn comment(step: u32, text: &str) -> StepComment {
        StepComment { step, text: text.to_owned() }
    }

    #[test]
    fn remarks_quote_their_steps() {
        let said = refinement(Some(PLAN), &[comment(2, "not by regex"), comment(3, "all of them")], Some("Be quick."))
            .unwrap();
        assert_eq!(
            said,
            "> step 2: Mend `parse`\n\nnot by regex\n\n> step 3: Run the tests\n\nall of them\n\nBe quick."
        );
    }

    #[test]
    fn a_step_that_is_not_there_is_refused_with_those_that_are() {
        let fault = refinement(Some(PLAN), &[comment(7, "x")], None).unwrap_err();
        assert_eq!(
            (fault.what.as_str(), fault.hint.as_deref()),
            ("the plan has no step 7", Some("its steps are 1 to 3"))
        );
        let fault = refinement(Some("Just do it."), &[comment(1, "x")], None).unwrap_err();
        assert!(fault.hint.unwrap().contains("no numbers"));
        assert_eq!(refinement(None, &[comment(1, "x")], None).unwrap(), "> step 1\n\nx");
    }
}
