//! Where the vectors of a solver lie: on its device, or in files that are used like memory.

use convoke_cluster::Result;
use convoke_data::store::Overflow;
use convoke_kernels::{Buffer, Device};

/// A place for vectors.
#[derive(Debug, Clone)]
pub struct Store {
    device: Device,
    overflow: Option<Overflow>,
}

impl Store {
    /// On a device; in files of `overflow` where there is one, and then whatever is done with vectors is done by the processor.
    pub fn new(device: &Device, overflow: Option<Overflow>) -> Self {
        let device = if overflow.is_some() { Device::Cpu } else { device.clone() };
        Self { device, overflow }
    }

    /// Where operations on vectors run.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether vectors lie in files.
    pub fn is_in_files(&self) -> bool {
        self.overflow.is_some()
    }

    /// A vector of zeros.
    ///
    /// # Errors
    /// Where there is no room.
    pub fn zeros(&self, len: usize) -> Result<Buffer<f32>> {
        match &self.overflow {
            Some(overflow) => Ok(Buffer::from_memory(Box::new(overflow.zeros(len)?))),
            None => Ok(Buffer::zeros(&self.device, len)?),
        }
    }

    /// A vector of equal values.
    ///
    /// # Errors
    /// Where there is no room.
    pub fn filled(&self, value: f32, len: usize) -> Result<Buffer<f32>> {
        let mut filled = self.zeros(len)?;
        if value != 0.0 {
            super::vectors::map(filled.host_mut(), |v| *v = value);
        }
        Ok(filled)
    }
}
