//! `config.toml` in the home: the bounds of this installation, and what it works with. Everything has a default; an unknown word is a
//! fault.

mod agents;
mod bounds;
mod budgets;
mod tables;

use std::{fs, io, path::Path};

use domain::{Fault, budget::BudgetRule, profile::Profile};
use gateway::{ModelConfig, ProviderConfig};
use serde::Deserialize;

pub use self::{
    agents::Agents,
    bounds::{Layers, Limits, Network, Runner, Sandbox},
    budgets::{Records, Stalls},
};
use self::{budgets::Budgets, tables::Tables};

const FILE: &str = "config.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub limits: Limits,
    pub layers: Layers,
    pub network: Network,
    pub sandbox: Sandbox,
    pub agents: Agents,
    profiles: Tables<Profile>,
    providers: Tables<ProviderConfig>,
    models: Tables<ModelConfig>,
    budgets: Budgets,
    pub records: Records,
    pub stalls: Stalls,
}

impl Config {
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles.0
    }

    pub fn providers(&self) -> &[ProviderConfig] {
        &self.providers.0
    }

    pub fn models(&self) -> &[ModelConfig] {
        &self.models.0
    }

    /// What tasks share.
    pub fn budgets(&self) -> &[BudgetRule] {
        &self.budgets.0
    }

    /// The model for side work; `None`: the task's own.
    ///
    /// Errors: `Input` where two models are for it.
    pub fn side_model(&self) -> Result<Option<String>, Fault> {
        let mut side = self.models().iter().filter(|model| model.side).map(|model| model.name.clone());
        match (side.next(), side.next()) {
            (Some(first), Some(second)) => {
                Err(Fault::input(format!("config.toml: the models `{first}` and `{second}` both say `side = true`"))
                    .hint("leave it at one of them"))
            }
            (first, _) => Ok(first),
        }
    }

    /// Reads the home's configuration; the defaults where there is none.
    ///
    /// Errors: `Input` that shows the line and what is wrong with it.
    pub fn read(home: &Path) -> Result<Self, Fault> {
        let path = home.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Fault::environment(format!("{} cannot be read: {error}", path.display()))),
        };
        Self::parse(&text).map_err(|why| {
            Fault::input(format!("{}: {why}", path.display()))
                .hint("mend that line, or move the file away: every setting has a default")
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| api::in_words(error.to_string().trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use domain::budget::{Period, Whose};

    use super::{
        Config, Runner,
        bounds::{Bound, EngineSocket, Processors, Size},
    };

    #[test]
    fn bounds_are_numbers_or_none() {
        let config = Config::parse("[limits]\nturns = \"none\"\nchecks = 3\n").unwrap();
        assert_eq!((config.limits.turns, config.limits.checks), (Bound::None, Bound::At(3)));
        assert_eq!(config.limits.disk.or(7), 7);
    }

    /// The examples of docs/configuration.md say what they mean.
    fn example(nth: usize) -> Config {
        let page = include_str!("../../../../docs/configuration.md");
        let text = page.split("```toml\n").nth(nth).and_then(|rest: &str| rest.split("```").next()).unwrap();
        Config::parse(text).unwrap_or_else(|why| panic!("{why}"))
    }

    #[test]
    fn the_documented_bounds_are_read() {
        let contained = example(2).sandbox;
        assert_eq!(
            (contained.runner, contained.engine.0.to_str()),
            (Runner::Container, Some("/run/podman/podman.sock"))
        );
        assert_eq!(contained.image.as_deref(), Some("docker.io/library/rust:1"));
        let config = example(1);
        assert_eq!((config.sandbox.runner, &config.sandbox.engine), (Runner::Namespaces, &EngineSocket::default()));
        assert_eq!(config.layers.budget, Some(Size(20 << 30)));
        assert_eq!(config.network.private, ["registry.corp", "*.build.corp"]);
        assert_eq!(config.network.authorities, [Path::new("corp-ca.pem")]);
        assert_eq!((config.sandbox.memory, config.sandbox.disk), (Some(Size(8 << 30)), Some(Size(50_000_000_000))));
        assert_eq!((config.sandbox.cpus, config.sandbox.limits().processes), (Some(Processors(150)), Some(2000)));
    }

    #[test]
    fn the_documented_agents_and_models_are_read() {
        let config = example(3);
        let home = Path::new("/home/ada/.overnight");
        assert_eq!(
            config.agents.directories(home),
            [Path::new("/opt/agents"), Path::new("/home/ada/.overnight/agents")]
        );
        assert!(!config.agents.own_logins);
        assert_eq!(config.agents.recipes[0].name, "mine");
        let profile = &config.profiles()[0];
        assert_eq!((profile.name.as_str(), profile.source.as_str()), ("night-watch", "configuration"));
        assert_eq!((config.agents.acp.len(), config.agents.acp[0].name.as_str()), (1, "goose"));
        assert_eq!(
            (config.stalls.bounds().unwrap().quiet.as_secs(), config.stalls.bounds().unwrap().repeats),
            (900, 8)
        );

        let config = example(4);
        assert_eq!((config.providers().len(), config.models().len()), (1, 2));
        assert_eq!(config.side_model().unwrap().as_deref(), Some("small"));
        assert_eq!(config.models()[0].fallbacks, ["anthropic/claude-sonnet-5-5"]);

        let config = example(5);
        let rules: Vec<_> = config.budgets().iter().map(|rule| (rule.name.as_str(), rule.per, &rule.of)).collect();
        let team = Whose::Label("team".to_owned());
        let wanted = [
            ("day", Period::Day, &Whose::Everybody),
            ("mine", Period::Month, &Whose::Person),
            ("team", Period::Month, &team),
        ];
        assert_eq!(rules, wanted);
        assert_eq!(config.budgets()[2].limit.tokens, Some(50_000_000));
        assert_eq!(config.records.keep_or(Duration::ZERO), Duration::from_hours(30 * 24));
    }

    #[test]
    fn one_model_is_for_side_work() {
        let model = |name: &str| format!("[models.{name}]\nprovider = \"openai\"\nside = true\n");
        let both = Config::parse(&format!("{}{}", model("a"), model("b"))).unwrap();
        assert!(both.side_model().unwrap_err().what.contains("`a` and `b`"));
        assert_eq!(Config::default().side_model().unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_line() {
        for (text, wanted) in [
            ("[limits]\nturn = 3\n", "turn = 3"),
            ("[limits]\nturns = 0\n", "number from 1"),
            ("[limits]\ndisk = \"lots\"\n", "number from 1"),
            ("limits = [\n", "line 1"),
            ("[layers]\nbudget = \"10\"\n", "a size like"),
            ("[layers]\nbudget = \"0 GiB\"\n", "a size like"),
            ("[sandbox]\nmemory = 5\n", "a size like"),
            ("[sandbox]\ncpus = 0\n", "number of processors"),
            ("[sandbox]\nrunner = \"vm\"\n", "container"),
            ("[sandbox]\nengine = \"tcp://host:2375\"\n", "a socket of this machine"),
            ("[network]\nprivate = \"registry.corp\"\n", "sequence"),
            ("[agents]\ndirectories = 3\n", "sequence"),
            ("[agents.goose]\nargv = [\"goose\"]\n", "`kind` must be"),
            ("[agents.goose]\nkind = \"acp\"\n", "`goose`: `argv` is missing"),
            ("[agents.goose]\nkind = \"acp\"\nargv = [\"goose\"]\nenvy = {}\n", "envy"),
            ("[agents.goose]\nkind = \"acp\"\nargv = []\n", "`goose`: `argv` is missing"),
            ("[agents.Goose]\nkind = \"acp\"\nargv = [\"goose\"]\n", "lower case"),
            ("[agents]\ngoose = 3\n", "goose"),
            ("[agents.mine]\nkind = \"command-line\"\nargv = [\"mine\"]\nevents = \"xml\"\n", "jsonl"),
            ("[profiles.Watch]\n", "lower case"),
            (
                "[profiles.watch]\ntools = [\"bash\"]\n",
                "`bash`, which is no tool of the built-in agent: its tools: shell, poll",
            ),
            ("[profiles.watch]\nprompts = \"x\"\n", "`watch`: unknown field `prompts`"),
            ("[providers.corp]\nkey = \"K\"\n", "`corp`: missing field `base_url`"),
            ("[providers.corp]\nname = \"x\"\nbase_url = \"http://x\"\n", "leave `name` out"),
            ("[models.big]\nprovider = \"corp\"\nprice = 3\n", "`big`: "),
            ("[[budgets]]\nname = \"a\"\nlimit = \"much\"\n", "is not a budget: write money like"),
            ("[[budgets]]\nname = \"a\"\nlimit = \"2h\"\n", "money and tokens only"),
            ("[[budgets]]\nname = \"a b\"\nlimit = \"2usd\"\n", "without blanks"),
            ("[[budgets]]\nname = \"a\"\nlimit = \"2usd\"\nof = \"team\"\n", "label:NAME"),
            ("[[budgets]]\nname = \"a\"\nlimit = \"2usd\"\nper = \"week\"\n", "month"),
            (
                "[[budgets]]\nname = \"a\"\nlimit = \"2usd\"\n[[budgets]]\nname = \"a\"\nlimit = \"3usd\"\n",
                "is there twice",
            ),
            ("[records]\nkeep = \"long\"\n", "not a length of time"),
            ("[stalls]\nquit = \"1m\"\n", "quiet"),
        ] {
            let why = Config::parse(text).unwrap_err();
            assert!(why.contains(wanted), "{text:?} gives {why:?}");
        }
    }
}
