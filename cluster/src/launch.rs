//! Starting ranks: is this process one of several, and how to start several.

use std::path::Path;
use std::process::Command;

/// How many ranks the launcher of this process announced, if a launcher started it.
///
/// Open MPI and MPICH set the first variables. Under `srun`, `SLURM_NTASKS` also stands in the
/// environment of the batch script itself, so only a step with a PMI counts.
pub fn ranks_announced() -> Option<usize> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    number("OMPI_COMM_WORLD_SIZE").or_else(|| number("PMI_SIZE")).or_else(|| number("MPI_LOCALNRANKS")).or_else(|| {
        let step = std::env::var("SLURM_STEP_ID").is_ok();
        let pmi = std::env::var("PMIX_RANK").is_ok() || std::env::var("PMI_RANK").is_ok();
        if step && pmi { number("SLURM_STEP_NUM_TASKS").or_else(|| number("SLURM_NTASKS")) } else { None }
    })
}

/// Which MPI an `mpirun` belongs to; their options differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Open MPI.
    OpenMpi,
    /// MPICH and its relatives (Hydra).
    Mpich,
}

/// A launcher of ranks on this machine.
#[derive(Debug, Clone)]
pub struct Mpirun {
    /// Path of `mpirun`.
    pub program: std::path::PathBuf,
    /// Whose it is.
    pub flavour: Flavour,
    /// First line of `mpirun --version`.
    pub version: String,
}

impl Mpirun {
    /// The `mpirun` on the path, if there is one that answers.
    pub fn find() -> Option<Self> {
        let program = which::which("mpirun").ok()?;
        let output = Command::new(&program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let flavour =
            if text.contains("Open MPI") || text.contains("open-mpi") { Flavour::OpenMpi } else { Flavour::Mpich };
        Some(Self { program, flavour, version: text.lines().next().unwrap_or_default().trim().to_owned() })
    }

    /// The command that starts `ranks` ranks on this machine, without binding them to cores
    /// (each rank has threads of its own); session files go below `scratch`.
    pub fn command(&self, ranks: usize, scratch: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-n").arg(ranks.to_string());
        if self.flavour == Flavour::OpenMpi {
            command.args(["--quiet", "--oversubscribe", "--bind-to", "none"]);
            command.env("OMPI_MCA_orte_tmpdir_base", scratch).env("PRTE_MCA_prte_tmpdir_base", scratch);
            if rustix::process::geteuid().is_root() {
                command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
            }
        }
        command
    }
}

/// What starts the ranks of a run.
#[derive(Debug, Clone)]
pub enum Launcher {
    /// Nothing: one process.
    Alone,
    /// An MPI's own launcher.
    Mpirun(Mpirun),
    /// Slurm's, inside an allocation.
    Srun {
        /// Its `--mpi=`.
        mpi: Option<String>,
        /// Whether ranks are bound to cores.
        bind: bool,
    },
}

impl Launcher {
    /// The command that starts `ranks` ranks of the program that is appended to it.
    pub fn command(&self, ranks: usize, scratch: &Path) -> Command {
        match self {
            // A program that does nothing but become the one named after it.
            Self::Alone => Command::new("env"),
            Self::Mpirun(mpirun) => mpirun.command(ranks, scratch),
            Self::Srun { mpi, bind } => {
                let mut command = Command::new("srun");
                // One rank that dies must end the step: by default the others would wait for it until the time limit.
                command.args(["--kill-on-bad-exit=1", "--export=ALL", "--label"]);
                command.arg(format!("--ntasks={ranks}"));
                command.args(mpi.iter().map(|mpi| format!("--mpi={mpi}")));
                if *bind {
                    command.arg("--cpu-bind=cores");
                }
                // srun inherits the script's request, and complains where both name memory.
                command.env_remove("SLURM_MEM_PER_NODE");
                command
            }
        }
    }
}
