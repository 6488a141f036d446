//! Measures the gateway against a scripted provider in a process of its own: time added to a call, and what a thousand calls at
//! once take. `cargo run --release -p gateway --example calls`

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    Fault,
    budget::{Amount, Budget, Spend},
    ids::{AttemptKey, AttemptNo, TaskId},
    ports::{
        BoxFuture, Clock,
        model::{
            Access, Credentials, Gateways, Ledger, Message, Model, ModelRequest, OverBudget, Part, Reservation, Role,
            Settlement,
        },
    },
};
use futures::future::join_all;
use gateway::{Gateway, Options, Retry};

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Has room for everything, at once.
struct Free;

impl Ledger for Free {
    fn reserve(&self, _: Reservation) -> BoxFuture<'_, Result<Result<(), OverBudget>, Fault>> {
        Box::pin(async { Ok(Ok(())) })
    }

    fn settle(&self, _: Settlement) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }

    fn spent(&self, _: TaskId) -> BoxFuture<'_, Result<(Spend, Amount), Fault>> {
        Box::pin(async { Ok(Default::default()) })
    }
}

struct Now;

impl Clock for Now {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

/// A scripted provider, ended with this.
struct Provider {
    process: Child,
    address: SocketAddr,
}

impl Provider {
    fn start(latency_ms: u64) -> Result<Self, Problem> {
        let directory = tempfile::tempdir()?;
        let script = directory.path().join("script.json");
        let reply = r#"{"text":"well","tools":[{"name":"shell","arguments":{"command":"ls"}}]}"#;
        let replies = format!(r#"{{"latency_ms":{latency_ms},"conversations":[{{"replies":[],"default":{reply}}}]}}"#);
        std::fs::write(&script, replies)?;
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--script")
            .arg(&script)
            .args(["--log", "/dev/null"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://").ok_or("no address")?.parse()?;
        Ok(Self { process, address })
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn model(gateway: &Gateway, base: String) -> Result<Arc<dyn Model>, Fault> {
    let credentials = Credentials([("ANTHROPIC_BASE_URL".to_owned(), base)].into());
    let key = AttemptKey { task: TaskId(1), attempt: AttemptNo(1) };
    gateway.model(Access { key, model: "anthropic/scripted".to_owned(), credentials, budget: Budget::default() })
}

/// A conversation of this many messages, about 1 KB each.
fn messages(count: usize) -> Vec<Message> {
    let part = |number: usize| Part::Text { text: format!("{number} {}", "words of a tool's output\n".repeat(40)) };
    let role = |number: usize| if number.is_multiple_of(2) { Role::User } else { Role::Assistant };
    (0..count).map(|number| Message { role: role(number), parts: vec![part(number)] }).collect()
}

async fn ask(model: &dyn Model, messages: &[Message]) -> Result<(), Problem> {
    model.reply(ModelRequest { system: "Be good.", tools: &[], messages, max_output: 4096 }).await?;
    Ok(())
}

fn status(name: &str) -> Result<u64, Problem> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

/// Processor time of this process so far.
fn processor() -> Result<Duration, Problem> {
    let stat = std::fs::read_to_string("/proc/self/schedstat")?;
    let tasks = std::fs::read_dir("/proc/self/task")?;
    let own: u64 = stat.split_whitespace().next().unwrap_or("0").parse()?;
    let mut all = 0;
    for task in tasks {
        let stat = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        all += stat.split_whitespace().next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(all.max(own)))
}

async fn one_by_one(gateway: &Gateway) -> Result<(), Problem> {
    let provider = Provider::start(0)?;
    let model = model(gateway, format!("http://{}", provider.address))?;
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
    let conversation = messages(19);
    let body = {
        let said: Vec<_> = conversation
            .iter()
            .map(|message| match &message.parts[0] {
                Part::Text { text } => {
                    serde_json::json!({"role": format!("{:?}", message.role).to_lowercase(), "content": text})
                }
                _ => serde_json::Value::Null,
            })
            .collect();
        serde_json::json!({"model": "scripted", "stream": true, "messages": said}).to_string()
    };
    let url = format!("http://{}/v1/messages", provider.address);
    let (mut bare, mut through) = (Vec::new(), Vec::new());
    for _ in 0..2000 {
        let begin = Instant::now();
        client.post(&url).body(body.clone()).send().await?.bytes().await?;
        bare.push(begin.elapsed());
        let begin = Instant::now();
        ask(model.as_ref(), &conversation).await?;
        through.push(begin.elapsed());
    }
    bare.sort();
    through.sort();
    let (bare, through) = ((bare[1000], bare[1980]), (through[1000], through[1980]));
    println!("a call of {} KB, median and 99 %: bare {bare:?}, through the gateway {through:?}", body.len() / 1024);
    Ok(())
}

async fn all_at_once(gateway: &Gateway) -> Result<(), Problem> {
    const CALLS: usize = 1000;
    const ROUNDS: usize = 10;
    let provider = Provider::start(200)?;
    let model = model(gateway, format!("http://{}", provider.address))?;
    let (before, processor_before, begin) = (status("VmRSS")?, processor()?, Instant::now());
    let conversations = join_all((0..CALLS).map(|_| async {
        for round in 0..ROUNDS {
            ask(model.as_ref(), &messages(2 * round + 1)).await?;
        }
        Ok::<_, Problem>(())
    }));
    for outcome in conversations.await {
        outcome?;
    }
    let (wall, processor) = (begin.elapsed(), processor()? - processor_before);
    println!(
        "{CALLS} conversations of {ROUNDS} rounds at once: {wall:?}, {:?} of processor time a call, {} KB each at the most",
        processor / u32::try_from(CALLS * ROUNDS)?,
        (status("VmHWM")? - before) / CALLS as u64,
    );
    Ok(())
}

async fn secure(options: Options) -> Result<(), Problem> {
    let gateway = Gateway::new(Options { retry: Retry { tries: 1, ..options.retry }, ..options });
    let before = status("VmRSS")?;
    let begin = Instant::now();
    let refused = ask(model(&gateway, "https://127.0.0.1:9".to_owned())?.as_ref(), &messages(1)).await;
    println!(
        "the first secure call: {} KB, {:?} ({})",
        status("VmRSS")?.saturating_sub(before),
        begin.elapsed(),
        refused.err().map(|err| err.to_string()).unwrap_or_default()
    );
    Ok(())
}

fn main() -> Result<(), Problem> {
    if std::env::args().len() > 1 {
        match gateway::scripted::main_args(std::env::args().skip(1))? {}
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let options = Options::new(Arc::new(Free), Arc::new(Now));
        let gateway = Gateway::new(options.clone());
        one_by_one(&gateway).await?;
        all_at_once(&gateway).await?;
        secure(options).await
    })
}
