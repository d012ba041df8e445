//! Which way to remove stripes does best with which kind of stripes.
#![allow(clippy::print_stderr, reason = "the figures that bounds are about")]

#[path = "common/stripes.rs"]
#[allow(dead_code, reason = "the table is an example's")]
mod stripes;

use convoke::tomography::rings::Rings;
use stripes::{KINDS, Stripe};

/// A kind, and bounds of the part of it that is left.
type Bound = (Stripe, f64, f64);

/// The best method for each kind leaves little of it and little of the clean sinogram changed; offsets of columns cannot mend columns that
/// are dead or restless. (method, bound of the change; kind, bounds of the part that is left)
#[test]
fn every_kind_has_a_method_that_removes_it_and_leaves_the_object() {
    let clean = stripes::clean();
    let cases: [(Rings, f64, &[Bound]); 3] = [
        (
            Rings::ColumnMean { size: 11 },
            0.012,
            &[(Stripe::Narrow, 0.0, 0.12), (Stripe::Dead, 0.2, 1.5), (Stripe::Restless, 0.5, 1.5)],
        ),
        (Rings::Regularised { alpha: 5e-4, chunks: 1 }, 0.16, &[(Stripe::Wide, 0.0, 0.3)]),
        (
            Rings::All { snr: 3.0, size: 51, small: 21 },
            0.03,
            &[
                (Stripe::Dead, 0.0, 0.03),
                (Stripe::Restless, 0.0, 0.15),
                (Stripe::Wide, 0.0, 0.6),
                (Stripe::Narrow, 0.0, 0.35),
            ],
        ),
    ];
    for (method, most_changed, bounds) in cases {
        let (untouched, changed) = stripes::untouched(&clean, method);
        eprintln!("{method:?}: {changed:.4} of the clean sinogram changed");
        assert!(changed < most_changed, "{method:?}: {changed}");
        for (kind, least, most) in bounds {
            let left = stripes::left(&clean, &untouched, *kind, method);
            let name = KINDS.iter().find(|(_, k)| k == kind).map_or("", |(name, _)| name);
            eprintln!("{method:?}, {name}: {left:.3} left");
            assert!(left >= *least && left < *most, "{method:?}, {name}: {left}");
        }
    }
}
