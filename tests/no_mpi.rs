//! A build without MPI: one process, and a clear word when it is started as several.
#![cfg(not(feature = "mpi"))]

mod common;

use common::{below, convoke, job, run, scratch, small, told};

#[test]
fn it_runs_alone_and_refuses_a_launcher_with_advice() {
    let scratch = scratch();
    let spec = job(scratch.path(), "job.toml", &small(24, 2, 12, "algorithm = \"fbp\""));
    let dir = below(scratch.path(), "run");
    assert_eq!(told(&run(&["run", &spec, "--dir", &dir, "-q"])).0, 0);
    let other = below(scratch.path(), "other");
    let under_mpirun = convoke().env("OMPI_COMM_WORLD_SIZE", "3").args(["run", &spec, "--dir", &other]).output();
    let asked = run(&["run", &spec, "--dir", &other, "-n", "3"]);
    for output in [under_mpirun.expect("it starts"), asked] {
        let (code, _, err) = told(&output);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("built without MPI") && err.contains("cargo build --release"), "{err}");
    }
    assert!(!std::path::Path::new(&other).exists());
}
