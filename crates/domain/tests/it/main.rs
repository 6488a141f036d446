//! The state machine held to its word: every reachable state, and random interleavings over many attempts.

mod interleavings;
mod life;
mod walk;
