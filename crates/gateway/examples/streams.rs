//! Measures the proxy between a client and a scripted provider, each a process of its own: what it adds to a streamed call with 50 at
//! once, its processor time for a request of 50 KB, and what a thousand open streams weigh. Prints a figure a line, for
//! `cargo xtask bench gateway`. `cargo run --release -p gateway --example streams`

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    Fault,
    budget::{Amount, Budget, Spend},
    ids::{AttemptKey, AttemptNo, TaskId, TurnNo},
    ports::{
        BoxFuture, Clock,
        ledger::{Ledger, OverBudget, Reservation, Settlement},
        model::{Access, CallNews, CallWatch, Credentials, Gateways},
        record::{Exchange, Records},
    },
};
use futures::future::join_all;
use gateway::{Gateway, Options};
use reqwest::Client;
use serde_json::json;

type Problem = Box<dyn std::error::Error + Send + Sync>;

const AT_ONCE: usize = 50;
const CALLS_EACH: usize = 60;
const STREAMS: usize = 1000;
/// Long enough that the three processes leave the cores idle most of the time.
const LATENCY_MS: u64 = 250;
const REQUEST_BYTES: usize = 50_000;

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

    fn spent_from(&self, _: String) -> BoxFuture<'_, Result<(Spend, Amount), Fault>> {
        Box::pin(async { Ok(Default::default()) })
    }
}

impl Records for Free {
    fn append(&self, _: AttemptKey, _: Exchange) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }

    fn exchanges(&self, _: AttemptKey) -> BoxFuture<'_, Result<Vec<Exchange>, Fault>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn expire(&self, _: jiff::Timestamp) -> BoxFuture<'_, Result<u64, Fault>> {
        Box::pin(async { Ok(0) })
    }
}

struct Now;

impl Clock for Now {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

struct Nobody;

impl CallWatch for Nobody {
    fn tell(&self, _: CallNews) {}
}

/// A part of this program as a process of its own, ended with this.
struct Part {
    process: Child,
    /// What it said first, word by word.
    said: Vec<String>,
}

impl Part {
    fn start(arguments: &[&str]) -> Result<Self, Problem> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self { process, said: line.split_whitespace().map(str::to_owned).collect() })
    }

    fn last(&self) -> &str {
        self.said.last().map(String::as_str).unwrap_or_default()
    }

    /// Processor time of all its threads so far.
    fn processor(&self) -> Result<Duration, Problem> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let times = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += times.split_whitespace().next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Its resident memory, in kilobytes.
    fn memory(&self) -> Result<u64, Problem> {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id()))?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).ok_or("no such line")?;
        Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn provider(script: &serde_json::Value) -> Result<Part, Problem> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("script.json");
    std::fs::write(&file, script.to_string())?;
    Part::start(&["--script", file.to_str().ok_or("a path that is no text")?, "--log", "/dev/null"])
}

/// Serves until its input ends; says where, and with which token.
async fn serve(provider: String) -> Result<(), Problem> {
    let options = Options { records: Some(Arc::new(Free)), ..Options::new(Arc::new(Free), Arc::new(Now)) };
    let gateway = Gateway::new(options)?;
    let access = Access {
        key: AttemptKey { task: TaskId(1), attempt: AttemptNo(1) },
        turn: TurnNo(1),
        model: "claude-sonnet-5-5".to_owned(),
        credentials: Credentials([("ANTHROPIC_BASE_URL".to_owned(), provider)].into()),
        budget: Budget::default(),
        purses: Vec::new(),
        redactor: Arc::default(),
        watch: Arc::new(Nobody),
    };
    let endpoint = gateway.endpoint(access).await?;
    println!("{} {}", endpoint.token, endpoint.url);
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

fn body() -> bytes::Bytes {
    let words = "words of a tool's output\n".repeat(REQUEST_BYTES / 25);
    let body = json!({"model": "claude-sonnet-5-5", "max_tokens": 1000, "stream": true, "messages": [{"role": "user", "content": words}]});
    body.to_string().into()
}

/// One way to the provider.
struct Way {
    client: Client,
    url: String,
    token: String,
}

impl Way {
    fn new(url: &str, token: &str) -> Result<Self, Problem> {
        let client = Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(AT_ONCE).build()?;
        Ok(Self { client, url: format!("{url}/v1/messages"), token: token.to_owned() })
    }

    async fn ask(&self, body: &bytes::Bytes) -> Result<reqwest::Response, Problem> {
        let request = self.client.post(&self.url).header("x-api-key", &self.token).body(body.clone());
        Ok(request.send().await?.error_for_status()?)
    }

    async fn time(&self, body: &bytes::Bytes) -> Result<f64, Problem> {
        let begun = Instant::now();
        self.ask(body).await?.bytes().await?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}

fn at(samples: &mut [f64], part: usize) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[(samples.len() - 1) * part / 100]
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn latency() -> Result<(), Problem> {
    let reply = json!({"text": "words ".repeat(300)});
    let provider = provider(&json!({"latency_ms": LATENCY_MS, "conversations": [{"replies": [reply]}]}))?;
    let gateway = Part::start(&["--serve", provider.last()])?;
    let ways = Arc::new([Way::new(provider.last(), "none")?, Way::new(gateway.last(), &gateway.said[0])?]);
    let body = body();
    for way in &*ways {
        join_all((0..AT_ONCE).map(|_| way.time(&body))).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    let before = gateway.processor()?;
    let clients = (0..AT_ONCE).map(|number| {
        let (ways, body) = (Arc::clone(&ways), body.clone());
        tokio::spawn(async move {
            // So that they do not all come in the same instant, which agents do not either.
            tokio::time::sleep(Duration::from_millis(LATENCY_MS * number as u64 / AT_ONCE as u64)).await;
            let mut times = [Vec::new(), Vec::new()];
            for call in 0..2 * CALLS_EACH {
                let way = (call + number) % 2;
                times[way].push(ways[way].time(&body).await?);
            }
            Ok::<_, Problem>(times)
        })
    });
    let mut all = [Vec::new(), Vec::new()];
    for times in join_all(clients).await {
        for (all, times) in all.iter_mut().zip(times??) {
            all.extend(times);
        }
    }
    let processor = (gateway.processor()? - before).as_secs_f64() * 1e3 / (AT_ONCE * CALLS_EACH) as f64;
    let [direct, through] = &mut all;
    println!("added_p50_ms {:.3}", at(through, 50) - at(direct, 50));
    println!("added_p99_ms {:.3}", at(through, 99) - at(direct, 99));
    println!("direct_p50_ms {:.3}", at(direct, 50));
    println!("processor_ms {processor:.3}");
    Ok(())
}

async fn streams() -> Result<(), Problem> {
    let reply = json!({"text": "words ".repeat(300), "fault": "stall"});
    let provider = provider(&json!({"conversations": [{"replies": [reply]}]}))?;
    let gateway = Part::start(&["--serve", provider.last()])?;
    let way = Way::new(gateway.last(), &gateway.said[0])?;
    let body = body();
    let idle = gateway.memory()?;
    let mut open = Vec::new();
    while open.len() < STREAMS {
        for answer in join_all((0..AT_ONCE).map(|_| way.ask(&body))).await {
            let mut answer = answer?;
            answer.chunk().await?.ok_or("the stream has no beginning")?;
            open.push(answer);
        }
    }
    println!("idle_mb {:.1}", idle as f64 / 1024.0);
    println!("streams_mb {:.1}", gateway.memory()? as f64 / 1024.0);
    Ok(())
}

fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // A thousand streams are two thousand sockets.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, ..limit },
    )?;
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match arguments.first().map(String::as_str) {
        Some("--serve") => runtime()?.block_on(serve(arguments[1].clone())),
        Some(_) => match gateway::scripted::main_args(arguments)? {},
        None => runtime()?.block_on(async {
            latency().await?;
            streams().await
        }),
    }
}
