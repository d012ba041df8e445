//! A table of malformed job files and data files: each with its exact message and exit code 2,
//! before anything is computed, and with nothing written or overwritten.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{below, convoke, fake_slurm, job, run, scratch, told};
use convoke::registry::{self, REGISTRY};
use convoke_cluster::JobText;
use convoke_cluster::driver::Placement;
use convoke_cluster::workload::Inputs;
use convoke_kernels::random::Philox;

const GOOD: &str = r#"schema = 1
name = "good"
workload = "tomography"
[run]
ranks = 1
[checkpoint]
keep = 2
[problem.phantom]
kind = "shepp-logan"
size = 16
angles = 8
[problem.method]
algorithm = "fbp"
"#;

/// Everything below a directory, with contents: to see that nothing was touched.
fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { open.push(path) } else { found.push((path.clone(), fs::read(path).unwrap_or_default())) }
        }
    }
    found.sort();
    found
}

/// Runs a job that must be refused; returns what was said, with the directory's name taken out. Submitting it must not
/// come as far as the batch system.
fn refused(dir: &Path, spec: &str) -> String {
    let slurm = scratch();
    fake_slurm(slurm.path());
    let path = format!("{}:/usr/bin:/bin", slurm.path().join("bin").display());
    let before = snapshot(dir);
    for command in ["check", "submit", "run"] {
        let out = below(dir, "run-directory");
        let args: &[&str] = if command == "check" { &["check", spec] } else { &[command, spec, "--dir", &out] };
        let output = convoke().env("PATH", &path).env("FAKE", slurm.path()).args(args).output();
        let (code, stdout, stderr) = told(&output.expect("the program starts"));
        assert!(!slurm.path().join("calls").exists(), "{spec} reached sbatch");
        assert_eq!(code, 2, "{command} {spec}: {stderr}");
        assert_eq!(stdout, "", "{command} {spec}");
        assert_eq!(snapshot(dir), before, "{command} {spec} wrote something");
        if command == "run" {
            return stderr.replace(&format!("{}/", dir.display()), "").trim().to_owned();
        }
    }
    unreachable!("the second command returns")
}

/// `(what is replaced in the good job, by what, the message)`
const JOBS: &[(&str, &str, &str)] = &[
    (
        "schema = 1",
        "schema = 2",
        "job.toml:1:10: schema = 2: expected 1\n  help: this program reads schema = 1; a newer job file needs a newer convoke",
    ),
    ("schema = 1\n", "", "job.toml:1:1: missing field `schema`"),
    ("schema = 1", "schema = \"one\"", "job.toml:1:10: invalid type: string \"one\", expected u32"),
    ("workload = \"tomography\"\n", "", "job.toml:1:1: missing field `workload`"),
    (
        "\"tomography\"",
        "\"tomografie\"",
        "job.toml:3:12: unknown workload \"tomografie\"\n  help: did you mean \"tomography\"? `convoke list` shows all",
    ),
    (
        "\"tomography\"",
        "\"weather\"",
        "job.toml:3:12: unknown workload \"weather\"\n  help: known workloads: tomography, mri, gp-pde, dpp, pde-data, neural-operator, denoiser, program",
    ),
    ("name = \"good\"\n", "", "job.toml:1:1: missing field `name`"),
    (
        "\"good\"",
        "\"../evil\"",
        "job.toml:2:8: name = \"../evil\": expected at most 40 lower-case letters, digits and '-', not starting with '-'",
    ),
    (
        "\"good\"",
        "\"-flag\"",
        "job.toml:2:8: name = \"-flag\": expected at most 40 lower-case letters, digits and '-', not starting with '-'",
    ),
    (
        "\"good\"",
        "\"a\\nb\"",
        "job.toml:2:8: name = \"a\\nb\": expected at most 40 lower-case letters, digits and '-', not starting with '-'",
    ),
    ("name = \"good\"", "name = \"good\"\nname = \"again\"", "job.toml:3:1: duplicate key"),
    ("name = \"good\"", "name = good", "job.toml:2:8: string values must be quoted, expected literal string"),
    ("[run]", "[run", "job.toml:4:5: unclosed table, expected `]`"),
    ("ranks = 1", "ranks = 0", "job.toml:5:9: run.ranks = 0: expected 1 to 1048576"),
    ("ranks = 1", "ranks = -4", "job.toml:5:9: invalid value: integer `-4`, expected usize"),
    (
        "ranks = 1",
        "rank = 1",
        "job.toml:5:1: unknown field `rank`, expected one of `ranks`, `threads`, `device`, `memory_per_rank`, `walltime`, `total_walltime`, `max_attempts`, `max_attempts_without_progress`, `stall_timeout`\n  help: did you mean `ranks`?",
    ),
    ("ranks = 1", "threads = 100000", "job.toml:5:11: run.threads = 100000: expected 1 to 4096"),
    (
        "ranks = 1",
        "device = \"tpu\"",
        "job.toml:5:10: unknown variant `tpu`, expected one of `auto`, `cpu`, `cuda`\n  help: did you mean `cpu`?",
    ),
    (
        "ranks = 1",
        "walltime = \"soon\"",
        "job.toml:5:12: 'soon' is not a duration; expected for example \"90s\", \"10min\", \"4h\"",
    ),
    ("ranks = 1", "walltime = \"0s\"", "job.toml:5:12: '0s' is out of range; expected more than 0 and at most a year"),
    (
        "ranks = 1",
        "walltime = \"10years\"",
        "job.toml:5:12: '10years' is out of range; expected more than 0 and at most a year",
    ),
    (
        "ranks = 1",
        "memory_per_rank = \"much\"",
        "job.toml:5:19: 'much' is not a size; expected for example \"512MiB\", \"8GiB\"",
    ),
    ("ranks = 1", "max_attempts = 0", "job.toml:5:16: run.max_attempts = 0: expected 1 to 1000"),
    (
        "[checkpoint]",
        "[slurm]\npartition = \"gpu; rm -rf /\"\n[checkpoint]",
        "job.toml:7:13: \"gpu; rm -rf /\" is no name that a batch system takes; expected 1 to 64 letters, digits or _.@:+-[],",
    ),
    (
        "[checkpoint]",
        "[slurm]\nranks_per_node = 3\n[checkpoint]",
        "job.toml:7:18: slurm.ranks_per_node = 3: expected 1 to 1 (run.ranks)",
    ),
    ("keep = 2", "keep = 0", "job.toml:7:8: checkpoint.keep = 0: expected 1 to 100"),
    ("keep = 2", "every_steps = 0", "job.toml:7:15: checkpoint.every_steps = 0: expected at least 1"),
    (
        "\"shepp-logan\"",
        "\"sheep-logan\"",
        "job.toml:9:8: unknown variant `sheep-logan`, expected one of `shepp-logan`, `ellipsoids`, `foam`\n  help: did you mean `shepp-logan`?",
    ),
    ("size = 16", "size = 0", "job.toml:10:8: problem.phantom.size = 0: expected 2 to 65536"),
    (
        "size = 16",
        "size = 1e30",
        "job.toml:10:8: invalid type: floating point `1000000000000000000000000000000.0`, expected usize",
    ),
    (
        "size = 16",
        "sizee = 16",
        "job.toml:10:1: unknown field `sizee`, expected one of `kind`, `size`, `rows`, `columns`, `angles`, `arc_degrees`, `axis_shift_pixels`, `parts`, `photons`, `readout_counts`, `attenuation_per_voxel`\n  help: did you mean `size`?",
    ),
    ("angles = 8", "angles = 0", "job.toml:11:10: problem.phantom.angles = 0: expected 2 to 1000000"),
    (
        "angles = 8",
        "angles = 8\narc_degrees = nan",
        "job.toml:12:15: problem.phantom.arc_degrees = NaN: expected 1 to 360",
    ),
    (
        "angles = 8",
        "angles = 8\nphotons = -5.0",
        "job.toml:12:11: problem.phantom.photons = -5: expected 1 to 1000000000000000",
    ),
    (
        "\"fbp\"",
        "\"fpb\"",
        "job.toml:13:13: unknown variant `fpb`, expected one of `fbp`, `fdk`, `sirt`, `cgls`, `os-sart`, `mlem`, `osem`, `lsqr`, `dds`, `diffusion-mbir`, `red-diff`, `fista-tv`, `admm-tv`, `pdhg`\n  help: did you mean `fbp`?",
    ),
    (
        "\"fbp\"",
        "\"fbp\"\niterations = 5",
        "job.toml:14:14: problem.method.iterations: algorithm \"fbp\" has no such key\n  help: remove the line, or choose an algorithm that has it (jobs/tomography/README.md)",
    ),
    ("\"fbp\"", "\"sirt\"\nrelaxation = 5.0", "job.toml:14:14: problem.method.relaxation = 5: expected 0.001 to 1.99"),
    ("[problem.method]\nalgorithm = \"fbp\"\n", "", "job.toml:8:2: missing field `method`"),
    (
        "[problem.phantom]\nkind = \"shepp-logan\"\nsize = 16\nangles = 8\n",
        "",
        "job.toml:8:2: problem: no source of projections; expected [problem.scan] or [problem.phantom]\n  help: [problem.scan] reads a file, [problem.phantom] generates an object",
    ),
    (
        "[problem.method]",
        "[problem.scan]\nfile = \"x.h5\"\n[problem.method]",
        "job.toml:8:1: problem.phantom: a second source of projections beside [problem.scan]\n  help: remove the one that you do not mean",
    ),
    (
        "[problem.method]",
        "[problem.rings]\nmethod = \"sorting\"\nsigma = 2.0\n[problem.method]",
        "job.toml:14:9: problem.rings.sigma: method \"sorting\" has no such key",
    ),
    (
        "[problem.method]",
        "[problem.volume]\nvoxel_pixels = 0.0\n[problem.method]",
        "job.toml:13:16: problem.volume.voxel_pixels = 0: expected 0.05 to 20",
    ),
];

const GOOD_DPP: &str = r#"schema = 1
name = "good"
workload = "dpp"
[problem]
task = "design"
[problem.space]
families = ["legendre"]
dimension = 3
index_set = "total-degree"
degree = 2
[problem.design]
law = "volume"
n = 15
"#;

/// As [`JOBS`], for designs.
const DPP_JOBS: &[(&str, &str, &str)] = &[
    (
        "n = 15",
        "n = 9",
        "job.toml:13:5: problem.design.n = 9: expected at least 10, the number of functions of the space",
    ),
    (
        "\"volume\"\nn = 15",
        "\"dpp\"\nn = 15",
        "job.toml:13:5: problem.design.n = 15: expected exactly 10, the number of functions of the space\n  help: law = \"volume\" and law = \"repeated\" have more points than functions",
    ),
    (
        "\"volume\"",
        "\"volumes\"",
        "job.toml:12:7: unknown variant `volumes`, expected one of `iid`, `dpp`, `volume`, `repeated`, `greedy`, `bss`, `boosted`\n  help: did you mean `volume`?",
    ),
    (
        "\"legendre\"",
        "\"legendary\"",
        "job.toml:7:13: unknown variant `legendary`, expected one of `legendre`, `hermite`, `jacobi`, `laguerre`, `fourier`, `complex-fourier`, `haar`\n  help: did you mean `legendre`?",
    ),
    (
        "\"total-degree\"",
        "\"total\"",
        "job.toml:9:13: unknown variant `total`, expected one of `total-degree`, `hyperbolic-cross`, `box`, `weighted`, `list`, `enriched`",
    ),
    (
        "dimension = 3\nindex_set = \"total-degree\"\ndegree = 2",
        "dimension = 40\nindex_set = \"total-degree\"\ndegree = 9",
        "job.toml:10:10: problem.space.degree: more than 65536 basis functions\n  help: a hyperbolic cross or fewer variables have fewer functions",
    ),
    ("dimension = 3", "dimension = 65", "job.toml:8:13: problem.space.dimension = 65: expected 1 to 64"),
    ("degree = 2", "degree = 2.5", "job.toml:10:10: problem.space.degree = 2.5: expected a whole number"),
    ("degree = 2\n", "", "job.toml:6:1: problem.space.degree: missing; index_set = \"total-degree\" needs it"),
    (
        "[\"legendre\"]",
        "[\"legendre\", \"hermite\"]",
        "job.toml:7:12: problem.space.families = 2 families: expected one for all variables, or 3 (problem.space.dimension)",
    ),
    (
        "[\"legendre\"]",
        "[\"jacobi\"]\njacobi = [-1.0, 0.0]",
        "job.toml:8:10: problem.space.jacobi = -1: expected more than -1 and at most 20",
    ),
    (
        "degree = 2",
        "degree = 2\nlaguerre = 1.0",
        "job.toml:11:12: problem.space.laguerre: a space without such a family has no such key",
    ),
    (
        "[\"legendre\"]\ndimension = 3\nindex_set = \"total-degree\"\ndegree = 2",
        "[\"hermite\"]\ndimension = 1\nindex_set = \"total-degree\"\ndegree = 200",
        "job.toml:10:10: problem.space.degree: degree 200 along axis 0, and Hermite goes up to 128\n  help: see jobs/dpp/README.md",
    ),
    (
        "\"total-degree\"\ndegree = 2",
        "\"list\"\nindices = [[0, 0, 0], [1, 0, 0], [1, 1, 0]]",
        "job.toml:10:11: problem.space.indices: not downward closed: it has [1, 1, 0] and lacks [0, 1, 0]\n  help: with an index, list all below it",
    ),
    ("n = 15", "pool = 5", "job.toml:13:8: problem.design.pool: law = \"volume\" has no such key"),
    (
        "\"volume\"\nn = 15",
        "\"greedy\"\nn = 60",
        "job.toml:11:1: problem.design.pool = 5: expected at least 6, so that 60 points can be chosen",
    ),
    (
        "\"volume\"\nn = 15",
        "\"bss\"\nn = 10",
        "job.toml:13:5: problem.design.n: n = 10 for 10 functions: expected more points than functions, and at most 512 functions\n  help: law = \"greedy\" has neither limit; \"bss\" decomposes a matrix for each point",
    ),
    ("n = 15", "n = 15\ndelta = 1.5", "job.toml:14:9: problem.design.delta = 1.5: expected 0.01 to 0.999999"),
    ("\"design\"", "\"experiment\"", "job.toml:5:8: problem.task: the table [problem.experiment] is missing"),
    (
        "\"design\"\n",
        "\"experiment\"\n[problem.experiment]\ntarget = \"runge\"\nlaws = [\"iid\"]\nratios = [1.0]\nreplicates = 3\n",
        "job.toml:16:1: problem.design: task = \"experiment\" has no such key",
    ),
    ("\"design\"", "\"fit\"", "job.toml:5:8: problem.task: the table [problem.fit] is missing"),
    (
        "[problem.design]\nlaw = \"volume\"\nn = 15",
        "variables = [{ name = \"a\", from = 0.0, to = 1.0 }]\n[problem.design]\nlaw = \"volume\"\nn = 15",
        "job.toml:11:13: problem.space.variables = 1 variables: expected 3 (problem.space.dimension)",
    ),
    (
        "\"total-degree\"\ndegree = 2",
        "\"enriched\"",
        "job.toml:6:1: problem.space.fit: missing; index_set = \"enriched\" needs it",
    ),
    (
        "\"total-degree\"\ndegree = 2",
        "\"enriched\"\nfit = \"runs/none\"",
        "runs/none: no such file or folder; check the path (it is relative to the current folder)",
    ),
    (
        "n = 15",
        "n = 15\nafter = [\"runs/none\"]",
        "job.toml:14:9: problem.design.after: law = \"volume\" has no such key",
    ),
    (
        "\"volume\"\nn = 15",
        "\"greedy\"\nn = 15\nafter = [\"job.toml\"]",
        "job.toml: not an HDF5 file (it starts with \"schema =\"); expected a .h5, .hdf5, .nxs or .vtkhdf file",
    ),
    (
        "\"volume\"\nn = 15",
        "\"greedy\"\nn = 15\nvalues = \"v.csv\"",
        "job.toml:14:10: problem.design.values: there is no `after`: no points that could have values",
    ),
    (
        "\"design\"\n[problem.space]\nfamilies = [\"legendre\"]\ndimension = 3\nindex_set = \"total-degree\"\ndegree = 2\n[problem.design]\nlaw = \"volume\"\nn = 15",
        "\"fit\"\n[problem.fit]\ndesigns = []\nvalues = \"v.csv\"\noutputs = [\"y\"]",
        "job.toml:7:11: problem.fit.designs = []: expected at least one run of task = \"design\"",
    ),
];

const GOOD_PROGRAM: &str = r#"schema = 1
name = "good"
workload = "program"
[problem]
command = ["true", "{x}"]
outputs = ["y"]
[problem.inputs]
x = 1.0
"#;

/// As [`JOBS`], for programs of users.
const PROGRAM_JOBS: &[(&str, &str, &str)] = &[
    (
        "[\"true\", \"{x}\"]",
        "[]",
        "job.toml:5:11: problem.command = []: expected a program and its arguments, such as [\"./model\", \"{x1}\"]",
    ),
    (
        "{x}",
        "{x}{z}",
        "job.toml:5:11: problem.command: {z} is no input; there are x, job\n  help: inputs stand in [problem.inputs]",
    ),
    ("[\"y\"]", "[]", "job.toml:6:11: problem.outputs = 0 names: expected 1 to 10000"),
    ("[\"y\"]", "[\"y\", \"y\"]", "job.toml:6:11: problem.outputs: \"y\" is there twice"),
    (
        "[\"y\"]",
        "[\"y\"]\ntimeout = \"soon\"",
        "job.toml:7:11: problem.timeout: expected number at 0; expected for example \"2h\"",
    ),
    (
        "x = 1.0",
        "x = [1.0]",
        "job.toml:8:5: problem.inputs.x = [1.0]: expected a finite number, a text or a truth value",
    ),
];

const GOOD_PDE: &str = r#"schema = 1
name = "good"
workload = "pde-data"
[problem]
equation = "navier-stokes"
[problem.grid]
points = 16
length = "2*pi"
[problem.time]
step = 0.01
every = 0.1
snapshots = 3
[problem.flow]
viscosity = 1e-3
forcing = "cos(y)"
[problem.initial]
kind = "mcwilliams"
"#;

/// As [`JOBS`], for samples of solutions.
const PDE_JOBS: &[(&str, &str, &str)] = &[
    (
        "\"navier-stokes\"",
        "\"navier-stoke\"",
        "job.toml:5:12: unknown variant `navier-stoke`, expected one of `navier-stokes`, `burgers`, `kuramoto-sivashinsky`, \
         `advection`, `darcy`\n  help: did you mean `navier-stokes`?",
    ),
    ("points = 16", "points = 3", "job.toml:7:10: problem.grid.points = 3: expected 4 to 16384"),
    (
        "\"2*pi\"",
        "\"2*pie\"",
        "job.toml:8:10: problem.grid.length: column 3: unknown name `pie`; did you mean `pi`?\n  2*pie\n    ^",
    ),
    ("\"2*pi\"", "-1.0", "job.toml:8:10: problem.grid.length = -1: expected a positive number"),
    ("step = 0.01", "step = 0.0", "job.toml:10:8: problem.time.step = 0: expected a positive number"),
    (
        "every = 0.1",
        "every = 0.015",
        "job.toml:11:9: problem.time.every = 0.015: expected a whole number of steps of 0.01",
    ),
    (
        "every = 0.1",
        "every = 0.1\nstart = -1.0",
        "job.toml:12:9: problem.time.start = -1: expected a whole number of steps of 0.01",
    ),
    ("snapshots = 3", "snapshots = 0", "job.toml:12:13: problem.time.snapshots = 0: expected 1 to 1000000"),
    (
        "viscosity = 1e-3",
        "viscosity = nan",
        "job.toml:14:13: problem.flow.viscosity = NaN: expected 0 or a positive number",
    ),
    ("\"cos(y)\"", "\"cos(z)\"", "job.toml:15:11: problem.flow.forcing: column 5: unknown name `z`\n  cos(z)\n      ^"),
    (
        "\"mcwilliams\"",
        "\"mcwilliams\"\ntau = 7.0",
        "job.toml:18:7: problem.initial.tau: kind = \"mcwilliams\" has no such key",
    ),
    (
        "\"mcwilliams\"",
        "\"expression\"",
        "job.toml:16:1: problem.initial.vorticity: missing; kind = \"expression\" needs it",
    ),
    (
        "\"mcwilliams\"",
        "\"mcwilliams\"\npeak = 0.0",
        "job.toml:18:8: problem.initial.peak = 0: expected a positive number",
    ),
];

const GOOD_BURGERS: &str = r#"schema = 1
name = "good"
workload = "pde-data"
[problem]
equation = "burgers"
[problem.grid]
points = 32
length = 1.0
[problem.time]
step = 0.01
every = 0.1
snapshots = 3
[problem.flow]
viscosity = 0.1
[problem.initial]
kind = "expression"
solution = "sin(2*pi*x)"
"#;

/// As [`JOBS`], for functions on a circle.
const BURGERS_JOBS: &[(&str, &str, &str)] = &[
    ("[problem.flow]\nviscosity = 0.1\n", "", "job.toml:4:1: problem.flow: missing; equation = \"burgers\" needs it"),
    (
        "viscosity = 0.1",
        "speed = 0.1",
        "job.toml:13:1: problem.flow.viscosity: missing; equation = \"burgers\" needs it",
    ),
    (
        "viscosity = 0.1",
        "viscosity = 0.1\ndrag = 0.1",
        "job.toml:15:8: problem.flow.drag: equation = \"burgers\" has no such key",
    ),
    (
        "\"burgers\"",
        "\"kuramoto-sivashinsky\"",
        "job.toml:13:1: problem.flow: equation = \"kuramoto-sivashinsky\" has no such key",
    ),
    ("\"burgers\"", "\"darcy\"", "job.toml:9:1: problem.time: equation = \"darcy\" has no such key"),
    (
        "snapshots = 3",
        "snapshots = 3\nscheme = \"rk4-cn\"",
        "job.toml:13:10: problem.time.scheme: equation = \"burgers\" has no such key",
    ),
    (
        "\"expression\"",
        "\"mcwilliams\"",
        "job.toml:16:8: problem.initial.kind = \"mcwilliams\": expected \"gaussian\" or \"expression\" for equation = \
         \"burgers\"",
    ),
    ("\"expression\"", "\"gaussian\"", "job.toml:17:12: problem.initial.solution: kind = \"gaussian\" has no such key"),
    ("solution =", "vorticity =", "job.toml:17:13: problem.initial.vorticity: equation = \"burgers\" has no such key"),
    (
        "pi*x",
        "pi*y",
        "job.toml:17:12: problem.initial.solution: column 10: unknown name `y`\n  sin(2*pi*y)\n           ^",
    ),
];

const GOOD_DARCY: &str = r#"schema = 1
name = "good"
workload = "pde-data"
[problem]
equation = "darcy"
[problem.grid]
points = 17
length = 1.0
[problem.medium]
values = [3.0, 12.0]
[problem.output]
points = 9
"#;

/// As [`JOBS`], for media.
const DARCY_JOBS: &[(&str, &str, &str)] = &[
    ("12.0", "0.0", "job.toml:10:10: problem.medium.values = 0: expected a positive number"),
    (
        "points = 9",
        "points = 7",
        "job.toml:12:10: problem.output.points = 7: expected 1 more than a divisor of 16, to take every so many nodes",
    ),
    (
        "[problem.medium]\nvalues = [3.0, 12.0]",
        "[problem.initial]\nkind = \"gaussian\"",
        "job.toml:9:1: problem.initial: equation = \"darcy\" has no such key",
    ),
    ("\"darcy\"", "\"advection\"", "job.toml:4:1: problem.time: missing; equation = \"advection\" needs it"),
];

#[test]
fn malformed_job_files() {
    let scratch = scratch();
    let mut wrong = Vec::new();
    let tables = [
        (GOOD, JOBS),
        (GOOD_DPP, DPP_JOBS),
        (GOOD_PDE, PDE_JOBS),
        (GOOD_BURGERS, BURGERS_JOBS),
        (GOOD_DARCY, DARCY_JOBS),
        (GOOD_PROGRAM, PROGRAM_JOBS),
    ];
    for (good, (old, new, expected)) in tables.iter().flat_map(|(good, jobs)| jobs.iter().map(move |job| (good, job))) {
        assert!(good.contains(old), "{old}");
        let spec = job(scratch.path(), "job.toml", &good.replacen(old, new, 1));
        let said = refused(scratch.path(), &spec);
        let expected = format!("convoke: error: {expected}");
        if said != expected {
            wrong.push(format!("{new:?}\n  said     {said:?}\n  expected {expected:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        tables.iter().map(|t| t.1.len()).sum::<usize>(),
        wrong.join("\n")
    );
}

/// Every shipped job file with lines lost, doubled and moved, numbers of all sizes and any bytes: priced or refused with a place,
/// never a panic. (`fuzz/` looks further.)
#[test]
fn mutated_job_files_are_priced_or_refused() {
    const NUMBERS: [&str; 14] = [
        "0",
        "-1",
        "1",
        "2",
        "3.5",
        "1e308",
        "-1e-308",
        "nan",
        "inf",
        "1000000",
        "4294967296",
        "9223372036854775807",
        "\"x\"",
        "[]",
    ];
    let jobs = REGISTRY.iter().flat_map(|entry| entry.jobs);
    let (mut priced, mut refused, mut slowest) = (0, 0, (Duration::ZERO, String::new()));
    let mut panicked = Vec::new();
    for (n, (name, text)) in jobs.enumerate() {
        for seed in 0..60 {
            let random = Philox::new(20_261_127 + n as u64, seed);
            let pick = |k: u64, n: usize| ((random.uniform(k) * n as f64) as usize).min(n.saturating_sub(1));
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            for k in 0..1 + seed % 3 {
                let (at, to) = (pick(8 * k, lines.len()), pick(8 * k + 1, lines.len()));
                match pick(8 * k + 2, 6) {
                    0 => drop(lines.remove(at)),
                    1 => lines.insert(to, lines[at].clone()),
                    2 => lines.swap(at, to),
                    3 => {
                        lines[at] =
                            lines[at].replacen(|c: char| c.is_ascii_digit(), NUMBERS[pick(8 * k + 3, NUMBERS.len())], 1)
                    }
                    4 => {
                        let key = lines[at].split('=').next().unwrap_or_default().to_owned();
                        lines[at] = format!("{key}= {}", NUMBERS[pick(8 * k + 3, NUMBERS.len())]);
                    }
                    _ => {
                        let mut bytes = lines[at].clone().into_bytes();
                        let place = pick(8 * k + 3, bytes.len() + 1);
                        bytes.insert(place, pick(8 * k + 4, 128) as u8);
                        lines[at] = String::from_utf8_lossy(&bytes).into_owned();
                    }
                }
                if lines.is_empty() {
                    break;
                }
            }
            let job = JobText { path: PathBuf::from(name), text: lines.join("\n") };
            let begun = Instant::now();
            let inputs = Inputs { base: PathBuf::from("/nonexistent") };
            let priced_or_not = || {
                let entry = registry::of(&job)?;
                let ranks = (entry.ranks)(&job)?;
                (entry.price)(&job, &inputs, &Placement::here(ranks.min(4096), 1))
            };
            let Ok(done) = std::panic::catch_unwind(priced_or_not) else {
                panicked.push(job.text);
                continue;
            };
            if begun.elapsed() > slowest.0 {
                slowest = (begun.elapsed(), job.text.clone());
            }
            match done {
                Ok(_) => priced += 1,
                Err(error) => {
                    let said = error.to_string();
                    assert!([2, 3].contains(&error.exit()) && !said.is_empty(), "{said}\n{}", job.text);
                    refused += 1;
                }
            }
        }
    }
    println!("{priced} priced, {refused} refused; the slowest took {:?}:\n{}", slowest.0, slowest.1);
    assert!(panicked.is_empty(), "{} panicked, such as\n{}", panicked.len(), panicked[0]);
    assert!(priced > 100 && refused > 1000, "{priced} priced, {refused} refused");
}

#[test]
fn files_that_are_no_job_files() {
    let scratch = scratch();
    let dir = scratch.path();
    let missing = "no such job file\n  help: `convoke new WORKLOAD > job.toml` writes one to start from";
    let kind = "is not a regular file\n  help: give the path of a job file (TOML)";
    let text = "is this a data file? Job files are TOML texts";
    fs::create_dir(dir.join("folder.toml")).expect("made");
    fs::write(dir.join("empty.toml"), " \n").expect("written");
    fs::write(dir.join("binary.toml"), b"\x89HDF\r\n\x1a\n\0\xff").expect("written");
    fs::write(dir.join("huge.toml"), vec![b'#'; (1 << 20) + 1]).expect("written");
    std::os::unix::fs::symlink("loop.toml", dir.join("loop.toml")).expect("linked");
    let cases = [
        ("absent.toml", missing.to_owned()),
        ("folder.toml", kind.to_owned()),
        ("empty.toml", "the job file is empty\n  help: `convoke new WORKLOAD > job.toml` writes one to start from".to_owned()),
        ("binary.toml", format!("not UTF-8 text (byte 0)\n  help: {text}")),
        ("huge.toml", format!("1048577 bytes long; a job file has at most 1048576\n  help: {text}")),
        ("loop.toml", "cannot be read: Too many levels of symbolic links (os error 40)\n  help: check the path and its permissions".to_owned()),
    ];
    for (name, expected) in cases {
        assert_eq!(refused(dir, &below(dir, name)), format!("convoke: error: {name}: {expected}"));
    }
    let said = refused(dir, "/dev/null");
    assert_eq!(said, format!("convoke: error: /dev/null: {kind}"));
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_no_errors() {
    let scratch = scratch();
    let spec = job(scratch.path(), "job.toml", &format!("\u{feff}{}", GOOD.replace('\n', "\r\n")));
    assert_eq!(told(&run(&["check", &spec])).0, 0);
}

#[test]
fn run_directories_that_cannot_be_used() {
    let scratch = scratch();
    let dir = scratch.path();
    let spec = job(dir, "job.toml", GOOD);
    fs::write(dir.join("file"), "precious").expect("written");
    fs::create_dir(dir.join("full")).expect("made");
    fs::write(dir.join("full/precious"), "precious").expect("written");
    for (name, expected) in [
        ("file", "file: is a file, not a directory\n  help: choose another --dir"),
        ("full", "full: is not empty\n  help: choose a new or empty directory with --dir"),
        ("file/below", "file: is a file, or lies below one, not a directory\n  help: choose another --dir"),
        ("file/far/below", "file/far: is a file, or lies below one, not a directory\n  help: choose another --dir"),
    ] {
        let before = snapshot(dir);
        let (code, _, err) = told(&run(&["run", &spec, "--dir", &below(dir, name)]));
        assert_eq!(code, 2);
        let said = err.replace(&format!("{}/", dir.display()), "");
        assert_eq!(said.trim(), format!("convoke: error: {expected}"));
        assert_eq!(snapshot(dir), before);
    }
    // A finished run is not overwritten.
    let run_dir = below(dir, "done");
    assert_eq!(told(&run(&["run", &spec, "--dir", &run_dir, "-q"])).0, 0);
    let before = snapshot(dir);
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &run_dir]));
    assert_eq!(code, 2);
    assert!(err.contains("holds a finished run"), "{err}");
    assert_eq!(snapshot(dir), before);
    let (code, _, err) = told(&run(&["resume", &below(dir, "full")]));
    assert_eq!(code, 2);
    assert!(err.contains("holds no run (spec.lock.json is missing)"), "{err}");
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &below(dir, "50%j")]));
    assert_eq!(code, 2);
    assert!(err.contains("has a '%' or a line break"), "{err}");
}

#[test]
fn a_directory_without_permission_is_refused() {
    let scratch = scratch();
    let dir = scratch.path().join("locked");
    fs::create_dir(&dir).expect("made");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o500)).expect("set");
    if fs::write(dir.join("probe"), "").is_ok() {
        fs::remove_file(dir.join("probe")).expect("removed");
        return skip("root writes everywhere");
    }
    let spec = job(scratch.path(), "job.toml", GOOD);
    let (code, _, err) = told(&run(&["run", &spec, "--dir", &below(&dir, "run")]));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("permission denied"), "{err}");
}

#[test]
fn an_edited_job_is_not_resumed() {
    let scratch = scratch();
    let text = GOOD.replace("\"fbp\"", "\"sirt\"\niterations = 50");
    let spec = job(scratch.path(), "job.toml", &text);
    let dir = below(scratch.path(), "run");
    assert_eq!(told(&run(&["run", &spec, "--dir", &dir, "--stop-after", "5", "-q"])).0, 75);
    job(scratch.path(), "run/spec.toml", &text.replace("size = 16", "size = 17"));
    let (code, _, err) = told(&run(&["resume", &dir]));
    assert_eq!(code, 5, "{err}");
    assert!(err.contains("problem.phantom.size was 16 when the run started and is 17 now"), "{err}");
}

#[test]
fn a_run_of_a_newer_program_is_left_alone() {
    let scratch = scratch();
    let spec = job(scratch.path(), "job.toml", &GOOD.replace("\"fbp\"", "\"sirt\"\niterations = 50"));
    let dir = below(scratch.path(), "run");
    assert_eq!(told(&run(&["run", &spec, "--dir", &dir, "--stop-after", "5", "-q"])).0, 75);
    let lock = Path::new(&dir).join("spec.lock.json");
    let text = fs::read_to_string(&lock).expect("it");
    assert!(text.contains("\"layout\": 1"), "{text}");
    fs::write(&lock, text.replace("\"layout\": 1", "\"layout\": 2")).expect("written");
    let before = snapshot(scratch.path());
    let (code, _, err) = told(&run(&["resume", &dir]));
    assert!(code == 5 && err.contains("layout 2 is of a newer convoke"), "{code} {err}");
    assert_eq!(snapshot(scratch.path()), before);
}

#[test]
fn a_job_that_cannot_fit_is_refused_with_the_figures() {
    let scratch = scratch();
    let text = GOOD
        .replace("ranks = 1", "ranks = 1\nmemory_per_rank = \"97MiB\"")
        .replace("size = 16", "size = 20000")
        .replace("angles = 8", "angles = 4000");
    let spec = job(scratch.path(), "job.toml", &text);
    for args in [vec!["check", &spec], vec!["run", &spec]] {
        let (code, _, err) = told(&run(&args));
        assert_eq!(code, 3, "{err}");
        assert!(err.contains("memory needs") && err.contains("97.0 MiB per rank"), "{err}");
    }
}

#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}
