//! Reading, with errors that a user can act on.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use hdf5::File;
use hdf5::filters::Filter;
use hdf5::plist::DatasetCreate;
use hdf5::plist::dataset_create::Layout as StoredLayout;
use ndarray::ArrayD;

use super::attribute::{self, Attribute};
use super::element::{Dtype, Element};
use super::links::{self, Found, Target};
use super::writer::{absolute, check_bounds, location, selection};
use crate::error::last_part;
use crate::{DataError, Result};

/// Bytes that one [`Reader::read`] may take, unless the caller sets another limit: a small damaged
/// or hostile file can claim terabytes.
const DEFAULT_LIMIT: u64 = 16 << 30;
/// Bytes that one array of a foreign file may claim, or the file's length where that is more.
const FOREIGN_BYTES: u64 = 2 << 30;
/// Bytes that one chunk of a foreign file may claim: the library takes it into memory whole.
const FOREIGN_CHUNK: u64 = 1 << 30;
/// Bytes of a foreign file that are read at once without being asked for by the slab.
const FOREIGN_WHOLE: u64 = 1 << 29;
/// Texts of one dataset that are read.
const MAX_TEXTS: usize = 1 << 16;
/// Filters of a higher number come as plug-ins, which are programs of others.
const LAST_BUILT_IN_FILTER: i32 = 255;
/// First bytes of an HDF5 file, at offset 0, 512, 1024, 2048, ...
const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// An HDF5 file opened for reading.
#[derive(Debug)]
pub struct Reader {
    file: File,
    path: PathBuf,
    limit: u64,
    foreign: Option<Foreign>,
}

/// What is allowed in a file that may come from anybody.
#[derive(Debug)]
struct Foreign {
    /// Bytes that one array may claim.
    bytes: u64,
    /// Bytes that one chunk may claim.
    chunk: u64,
    /// Names that hard links reach, so that a lookup need not follow each link again.
    inside: HashSet<String>,
    /// Everything else that the walk met.
    others: Vec<(String, Found)>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path from the root, with leading slash.
    pub name: String,
    /// Elements per axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: Dtype,
}

/// What a name of a file leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A group.
    Group,
    /// A dataset: its shape, its element type, the bytes that it takes in the file.
    Dataset(Entry, u64),
    /// A named datatype.
    Type,
    /// A link by name, which is not followed here.
    SoftLink,
    /// What will not be read, and why.
    Refused(String),
}

impl Reader {
    /// Opens a file that may come from anybody: as [`Reader::open`], and what such a file can do
    /// harm with is refused. No array may claim more than `bytes` (if absent: 2 GiB, or the length
    /// of the file where that is more), no chunk more than 1 GiB, no filter may need a plug-in,
    /// and groups and links are bounded.
    ///
    /// The library itself is not proof against damaged files: call this in a process that may die.
    ///
    /// # Errors
    /// As [`Reader::open`]; [`DataError::Unreasonable`] for too many objects.
    pub fn open_foreign(path: impl AsRef<Path>, bytes: Option<u64>) -> Result<Self> {
        let reader = Self::open(path)?;
        let length =
            fs::metadata(&reader.path).map_err(|e| DataError::from_io(&reader.path, "open the file", e))?.len();
        let tree = links::walk(&reader.file).map_err(reader.failed("list the objects"))?;
        if let Some(what) = tree.cut {
            return Err(DataError::Unreasonable { path: reader.path, what });
        }
        let hard = |found: &Found| matches!(found, Found::Group | Found::Dataset | Found::Type);
        let (inside, others): (Vec<_>, Vec<_>) = tree.links.into_iter().partition(|(_, found)| hard(found));
        let inside = inside.into_iter().map(|(name, _)| name).collect();
        let (bytes, chunk) = bytes.map_or((FOREIGN_BYTES.max(length), FOREIGN_CHUNK), |bytes| (bytes, bytes));
        let foreign = Foreign { bytes, chunk, inside, others };
        Ok(Self { limit: FOREIGN_WHOLE, foreign: Some(foreign), ..reader })
    }

    /// Opens `path`.
    ///
    /// # Errors
    /// Each of these has its own variant: missing, a folder, no permission, empty, not HDF5,
    /// truncated, damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        check_file(path)?;
        let file = super::unlocked().open(path).map_err(|error| {
            match DataError::from_hdf5(path, "open the file", &error) {
                // The signature is there, so what fails is the content.
                DataError::Hdf5 { path, detail, .. } if !detail.contains("errno") => {
                    DataError::Corrupt { path, detail: last_part(&detail) }
                }
                clear => clear,
            }
        })?;
        Ok(Self { file, path: path.to_path_buf(), limit: DEFAULT_LIMIT, foreign: None })
    }

    /// Sets the number of bytes that one [`Reader::read`] may take (16 GiB by default).
    #[must_use]
    pub fn with_limit(self, bytes: u64) -> Self {
        Self { limit: bytes, ..self }
    }

    /// The file's path as given to [`Reader::open`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every dataset of the file. Links into other files are not followed.
    ///
    /// # Errors
    /// The file is damaged; in a foreign file, an object that is refused.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let names = links::datasets(&self.file).map_err(self.failed("list the datasets"))?;
        if let Some(foreign) = &self.foreign {
            for (name, found) in &foreign.others {
                self.allow(name, *found)?;
            }
            return names.iter().map(|name| self.entry(name)).collect();
        }
        let entry = |name: String| match self.dataset(&name) {
            Ok(dataset) => {
                let dtype = self.dtype_of(&dataset);
                Some(Entry { name, shape: dataset.shape(), dtype })
            }
            Err(_) => None,
        };
        Ok(names.into_iter().filter_map(entry).collect())
    }

    /// The dataset `name`, as in a listing.
    ///
    /// # Errors
    /// No such dataset, or one that is refused.
    pub fn entry(&self, name: &str) -> Result<Entry> {
        let dataset = self.dataset(name)?;
        Ok(Entry { name: absolute(name), shape: dataset.shape(), dtype: self.dtype_of(&dataset) })
    }

    /// Every object of the file, with what is refused; nothing outside it is looked at.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn objects(&self) -> Result<Vec<(String, Object)>> {
        let tree = links::walk(&self.file).map_err(self.failed("list the objects"))?;
        let object = |(name, found): (String, Found)| {
            let object = match found {
                Found::Group => Object::Group,
                Found::Type => Object::Type,
                Found::Soft => Object::SoftLink,
                Found::Dataset => match self.entry(&name).and_then(|e| Ok((e, self.dataset(&name)?.storage_size()))) {
                    Ok((entry, stored)) => Object::Dataset(entry, stored),
                    Err(error) => Object::Refused(self.reason(&error)),
                },
                Found::External | Found::Damaged => Object::Refused(
                    self.allow(&name, found).map_or_else(|error| self.reason(&error), |()| String::new()),
                ),
            };
            (name, object)
        };
        Ok(tree.links.into_iter().map(object).collect())
    }

    /// An error without the name of the file.
    fn reason(&self, error: &DataError) -> String {
        let text = error.to_string();
        text.strip_prefix(&format!("{}: ", self.path.display())).map_or_else(|| text.clone(), str::to_owned)
    }

    fn allow(&self, name: &str, found: Found) -> Result<()> {
        let (path, name) = (self.path.clone(), name.to_owned());
        match found {
            Found::External => Err(DataError::External { path, name, target: "an external link".to_owned() }),
            Found::Damaged => Err(DataError::Corrupt { path, detail: format!("the header of {name} cannot be read") }),
            _ => Ok(()),
        }
    }

    /// Whether the file has a dataset or group of this name.
    pub fn has(&self, name: &str) -> bool {
        matches!(links::follow(&self.file, &absolute(name)), Ok(Target::Here))
    }

    /// Elements per axis of dataset `name`; empty for a scalar.
    ///
    /// # Errors
    /// No such dataset, or it lies in another file.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.dataset(name)?.shape())
    }

    /// Element type of dataset `name`.
    ///
    /// # Errors
    /// No such dataset, or it lies in another file.
    pub fn dtype(&self, name: &str) -> Result<Dtype> {
        Ok(self.dtype_of(&self.dataset(name)?))
    }

    /// All of dataset `name`, row-major. Integers widen, and any number becomes a float when `T`
    /// is one; a conversion that could clip is refused.
    ///
    /// # Errors
    /// No such dataset, another type, damaged, or larger than the limit.
    pub fn read<T: Element>(&self, name: &str) -> Result<Vec<T>> {
        let dataset = self.dataset(name)?;
        let shape = dataset.shape();
        let elements = shape.iter().map(|&n| n as u128).product::<u128>();
        let bytes = elements * size_of::<T>() as u128;
        if bytes > u128::from(self.limit) {
            let (path, name) = (self.path.clone(), absolute(name));
            return Err(DataError::TooLarge { path, name, bytes, limit: self.limit });
        }
        self.check_type::<T>(&dataset, name)?;
        dataset.read_raw().map_err(self.failed("read a dataset"))
    }

    /// The box `start..start + count` of dataset `name`, row-major, shape `count`. Conversions as
    /// in [`Reader::read`]; no limit on the size, which the caller chose.
    ///
    /// # Errors
    /// No such dataset, another type, the box is outside, or the file is damaged.
    pub fn read_slab<T: Element>(&self, name: &str, start: &[usize], count: &[usize]) -> Result<Vec<T>> {
        let dataset = self.dataset(name)?;
        self.check_type::<T>(&dataset, name)?;
        check_bounds(&self.path, &absolute(name), start, count, &dataset.shape())?;
        if count.is_empty() {
            return dataset.read_raw().map_err(self.failed("read a dataset"));
        }
        let block: ArrayD<T> = dataset.read_slice(selection(start, count)).map_err(self.failed("read a dataset"))?;
        Ok(block.into_raw_vec_and_offset().0)
    }

    /// The text of the scalar dataset `name`.
    ///
    /// # Errors
    /// No such dataset, or it is not one text.
    pub fn read_text(&self, name: &str) -> Result<String> {
        match self.read_texts(name)?.as_deref() {
            Some([text]) => Ok(text.clone()),
            _ => Err(DataError::WrongType {
                path: self.path.clone(),
                name: absolute(name),
                found: format!("{} of shape {:?}", self.dtype(name)?, self.shape(name)?),
                expected: "one text".to_owned(),
            }),
        }
    }

    /// The texts of dataset `name`, row-major; `None` if it holds no texts, or too many.
    ///
    /// # Errors
    /// No such dataset, or the file is damaged.
    pub fn read_texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        let dataset = self.dataset(name)?;
        let failed = self.failed("read a text");
        if dataset.size() > MAX_TEXTS {
            return Ok(None);
        }
        let descriptor = dataset.dtype().and_then(|dtype| dtype.to_descriptor()).map_err(&failed)?;
        attribute::texts(&dataset, &descriptor).map_err(&failed)
    }

    /// Attribute `name` of `object` (`/` for the file itself); `None` if it is absent or of a type
    /// that [`Attribute`] cannot hold.
    ///
    /// # Errors
    /// No such object, or the file is damaged.
    pub fn attribute(&self, object: &str, name: &str) -> Result<Option<Attribute>> {
        let object = absolute(object);
        self.check_inside(&object)?;
        let failed = self.failed("read an attribute");
        let location = location(&self.file, &object).map_err(&failed)?;
        if !location.attr_names().map_err(&failed)?.iter().any(|present| present == name) {
            return Ok(None);
        }
        attribute::read(&location, name).map_err(&failed)
    }

    /// Names of the attributes of `object`.
    ///
    /// # Errors
    /// No such object, or the file is damaged.
    pub fn attribute_names(&self, object: &str) -> Result<Vec<String>> {
        let object = absolute(object);
        self.check_inside(&object)?;
        location(&self.file, &object)
            .and_then(|location| location.attr_names())
            .map_err(self.failed("list the attributes"))
    }

    /// A text attribute that must be there.
    ///
    /// # Errors
    /// The object or the attribute is missing, or it is no text.
    pub fn text_attribute(&self, object: &str, name: &str) -> Result<String> {
        self.required(object, name, "a text", |value| value.as_text().map(str::to_owned))
    }

    /// An integer attribute that must be there.
    ///
    /// # Errors
    /// The object or the attribute is missing, or it is no integer ≥ 0.
    pub fn u64_attribute(&self, object: &str, name: &str) -> Result<u64> {
        self.required(object, name, "an integer >= 0", Attribute::as_u64)
    }

    /// A number attribute that must be there.
    ///
    /// # Errors
    /// The object or the attribute is missing, or it is no number.
    pub fn f64_attribute(&self, object: &str, name: &str) -> Result<f64> {
        self.required(object, name, "a number", Attribute::as_f64)
    }

    fn required<V>(
        &self,
        object: &str,
        name: &str,
        expected: &'static str,
        get: impl Fn(&Attribute) -> Option<V>,
    ) -> Result<V> {
        let (path, object, name) = (self.path.clone(), absolute(object), name.to_owned());
        match self.attribute(&object, &name)? {
            None => Err(DataError::MissingAttribute { path, object, name }),
            Some(value) => get(&value).ok_or_else(|| {
                let found = value.kind().to_owned();
                DataError::WrongAttribute { path, object, name, found, expected }
            }),
        }
    }

    /// The dataset, after refusing data that lie in other files.
    fn dataset(&self, name: &str) -> Result<hdf5::Dataset> {
        let name = absolute(name);
        self.check_inside(&name)?;
        let dataset = self.file.dataset(&name).map_err(|_| self.missing(&name))?;
        let outside = |target: &str| DataError::External {
            path: self.path.clone(),
            name: name.clone(),
            target: target.to_owned(),
        };
        let creation = dataset.dcpl().map_err(self.failed("read the layout of a dataset"))?;
        if creation.get_layout().is_ok_and(|layout| layout == StoredLayout::Virtual) {
            return Err(outside("a virtual dataset"));
        }
        if let Some(file) = creation.get_external().unwrap_or_default().first() {
            return Err(outside(&format!("external storage {}", file.name)));
        }
        if let Some(foreign) = &self.foreign {
            self.check_foreign(&name, &dataset, &creation, foreign)?;
        }
        Ok(dataset)
    }

    /// Refuses a dataset that claims too much, or that needs the program of a stranger.
    fn check_foreign(
        &self,
        name: &str,
        dataset: &hdf5::Dataset,
        creation: &DatasetCreate,
        allowed: &Foreign,
    ) -> Result<()> {
        let (path, name) = (self.path.clone(), name.to_owned());
        let plug_in = creation.get_filters().map_err(self.failed("read the filters of a dataset"))?;
        if let Some(filter) = plug_in.iter().map(Filter::id).find(|id| *id > LAST_BUILT_IN_FILTER) {
            return Err(DataError::PlugIn { path, name, filter });
        }
        let element = dataset.dtype().map_err(self.failed("read the type of a dataset"))?.size();
        let total = |shape: &[usize]| shape.iter().map(|&n| n as u128).fold(element as u128, u128::saturating_mul);
        let claims = [
            ("", dataset.shape(), allowed.bytes),
            ("one chunk of ", dataset.chunk().unwrap_or_default(), allowed.chunk),
        ];
        for (part, shape, limit) in claims {
            if total(&shape) > u128::from(limit) {
                let bytes = total(&shape);
                return Err(DataError::OverLimit { path, name: format!("{part}{name}"), bytes, limit });
            }
        }
        Ok(())
    }

    fn check_inside(&self, name: &str) -> Result<()> {
        if self.foreign.as_ref().is_some_and(|foreign| foreign.inside.contains(name)) {
            return Ok(());
        }
        match links::follow(&self.file, name).map_err(self.failed("follow a link"))? {
            Target::Here => Ok(()),
            Target::Missing => Err(self.missing(name)),
            Target::Outside => Err(DataError::External {
                path: self.path.clone(),
                name: name.to_owned(),
                target: "an external link".to_owned(),
            }),
        }
    }

    fn missing(&self, name: &str) -> DataError {
        let available = links::datasets(&self.file).unwrap_or_default();
        let nearest = available
            .iter()
            .map(|candidate| (strsim::jaro_winkler(candidate, name), candidate))
            .filter(|(similarity, _)| *similarity > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, candidate)| candidate.clone());
        DataError::MissingDataset { path: self.path.clone(), name: name.to_owned(), nearest, available }
    }

    fn dtype_of(&self, dataset: &hdf5::Dataset) -> Dtype {
        match dataset.dtype().and_then(|dtype| dtype.to_descriptor()) {
            Ok(descriptor) => Dtype::of(&descriptor),
            Err(error) => Dtype::Other(error.to_string()),
        }
    }

    fn check_type<T: Element>(&self, dataset: &hdf5::Dataset, name: &str) -> Result<()> {
        let found = self.dtype_of(dataset);
        if found.converts_to(&T::DTYPE) {
            return Ok(());
        }
        let (path, name) = (self.path.clone(), absolute(name));
        let expected = format!("{} or what converts to it without loss", T::DTYPE);
        Err(DataError::WrongType { path, name, found: found.to_string(), expected })
    }

    fn failed(&self, action: &'static str) -> impl Fn(hdf5::Error) -> DataError {
        let path = self.path.clone();
        move |error| match DataError::from_hdf5(&path, action, &error) {
            // Reading what the header promises fails only in a damaged file.
            DataError::Hdf5 { path, detail, .. } if !detail.contains("errno") => DataError::Corrupt { path, detail },
            clear => clear,
        }
    }
}

/// Refuses what cannot be an HDF5 file before the library sees it.
fn check_file(path: &Path) -> Result<()> {
    let failed = |source| DataError::from_io(path, "open the file", source);
    let metadata = fs::metadata(path).map_err(failed)?;
    let path_buf = path.to_path_buf();
    if metadata.is_dir() {
        return Err(DataError::NotAFile { path: path_buf, found: "a folder" });
    }
    if !metadata.is_file() {
        return Err(DataError::NotAFile { path: path_buf, found: "a device, pipe or socket" });
    }
    if metadata.len() == 0 {
        return Err(DataError::Empty { path: path_buf });
    }
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut head = [0_u8; 8];
    let n = read_at_most(&mut file, &mut head).map_err(failed)?;
    if head == SIGNATURE || has_user_block(&mut file, metadata.len()).map_err(failed)? {
        return Ok(());
    }
    Err(DataError::NotHdf5 { path: path_buf, start: String::from_utf8_lossy(&head[..n]).into_owned() })
}

/// Whether the signature lies behind a user block, at 512, 1024, 2048, ...
fn has_user_block(file: &mut fs::File, length: u64) -> std::io::Result<bool> {
    use std::io::{Seek, SeekFrom};
    let mut offset = 512;
    while offset + 8 <= length {
        let mut found = [0_u8; 8];
        file.seek(SeekFrom::Start(offset))?;
        read_at_most(file, &mut found)?;
        if found == SIGNATURE {
            return Ok(true);
        }
        offset *= 2;
    }
    Ok(false)
}

fn read_at_most(file: &mut fs::File, buffer: &mut [u8; 8]) -> std::io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match file.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}
