//! What every test here needs: a scripted provider, a gateway before it, and things to say.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use domain::{
    budget::Budget,
    ids::{AttemptKey, AttemptNo, TaskId, TurnNo},
    ports::{
        Clock,
        model::{
            Access, CallNews, CallWatch, Credentials, Endpoint, Gateways, Message, Model, ModelFault, ModelReply,
            ModelRequest, Part, Role, ToolSpec,
        },
    },
    redact::Redactor,
};
use gateway::{
    Deadlines, Dialect, Gateway, Options, Retry,
    scripted::{Log, Record, Script, serve},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::AbortHandle};

use crate::ledger::MemoryLedger;

pub const DIALECTS: [Dialect; 2] = [Dialect::Anthropic, Dialect::OpenAi];

/// Is told, and does nothing.
pub struct Nobody;

impl CallWatch for Nobody {
    fn tell(&self, _: CallNews) {}
}

pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

pub struct Stage {
    pub gateway: Arc<Gateway>,
    pub ledger: Arc<MemoryLedger>,
    pub log: Log,
    pub address: SocketAddr,
    provider: AbortHandle,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.provider.abort();
    }
}

/// No pause worth speaking of.
pub fn quick(ledger: Arc<MemoryLedger>) -> Options {
    Options {
        retry: Retry { tries: 4, first: Duration::from_millis(1), in_all: Duration::from_secs(5) },
        ..Options::new(ledger, Arc::new(SystemClock))
    }
}

impl Stage {
    /// Plays one conversation of these replies to everyone.
    pub async fn of(replies: Value) -> Self {
        Self::playing(json!({"conversations": [{"replies": replies}]})).await
    }

    pub async fn playing(script: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Log::in_memory();
        let script = Script::parse(&script.to_string()).unwrap();
        let provider = tokio::spawn(serve(listener, script, log.clone())).abort_handle();
        let ledger = Arc::new(MemoryLedger::default());
        let gateway = Gateway::new(quick(Arc::clone(&ledger))).unwrap();
        Self { gateway, ledger, log, address, provider }
    }

    /// Has no patience with a provider's silence, from now on.
    pub fn hasten(&mut self) {
        let soon = Duration::from_millis(500);
        let deadlines = Deadlines { answer: soon, idle: soon, ..Deadlines::default() };
        self.gateway = Gateway::new(Options { deadlines, ..quick(Arc::clone(&self.ledger)) }).unwrap();
    }

    pub fn access(&self, dialect: Dialect, budget: Budget) -> Access {
        access(self.address, dialect, budget)
    }

    pub fn model(&self, dialect: Dialect) -> Arc<dyn Model> {
        self.gateway.model(self.access(dialect, Budget::default())).unwrap()
    }

    pub async fn endpoint(&self, dialect: Dialect) -> Endpoint {
        self.gateway.endpoint(self.access(dialect, Budget::default())).await.unwrap()
    }

    pub fn records(&self) -> Vec<Record> {
        self.log.records()
    }

    /// The records once there are this many: a request that its client gives up is recorded a little later.
    pub async fn recorded(&self, count: usize) -> Vec<Record> {
        while self.records().len() < count {
            tokio::task::yield_now().await;
        }
        self.records()
    }

    /// The statuses that the provider gave, in order.
    pub fn statuses(&self) -> Vec<u16> {
        self.records().iter().map(|record| record.status).collect()
    }
}

pub fn access(address: SocketAddr, dialect: Dialect, budget: Budget) -> Access {
    let credentials = Credentials(
        [
            ("ANTHROPIC_BASE_URL", format!("http://{address}")),
            ("ANTHROPIC_API_KEY", "real-anthropic-key".to_owned()),
            ("GEMINI_BASE_URL", format!("http://{address}/v1beta")),
            ("GOOGLE_API_KEY", "real-gemini-key".to_owned()),
            ("OPENAI_BASE_URL", format!("http://{address}/v1")),
            ("OPENAI_API_KEY", "real-openai-key".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
    );
    let model = match dialect {
        Dialect::Anthropic => "claude-sonnet-5-5",
        Dialect::Gemini => "gemini-3.8-flash",
        Dialect::OpenAi => "gpt-6.1-sol",
    };
    let key = AttemptKey { task: TaskId(1), attempt: AttemptNo(1) };
    Access {
        key,
        turn: TurnNo(1),
        model: model.to_owned(),
        credentials,
        budget,
        purses: Vec::new(),
        redactor: Arc::new(Redactor::default()),
        watch: Arc::new(Nobody),
    }
}

pub fn real_key(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "real-anthropic-key",
        Dialect::Gemini => "real-gemini-key",
        Dialect::OpenAi => "real-openai-key",
    }
}

pub fn said(text: &str) -> Message {
    Message { role: Role::User, parts: vec![Part::Text { text: text.to_owned() }] }
}

pub fn tools() -> Vec<ToolSpec> {
    let schema = r#"{"type":"object","properties":{"command":{"type":"string"}},"required":["command"]}"#;
    vec![ToolSpec { name: "shell".to_owned(), description: "Runs it.".to_owned(), schema: schema.to_owned() }]
}

pub async fn ask(model: &dyn Model, messages: &[Message]) -> Result<ModelReply, ModelFault> {
    model.reply(ModelRequest { system: "Be good.", tools: &tools(), messages, max_output: 1000 }).await
}

/// What is asked when it does not matter what.
pub async fn ask_once(model: &dyn Model) -> Result<ModelReply, ModelFault> {
    ask(model, &[said("hello")]).await
}

pub fn text_of(reply: &ModelReply) -> String {
    let texts = reply.message.parts.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.as_str()),
        Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
    });
    texts.collect()
}
