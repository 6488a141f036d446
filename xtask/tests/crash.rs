//! A small crash storm in every test run, the whole one in `cargo xtask test --full`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use xtask::{
    bench::{Books, Storm, storm},
    program,
};

fn blow(storm_of: Storm) {
    let books = storm(&program::for_tests().unwrap(), storm_of).unwrap();
    let quiet = Books { landed: storm_of.tasks, cut_calls: books.cut_calls, ..Books::default() };
    assert_eq!(books, quiet);
}

#[test]
fn five_kills_over_six_tasks_lose_nothing_and_do_nothing_twice() {
    blow(Storm { tasks: 6, kills: 5 });
}

#[test]
#[ignore = "minutes: cargo xtask test --full"]
fn fifty_kills_over_forty_tasks_lose_nothing_and_do_nothing_twice() {
    blow(Storm { tasks: 40, kills: 50 });
}
