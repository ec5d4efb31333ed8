//! Descriptors: small numbers for what is open.

use crate::console;
use crate::files::{FileError, OpenFile, Tree, Whence};
use core::fmt;

/// The descriptor of what is typed.
pub const INPUT: usize = 0;
/// The descriptor of what is printed.
pub const OUTPUT: usize = 1;
/// The descriptor of what is printed about errors.
pub const ERROR: usize = 2;

/// How many descriptors can be open at once.
pub const DESCRIPTORS: usize = 32;

/// Why an operation on a descriptor failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DescriptorError {
    /// The number is not open.
    NotOpen,
    /// All numbers are open.
    TooManyOpen,
    /// What is open cannot do that: read what is printed, write a file, seek on the console.
    NotAble,
    /// The seek leads before the first byte.
    BadSeek,
    /// The path has nothing to open.
    File(FileError),
}

impl From<FileError> for DescriptorError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpen => f.write_str("not open"),
            Self::TooManyOpen => f.write_str("too many open files"),
            Self::NotAble => f.write_str("not possible on this descriptor"),
            Self::BadSeek => f.write_str("before the start of the file"),
            Self::File(error) => error.fmt(f),
        }
    }
}

/// What a descriptor stands for.
#[derive(Clone, Debug)]
enum Open<'a> {
    Input,
    Output,
    File(OpenFile<'a>),
}

/// The open descriptors of the program. The first three are the console's from the start.
#[derive(Debug)]
pub struct Descriptors<'a> {
    open: [Option<Open<'a>>; DESCRIPTORS],
}

impl Default for Descriptors<'_> {
    fn default() -> Self {
        let mut open = [const { None }; DESCRIPTORS];
        open[INPUT] = Some(Open::Input);
        open[OUTPUT] = Some(Open::Output);
        open[ERROR] = Some(Open::Output);
        Self { open }
    }
}

impl<'a> Descriptors<'a> {
    /// Opens a file for reading, under the lowest number that is free.
    ///
    /// # Errors
    /// [`DescriptorError::File`], [`DescriptorError::TooManyOpen`].
    pub fn open(&mut self, tree: &Tree<'a>, path: &str) -> Result<usize, DescriptorError> {
        let file = OpenFile::new(tree.open(path)?);
        let number =
            self.open.iter().position(Option::is_none).ok_or(DescriptorError::TooManyOpen)?;
        self.open[number] = Some(Open::File(file));
        Ok(number)
    }

    /// Closes a descriptor.
    ///
    /// # Errors
    /// [`DescriptorError::NotOpen`].
    pub fn close(&mut self, number: usize) -> Result<(), DescriptorError> {
        let place = self.open.get_mut(number).ok_or(DescriptorError::NotOpen)?;
        place.take().map(|_| ()).ok_or(DescriptorError::NotOpen)
    }

    /// Reads bytes, and returns how many. From a file 0 means its end; from the console this waits
    /// until something was typed.
    ///
    /// # Errors
    /// [`DescriptorError::NotOpen`], [`DescriptorError::NotAble`].
    pub fn read(&mut self, number: usize, into: &mut [u8]) -> Result<usize, DescriptorError> {
        match self.get(number)? {
            Open::File(file) => Ok(file.read(into)),
            Open::Input => console::read(into).map_err(|_| DescriptorError::NotAble),
            Open::Output => Err(DescriptorError::NotAble),
        }
    }

    /// Writes all the bytes.
    ///
    /// # Errors
    /// [`DescriptorError::NotOpen`], [`DescriptorError::NotAble`].
    pub fn write(&mut self, number: usize, bytes: &[u8]) -> Result<(), DescriptorError> {
        match self.get(number)? {
            Open::Output => {
                console::write(bytes);
                Ok(())
            }
            Open::Input | Open::File(_) => Err(DescriptorError::NotAble),
        }
    }

    /// Goes to another place in a file, and returns it.
    ///
    /// # Errors
    /// [`DescriptorError::NotOpen`], [`DescriptorError::NotAble`], [`DescriptorError::BadSeek`].
    pub fn seek(
        &mut self,
        number: usize,
        offset: i64,
        whence: Whence,
    ) -> Result<u64, DescriptorError> {
        match self.get(number)? {
            Open::File(file) => file.seek(offset, whence).map_err(|_| DescriptorError::BadSeek),
            Open::Input | Open::Output => Err(DescriptorError::NotAble),
        }
    }

    fn get(&mut self, number: usize) -> Result<&mut Open<'a>, DescriptorError> {
        self.open.get_mut(number).and_then(Option::as_mut).ok_or(DescriptorError::NotOpen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn archive() -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_path("motd").unwrap();
        header.set_size(5);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, b"hello".as_slice()).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn the_lowest_number_is_given_out() {
        let bytes = archive();
        let tree = Tree::new(&bytes).unwrap();
        let mut open = Descriptors::default();
        let first = open.open(&tree, "motd").unwrap();
        assert_eq!((first, open.open(&tree, "motd")), (3, Ok(4)));
        assert_eq!(open.close(first), Ok(()));
        assert_eq!(open.close(first), Err(DescriptorError::NotOpen));
        assert_eq!(open.open(&tree, "motd"), Ok(3));
        let opened = (0..).take_while(|_| open.open(&tree, "motd").is_ok()).count();
        assert_eq!(opened, DESCRIPTORS - 5);
        assert_eq!(open.open(&tree, "motd"), Err(DescriptorError::TooManyOpen));
        let missing = open.open(&tree, "none");
        assert_eq!(missing, Err(DescriptorError::File(FileError::NotFound)));
    }

    #[test]
    fn each_descriptor_does_what_it_can() {
        let bytes = archive();
        let tree = Tree::new(&bytes).unwrap();
        let mut open = Descriptors::default();
        let file = open.open(&tree, "motd").unwrap();
        let mut buffer = [0; 3];
        assert_eq!(open.seek(file, 2, Whence::Start), Ok(2));
        assert_eq!((open.read(file, &mut buffer), &buffer), (Ok(3), b"llo"));
        assert_eq!(open.read(file, &mut buffer), Ok(0));
        assert_eq!(open.seek(file, -9, Whence::End), Err(DescriptorError::BadSeek));
        assert_eq!(open.write(file, b"x"), Err(DescriptorError::NotAble));
        assert_eq!(open.read(OUTPUT, &mut buffer), Err(DescriptorError::NotAble));
        assert_eq!(open.seek(INPUT, 0, Whence::Start), Err(DescriptorError::NotAble));
        assert_eq!(open.read(usize::MAX, &mut buffer), Err(DescriptorError::NotOpen));
    }
}
