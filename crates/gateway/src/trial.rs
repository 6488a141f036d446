//! One real call of a few tokens, to see whether a model answers.

use std::{sync::Arc, time::Instant};

use domain::{
    Fault,
    budget::{Budget, Purse},
    ids::{AttemptKey, AttemptNo, TaskId, TurnNo},
    ports::model::{
        Access, CallNews, CallWatch, Credentials, Message, ModelFault, ModelRequest, Part, Role, TriedModel,
    },
};

use crate::call::{BoundModel, Told};

/// The output cap: models that think before they speak need some room for it.
const TOKENS: u32 = 1024;

/// Hears of the calls of no attempt.
struct Nobody;

impl CallWatch for Nobody {
    fn tell(&self, _: CallNews) {}
}

/// Of no task: it is paid from the purses alone.
pub(crate) fn access(model: String, credentials: Credentials, purses: Vec<Purse>) -> Access {
    Access {
        key: AttemptKey { task: TaskId(0), attempt: AttemptNo(0) },
        turn: TurnNo(0),
        model,
        credentials,
        budget: Budget::default(),
        purses,
        redactor: Arc::default(),
        watch: Arc::new(Nobody),
    }
}

/// See [`domain::ports::model::Gateways::try_out`].
pub(crate) async fn run(model: &BoundModel, name: String) -> Result<TriedModel, Fault> {
    let text = "Answer with the one word: ready".to_owned();
    let messages = [Message { role: Role::User, parts: vec![Part::Text { text }] }];
    let request = ModelRequest { system: "", tools: &[], messages: &messages, max_output: TOKENS };
    let begun = Instant::now();
    let Told { reply, counted, route } = model.told(&request).await.map_err(|fault| match fault {
        ModelFault::Port(fault) => fault,
        ModelFault::Held { .. } | ModelFault::Unavailable(_) => Fault::transient(fault.to_string()),
        fault => Fault::input(fault.to_string()),
    })?;
    let said = reply.message.parts.into_iter().filter_map(|part| match part {
        Part::Text { text } => Some(text),
        Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
    });
    let price = model.chain.catalogue().price(&route.provider, &route.model, model.upstream.today());
    Ok(TriedModel {
        // A fallback answers in its own name.
        name: if route.is_fallback { format!("{}/{}", route.provider, route.model) } else { name },
        host: route.account.host.clone(),
        account: route.account.name.clone(),
        text: said.collect(),
        usage: reply.usage,
        cost: price.map(|price| price.cost(&counted)),
        milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}
