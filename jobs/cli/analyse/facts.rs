//! Everything that is known about a run or a file: gathered once, shown as text, JSON or HTML.

use convoke_cluster::Error;
use convoke_cluster::checkpoint::{self, Manifest};
use convoke_data::schema;
use convoke_data::store::{Digest, Reader, digest_file};
use serde::Serialize;
use serde_json::{Map, Value};

use super::array::{self, Array};
use super::attempts::{self, Attempt, Planned, State};
use super::chart;
use super::picture::{Look, Picture, draw_array, draw_column};
use super::scan::{Wanted, scan};
use super::source::{Run, Source};

/// A run or a file, analysed.
#[derive(Debug, Serialize)]
pub struct Analysis {
    /// The path as given.
    pub path: String,
    /// Name of the job.
    pub name: Option<String>,
    /// Registry name of the workload.
    pub workload: Option<String>,
    /// The run, if the path is a run directory.
    pub run: Option<Story>,
    /// What made the file: attributes of its root.
    pub provenance: Map<String, Value>,
    /// The result, if there is one.
    pub result: Option<Contents>,
    /// Figures recorded at every step.
    pub history: Vec<Column>,
    /// The job file's text.
    #[serde(skip)]
    pub job: Option<String>,
}

/// A run's story.
#[derive(Debug, Serialize)]
pub struct Story {
    /// Identity of the run.
    pub run_id: String,
    /// Where it stands.
    pub state: State,
    /// Steps done.
    pub steps: u64,
    /// Steps planned.
    pub steps_planned: Option<u64>,
    /// Wall time of all attempts together.
    pub seconds: f64,
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Prediction beside measurement.
    pub planned: Vec<Planned>,
    /// The newest committed checkpoint.
    pub checkpoint: Option<Newest>,
    /// How to go on, if it is not complete.
    pub resume: Option<String>,
    /// Directory that the job's input paths start from.
    pub inputs: String,
}

/// The newest checkpoint.
#[derive(Debug, Serialize)]
pub struct Newest {
    /// Its name.
    pub name: String,
    /// Steps done.
    pub step: u64,
    /// Files.
    pub shards: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

/// A result file.
#[derive(Debug, Serialize)]
pub struct Contents {
    /// The file.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// XXH3-128 of its bytes.
    pub xxh3_128: String,
    /// Whether that is what the run recorded; absent for a file without a run.
    pub as_recorded: Option<bool>,
    /// Attributes of `/result`.
    pub figures: Map<String, Value>,
    /// The arrays.
    pub arrays: Vec<Array>,
    /// How many of them are not drawn for their number.
    pub not_drawn: usize,
}

/// Arrays that are drawn: a file may hold a hundred thousand.
const DRAWN: usize = 100;

/// A column of the history.
#[derive(Debug, Serialize)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Records.
    pub n: usize,
    /// First value.
    pub first: f64,
    /// Last value.
    pub last: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// All values.
    #[serde(skip)]
    pub values: Vec<f64>,
}

impl Column {
    fn new(name: String, values: Vec<f64>) -> Self {
        let end = |v: Option<&f64>| v.copied().unwrap_or(f64::NAN);
        Self {
            name,
            n: values.len(),
            first: end(values.first()),
            last: end(values.last()),
            min: values.iter().copied().fold(f64::NAN, f64::min),
            max: values.iter().copied().fold(f64::NAN, f64::max),
            values,
        }
    }
}

/// Reads everything once; with a [`Look`], draws while reading.
///
/// # Errors
/// A damaged file; a slice that does not exist.
pub fn gather(source: &Source, look: Option<&Look>) -> Result<(Analysis, Vec<Picture>), Error> {
    let mut pictures = Vec::new();
    let (mut provenance, mut result, mut columns) = (Map::new(), None, Vec::new());
    let mut job = source.run.as_ref().map(|run| run.text.text.clone());
    if let Some(file) = &source.file {
        provenance = array::attributes(file, "/")?;
        result = Some(contents(source, file, look, &mut pictures)?);
        columns = array::columns(file)?;
        job = job.or_else(|| file.read_text(schema::SPEC_TOML).ok());
    } else if let Some(run) = &source.run {
        columns = so_far(run);
    }
    if look.is_some() {
        pictures.extend(columns.iter().map(|(name, values)| draw_column(name, values)));
    }
    let resolved = |key: &str| source.run.as_ref().and_then(|r| r.lock.resolved[key].as_str().map(str::to_owned));
    let spec = |key: &str| toml::from_str::<toml::Value>(job.as_deref()?).ok()?.get(key)?.as_str().map(str::to_owned);
    let recorded = provenance.get("workload").and_then(|w| w.as_str().map(str::to_owned));
    let analysis = Analysis {
        path: source.path.display().to_string(),
        name: resolved("name").or_else(|| spec("name")),
        workload: resolved("workload").or(recorded),
        run: source.run.as_ref().map(|run| story(run, result.as_ref().map(|r: &Contents| r.bytes))),
        provenance,
        result,
        history: columns.into_iter().map(|(name, values)| Column::new(name, values)).collect(),
        job,
    };
    Ok((analysis, pictures))
}

fn contents(
    source: &Source,
    file: &Reader,
    look: Option<&Look>,
    pictures: &mut Vec<Picture>,
) -> Result<Contents, Error> {
    let mut arrays = array::list(file)?;
    if let Some(look) = look {
        look.check(&arrays)?;
    }
    let mut not_drawn = 0;
    for array in arrays.iter_mut().filter(|a| a.numeric) {
        let mut wanted = look.map_or(Wanted::Statistics, |look| look.wanted(array));
        if pictures.len() >= DRAWN && !matches!(wanted, Wanted::Statistics) {
            (wanted, not_drawn) = (Wanted::Statistics, not_drawn + 1);
        }
        array.stats = Some(scan(file, &array.path, &array.shape, &mut wanted)?);
        if let Some(look) = look {
            pictures.extend(chart::picture(file, array)?.or_else(|| draw_array(array, &wanted, look)));
        }
    }
    let figures = if file.has(schema::RESULT) { array::attributes(file, schema::RESULT)? } else { Map::new() };
    let Digest { bytes, xxh3_128 } = digest_file(file.path())?;
    let finished = source.run.as_ref().and_then(|run| run.events.iter().rev().find(|e| e["event"] == "finished"));
    let as_recorded = finished.and_then(|e| e["result"].as_str()).map(|recorded| recorded == xxh3_128);
    Ok(Contents { file: file.path().display().to_string(), bytes, xxh3_128, as_recorded, figures, arrays, not_drawn })
}

fn story(run: &Run, result: Option<u64>) -> Story {
    let alive = run.dir.owner().is_some_and(|owner| run.dir.is_alive(&owner));
    let attempts = attempts::attempts(&run.events, alive);
    let state = attempts.last().map_or(if alive { State::Running } else { State::New }, |a| a.state);
    let planned = attempts::planned(&run.events, &attempts, result);
    let newest = newest(run);
    let steps_planned = planned.iter().find(|p| p.quantity == "steps").map(|p| p.planned as u64);
    Story {
        run_id: run.lock.run_id.clone(),
        state,
        steps: attempts.last().map_or(0, |a| a.last_step),
        steps_planned,
        seconds: attempts.iter().map(|a| a.seconds).filter(|s| s.is_finite()).sum(),
        attempts,
        planned,
        checkpoint: newest.map(|(_, newest)| newest),
        resume: state.resumable().then(|| format!("convoke resume {}", run.dir.path.display())),
        inputs: run.lock.inputs.display().to_string(),
    }
}

fn newest(run: &Run) -> Option<(Manifest, Newest)> {
    let name = checkpoint::list(&run.dir.checkpoints()).into_iter().max()?;
    let manifest = Manifest::read(&run.dir.checkpoints().join(name.to_string())).ok()?;
    let bytes = manifest.shards.iter().map(|s| s.bytes).sum();
    let newest = Newest { name: name.to_string(), step: name.step, shards: manifest.shards.len(), bytes };
    Some((manifest, newest))
}

/// The history of a run without a result: what its newest checkpoint knows.
fn so_far(run: &Run) -> Vec<(String, Vec<f64>)> {
    let Some((manifest, _)) = newest(run) else { return Vec::new() };
    let folder = run.dir.checkpoints().join(manifest.name().to_string());
    let first = manifest.shards.first().and_then(|shard| Reader::open_foreign(folder.join(&shard.file), None).ok());
    first.and_then(|file| array::columns(&file).ok()).unwrap_or_default()
}
