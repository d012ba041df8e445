//! Ways to remove stripes from a sinogram, on kinds of stripes: what is left of them, and what is done to a clean sinogram.
//!
//! `cargo run --release --example bench_rings` prints the table of docs/benchmarks.md.
#![allow(clippy::print_stdout, reason = "a table")]

#[path = "../tests/common/stripes.rs"]
mod stripes;

use stripes::{KINDS, METHODS, N_ANGLES, N_COLS};

fn main() {
    let clean = stripes::clean();
    println!("{N_ANGLES} angles, {N_COLS} columns; part of the stripes that is left, change of the clean sinogram\n");
    print!("| method | |");
    KINDS.iter().for_each(|(name, _)| print!(" {name} |"));
    println!(" clean |\n|---|---|---|---|---|---|---|");
    for (name, parameters, method) in METHODS {
        let (untouched, changed) = stripes::untouched(&clean, method);
        print!("| `{name}` | {parameters} |");
        KINDS.iter().for_each(|(_, kind)| print!(" {:.3} |", stripes::left(&clean, &untouched, *kind, method)));
        println!(" {changed:.4} |");
    }
}
