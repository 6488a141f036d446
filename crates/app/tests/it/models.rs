//! Models, accounts and the budgets that tasks share.

use serde_json::json;

use crate::{
    harness::Place,
    model::{Model, finish, write},
};

#[test]
fn models_are_listed_and_tried() {
    let place = Place::new();
    assert!(place.on(&["models"]).ok().contains("No models"));
    let model = Model::say(&place, &json!([{ "text": "Here I am.", "usage": { "input": 7, "output": 3 } }]));
    place.configure(&format!(
        "[providers.corp]\nbase_url = \"{}\"\nprotocols = [\"messages\"]\nkey = \"CORP_KEY\"\n\
         [models.big]\nprovider = \"corp\"\nmodel = \"scripted\"\nprice = {{ input = 1, output = 2 }}\n",
        model.url
    ));
    place.on(&["daemon", "stop"]).ok();
    place.on_with_input(&["key", "set", "corp", "--account", "work"], "sk-corp\n").ok();
    let listed = place.on(&["models", "--json"]).json();
    let big = listed["models"].as_array().unwrap().iter().find(|model| model["name"] == "big").unwrap().clone();
    assert_eq!((&big["provider"], &big["accounts"]), (&json!("corp"), &json!(["work"])));
    assert_eq!((&big["price"]["input"], &big["price"]["output"]), (&json!(1_000_000), &json!(2_000_000)));
    assert!(place.on(&["models"]).ok().contains("$1.00 in, $2.00 out"));

    let tried = place.on(&["models", "test", "big"]).ok();
    assert!(tried.contains("Here I am.") && tried.contains("account work") && tried.contains("$0.000013"), "{tried}");
    assert_eq!(model.requests().last().unwrap()["key"], "sk-corp");
    let unknown = place.on(&["models", "test", "nowhere-3"]).refused();
    assert!(unknown.contains("nowhere-3") && unknown.contains("`big`"), "{unknown}");

    let keys = place.on(&["key", "list"]).ok();
    assert!(keys.contains("corp") && keys.contains("account work") && !keys.contains("sk-corp"), "{keys}");
    let nobody = place.on_with_input(&["key", "set", "nobody"], "k\n").refused();
    assert!(nobody.contains("nobody") && nobody.contains("openrouter"), "{nobody}");
}

#[test]
fn money_is_no_limit_for_a_model_without_a_price() {
    let place = Place::new();
    let model = Model::say(&place, &json!([finish()]));
    let ran = model.run(&place, &["--budget", "2usd"]);
    let refused = ran.refused();
    assert!(refused.contains("price") && refused.contains("scripted"), "{refused}");
}

#[test]
fn tasks_that_share_a_budget_end_together() {
    let place = Place::new();
    assert!(place.on(&["budget"]).ok().contains("[[budgets]]"));
    place.on(&["daemon", "stop"]).ok();
    place.configure("[[budgets]]\nname = \"all\"\nlimit = \"30ktok\"\nper = \"ever\"\n");
    let reply = |mut reply: serde_json::Value| {
        reply["usage"] = json!({ "input": 20_000, "output": 100 });
        reply
    };
    let model = Model::say(&place, &json!([reply(write("two\n")), reply(finish())]));
    let unfinished = ["--check", "! grep -q two file.txt", "--wait"];
    let ran = model.run(&place, &unfinished);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("all") && ran.stdout.contains("budget"), "it says which: {ran:?}");
    assert_eq!(model.requests().len(), 1, "the second call was never made");
    let budget = place.on(&["budget", "--json"]).json();
    let purse = &budget["purses"][0];
    assert_eq!((&purse["key"], &purse["spent"]["calls"]), (&json!("all"), &json!(1)));
    assert!(place.on(&["budget"]).ok().contains("20,100 of 30,000 tokens"));

    let next = model.run(&place, &unfinished);
    assert_eq!(next.code, Some(1), "{next:?}");
    assert_eq!(model.requests().len(), 1);
}
