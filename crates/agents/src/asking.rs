//! How an agent that has no tool for it asks a person: by lines at the end of its last message.

use domain::ports::agent::TurnConclusion;

/// Told to such agents in the prompt that opens a session.
pub(crate) const HOW: &str = "If only a person can decide something, do not guess: end your turn with a message whose last lines are \
    `[QUESTION] what you want to know`, a line `[CHOICE] …` for each choice if there are some, and `[DEFAULT] …` for what is to be taken \
    if nobody answers within a day.";

/// The longest question, choice or default, in characters; and how many choices.
const LONGEST: usize = 2000;
const CHOICES: usize = 10;

/// The question that ends these words, if they end with one.
pub(crate) fn asked(words: &str) -> Option<TurnConclusion> {
    let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let at = lines.iter().rposition(|line| line.starts_with("[QUESTION]"))?;
    let question = marked(lines[at], "[QUESTION]")?;
    let (mut choices, mut default) = (Vec::new(), None);
    for line in &lines[at + 1..] {
        if let Some(choice) = marked(line, "[CHOICE]") {
            choices.push(choice);
        } else {
            // Anything else behind it says that the agent went on.
            default = Some(marked(line, "[DEFAULT]")?);
        }
    }
    choices.truncate(CHOICES);
    Some(TurnConclusion::Asked { question, choices, default })
}

fn marked(line: &str, mark: &str) -> Option<String> {
    let rest: String = line.strip_prefix(mark)?.trim().chars().take(LONGEST).collect();
    (!rest.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_what_the_last_lines_ask() {
        let asks = asked("I cannot tell.\n\n[QUESTION] Two or three?\n[CHOICE] two\n[CHOICE] three\n[DEFAULT] two\n");
        let (question, choices) = ("Two or three?".to_owned(), vec!["two".to_owned(), "three".to_owned()]);
        assert_eq!(asks, Some(TurnConclusion::Asked { question, choices, default: Some("two".to_owned()) }));
        assert_eq!(asked("[QUESTION] Two?\nI took two."), None);
        assert_eq!(asked("[QUESTION]  \n"), None);
        assert_eq!(asked("All done. I asked [QUESTION] nothing."), None);
    }
}
