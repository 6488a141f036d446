//! A record that is played: each call finds its exchange in it, once.

use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use domain::ports::{
    model::{Compared, Comparing},
    record::Exchange,
};
use serde::Deserialize;

use super::normal::normal;
use crate::{dialect::gemini, proxy, record::Hidden};

/// The most that is shown of a request from where it differs.
const EXCERPT_BYTES: usize = 200;

pub(super) struct Reel {
    frames: Vec<Frame>,
    hidden: Hidden,
    told: Comparing,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Which frames have been played.
    played: Vec<bool>,
    calls: u32,
}

/// A recorded exchange.
pub(super) struct Frame {
    pub exchange: Exchange,
    /// The model that was asked.
    pub model: String,
    /// Made when it is first compared.
    normal: OnceLock<String>,
}

impl Frame {
    fn new(exchange: Exchange) -> Self {
        #[derive(Deserialize)]
        struct Named {
            model: Option<String>,
        }
        let path = exchange.path.split('?').next().unwrap_or_default();
        let model = match gemini::target(path) {
            Some((model, _)) => model.to_owned(),
            None => {
                serde_json::from_slice(&exchange.request).ok().and_then(|Named { model }| model).unwrap_or_default()
            }
        };
        Self { exchange, model, normal: OnceLock::new() }
    }

    fn normal(&self) -> &str {
        self.normal.get_or_init(|| normal(&self.exchange.request))
    }

    pub fn is_reply(&self) -> bool {
        let path = self.exchange.path.split('?').next().unwrap_or_default();
        proxy::server::is_reply(path)
    }

    fn compare(&self, request: &Request) -> Compared {
        if self.exchange.request == request.body {
            return Compared::Identical;
        }
        let (recorded, replayed) = (self.normal(), request.normal());
        if recorded == replayed {
            return Compared::SameButForIds;
        }
        let same = recorded.bytes().zip(replayed.bytes()).take_while(|(a, b)| a == b).count();
        Compared::Different { recorded: excerpt(recorded, same), replayed: excerpt(replayed, same) }
    }
}

/// A request that is to be found.
pub(super) struct Request {
    body: Bytes,
    /// Made when it is first compared.
    normal: OnceLock<String>,
}

impl Request {
    fn normal(&self) -> &str {
        self.normal.get_or_init(|| normal(&self.body))
    }
}

/// What begins at the character that `from` lies in.
fn excerpt(text: &str, from: usize) -> String {
    let start = text.floor_char_boundary(from);
    text[start..text.floor_char_boundary(start + EXCERPT_BYTES)].to_owned()
}

impl Reel {
    pub fn new(record: Vec<Exchange>, hidden: Hidden, told: Comparing) -> Self {
        let frames: Vec<_> = record.into_iter().map(Frame::new).collect();
        let state = Mutex::new(State { played: vec![false; frames.len()], calls: 0 });
        Self { frames, hidden, told, state }
    }

    /// A request as it would be recorded.
    pub fn request(&self, body: Bytes) -> Request {
        Request { body: self.hidden.redact(body), normal: OnceLock::new() }
    }

    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Finds the frame of a call among those that `fits`: one with the same request, the first that was not played; else one that says
    /// the same; else the first. Tells how they compare. `None`: there is none.
    pub fn play<'r>(&self, fits: impl Fn(&Frame) -> bool, request: impl Fn(&Frame) -> &'r Request) -> Option<&Frame> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = || self.frames.iter().enumerate().filter(|(at, frame)| !state.played[*at] && fits(frame));
        let same = left().find(|(_, frame)| frame.exchange.request == request(frame).body);
        let alike = || left().find(|(_, frame)| frame.normal() == request(frame).normal());
        let found = same.or_else(alike).or_else(|| left().next());
        let compared = found.map_or(Compared::BeyondTheRecord, |(_, frame)| frame.compare(request(frame)));
        if let Some((at, _)) = found {
            state.played[at] = true;
        }
        state.calls += 1;
        (self.told)(state.calls, compared);
        found.map(|(_, frame)| frame)
    }

    /// Whether the same call was made once more.
    pub fn goes_on<'r>(&self, request: impl Fn(&Frame) -> &'r Request) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = self.frames.iter().zip(&state.played).filter(|(_, played)| !**played);
        left.any(|(frame, _)| frame.exchange.request == request(frame).body)
    }

    /// The frame of a call that costs nothing: such a call may be made as often as one likes, and is not told.
    pub fn look_up(&self, fits: impl Fn(&Frame) -> bool, request: &Request) -> Option<&Frame> {
        let all = || self.frames.iter().filter(|frame| fits(frame));
        all().find(|frame| frame.exchange.request == request.body).or_else(|| all().next())
    }
}
