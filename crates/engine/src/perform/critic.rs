//! A second model's word on a plan, before a person sees it.

use domain::ports::model::{Message, Model, ModelRequest, Part, Role};

const SYSTEM: &str = "You review a plan for a change to a repository before a person approves it. Say in at most eight lines what is \
    wrong, missing, risky or needless in it, naming the numbers of its steps, the most important first. If it is sound, say so in one \
    line. Do not rewrite the plan.";
const MAX_OUTPUT: u32 = 1024;

/// The plan with the criticism under it; the plan alone, and why, where there is none.
pub(super) async fn criticise(critic: &dyn Model, name: &str, brief: &str, plan: &str) -> String {
    let text = format!("What is wanted:\n\n{brief}\n\nThe plan:\n\n{plan}");
    let messages = [Message { role: Role::User, parts: vec![Part::Text { text }] }];
    let request = ModelRequest { system: SYSTEM, tools: &[], messages: &messages, max_output: MAX_OUTPUT };
    let words = match critic.reply(request).await {
        Ok(reply) => texts(&reply.message),
        Err(fault) => format!("(no criticism: {fault})"),
    };
    format!("{plan}\n\n---\nCriticism by {name} (an opinion):\n{words}")
}

fn texts(message: &Message) -> String {
    let texts = message.parts.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.trim()),
        Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}
