//! Pictures of a sweep: each figure over the key that varies most, a series for each value of the others.

use std::collections::BTreeMap;
use std::path::Path;

use convoke_cluster::Error;
use convoke_cluster::sweep::{Estimates, Row, Table};
use toml::Value;

use crate::cli::analyse::picture::{
    Dot, FileKind, Kind, MOST_SERIES, Picture, Series, draw_series, file_name, save as save_pictures,
};

/// Draws every figure; the paths.
pub(super) fn save(table: &Table, name: &str, folder: &Path) -> Result<Vec<String>, Error> {
    let Some(across) = across(table) else { return Ok(Vec::new()) };
    let estimates = if table.replicates > 1 { table.estimates() } else { Vec::new() };
    let draw = |figure: &String| Picture {
        name: file_name(figure),
        kind: Kind::Curve,
        scene: draw_series(&series(table, &estimates, across, figure), name, &table.keys[across], figure),
    };
    // What is the same everywhere is no picture.
    let drawn = |figure: &&String| {
        let mut values = table.rows.iter().filter_map(|row| row.figures.get(*figure)).filter(|v| v.is_finite());
        let first = values.next();
        values.any(|v| Some(v) != first)
    };
    let pictures: Vec<Picture> = table.figures().iter().filter(drawn).map(draw).collect();
    let files = save_pictures(&pictures, folder, FileKind::Svg)?.into_iter().chain(save_pictures(
        &pictures,
        folder,
        FileKind::Png,
    )?);
    Ok(files.filter(|f| f.extension().is_some_and(|e| e == "png")).map(|f| f.display().to_string()).collect())
}

/// The key with the most different numbers.
fn across(table: &Table) -> Option<usize> {
    let different = |k: usize| {
        let numbers: Option<Vec<u64>> = table.rows.iter().map(|row| number(&row.values[k]).map(f64::to_bits)).collect();
        numbers.map(|n| n.into_iter().collect::<std::collections::HashSet<_>>().len())
    };
    // The first of equals.
    (0..table.keys.len()).rev().filter(|k| different(*k).is_some()).max_by_key(|k| different(*k))
}

fn series(table: &Table, estimates: &[Estimates], across: usize, figure: &str) -> Vec<Series> {
    let interval = |point: u64| {
        let of_point = &estimates[estimates.binary_search_by_key(&point, |e| e.point).ok()?];
        of_point.figures.get(figure).map(|f| (f.low, f.high))
    };
    let others = |row: &Row| {
        let rest = table.keys.iter().zip(&row.values).enumerate().filter(|(k, _)| *k != across);
        let short = |key: &String| key.rsplit('.').next().unwrap_or(key).to_owned();
        rest.map(|(_, (key, value))| format!("{} = {}", short(key), shown(value))).collect::<Vec<_>>().join(", ")
    };
    let mut groups: BTreeMap<String, Vec<Dot>> = BTreeMap::new();
    for rows in table.rows.chunk_by(|a, b| a.run.point == b.run.point) {
        let values: Vec<f64> = rows.iter().filter_map(|row| row.figures.get(figure).copied()).collect();
        let Some(x) = number(&rows[0].values[across]).filter(|_| !values.is_empty()) else { continue };
        let y = values.iter().sum::<f64>() / values.len() as f64;
        let interval = interval(rows[0].run.point);
        groups.entry(others(&rows[0])).or_default().push(Dot { x, y, interval });
    }
    if groups.len() > MOST_SERIES {
        // Too many to tell apart, as of a random design: a cloud.
        groups = BTreeMap::from([(String::new(), groups.into_values().flatten().collect())]);
    }
    let joined =
        groups.values().any(|dots| dots.len() < table.rows.len()) || groups.len() == 1 && table.keys.len() == 1;
    let sorted = |mut dots: Vec<Dot>| {
        dots.sort_by(|a, b| a.x.total_cmp(&b.x));
        dots
    };
    groups.into_iter().map(|(name, dots)| Series { name, dots: sorted(dots), joined }).collect()
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or(value.as_integer().map(|n| n as f64))
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
