//! Moving pictures: one axis of some arrays becomes time, the arrays side by side, and their difference where they are two.

use std::path::{Path, PathBuf};

use convoke_cluster::{Error, JobError};
use convoke_data::DataError;
use convoke_data::store::{Reader, write_atomic};
use gif::{AnyExtension, Encoder, Frame, Repeat};

use super::colour::{ColourMap, percentiles};
use super::raster::{self, Canvas};
use super::slices::{self, Colours};
use super::{Look, file_name};
use crate::cli::analyse::array::Array;
use crate::cli::analyse::scan::{Plane, Wanted, scan};

/// Frames, at most; of more samples those at equal distances are shown.
const FRAMES: usize = 200;
/// Samples of all planes, at most.
const SAMPLES: usize = 1 << 26;
/// Hundredths of a second that a frame stays.
const DELAY: u16 = 20;
/// What our own files carry; only such a file is replaced.
const MARK: &[u8] = b"Software convoke";

/// One array: its planes, a frame each.
struct Track<'a> {
    array: &'a Array,
    planes: Vec<Plane>,
    title: String,
    colours: Colours,
}

/// Writes `arrays`, moving along `axis`, as one GIF into `folder`.
///
/// # Errors
/// No such axis, too few others, or more than can be drawn; the file cannot be read or written.
pub fn animate(file: &Reader, arrays: &[Array], (axis, look): (&str, &Look), folder: &Path) -> Result<PathBuf, Error> {
    let mut tracks: Vec<Track> = arrays.iter().map(|array| track(file, array, axis, look)).collect::<Result<_, _>>()?;
    let frames = tracks.iter().map(|track| track.planes.len()).min().unwrap_or(0);
    let first = tracks.first().ok_or_else(|| refused("no array with numbers", "name some: analyse ls lists them"))?;
    let shown = || first.planes.iter().flat_map(|plane| plane.values.iter().copied());
    let ends = look.range.unwrap_or_else(|| percentiles(shown(), 0.005, 0.995));
    tracks.iter_mut().for_each(|track| track.colours.range = Some(ends));
    if let [a, b] = &tracks[..]
        && a.array.shape == b.array.shape
    {
        let difference = difference(a, b);
        tracks.push(difference);
    }
    let names: Vec<String> = arrays.iter().map(|array| file_name(&array.name)).collect();
    let path = folder.join(format!("{}-along-{}.gif", names.join("-"), file_name(axis)));
    std::fs::create_dir_all(folder).map_err(|source| DataError::from_io(folder, "make the folder", source))?;
    if let Ok(old) = std::fs::read(&path)
        && !old.windows(MARK.len()).any(|part| part == MARK)
    {
        return Err(DataError::Exists { path }.into());
    }
    let encoded = encode(&tracks, axis, frames);
    let bytes =
        encoded.map_err(|e| DataError::from_io(&path, "write a picture", std::io::Error::other(e.to_string())))?;
    write_atomic(&path, &bytes)?;
    Ok(path)
}

fn refused(message: impl Into<String>, help: impl Into<String>) -> Error {
    JobError::command_line(message.into(), help.into()).into()
}

/// The planes of one array along `axis`.
fn track<'a>(file: &Reader, array: &'a Array, axis: &str, look: &Look) -> Result<Track<'a>, Error> {
    let time = array.axes.iter().position(|a| a.name == axis).ok_or_else(|| {
        let known: Vec<&str> = array.axes.iter().map(|a| a.name.as_str()).collect();
        refused(format!("--animate {axis}: {} has no such axis", array.name), format!("it has: {}", known.join(", ")))
    })?;
    let others: Vec<usize> = super::running(array).into_iter().filter(|k| *k != time).collect();
    let [.., rows, cols] = others[..] else {
        let message = format!("--animate {axis}: {} has no two other axes that could be shown", array.name);
        return Err(refused(message, format!("its shape is {}", array.dimensions())));
    };
    let (n, cut) = (array.shape[time], look.cut(array, &[rows, cols]));
    let frames = n.min(FRAMES);
    let plane = |frame: usize| {
        let mut at = cut.clone();
        at[time] = frame * n / frames;
        Plane::new(&array.shape, rows, cols, at)
    };
    let planes: Vec<Plane> = (0..frames).map(plane).collect();
    if planes.iter().map(|plane| plane.values.len()).sum::<usize>() > SAMPLES {
        let message = format!("--animate {axis}: {} has too many samples for moving pictures", array.name);
        return Err(refused(message, "export it, or animate an array with fewer points"));
    }
    let mut wanted = Wanted::Planes(planes);
    scan(file, &array.path, &array.shape, &mut wanted)?;
    let Wanted::Planes(planes) = wanted else { return Err(refused("no planes", "")) };
    let colours = Colours { map: look.map.unwrap_or(ColourMap::Viridis), range: look.range };
    Ok(Track { array, planes, title: array.name.clone(), colours })
}

/// The first minus the second, blue to red about zero.
fn difference<'a>(a: &Track<'a>, b: &Track<'a>) -> Track<'a> {
    let minus = |(a, b): (&Plane, &Plane)| {
        let values = a.values.iter().zip(&b.values).map(|(a, b)| a - b).collect();
        Plane { values, ..a.clone() }
    };
    let planes: Vec<Plane> = a.planes.iter().zip(&b.planes).map(minus).collect();
    let (_, most) = percentiles(planes.iter().flat_map(|p| p.values.iter().map(|v| v.abs())), 0.005, 0.995);
    let colours = Colours { map: ColourMap::Diverging, range: Some((-most, most)) };
    Track { array: a.array, planes, title: "difference".to_owned(), colours }
}

/// All frames as the bytes of a GIF that repeats.
fn encode(tracks: &[Track], axis: &str, frames: usize) -> Result<Vec<u8>, gif::EncodingError> {
    let picture = |frame: usize| -> Canvas {
        let one = |track: &Track| {
            let plane = &track.planes[frame];
            let time = track.array.axes.iter().position(|a| a.name == axis).unwrap_or(0);
            let note = format!("{axis} = {} of {}", plane.at[time], track.array.shape[time]);
            raster::draw(&slices::draw(track.array, std::slice::from_ref(plane), track.colours, &track.title, &note))
        };
        Canvas::beside(&tracks.iter().map(one).collect::<Vec<Canvas>>())
    };
    // Numbers of ticks have more and fewer digits: the widest frame is the width of all.
    let pictures: Vec<Canvas> = (0..frames).map(picture).collect();
    let size = |of: fn(&Canvas) -> i32| pictures.iter().map(of).max().unwrap_or(1);
    let (width, height) = (size(|c| c.width), size(|c| c.height));
    let [w, h] = [width, height].map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, w, h, &[])?;
    encoder.set_repeat(Repeat::Infinite)?;
    encoder.write_raw_extension(AnyExtension(0xFE), &[MARK])?;
    for picture in pictures {
        let rgb: Vec<u8> = picture.within(i32::from(w), i32::from(h)).data.into_iter().flatten().collect();
        let mut frame = Frame::from_rgb_speed(w, h, &rgb, 10);
        frame.delay = DELAY;
        encoder.write_frame(&frame)?;
    }
    drop(encoder);
    Ok(bytes)
}
