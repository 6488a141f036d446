//! The program that this room's tests start sandboxes with: a test's own is no single thread.

fn main() {
    sandbox::zygote_main()
}
