//! The `convoke` program.
fn main() {}
