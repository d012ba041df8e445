//! The numbers that a dataset can hold, and which conversions keep their value.

use std::fmt;

use hdf5::types::TypeDescriptor;

/// A number type that datasets are written from and read into.
pub trait Element: hdf5::H5Type + bytemuck::Pod + sealed::Sealed {
    /// The type in the file.
    const DTYPE: Dtype;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($type:ty => $dtype:expr),* $(,)?) => {$(
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: Dtype = $dtype;
        }
    )*};
}

elements! {
    f32 => Dtype::Float(4),
    f64 => Dtype::Float(8),
    i8 => Dtype::Signed(1),
    i16 => Dtype::Signed(2),
    i32 => Dtype::Signed(4),
    i64 => Dtype::Signed(8),
    u8 => Dtype::Unsigned(1),
    u16 => Dtype::Unsigned(2),
    u32 => Dtype::Unsigned(4),
    u64 => Dtype::Unsigned(8),
}

/// What a dataset holds; numbers with their size in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE floating point.
    Float(usize),
    /// Two's complement integer.
    Signed(usize),
    /// Unsigned integer.
    Unsigned(usize),
    /// Text of fixed or variable length.
    Text,
    /// Anything else, described.
    Other(String),
}

impl Dtype {
    pub(super) fn of(descriptor: &TypeDescriptor) -> Self {
        match descriptor {
            TypeDescriptor::Float(size) => Self::Float(*size as usize),
            TypeDescriptor::Integer(size) => Self::Signed(*size as usize),
            TypeDescriptor::Unsigned(size) => Self::Unsigned(*size as usize),
            TypeDescriptor::FixedAscii(_)
            | TypeDescriptor::FixedUnicode(_)
            | TypeDescriptor::VarLenAscii
            | TypeDescriptor::VarLenUnicode => Self::Text,
            other => Self::Other(other.to_string()),
        }
    }

    /// Bytes per number; `None` for text and others.
    pub fn size(&self) -> Option<usize> {
        match self {
            Self::Float(size) | Self::Signed(size) | Self::Unsigned(size) => Some(*size),
            Self::Text | Self::Other(_) => None,
        }
    }

    /// Whether reading into `memory` keeps every value, up to the rounding of a float. Integers
    /// never narrow and floats never become integers: HDF5 would clip them without a word.
    pub fn converts_to(&self, memory: &Self) -> bool {
        match (self, memory) {
            (Self::Float(_) | Self::Signed(_) | Self::Unsigned(_), Self::Float(_)) => true,
            (Self::Signed(file), Self::Signed(memory)) => file <= memory,
            (Self::Unsigned(file), Self::Unsigned(memory)) => file <= memory,
            (Self::Unsigned(file), Self::Signed(memory)) => file < memory,
            _ => false,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(size) => write!(f, "float{}", 8 * size),
            Self::Signed(size) => write!(f, "int{}", 8 * size),
            Self::Unsigned(size) => write!(f, "uint{}", 8 * size),
            Self::Text => write!(f, "text"),
            Self::Other(description) => write!(f, "{description}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_never_clip() {
        assert!(u16::DTYPE.converts_to(&f32::DTYPE));
        assert!(f64::DTYPE.converts_to(&f32::DTYPE));
        assert!(u16::DTYPE.converts_to(&i32::DTYPE));
        assert!(!u16::DTYPE.converts_to(&i16::DTYPE));
        assert!(!i64::DTYPE.converts_to(&i32::DTYPE));
        assert!(!f32::DTYPE.converts_to(&i64::DTYPE));
        assert!(!Dtype::Text.converts_to(&f64::DTYPE));
    }
}
