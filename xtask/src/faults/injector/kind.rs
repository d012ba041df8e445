//! What may befall a run.

/// What is sent to a process, or done to its disk, while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    KillRank,
    KillAll,
    KillLauncher,
    Terminate,
    Ask,
    AskTwice,
    AskInCheckpoint,
    Freeze,
    Fill,
}

impl Signal {
    /// Whether it asks for a checkpoint and exit code 75.
    pub fn asks(self) -> bool {
        matches!(self, Self::Terminate | Self::Ask | Self::AskTwice | Self::AskInCheckpoint)
    }
}

/// Kinds of faults that are drawn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Processes,
    KillPoints,
    Errors,
    Damage,
    Disk,
}

const SIGNALS: [(Signal, &str); 8] = [
    (Signal::KillRank, "kill -9 of one rank"),
    (Signal::KillAll, "kill -9 of all"),
    (Signal::KillLauncher, "kill -9 of the launcher"),
    (Signal::Terminate, "SIGTERM"),
    (Signal::Ask, "SIGUSR1"),
    (Signal::AskTwice, "SIGUSR1 twice"),
    (Signal::AskInCheckpoint, "SIGUSR1 in a checkpoint"),
    (Signal::Freeze, "SIGSTOP of a rank, SIGCONT"),
];

/// In the order in which they are passed; `true`: by rank 0 alone.
pub const KILL_POINTS: [(&str, bool); 21] = [
    ("step", false),
    ("ckpt-mkdir", true),
    ("ckpt-made", true),
    ("shard-create", false),
    ("shard-write", false),
    ("shard-close", false),
    ("shard-sync", false),
    ("shard-verify", false),
    ("shard-rename", false),
    ("shard-dir-sync", false),
    ("ckpt-gather", false),
    ("manifest-create", true),
    ("manifest-write", true),
    ("manifest-sync", true),
    ("manifest-rename", true),
    ("manifest-dir-sync", true),
    ("ckpt-committed", true),
    ("retain-unmark", true),
    ("retain-remove", true),
    ("ckpt-load", false),
    ("result-rename", true),
];

/// Effect, point, by rank 0 alone, how many times.
const ERRORS: [(&str, &str, bool, u64); 13] = [
    ("enospc", "shard-write", false, 1),
    ("edquot", "shard-write", false, 1),
    ("eio", "shard-sync", false, 1),
    ("eio", "shard-verify", false, 1),
    ("eio", "shard-rename", false, 1),
    ("erofs", "ckpt-mkdir", true, 1),
    ("enospc", "manifest-write", true, 1),
    ("eio", "manifest-rename", true, 1),
    ("eio", "manifest-dir-sync", true, 1),
    ("enospc", "shard-write", false, 1000),
    ("eio", "result-sync", true, 1),
    ("delay", "shard-sync", false, 3),
    ("delay", "manifest-dir-sync", true, 2),
];

const FILES: [&str; 2] = ["shard", "manifest"];
const HOWS: [&str; 4] = ["flipped", "cut", "emptied", "deleted"];

/// One fault.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Strike(Signal),
    Point { effect: &'static str, point: &'static str, rank_0: bool, times: u64 },
    Damage { what: &'static str, how: &'static str, all: bool },
    DiskFull,
}

impl Kind {
    /// Draws one of those that can be injected now.
    pub fn draw(random: &mut fastrand::Rng, on_small_disk: bool, checkpoints: usize) -> Self {
        let group = match random.u64(0..100) {
            0..35 => Group::Processes,
            35..70 => Group::KillPoints,
            70..84 => Group::Errors,
            84..97 if checkpoints > 0 => Group::Damage,
            97.. if on_small_disk => Group::Disk,
            _ => Group::Processes,
        };
        match group {
            Group::Processes => Self::Strike(SIGNALS[random.usize(..SIGNALS.len())].0),
            Group::KillPoints => {
                let (point, rank_0) = KILL_POINTS[random.usize(..KILL_POINTS.len())];
                Self::Point { effect: "kill", point, rank_0, times: 1 }
            }
            Group::Errors => {
                let (effect, point, rank_0, times) = ERRORS[random.usize(..ERRORS.len())];
                Self::Point { effect, point, rank_0, times }
            }
            Group::Damage => Self::Damage {
                what: FILES[random.usize(..FILES.len())],
                how: HOWS[random.usize(..HOWS.len())],
                all: random.u64(..6) == 0,
            },
            Group::Disk => Self::DiskFull,
        }
    }

    /// Its row in the table.
    pub fn label(&self) -> String {
        match self {
            Self::Strike(signal) => {
                SIGNALS.iter().find(|(s, _)| s == signal).map_or("full disk", |(_, l)| l).to_owned()
            }
            Self::Point { effect: "kill", point, .. } => format!("kill -9 at {point}"),
            Self::Point { effect, point, times: 1000, .. } => format!("{} at {point}, always", effect.to_uppercase()),
            Self::Point { effect: "delay", point, .. } => format!("slow {point}"),
            Self::Point { effect, point, .. } => format!("{} at {point}", effect.to_uppercase()),
            Self::Damage { what, how, all: false } => format!("newest {what} {how}"),
            Self::Damage { what, how, all: true } => format!("every {what} {how}"),
            Self::DiskFull => "full disk".to_owned(),
        }
    }
}
