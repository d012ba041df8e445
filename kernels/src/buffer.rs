//! An array that lives where it was last used.

use crate::gpu::{Gpu, Memory};
use crate::{Device, Result};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for u32 {}
    impl Sealed for i32 {}
    impl Sealed for u64 {}
}

/// A number that a [`Buffer`] can hold: `f32`, `f64`, `u32`, `i32`, `u64`.
pub trait Element: sealed::Sealed + bytemuck::Pod + Default + Send + Sync + std::fmt::Debug {}
impl<T: sealed::Sealed + bytemuck::Pod + Default + Send + Sync + std::fmt::Debug> Element for T {}

/// Memory of the host that is not the program's own, such as a file that is mapped.
pub trait HostMemory<T>: AsRef<[T]> + AsMut<[T]> + Send + Sync + std::fmt::Debug {}
impl<T, M: AsRef<[T]> + AsMut<[T]> + Send + Sync + std::fmt::Debug> HostMemory<T> for M {}

/// The copy on the host.
#[derive(Debug)]
enum Host<T> {
    /// Empty, or as long as the buffer.
    Own(Vec<T>),
    /// As long as the buffer.
    Lent(Box<dyn HostMemory<T>>),
}

impl<T: Element> Host<T> {
    fn values(&self) -> &[T] {
        match self {
            Self::Own(values) => values,
            Self::Lent(memory) => (**memory).as_ref(),
        }
    }

    fn values_mut(&mut self) -> &mut [T] {
        match self {
            Self::Own(values) => values,
            Self::Lent(memory) => (**memory).as_mut(),
        }
    }

    /// The values with room for `len` of them.
    fn full(&mut self, len: usize) -> &mut [T] {
        if let Self::Own(values) = self {
            values.resize(len, T::zeroed());
        }
        self.values_mut()
    }
}

/// Which copy holds the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    Host,
    Device,
    Both,
}

/// `len` numbers with one value and up to two copies, on the host and on a GPU. Reading on either side first
/// fetches the newer copy; nothing moves that is not needed. On the CPU it is a `Vec`, or memory that somebody lends it.
///
/// Reading takes `&mut self`, because it may fetch.
///
/// # Panics
/// [`host`](Self::host), [`host_mut`](Self::host_mut) and [`into_vec`](Self::into_vec) panic where the device is
/// lost and with it the only copy; call [`sync`](Self::sync) first to have that as an error.
#[derive(Debug)]
pub struct Buffer<T: Element> {
    len: usize,
    host: Host<T>,
    device: Option<Memory>,
    newest: Newest,
}

impl<T: Element> Buffer<T> {
    /// `len` zeros, held where `device` is. Errors where the device has no room.
    pub fn zeros(device: &Device, len: usize) -> Result<Self> {
        let mut buffer = Self { len, host: Host::Own(Vec::new()), device: None, newest: Newest::Host };
        match device {
            Device::Cpu => buffer.host = Host::Own(vec![T::zeroed(); len]),
            Device::Gpu(gpu) => {
                let memory = gpu.allocate(len * size_of::<T>())?;
                gpu.clear(&memory)?;
                buffer.device = Some(memory);
                buffer.newest = Newest::Device;
            }
        }
        Ok(buffer)
    }

    /// The numbers of `values`. Memory on a GPU is taken now, the copy happens at the first use there.
    pub fn from_vec(device: &Device, values: Vec<T>) -> Result<Self> {
        let len = values.len();
        let memory = match device {
            Device::Cpu => None,
            Device::Gpu(gpu) => Some(gpu.allocate(len * size_of::<T>())?),
        };
        Ok(Self { len, host: Host::Own(values), device: memory, newest: Newest::Host })
    }

    /// The numbers that `memory` holds, which stay there.
    pub fn from_memory(memory: Box<dyn HostMemory<T>>) -> Self {
        let len = (*memory).as_ref().len();
        Self { len, host: Host::Lent(memory), device: None, newest: Newest::Host }
    }

    /// A copy of `values` on a GPU, and there alone.
    pub(crate) fn upload(gpu: &Gpu, values: &[T]) -> Result<Self> {
        let memory = gpu.allocate(size_of_val(values))?;
        memory.upload(bytemuck::cast_slice(values))?;
        Ok(Self { len: values.len(), host: Host::Own(Vec::new()), device: Some(memory), newest: Newest::Device })
    }

    /// Copies the values to `out`, as long as this, without a copy of their own on the host.
    pub(crate) fn download(&mut self, out: &mut [T]) -> Result<()> {
        match &self.device {
            Some(memory) if self.newest == Newest::Device => memory.download(bytemuck::cast_slice_mut(out)),
            _ => {
                out.copy_from_slice(self.host());
                Ok(())
            }
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A second buffer of the same value, where the newest copy is: on the device if it is there.
    pub fn duplicate(&mut self) -> Result<Self> {
        match &self.device {
            Some(memory) if self.newest != Newest::Host => {
                let device = Some(memory.duplicate()?);
                Ok(Self { len: self.len, host: Host::Own(Vec::new()), device, newest: Newest::Device })
            }
            _ => Self::from_vec(&Device::Cpu, self.host.values().to_vec()),
        }
    }

    /// Bring the value to the host (if it is not there); reports a lost device as an error.
    pub fn sync(&mut self) -> Result<()> {
        if self.newest == Newest::Device {
            let memory = self.device.as_ref().expect("the device copy is the newest, so it exists");
            memory.download(bytemuck::cast_slice_mut(self.host.full(self.len)))?;
            self.newest = Newest::Both;
        }
        Ok(())
    }

    /// The values, for reading on the host.
    pub fn host(&mut self) -> &[T] {
        self.fetch();
        self.host.values()
    }

    /// The values, for changing on the host.
    pub fn host_mut(&mut self) -> &mut [T] {
        self.fetch();
        self.newest = Newest::Host;
        self.host.values_mut()
    }

    /// Memory on the host to be overwritten in full: no download, old contents undefined.
    pub(crate) fn host_out(&mut self) -> &mut [T] {
        self.newest = Newest::Host;
        self.host.full(self.len)
    }

    /// The values as a `Vec`; the device copy is freed.
    pub fn into_vec(mut self) -> Vec<T> {
        self.fetch();
        match self.host {
            Host::Own(values) => values,
            Host::Lent(memory) => (*memory).as_ref().to_vec(),
        }
    }

    fn fetch(&mut self) {
        if let Err(error) = self.sync() {
            panic!("a buffer of {} elements is lost: {error}", self.len);
        }
    }

    /// Device address of the values, for reading: uploads if the host is newer.
    pub(crate) fn device_in(&mut self, gpu: &Gpu) -> Result<u64> {
        if !self.device.as_ref().is_some_and(|m| m.is_on(gpu)) {
            self.sync()?;
            self.device = Some(gpu.allocate(self.len * size_of::<T>())?);
            self.newest = Newest::Host;
        }
        let memory = self.device.as_ref().expect("allocated above");
        if self.newest == Newest::Host {
            memory.upload(bytemuck::cast_slice(self.host.values()))?;
            self.newest = Newest::Both;
        }
        Ok(memory.address())
    }

    /// Device address, for changing: as [`device_in`](Self::device_in), then the device copy is the only one.
    pub(crate) fn device_inout(&mut self, gpu: &Gpu) -> Result<u64> {
        let address = self.device_in(gpu)?;
        self.newest = Newest::Device;
        Ok(address)
    }

    /// Device address, to be overwritten in full: no upload.
    pub(crate) fn device_out(&mut self, gpu: &Gpu) -> Result<u64> {
        if !self.device.as_ref().is_some_and(|m| m.is_on(gpu)) {
            self.device = Some(gpu.allocate(self.len * size_of::<T>())?);
        }
        self.newest = Newest::Device;
        Ok(self.device.as_ref().expect("allocated above").address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_buffer_is_its_vector() {
        let mut b = Buffer::from_vec(&Device::Cpu, vec![1.0f32, 2.0]).unwrap();
        b.host_mut()[1] = 5.0;
        assert_eq!(b.host(), &[1.0, 5.0]);
        assert_eq!(b.len(), 2);
        assert_eq!(b.into_vec(), vec![1.0, 5.0]);
        assert_eq!(Buffer::<u32>::zeros(&Device::Cpu, 3).unwrap().host(), &[0, 0, 0]);
    }

    #[test]
    fn a_buffer_works_in_memory_that_it_was_lent() {
        let mut b = Buffer::from_memory(Box::new(vec![1.0f32, 2.0]));
        b.host_mut()[0] = 3.0;
        b.host_out()[1] = 4.0;
        assert_eq!((b.len(), b.duplicate().unwrap().into_vec()), (2, vec![3.0, 4.0]));
        assert_eq!(b.into_vec(), vec![3.0, 4.0]);
    }
}
