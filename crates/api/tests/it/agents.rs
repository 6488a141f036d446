//! Agents, profiles, models, accounts and purses: what there is to work with.

use api::wire::{Agents, Key, Keys, Models, Profiles, Purses, house::Kept, models::Reach};
use domain::ports::model::TriedModel;
use serde_json::json;

use crate::home::Home;

#[tokio::test]
async fn agents_and_profiles_are_listed() {
    let home = Home::open().await;
    let agents: Agents = home.client.get("/agents").await.ok();
    let rows: Vec<_> = agents.agents.iter().map(|agent| (agent.name.as_str(), agent.missing.as_deref())).collect();
    assert_eq!(rows, [("builtin", None), ("absent", Some("install it"))]);
    assert_eq!(agents.agents[0].login_files, [".scripted/auth.json"]);
    assert!(agents.agents[1].login_files.is_empty(), "what is not there has no login");

    let here = format!("/profiles?directory={}", home.repository());
    for path in ["/profiles", &here] {
        let profiles: Profiles = home.client.get(path).await.ok();
        assert_eq!((profiles.profiles[0].name.as_str(), profiles.profiles[0].read_only), ("reviewer", true));
    }
    home.client.get("/profiles?directory=relative").await.problem(422);
    let unknown = home.client.post("/tasks", json!({"brief": {"goal": "x", "profile": "painter"}})).await.problem(404);
    assert!(unknown.detail.contains("painter") && unknown.hint.unwrap().contains("reviewer"));
    home.close().await.unwrap();
}

#[tokio::test]
async fn models_are_those_of_the_kept_and_the_given_keys() {
    let home = Home::open().await;
    home.client.send("PUT", "/keys/openai", &[], Some(json!({"api_key": "sk-1"}))).await.ok::<Key>();
    let asked = json!({"credentials": {"GEMINI_API_KEY": "g-1"}});
    let models: Models = home.client.post("/models", asked).await.ok();
    let names: Vec<_> = models.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["GEMINI_API_KEY/m", "OPENAI_API_KEY/m"]);
    assert_eq!((models.models[0].reach, models.models[0].price), (Reach::Unreachable, None));
    assert!(models.models[0].fault.as_ref().unwrap().what.contains("nobody"));

    let tried: TriedModel = home.client.post("/models/try", json!({"name": "x/y"})).await.ok();
    assert_eq!(tried.name, "x/y");
    assert!(tried.text.starts_with("all, own "), "it is paid from the caller's purses: {}", tried.text);
    home.close().await.unwrap();
}

#[tokio::test]
async fn accounts_are_kept_beside_each_other() {
    let home = Home::open().await;
    let put = async |path: &str, body| home.client.send("PUT", path, &[], Some(body)).await;
    put("/keys/anthropic", json!({"api_key": "sk-1"})).await.ok::<Key>();
    let work: Key = put("/keys/anthropic?account=work", json!({"api_key": "sk-2"})).await.ok();
    assert_eq!((work.account.as_deref(), work.api_key), (Some("work"), Kept::Set));
    put("/keys/corp", json!({"api_key": "sk-3"})).await.ok::<Key>();
    let kept = home.handle.ports().secrets.get("home".to_owned()).await.unwrap();
    let names: Vec<&str> = kept.0.keys().map(String::as_str).collect();
    assert_eq!(names, ["ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY@work", "CORP_KEY"]);

    let keys: Keys = home.client.get("/keys").await.ok();
    let anthropic = keys.keys.iter().filter(|key| key.provider == "anthropic");
    let accounts: Vec<_> = anthropic.map(|key| key.account.as_deref()).collect();
    assert_eq!(accounts, [None, Some("work")]);
    home.client.send("DELETE", "/keys/anthropic?account=work", &[], None).await.ok::<Key>();
    let kept = home.handle.ports().secrets.get("home".to_owned()).await.unwrap();
    assert_eq!(kept.get("ANTHROPIC_API_KEY"), Some("sk-1"), "the other account stays");

    put("/keys/anthropic?account=a@b", json!({"api_key": "sk-1"})).await.problem(422);
    put("/keys/corp", json!({"base_url": "http://127.0.0.1:1"})).await.problem(422);
    let unknown = put("/keys/nobody", json!({"api_key": "sk-1"})).await.problem(404);
    assert!(unknown.hint.unwrap().contains("openrouter"), "the providers there are are named");
    home.close().await.unwrap();
}

#[tokio::test]
async fn purses_are_those_of_the_caller() {
    let home = Home::open().await;
    home.submit(json!({"goal": "Go on"})).await;
    let Purses { purses } = home.client.get("/budget").await.ok();
    let keys: Vec<&str> = purses.iter().map(|purse| purse.key.as_str()).collect();
    // The task's person is the caller: one purse, not two.
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys[0] == "all" && keys[1].starts_with("own "), "{keys:?}");
    assert_eq!((purses[0].limit.0.cost.unwrap().0, purses[0].spent.calls), (20_000_000, 0));
    home.close().await.unwrap();
}
