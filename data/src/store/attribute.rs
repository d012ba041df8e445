//! Small named values on a file, group or dataset.

use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{H5Type, Location};

use super::element::{Dtype, Element};

/// Longest fixed-length text that is read, in bytes.
const MAX_FIXED: usize = 4096;
/// Elements of an attribute that are read; a damaged or hostile file can claim any number.
const MAX_ELEMENTS: usize = 1 << 16;

/// The value of an attribute. `From` is implemented for the Rust types.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A float.
    F64(f64),
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// UTF-8 text of variable length.
    Text(String),
    /// ASCII text of fixed length, which some readers insist on (VTKHDF).
    Ascii(String),
    /// A list of floats.
    F64s(Vec<f64>),
    /// A list of signed integers.
    I64s(Vec<i64>),
    /// A list of unsigned integers.
    U64s(Vec<u64>),
    /// A list of UTF-8 texts.
    Texts(Vec<String>),
}

impl Attribute {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Ascii(text) => Some(text),
            _ => None,
        }
    }

    /// The number as a float, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F64(value) => Some(value),
            Self::I64(value) => Some(value as f64),
            Self::U64(value) => Some(value as f64),
            _ => None,
        }
    }

    /// The number, if it is an integer that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::I64(value) => Some(value),
            Self::U64(value) => i64::try_from(value).ok(),
            _ => None,
        }
    }

    /// The number, if it is an integer that fits.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U64(value) => Some(value),
            Self::I64(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// Equality of values: the file does not tell `u64` from `i64` where both fit, and NaN is NaN.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let same_bits =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        match (self, other) {
            (Self::F64(a), Self::F64(b)) => a.to_bits() == b.to_bits(),
            (Self::F64s(a), Self::F64s(b)) => same_bits(a, b),
            (Self::Text(a) | Self::Ascii(a), Self::Text(b) | Self::Ascii(b)) => a == b,
            (a, b) => a == b,
        }
    }

    /// What it is, for an error message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::F64(_) => "a float",
            Self::I64(_) | Self::U64(_) => "an integer",
            Self::Text(_) | Self::Ascii(_) => "a text",
            Self::F64s(_) => "a list of floats",
            Self::I64s(_) | Self::U64s(_) => "a list of integers",
            Self::Texts(_) => "a list of texts",
        }
    }
}

macro_rules! from {
    ($($type:ty => |$value:ident| $attribute:expr),* $(,)?) => {$(
        impl From<$type> for Attribute {
            fn from($value: $type) -> Self {
                $attribute
            }
        }
    )*};
}

from! {
    f64 => |v| Self::F64(v),
    i64 => |v| Self::I64(v),
    u64 => |v| Self::U64(v),
    &str => |v| Self::Text(v.to_owned()),
    String => |v| Self::Text(v),
    Vec<f64> => |v| Self::F64s(v),
    Vec<i64> => |v| Self::I64s(v),
    Vec<u64> => |v| Self::U64s(v),
    Vec<String> => |v| Self::Texts(v),
    &[f64] => |v| Self::F64s(v.to_vec()),
    &[i64] => |v| Self::I64s(v.to_vec()),
    &[&str] => |v| Self::Texts(v.iter().map(|text| (*text).to_owned()).collect()),
}

/// Writes `value` as attribute `name` of `object`, replacing an older one.
pub(super) fn write(object: &Location, name: &str, value: &Attribute) -> hdf5::Result<()> {
    if object.attr_names()?.iter().any(|old| old == name) {
        object.delete_attr(name)?;
    }
    match value {
        Attribute::F64(v) => scalar(object, name, v),
        Attribute::I64(v) => scalar(object, name, v),
        Attribute::U64(v) => scalar(object, name, v),
        Attribute::Text(v) => scalar(object, name, &unicode(v)?),
        Attribute::Ascii(v) => ascii(object, name, v),
        Attribute::F64s(v) => list(object, name, v),
        Attribute::I64s(v) => list(object, name, v),
        Attribute::U64s(v) => list(object, name, v),
        Attribute::Texts(v) => {
            list(object, name, &v.iter().map(|text| unicode(text)).collect::<hdf5::Result<Vec<_>>>()?)
        }
    }
}

fn scalar<T: H5Type>(object: &Location, name: &str, value: &T) -> hdf5::Result<()> {
    object.new_attr::<T>().create(name)?.write_scalar(value)
}

fn list<T: H5Type>(object: &Location, name: &str, values: &[T]) -> hdf5::Result<()> {
    object.new_attr::<T>().shape(values.len()).create(name)?.write_raw(values)
}

fn ascii(object: &Location, name: &str, text: &str) -> hdf5::Result<()> {
    let value = FixedAscii::<MAX_FIXED>::from_ascii(text).map_err(|error| error.to_string())?;
    let exact = TypeDescriptor::FixedAscii(text.len().max(1));
    object.new_attr_builder().empty_as(&exact).create(name)?.write_scalar(&value)
}

pub(super) fn unicode(text: &str) -> hdf5::Result<VarLenUnicode> {
    text.parse().map_err(|error| format!("text with a zero byte: {error}").into())
}

/// Reads attribute `name` of `object`; `None` for a type that [`Attribute`] cannot hold.
pub(super) fn read(object: &Location, name: &str) -> hdf5::Result<Option<Attribute>> {
    let attribute = object.attr(name)?;
    let descriptor = attribute.dtype()?.to_descriptor()?;
    let is_scalar = attribute.ndim() == 0;
    if attribute.size() > MAX_ELEMENTS {
        return Ok(None);
    }
    if Dtype::of(&descriptor) == Dtype::Text {
        return Ok(texts(&attribute, &descriptor)?.map(|mut texts| match texts.pop() {
            Some(text) if is_scalar => Attribute::Text(text),
            last => Attribute::Texts(texts.into_iter().chain(last).collect()),
        }));
    }
    let dtype = Dtype::of(&descriptor);
    Ok(if dtype.converts_to(&i64::DTYPE) {
        Some(one_or_many(attribute.read_raw()?, is_scalar, Attribute::I64, Attribute::I64s))
    } else if dtype.converts_to(&u64::DTYPE) {
        Some(one_or_many(attribute.read_raw()?, is_scalar, Attribute::U64, Attribute::U64s))
    } else if dtype.converts_to(&f64::DTYPE) {
        Some(one_or_many(attribute.read_raw()?, is_scalar, Attribute::F64, Attribute::F64s))
    } else {
        None
    })
}

fn one_or_many<T: Copy>(
    values: Vec<T>,
    is_scalar: bool,
    one: fn(T) -> Attribute,
    many: fn(Vec<T>) -> Attribute,
) -> Attribute {
    match values.first() {
        Some(&value) if is_scalar => one(value),
        _ => many(values),
    }
}

/// The texts of a dataset or attribute of any text type; `None` when they are too long.
pub(super) fn texts(container: &hdf5::Container, descriptor: &TypeDescriptor) -> hdf5::Result<Option<Vec<String>>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Some(match descriptor {
        TypeDescriptor::VarLenUnicode => {
            container.read_raw::<VarLenUnicode>()?.iter().map(|v| text(v.as_bytes())).collect()
        }
        TypeDescriptor::VarLenAscii => {
            container.read_raw::<VarLenAscii>()?.iter().map(|v| text(v.as_bytes())).collect()
        }
        TypeDescriptor::FixedAscii(n) if *n <= MAX_FIXED => {
            container.read_raw::<FixedAscii<MAX_FIXED>>()?.iter().map(|v| text(v.as_bytes())).collect()
        }
        TypeDescriptor::FixedUnicode(n) if *n <= MAX_FIXED => {
            container.read_raw::<FixedUnicode<MAX_FIXED>>()?.iter().map(|v| text(v.as_bytes())).collect()
        }
        _ => return Ok(None),
    }))
}
