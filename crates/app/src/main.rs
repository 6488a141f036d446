//! The command line: the only `main` of the project.

fn main() {}
