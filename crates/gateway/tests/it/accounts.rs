//! Several accounts and models: who is asked next, who is asked no more, and what is told while nobody can be.

use std::sync::{Arc, Mutex};

use domain::{
    budget::Budget,
    ports::model::{
        Access, Barrier, CallNews, CallWatch, Credentials, Endpoint, Gateways, ModelAsk, ModelFault, Protocol,
    },
};
use gateway::{Dialect, Gateway, KeyHeader, ModelConfig, Options, ProviderConfig};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    proxy::post,
    stage::{Stage, ask_once, quick, text_of},
};

#[derive(Default)]
struct Heard(Mutex<Vec<CallNews>>);

impl CallWatch for Heard {
    fn tell(&self, news: CallNews) {
        self.0.lock().unwrap().push(news);
    }
}

impl Heard {
    fn take(&self) -> Vec<CallNews> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Two accounts of `OpenAI`'s, each at a place of its own.
fn two(first: &Stage, second: &Stage, heard: &Arc<Heard>) -> Access {
    let mut access = first.access(Dialect::OpenAi, Budget::default());
    let credentials = [
        ("OPENAI_API_KEY", "plain".to_owned()),
        ("OPENAI_BASE_URL", format!("http://{}/v1", first.address)),
        ("OPENAI_API_KEY@work", "work".to_owned()),
        ("OPENAI_BASE_URL@work", format!("http://{}/v1", second.address)),
    ];
    access.credentials = Credentials(credentials.map(|(name, value)| (name.to_owned(), value)).into());
    access.watch = Arc::clone(heard) as _;
    access
}

fn keys(stage: &Stage) -> Vec<String> {
    stage.records().into_iter().filter_map(|record| record.key).collect()
}

const BODY: &str = r#"{"model":"gpt-6.1-sol","max_tokens":9,"messages":[{"role":"user","content":"hello"}]}"#;

async fn chat(endpoint: &Endpoint) -> (u16, Value) {
    let answer = post(endpoint, "/v1/chat/completions", &serde_json::from_str(BODY).unwrap()).await;
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn an_account_out_of_quota_is_left_alone_by_every_attempt_until_it_is_whole_again() {
    let empty = Stage::of(json!([{"fault": "429", "retry_after": 3600}])).await;
    let full = Stage::of(json!([{"text": "hi"}])).await;
    let heard = Arc::new(Heard::default());
    for _ in 0..3 {
        let model = empty.gateway.model(two(&empty, &full, &heard)).unwrap();
        assert_eq!(text_of(&ask_once(model.as_ref()).await.unwrap()), "hi");
    }
    let endpoint = empty.gateway.endpoint(two(&empty, &full, &heard)).await.unwrap();
    assert_eq!(chat(&endpoint).await.0, 200);
    assert_eq!(keys(&empty), ["plain"], "asked once");
    assert_eq!(keys(&full), ["work"; 4]);
    assert!(!heard.take().iter().any(|news| matches!(news, CallNews::Refused(_))));
    let settled = empty.ledger.settlements().await;
    assert!(settled.len() == 4 && settled.iter().all(|one| !one.estimated), "each call has one reservation");
}

#[tokio::test]
async fn a_dead_key_is_tried_once_by_each_attempt() {
    let dead = Stage::of(json!([{"text": "who", "fault": "401"}])).await;
    let living = Stage::of(json!([{"text": "hi"}])).await;
    let heard = Arc::new(Heard::default());
    for attempt in 1..=2 {
        let model = dead.gateway.model(two(&dead, &living, &heard)).unwrap();
        for _ in 0..2 {
            assert_eq!(text_of(&ask_once(model.as_ref()).await.unwrap()), "hi");
        }
        assert_eq!(keys(&dead).len(), attempt);
    }
    assert!(!heard.take().iter().any(|news| matches!(news, CallNews::Refused(_))));
    let model = dead.gateway.model(two(&dead, &dead, &heard)).unwrap();
    for _ in 0..2 {
        let fault = ask_once(model.as_ref()).await.unwrap_err();
        assert!(matches!(&fault, ModelFault::DeadKey(why) if why.contains("who")), "{fault}");
    }
    assert_eq!(keys(&dead)[2..], ["plain", "work"], "neither is asked again");
    let refused = heard.take().into_iter().filter(|news| matches!(news, CallNews::Refused(Barrier::DeadKey { .. })));
    assert_eq!(refused.count(), 2);
}

#[tokio::test]
async fn while_all_are_out_of_quota_it_is_told_until_when() {
    let first = Stage::of(json!([{"text": "later", "fault": "429", "retry_after": 7200}])).await;
    let second = Stage::of(json!([{"text": "later", "fault": "529", "retry_after": 3600}])).await;
    let heard = Arc::new(Heard::default());
    let fits = |until: Timestamp| {
        let left = until.duration_since(Timestamp::now());
        left <= SignedDuration::from_hours(1) && left > SignedDuration::from_mins(55)
    };
    let model = first.gateway.model(two(&first, &second, &heard)).unwrap();
    let fault = ask_once(model.as_ref()).await.unwrap_err();
    assert!(matches!(&fault, ModelFault::Held { until, .. } if fits(*until)), "{fault}");
    let news = heard.take();
    assert!(
        matches!(
            &news[..],
            [CallNews::Asked, CallNews::Asked, CallNews::Answered, CallNews::Refused(Barrier::Held { .. })]
        ),
        "{news:?}"
    );
    let endpoint = first.gateway.endpoint(two(&first, &second, &heard)).await.unwrap();
    let refused = post(&endpoint, "/v1/chat/completions", &serde_json::from_str(BODY).unwrap()).await;
    assert_eq!(refused.status(), 429);
    let pause: i64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3500..=3601).contains(&pause), "{pause}");
    assert!(matches!(&heard.take()[..], [CallNews::Refused(Barrier::Held { until, .. })] if fits(*until)));
    assert_eq!((keys(&first).len(), keys(&second).len()), (1, 1));
    let infos = first.gateway.models(two(&first, &second, &heard).credentials).await;
    let held = infos.iter().find(|info| info.name == "gpt-6.1-sol").unwrap();
    assert!(held.held_until.is_some_and(fits), "{held:?}");
    assert_eq!(held.accounts, ["default", "work"]);
}

fn fallback(stage: &Stage, fallback: &str) -> Options {
    let model = ModelConfig {
        name: "main".to_owned(),
        provider: "openai".to_owned(),
        model: Some("gpt-6.1-sol".to_owned()),
        accounts: Vec::new(),
        fallbacks: vec![fallback.to_owned()],
        price: None,
        side: false,
    };
    Options { models: vec![model], ..quick(Arc::clone(&stage.ledger)) }
}

#[tokio::test]
async fn another_model_is_asked_when_the_first_ones_provider_is_down() {
    let down = Stage::of(json!([{"text": "down", "fault": "503"}])).await;
    let up = Stage::of(json!([{"text": "hi"}])).await;
    let gateway = Gateway::new(fallback(&down, "claude-sonnet-5-5")).unwrap();
    let mut access = down.access(Dialect::OpenAi, Budget::default());
    access.credentials.0.insert("ANTHROPIC_BASE_URL".to_owned(), format!("http://{}", up.address));
    access.model = "main".to_owned();
    let model = gateway.model(access.clone()).unwrap();
    assert_eq!(text_of(&ask_once(model.as_ref()).await.unwrap()), "hi");
    let settled = down.ledger.settlements().await;
    let paid: Vec<_> = settled.iter().map(|one| (one.model.as_str(), one.usage.total() > 0, one.estimated)).collect();
    assert_eq!(paid, [("gpt-6.1-sol", false, false), ("claude-sonnet-5-5", true, false)], "each by its own price");
    let endpoint = gateway.endpoint(access).await.unwrap();
    assert_eq!(endpoint.model, "gpt-6.1-sol");
    let (status, error) = chat(&endpoint).await;
    assert_eq!((status, &error["error"]["message"]), (503, &"down".into()), "no other model speaks this protocol");
}

#[tokio::test]
async fn a_clients_request_is_for_another_model_only_on_fail_over() {
    let down = Stage::of(json!([{"text": "hi"}, {"fault": "429", "retry_after": 3600}])).await;
    let up = Stage::of(json!([{"text": "from afar"}, {"text": "from afar"}])).await;
    let provider = ProviderConfig {
        name: "second".to_owned(),
        protocols: vec![Protocol::ChatCompletions],
        base_url: format!("http://{}/v1", up.address),
        key: Some("SECOND_KEY".to_owned()),
        header: KeyHeader::ApiKey,
        headers: [("x-team".to_owned(), "night".to_owned())].into(),
    };
    let options = Options { providers: vec![provider], ..fallback(&down, "second/local-1") };
    let gateway = Gateway::new(options).unwrap();
    let mut access = down.access(Dialect::OpenAi, Budget::default());
    access.credentials.0.insert("SECOND_KEY".to_owned(), "x".to_owned());
    access.model = "main".to_owned();
    let endpoint = gateway.endpoint(access).await.unwrap();
    assert_eq!(chat(&endpoint).await.1["choices"][0]["message"]["content"], "hi");
    assert_eq!(gateway.rewrites().models_renamed, 0);
    let mut again: Value = serde_json::from_str(BODY).unwrap();
    again["messages"]
        .as_array_mut()
        .unwrap()
        .extend([json!({"role": "assistant", "content": "hi"}), json!({"role": "user", "content": "and"})]);
    let answer = post(&endpoint, "/v1/chat/completions", &again).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["choices"][0]["message"]["content"], "from afar");
    assert_eq!(gateway.rewrites().models_renamed, 1);
    assert_eq!(up.records()[0].model, "local-1");
    assert_eq!(down.records().len(), 2);
}

#[tokio::test]
async fn a_trial_is_one_paid_call() {
    let stage = Stage::of(json!([{"text": "ready", "usage": {"input": 100, "output": 10}}])).await;
    let credentials = stage.access(Dialect::Anthropic, Budget::default()).credentials;
    let tried = stage.gateway.try_out("claude-sonnet-5-5".to_owned(), credentials.clone(), Vec::new()).await.unwrap();
    assert_eq!((tried.text.as_str(), tried.account.as_str(), tried.usage.total()), ("ready", "default", 110));
    assert_eq!((tried.cost.unwrap().0, tried.host), (300, stage.address.to_string()));
    assert_eq!(stage.ledger.settlements().await.len(), 1);
    let fault = stage.gateway.try_out("llama-9".to_owned(), credentials, Vec::new()).await.unwrap_err();
    assert!(fault.to_string().contains("llama-9"), "{fault}");
}

#[tokio::test]
async fn models_are_listed_with_what_is_known_of_them() {
    let stage = Stage::of(json!([])).await;
    let mut credentials = stage.access(Dialect::Anthropic, Budget::default()).credentials;
    // Nobody listens there.
    credentials.0.insert("VLLM_BASE_URL".to_owned(), "http://127.0.0.1:1/v1".to_owned());
    credentials.0.insert("AZURE_OPENAI_ENDPOINT".to_owned(), "https://x.openai.azure.com".to_owned());
    let config = |name: &str, provider: &str| ModelConfig {
        name: name.to_owned(),
        provider: provider.to_owned(),
        ..fallback(&stage, "gpt-6-sol").models.remove(0)
    };
    let models = vec![config("big", "azure"), config("local", "vllm"), config("main", "openai")];
    let gateway = Gateway::new(Options { models, ..quick(Arc::clone(&stage.ledger)) }).unwrap();
    let infos = gateway.models(credentials).await;
    let find = |name: &str| infos.iter().find(|info| info.name == name).unwrap_or_else(|| panic!("{name}: {infos:?}"));
    assert_eq!(find("claude-sonnet-5-5").reachable, Ok(Some(false)), "its list is there, and empty");
    assert!(find("claude-sonnet-5-5").priced_since.is_some());
    assert_eq!(find("big").reachable, Ok(None));
    assert_eq!(
        (find("big").price, &find("big").protocols[..]),
        (None, &[Protocol::Responses, Protocol::ChatCompletions][..])
    );
    let gone = find("local").reachable.as_ref().unwrap_err();
    assert!(gone.to_string().contains("127.0.0.1:1"), "{gone}");
    assert_eq!(find("main").price.unwrap().0.0, 2_000_000);
    assert!(!infos.iter().any(|info| info.provider == "ollama" || info.provider == "bedrock"), "nothing is guessed");
}

#[test]
fn a_configuration_that_cannot_be_says_why() {
    let ledger = Arc::new(crate::ledger::MemoryLedger::default());
    let read = |json: Value| -> Result<(), String> {
        let providers = serde_json::from_value(json["providers"].clone()).map_err(|err| err.to_string())?;
        let models = serde_json::from_value(json["models"].clone()).map_err(|err| err.to_string())?;
        let options = Options { providers, models, ..quick(Arc::clone(&ledger)) };
        Gateway::new(options).map(drop).map_err(|fault| fault.to_string())
    };
    let fine = json!({
        "providers": [{"name": "moon", "base_url": "https://api.moon.example/v1", "key": "MOON_KEY", "header": "x-api-key"}],
        "models": [{"name": "big", "provider": "moon", "model": "moon-3", "price": {"input": 0, "output": 1.5}, "fallbacks": ["gpt-6-sol"]}],
    });
    read(fine.clone()).unwrap();
    for (place, value, words) in [
        ("/providers/0/name", json!("openai"), "another provider `openai`"),
        ("/providers/0/name", json!("a/b"), "lower case"),
        ("/providers/0/base_url", json!("api.moon.example"), "base_url"),
        ("/providers/0/header", json!("cookie"), "cookie"),
        ("/models/0/provider", json!("sun"), "no provider `sun`"),
        ("/models/0/name", json!(""), "no name"),
        ("/models/0/fallbacks/0", json!("llama"), "`llama` is not known"),
        ("/models/0/price/output", json!(-1), "price"),
        ("/models/0/model", json!(7), "integer"),
    ] {
        let mut wrong = fine.clone();
        *wrong.pointer_mut(place).unwrap() = value;
        let told = read(wrong).unwrap_err();
        assert!(told.contains(words) || words == "no name" && told.contains("it has none"), "{place}: {told}");
    }
}

#[test]
fn an_agent_must_speak_what_its_models_provider_does() {
    let gateway = Gateway::new(quick(Arc::default())).unwrap();
    let resolve = |name, protocols: &[Protocol], set: &[(&str, &str)]| {
        let credentials =
            Credentials(set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        gateway.resolve(ModelAsk { name: Some(name), credentials: &credentials, budget: &Budget::default(), protocols })
    };
    use Protocol::{ChatCompletions as Chat, Messages, Responses};
    let key = ("OPENAI_API_KEY", "k");
    assert_eq!(resolve("gpt-6-sol", &[], &[key]).unwrap().protocols, [Responses, Chat]);
    let elsewhere = ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1");
    assert_eq!(resolve("gpt-6-sol", &[], &[key, elsewhere]).unwrap().protocols, [Chat, Responses]);
    assert_eq!(resolve("gpt-6-sol", &[Messages, Chat], &[key]).unwrap().protocols, [Chat]);
    let told = resolve("gpt-6-sol", &[Messages], &[key]).unwrap_err().to_string();
    assert!(told.contains("responses, chat_completions") && told.contains("messages"), "{told}");
    assert_eq!(resolve("ollama/qwen3", &[Messages], &[]).unwrap().protocols, [Messages]);
    assert!(!resolve("openrouter/qwen/qwen3", &[], &[("OPENROUTER_API_KEY", "k")]).unwrap().priced);
    for (name, set, words) in [
        ("bedrock/m", &[("AWS_BEARER_TOKEN_BEDROCK", "k")][..], "AWS_REGION"),
        ("azure/m", &[("AZURE_OPENAI_API_KEY", "k")], "AZURE_OPENAI_ENDPOINT"),
        ("openrouter/m", &[], "OPENROUTER_API_KEY"),
    ] {
        let told = resolve(name, &[], set).unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    }
}
