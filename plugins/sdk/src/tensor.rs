//! Tensors: handles to data that the host keeps.
//!
//! Contract: nothing is copied before it is read, and what is read is copied once.

use std::cell::OnceCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

use crate::error::{Error, Result};
use crate::scalar::{self, Datatype, Scalar};
use crate::sys;

/// An immutable, shaped, row-major array whose data stays with the host until it is read.
pub struct Tensor {
    handle: sys::Tensor,
    datatype: OnceCell<Datatype>,
    shape: OnceCell<Vec<usize>>,
}

impl Tensor {
    /// A tensor of numbers or `bool`s. Their count must be the shape's product.
    ///
    /// ```
    /// # use vespid_plugin::Tensor;
    /// let tensor = Tensor::new(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    /// assert_eq!(tensor.shape(), [2, 3]);
    /// # Ok::<(), vespid_plugin::Error>(())
    /// ```
    pub fn new<T: Scalar>(values: &[T], shape: impl AsRef<[usize]>) -> Result<Self> {
        Self::raw(T::DATATYPE, shape, scalar::as_bytes(values))
    }

    /// A BYTES tensor of strings or byte strings.
    ///
    /// ```
    /// # use vespid_plugin::Tensor;
    /// let tensor = Tensor::bytes(&["setosa", "virginica"], [2])?;
    /// assert_eq!(tensor.to_strings()?, ["setosa", "virginica"]);
    /// # Ok::<(), vespid_plugin::Error>(())
    /// ```
    pub fn bytes<T: AsRef<[u8]>>(elements: &[T], shape: impl AsRef<[usize]>) -> Result<Self> {
        let length = elements.iter().map(|element| 4 + element.as_ref().len()).sum();
        let mut data = Vec::with_capacity(length);
        for element in elements {
            let element = element.as_ref();
            let length = u32::try_from(element.len())
                .map_err(|_| Error::unsupported("an element of a BYTES tensor holds less than 4 GiB"))?;
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(element);
        }
        Self::raw(Datatype::Bytes, shape, &data)
    }

    /// A tensor of data in the protocol's raw layout: row-major, little-endian, BOOL as one byte, and each element of BYTES
    /// behind its length in 32 bits.
    pub fn raw(datatype: Datatype, shape: impl AsRef<[usize]>, data: &[u8]) -> Result<Self> {
        let shape: Vec<u64> = shape.as_ref().iter().map(|&extent| extent as u64).collect();
        sys::Tensor::new(datatype, &shape, data).map(Self::from)
    }

    /// The datatype.
    pub fn datatype(&self) -> Datatype {
        *self.datatype.get_or_init(|| self.handle.datatype())
    }

    /// The extent of each dimension.
    pub fn shape(&self) -> &[usize] {
        let extent = |extent| usize::try_from(extent).unwrap_or(usize::MAX);
        self.shape.get_or_init(|| self.handle.shape().into_iter().map(extent).collect())
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape().iter().fold(1, |length, &extent| length.saturating_mul(extent))
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of the data in bytes, length prefixes of BYTES included.
    pub fn byte_length(&self) -> u64 {
        self.handle.byte_length()
    }

    /// The values, copied in once and read in place.
    ///
    /// ```
    /// # use vespid_plugin::Tensor;
    /// # let tensor = Tensor::new(&[1i32, 2, 3, 4], [2, 2])?;
    /// let sums: Vec<i32> = tensor.values::<i32>()?.chunks_exact(2).map(|row| row.iter().sum()).collect();
    /// assert_eq!(sums, [3, 7]);
    /// # Ok::<(), vespid_plugin::Error>(())
    /// ```
    pub fn values<T: Scalar>(&self) -> Result<Values<T>> {
        self.expect(T::DATATYPE)?;
        Ok(Values::new(self.handle.data()))
    }

    /// The values as a vector of their own, to change them.
    pub fn to_vec<T: Scalar>(&self) -> Result<Vec<T>> {
        Ok(self.values()?.into_vec())
    }

    /// Some of the values, by their places in the row-major order.
    pub fn range<T: Scalar>(&self, range: Range<usize>) -> Result<Values<T>> {
        self.expect(T::DATATYPE)?;
        let size = size_of::<T>() as u64;
        let length = range.end.saturating_sub(range.start) as u64 * size;
        Ok(Values::new(self.handle.read(range.start as u64 * size, length)?))
    }

    /// The elements of a BYTES tensor, none of whose content is copied yet.
    ///
    /// ```
    /// # use vespid_plugin::Tensor;
    /// # let tensor = Tensor::bytes(&["\x7fELF\x02\x01"], [1])?;
    /// for file in tensor.elements()? {
    ///     let magic = file.read(0..file.len().min(4))?;
    ///     assert_eq!(magic, b"\x7fELF");
    /// }
    /// # Ok::<(), vespid_plugin::Error>(())
    /// ```
    pub fn elements(&self) -> Result<Vec<Element<'_>>> {
        self.expect(Datatype::Bytes)?;
        let element = |(offset, length)| Element { tensor: &self.handle, offset, length };
        Ok(self.handle.elements()?.into_iter().map(element).collect())
    }

    /// The elements of a BYTES tensor, copied in all at once.
    ///
    /// ```
    /// # use vespid_plugin::Tensor;
    /// # let tensor = Tensor::bytes(&["a", "bc"], [2])?;
    /// let lengths: Vec<usize> = tensor.blobs()?.iter().map(<[u8]>::len).collect();
    /// assert_eq!(lengths, [1, 2]);
    /// # Ok::<(), vespid_plugin::Error>(())
    /// ```
    pub fn blobs(&self) -> Result<Blobs> {
        self.expect(Datatype::Bytes)?;
        Ok(Blobs { data: self.handle.data() })
    }

    /// The elements of a BYTES tensor as strings. Fails as the caller's mistake where one is not UTF-8.
    pub fn to_strings(&self) -> Result<Vec<String>> {
        self.blobs()?.strings().map(|text| text.map(str::to_owned)).collect()
    }

    /// The data in the protocol's raw layout, copied in.
    pub fn data(&self) -> Vec<u8> {
        self.handle.data()
    }

    /// Some of the data in the protocol's raw layout, copied in.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        self.handle.read(range.start, range.end.saturating_sub(range.start))
    }

    /// The same tensor once more, to hand it on and keep it; nothing is copied. Of a tensor that the plugin or a graph made,
    /// each counts against the call's memory limit.
    pub fn share(&self) -> Result<Self> {
        self.handle.share().map(Self::from)
    }

    #[cfg(target_arch = "wasm32")]
    pub(crate) fn into_handle(self) -> sys::Tensor {
        self.handle
    }

    fn expect(&self, datatype: Datatype) -> Result<()> {
        let own = self.datatype();
        if own == datatype {
            return Ok(());
        }
        Err(Error::internal(format!("a tensor of {own} is read as one of {datatype}")))
    }
}

impl From<sys::Tensor> for Tensor {
    fn from(handle: sys::Tensor) -> Self {
        Self { handle, datatype: OnceCell::new(), shape: OnceCell::new() }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.datatype(), self.shape())
    }
}

/// The values of a tensor: a slice of them.
#[derive(Clone)]
pub struct Values<T> {
    bytes: Vec<u8>,
    /// Where the bytes lie at a place that is no place for a `T`.
    moved: Vec<T>,
    of: PhantomData<T>,
}

impl<T: Scalar> Values<T> {
    fn new(mut bytes: Vec<u8>) -> Self {
        T::repair(&mut bytes);
        let moved = match scalar::from_bytes::<T>(&bytes) {
            Some(_) => Vec::new(),
            None => scalar::copy_from_bytes(&bytes),
        };
        Self { bytes, moved, of: PhantomData }
    }

    /// The values as a vector of their own.
    pub fn into_vec(self) -> Vec<T> {
        if self.moved.is_empty() { self.to_vec() } else { self.moved }
    }
}

impl<T: Scalar> Deref for Values<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        scalar::from_bytes(&self.bytes).unwrap_or(&self.moved)
    }
}

impl<T: Scalar + fmt::Debug> fmt::Debug for Values<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

/// One element of a BYTES tensor, whose content is copied when it is read.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    tensor: &'a sys::Tensor,
    offset: u64,
    length: u64,
}

impl Element<'_> {
    /// The length of the content in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether the content is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Some of the content.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        if range.start > range.end || range.end > self.length {
            let Range { start, end } = range;
            return Err(Error::internal(format!(
                "{start}..{end} is not within an element of {} bytes",
                self.length
            )));
        }
        self.tensor.read(self.offset + range.start, range.end - range.start)
    }

    /// The whole of the content.
    pub fn to_vec(&self) -> Result<Vec<u8>> {
        self.read(0..self.length)
    }
}

impl fmt::Debug for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}

/// The elements of a BYTES tensor.
#[derive(Clone)]
pub struct Blobs {
    data: Vec<u8>,
}

impl Blobs {
    /// The elements, in row-major order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.data.as_slice();
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let (element, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = behind;
            Some(element)
        })
    }

    /// The elements as strings. One that is not UTF-8 is the caller's mistake.
    pub fn strings(&self) -> impl Iterator<Item = Result<&str>> {
        self.iter().enumerate().map(|(place, element)| {
            std::str::from_utf8(element)
                .map_err(|error| Error::invalid(format!("element {place} is not UTF-8: {error}")))
        })
    }
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements", self.iter().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn numbers_come_back_as_they_were() {
        let tensor = Tensor::new(&[1i64, -2, i64::MAX], [3, 1]).unwrap();
        assert_eq!(tensor.datatype(), Datatype::Int64);
        assert_eq!((tensor.shape(), tensor.len(), tensor.byte_length()), ([3, 1].as_slice(), 3, 24));
        assert_eq!(tensor.to_vec::<i64>().unwrap(), [1, -2, i64::MAX]);
        assert_eq!(*tensor.range::<i64>(1..2).unwrap(), [-2]);
        assert_eq!(tensor.read(0..1).unwrap(), [1]);
    }

    #[test]
    fn a_bool_is_whatever_is_not_zero() {
        let tensor = Tensor::raw(Datatype::Bool, [3], &[0, 1, 7]).unwrap();
        assert_eq!(*tensor.values::<bool>().unwrap(), [false, true, true]);
    }

    #[test]
    fn a_shared_tensor_is_the_same() {
        let tensor = Tensor::bytes(&["a", "bc"], [2]).unwrap();
        let shared = tensor.share().unwrap();
        drop(tensor);
        assert_eq!(
            (shared.shape(), shared.to_strings().unwrap()),
            (&[2][..], vec!["a".to_owned(), "bc".to_owned()])
        );
    }

    #[test]
    fn no_values_are_no_values() {
        let tensor = Tensor::new::<f64>(&[], [0, 5]).unwrap();
        assert!(tensor.is_empty());
        assert!(tensor.to_vec::<f64>().unwrap().is_empty());
        assert!(Tensor::bytes::<&str>(&[], [0]).unwrap().elements().unwrap().is_empty());
    }

    #[test]
    fn values_at_an_odd_place_are_moved() {
        for shift in 0..8 {
            let mut bytes = vec![0; 8 + shift];
            bytes.splice(0..8, 7u64.to_le_bytes());
            bytes.truncate(8);
            assert_eq!(*Values::<u64>::new(bytes), [7]);
        }
    }

    #[test]
    fn elements_are_read_in_parts() {
        let tensor = Tensor::bytes(&[b"hello".as_slice(), b"", b"\xff"], [3]).unwrap();
        let elements = tensor.elements().unwrap();
        assert_eq!(elements.iter().map(Element::len).collect::<Vec<_>>(), [5, 0, 1]);
        assert_eq!(elements[0].read(1..3).unwrap(), b"el");
        assert_eq!(elements[1].to_vec().unwrap(), b"");
        assert!(elements[0].read(4..6).is_err());
        assert!(elements[0].read(Range { start: 3, end: 1 }).is_err());
        assert_eq!(tensor.blobs().unwrap().iter().collect::<Vec<_>>(), [b"hello".as_slice(), b"", b"\xff"]);
        assert_eq!(tensor.to_strings().unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Tensor::new(&[1.0f32], [2]).is_err());
        assert!(Tensor::bytes(&["a"], [2]).is_err());
        let tensor = Tensor::new(&[1.0f32], [1]).unwrap();
        assert!(tensor.values::<i32>().is_err());
        assert!(tensor.elements().is_err());
        assert!(tensor.range::<f32>(0..2).is_err());
    }
}
