//! Profiles and logins at the submission; forks and rewinds after it.

use domain::{
    brief::{AgentChoice, Brief, Login, Planning},
    event::Receipt,
    ids::{TaskId, TurnNo, Via},
    ports::{
        agent::{Entry, EntryBody, Prompt},
        model::{Credentials, Message, Role},
        store::Transcripts as _,
    },
    task::Status,
};
use engine::{ForkRequest, RewindRequest};
use testkit::TurnScript;

use crate::harness::{Rig, Running, assert_replays, brief, person};

fn rewind(task: TaskId, turn: u32, text: Option<&str>) -> RewindRequest {
    RewindRequest {
        dedup: format!("rewind-{turn}"),
        actor: person(),
        via: Via::CommandLine,
        task,
        attempt: None,
        turn: TurnNo(turn),
        text: text.map(str::to_owned),
    }
}

fn fork(task: TaskId, turn: u32) -> ForkRequest {
    ForkRequest {
        dedup: format!("fork-{turn}"),
        actor: person(),
        via: Via::CommandLine,
        task,
        attempt: None,
        turn: TurnNo(turn),
        text: "another way".to_owned(),
        model: Some("another".to_owned()),
        agent: Some("other".to_owned()),
        credentials: Credentials::default(),
    }
}

/// A task of two turns that waits for review.
async fn two_turns(rig: &Rig, running: &Running) -> TaskId {
    let id = running.submit(brief()).await;
    running.until_review(id).await;
    running.say(id, domain::event::Event::CommentAdded { text: "more".to_owned(), by_hand: false }).await;
    running.until(id, |task| task.attempts[0].turns == 2 && matches!(task.status, Status::AwaitingReview(_))).await;
    for turn in [1, 2] {
        let message = Message { role: Role::User, parts: Vec::new() };
        let key = domain::ids::AttemptKey { task: id, attempt: domain::ids::AttemptNo(1) };
        let entry = Entry { turn: TurnNo(turn), round: 0, body: EntryBody::Prompt { message } };
        rig.store.open(key).append(entry).await.unwrap();
    }
    id
}

#[tokio::test]
async fn a_fork_takes_up_the_work_and_the_conversation_of_a_turn() {
    let rig = Rig::new(vec![TurnScript::finishes(), TurnScript::finishes(), TurnScript::finishes()]);
    let running = rig.start().await;
    let first = two_turns(&rig, &running).await;
    let forked = running.handle.fork(fork(first, 1)).await.unwrap();
    assert_eq!(running.handle.fork(fork(first, 1)).await.unwrap(), forked, "the same request is the same task");
    running.until_review(forked).await;
    let task = running.task(forked).await;
    let asked = rig.agents.asked().pop().unwrap();
    assert_eq!((asked.agent.as_str(), asked.request.turn), ("other", TurnNo(2)));
    assert!(matches!(&asked.request.prompt, Prompt::Comments { comments } if comments[0].1 == "another way"));
    let entries = rig.store.open(asked.request.key).load().await.unwrap();
    assert_eq!(
        entries.iter().map(|entry| entry.turn.0).collect::<Vec<_>>(),
        [1],
        "the second turn's are not taken over"
    );
    let fork = task.fork.as_ref().unwrap();
    assert_ne!(Some(&fork.snapshot), task.attempts[0].snapshot.as_ref());
    let fault = running.handle.fork(self::fork(first, 7)).await.unwrap_err();
    assert!(fault.to_string().contains("no turn 7"), "{fault}");
    assert_replays(&rig, forked).await;
}

#[tokio::test]
async fn a_rewound_attempt_goes_on_from_there_in_a_new_session() {
    let rig = Rig::new(vec![TurnScript::finishes(), TurnScript::finishes(), TurnScript::finishes()]);
    let running = rig.start().await;
    let id = two_turns(&rig, &running).await;
    let before = running.task(id).await.attempts[0].snapshot.clone();
    running.handle.rewind(rewind(id, 1, Some("rather so"))).await.unwrap();
    running.until(id, |task| task.attempts[0].turns == 3 && matches!(task.status, Status::AwaitingReview(_))).await;
    let asked = rig.agents.asked().pop().unwrap();
    assert!(asked.request.fresh);
    assert_eq!(asked.request.void, [(TurnNo(2), TurnNo(2))]);
    assert!(
        matches!(&asked.request.prompt, Prompt::Comments { comments } if comments.last().unwrap().1 == "rather so")
    );
    assert_ne!(running.task(id).await.attempts[0].snapshot, before);
    let calls = rig.workspaces.calls();
    assert!(calls.windows(2).any(|two| two[0] == "release T-1.1" && two[1] == "prepare T-1.1"), "{calls:?}");
    // What was taken back is no place to go to.
    let refused = running.handle.rewind(rewind(id, 2, None)).await.unwrap();
    assert!(matches!(refused, Receipt::Refused { .. }), "{refused:?}");
    assert_replays(&rig, id).await;
}

#[tokio::test]
async fn a_rewound_attempt_without_a_wish_is_checked_as_it_was() {
    let rig = Rig::new(vec![TurnScript::finishes(), TurnScript::finishes()]);
    let running = rig.start().await;
    let id = two_turns(&rig, &running).await;
    let last = running.until_review(id).await.head;
    running.handle.rewind(rewind(id, 1, None)).await.unwrap();
    let review = running.until_review(id).await;
    assert!(review.head.is_some() && review.head != last);
    assert_eq!(rig.agents.asked().len(), 2, "no turn was opened for it");
    assert_replays(&rig, id).await;
}

#[tokio::test]
async fn a_profile_says_what_the_brief_leaves_open() {
    let rig = Rig::new(vec![TurnScript::finishes()]);
    rig.workspaces.put("overnight.toml", "what the base says");
    let running = rig.start().await;
    let id = running.submit(Brief { profile: Some("reviewer".to_owned()), ..brief() }).await;
    running.until_review(id).await;
    let asked = rig.agents.asked().pop().unwrap();
    assert_eq!(asked.agent, "other");
    assert_eq!(asked.request.profile.unwrap().name, "reviewer");
    assert_replays(&rig, id).await;
}

#[tokio::test]
async fn a_login_of_ones_own_is_lent_only_where_it_may_be() {
    let own = || {
        let agent = AgentChoice { login: Login::Own, name: "codex".to_owned(), ..AgentChoice::default() };
        Brief { agent, ..brief() }
    };
    let mut rig = Rig::new(vec![TurnScript::finishes()]);
    let running = rig.start().await;
    let fault = running.handle.submit(crate::harness::submit("one", own())).await.unwrap_err();
    assert!(fault.to_string().contains("no login of `codex`"), "{fault}");
    let mut with = crate::harness::submit("two", own());
    with.credentials.0.insert("LOGIN:.scripted/auth.json".to_owned(), "{}".to_owned());
    let id = running.handle.submit(with.clone()).await.unwrap();
    running.until_review(id).await;
    assert_eq!(rig.agents.asked()[0].login, [".scripted/auth.json"]);
    let mut bounded = crate::harness::submit("three", own());
    bounded.credentials = with.credentials.clone();
    bounded.brief.budget.tokens = Some(1000);
    let fault = running.handle.submit(bounded).await.unwrap_err();
    assert!(fault.to_string().contains("cannot be metered"), "{fault}");
    running.engine.stop().await;
    rig.options.terms.own_logins = false;
    let running = rig.start().await;
    with.dedup = "four".to_owned();
    let fault = running.handle.submit(with).await.unwrap_err();
    assert!(fault.to_string().contains("lends no logins"), "{fault}");
}

#[tokio::test]
async fn a_program_is_not_asked_for_a_plan() {
    let rig = Rig::new(Vec::new());
    let running = rig.start().await;
    let argv = vec!["true".to_owned()];
    let agent = AgentChoice { name: "command".to_owned(), argv, ..AgentChoice::default() };
    let planned = Brief { agent, planning: Planning::ApproveFirst, ..brief() };
    let fault = running.handle.submit(crate::harness::submit("planned", planned)).await.unwrap_err();
    assert!(fault.to_string().contains("cannot be asked for a plan"), "{fault}");
}
