use convoke_cluster::workload::Inputs;

use super::*;
use crate::gp_pde::spectrum;

fn spec(points: usize) -> Spec {
    let text = format!(
        "equation = \"u_xx + u_yy + u_zz + u*(u^2 - 1)\"\nmanufactured = \"sin(360*x)*cos(300*y)*sin(330*z)\"\n{}\
         [[conditions]]\nat = \"boundary\"\nequation = \"u\"\n",
        ["x", "y", "z"].map(|a| format!("[[axes]]\nname = \"{a}\"\nto = 1.0\npoints = {points}\n")).concat()
    );
    toml::from_str(&text).unwrap()
}

fn price(points: usize, ranks: usize) -> (Case, Plan) {
    let spec = spec(points);
    let statement = Statement::read(&spec, &Inputs { base: ".".into() }).unwrap();
    let seen = spectrum::ceilings(&statement).unwrap();
    let resources = Resources { ranks, threads: 1, memory_per_rank: u64::MAX };
    (Case::of(&spec, &statement, &seen).unwrap(), collocation(&spec, &statement, &seen, &resources).unwrap())
}

/// 1024³ on 64 ranks, against the formulas written out: the price needs no memory of the problem's size.
#[test]
fn a_cube_of_1024_on_64_ranks_costs_what_the_formulas_say() {
    let (case, plan) = price(1024, 64);
    assert_eq!(case.reads, Reads { rest: 1, jacobian: 1, residual: 4 });
    let [r0, r1, r2] = case.last().coefficients[..] else { panic!("three axes") };
    let held = |what: &str| plan.memory.iter().find(|(item, _)| item.contains(what)).expect(what).1;
    // 1024/64 = 16 rows of 1024² on each rank: 128 MiB a field, 5 of them, one lift, one slope, 4 in use
    assert_eq!(held("fields"), 11 * 8 * 16 * 1024 * 1024);
    assert_eq!(held("vectors"), 38 * 8 * (r0 * r1 * r2.div_ceil(64)) as u64);
    // Two conditions on each of three axes.
    assert_eq!(held("conditions"), 3 * 8 * 6 * 1024 * 1024);
    let message = (16 * r1 * r2).max(1024 * r1 * r2.div_ceil(64));
    assert_eq!(held("messages"), 3 * 8 * message as u64);

    // An iteration: rank 0 sends 1008 rows up and what it has not of the last mode down.
    let all = case.coefficients(case.first());
    let [_, r1, r2] = all.extents[..] else { panic!("three modes") };
    let place = Place { grid: Place::grid(64, &[1024; 3], &all.extents), rank: 0 };
    let sender = Sender { place, points: &case.points, coefficients: &all };
    let part = r2.div_ceil(64);
    let iteration = 8 * (1008 * r1 * part + 16 * r1 * (r2 - part)) as u64;
    assert_eq!(sender.jacobian(case.reads), iteration);
    assert!(plan.notes.iter().any(|note| note.contains(&human_bytes(iteration))), "{:?}", plan.notes);
    assert_eq!(sender.gmres(case.reads, &GmresInfo::of(5)), 5 * iteration + 63 * 8 * (1 + 5 * 7));
}

/// More ranks than rows: nobody is left without, and the bill falls.
#[test]
fn a_pencil_takes_over_where_slabs_end() {
    let (case, plan) = price(256, 4096);
    let grid = Place::grid(4096, &case.points, &case.first().coefficients);
    assert!(grid.groups > 1 && grid.slabs * grid.groups == 4096);
    let all = case.coefficients(case.first());
    let holders = (0..4096)
        .filter(|rank| Place { grid, rank: *rank }.field(&case.points).iter().all(|part| !part.is_empty()))
        .count();
    assert_eq!(holders, 4096);
    assert!(all.extents.iter().all(|r| *r > 100));
    let slab = price(256, 256).1;
    assert!(plan.memory_per_rank() < slab.memory_per_rank());
    assert!(plan.bytes_sent_per_rank < slab.bytes_sent_per_rank);
}

#[test]
fn one_rank_sends_nothing() {
    assert_eq!(price(256, 1).1.bytes_sent_per_rank, 0);
}
