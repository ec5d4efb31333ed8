//! A file that is open: its contents and a place in it.

/// Where a seek counts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whence {
    /// The first byte.
    Start,
    /// The place where the next read starts.
    Current,
    /// The byte behind the last.
    End,
}

/// A seek to a place before the first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadSeek;

/// A file that is open for reading.
#[derive(Clone, Debug)]
pub struct OpenFile<'a> {
    contents: &'a [u8],
    place: u64,
}

impl<'a> OpenFile<'a> {
    /// Opens these contents at their start.
    pub fn new(contents: &'a [u8]) -> Self {
        Self { contents, place: 0 }
    }

    /// Reads bytes from the current place on and goes on behind them. Returns how many there were:
    /// 0 at the end.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let rest = usize::try_from(self.place).ok().and_then(|place| self.contents.get(place..));
        let rest = rest.unwrap_or(&[]);
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.place += count as u64;
        count
    }

    /// Goes to another place, and returns it. It may be behind the end: reads find nothing there.
    ///
    /// # Errors
    /// [`BadSeek`]; the place is what it was.
    pub fn seek(&mut self, offset: i64, whence: Whence) -> Result<u64, BadSeek> {
        let base = match whence {
            Whence::Start => 0,
            Whence::Current => self.place,
            Whence::End => self.contents.len() as u64,
        };
        self.place = base.checked_add_signed(offset).ok_or(BadSeek)?;
        Ok(self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_on_and_end() {
        let mut file = OpenFile::new(b"0123456789");
        let mut bytes = [0; 4];
        assert_eq!((file.read(&mut bytes), &bytes), (4, b"0123"));
        assert_eq!(file.seek(-3, Whence::End), Ok(7));
        assert_eq!((file.read(&mut bytes), &bytes[..3]), (3, b"789".as_slice()));
        assert_eq!(file.read(&mut bytes), 0);
        assert_eq!(file.seek(-2, Whence::Current), Ok(8));
        assert_eq!(file.read(&mut bytes), 2);
    }

    #[test]
    fn places_are_checked() {
        let mut file = OpenFile::new(b"0123");
        assert_eq!(file.seek(-1, Whence::Start), Err(BadSeek));
        assert_eq!(file.seek(i64::MAX, Whence::End), Ok(i64::MAX as u64 + 4));
        assert_eq!(file.seek(i64::MAX, Whence::Current), Err(BadSeek));
        assert_eq!(file.read(&mut [0; 4]), 0);
        assert_eq!(file.seek(i64::MIN, Whence::End), Err(BadSeek));
    }
}
