//! Pictures that a result asks for: rows of an array over another one, with intervals from two more.

use convoke_data::Result;
use convoke_data::schema::{self, chart};
use convoke_data::store::Reader;

use super::array::{Array, with_unit};
use super::number::printable;
use super::picture::{Dot, Kind, MOST_SERIES, Picture, Series, draw_series, file_name};

/// Points of a chart, at most; it is for tables, not for fields.
const MOST_POINTS: usize = 100_000;
/// Letters of a name in the legend.
const NAME: usize = 40;

/// The chart of an array that asks for one.
///
/// # Errors
/// The file is damaged. A chart that cannot be drawn as it is described is left to the usual pictures.
pub fn picture(file: &Reader, array: &Array) -> Result<Option<Picture>> {
    let text = |name| Ok(file.attribute(&array.path, name)?.and_then(|a| a.as_text().map(str::to_owned)));
    let Some(over) = text(chart::OVER)? else { return Ok(None) };
    let (rows, n) = match array.shape[..] {
        [n] => (1, n),
        [rows, n] => (rows, n),
        _ => return Ok(None),
    };
    if rows > MOST_SERIES || rows * n > MOST_POINTS {
        return Ok(None);
    }
    let read = |name: &str, len: usize| -> Result<Option<Vec<f64>>> {
        let path = schema::result(name);
        let fits = file.has(&path) && file.shape(&path)?.iter().product::<usize>() == len;
        if fits { file.read(&path).map(Some) } else { Ok(None) }
    };
    let named = |name: Option<String>| name.map_or(Ok(None), |name| read(&name, rows * n));
    let (Some(x), Some(y)) = (read(&over, n)?, read(&array.name, rows * n)?) else { return Ok(None) };
    let (low, high) = (named(text(chart::LOW)?)?, named(text(chart::HIGH)?)?);
    let names = text(chart::SERIES)?.unwrap_or_default();
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    let dot =
        |i: usize| Dot { x: x[i % n], y: y[i], interval: low.as_ref().zip(high.as_ref()).map(|(l, h)| (l[i], h[i])) };
    let series = |row: usize| {
        let name: String = printable(names.get(row).copied().unwrap_or_default()).chars().take(NAME).collect();
        let mut dots: Vec<Dot> = (row * n..(row + 1) * n).map(dot).collect();
        dots.sort_by(|a, b| a.x.total_cmp(&b.x));
        Series { name, dots, joined: true }
    };
    let all: Vec<Series> = (0..rows).map(series).collect();
    let axis = file.attribute(&schema::result(&over), schema::field::LONG_NAME)?;
    let axis = axis.and_then(|a| a.as_text().map(str::to_owned)).unwrap_or(over);
    let title = printable(&format!("{} ({})", array.title(), array.name));
    let scene = draw_series(&all, &title, &printable(&axis), with_unit("", &array.unit).trim());
    Ok(Some(Picture { name: file_name(&array.name), kind: Kind::Curve, scene }))
}
