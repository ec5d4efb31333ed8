//! Calls about pages.

use crate::kernel::Kernel;
use crate::machine::Machine;
use exo_abi::layout::{LIST_MAX, USER_END, USER_START};
use exo_abi::name::PAGE_SIZE;
use exo_abi::request::{BIND_WORDS, BindRequest};
use exo_abi::{Error, FrameNumber, Rights};

/// The most pages that one unbind or protect goes over.
const PAGES_MAX: u64 = 1 << 16;

/// Refuses a range of pages that isn't aligned or reaches outside what can be bound.
fn check_range(page: u64, count: u64) -> Result<(), Error> {
    if count > PAGES_MAX {
        return Err(Error::TooLong);
    }
    let end = page.checked_add(count * PAGE_SIZE).ok_or(Error::BadAddress)?;
    if !page.is_multiple_of(PAGE_SIZE) || page < USER_START || end > USER_END {
        return Err(Error::BadAddress);
    }
    Ok(())
}

impl<M: Machine> Kernel<'_, M> {
    pub(crate) fn bind(
        &mut self,
        caller: u16,
        into: u16,
        list: u64,
        count: u64,
    ) -> Result<u64, Error> {
        if count > LIST_MAX {
            return Err(Error::TooLong);
        }
        let mut bytes = [[[0; 8]; BIND_WORDS]; LIST_MAX as usize];
        let requests = &mut bytes[..count as usize];
        self.read_user(caller, list, requests.as_flattened_mut().as_flattened_mut())?;
        for (index, words) in requests.iter().enumerate() {
            let request = BindRequest::from_words(words.map(u64::from_le_bytes));
            self.checked[index] = self.check_request(caller, &request)?;
        }
        self.bindings.bind_all(into, &self.checked[..count as usize])?;
        Ok(0)
    }

    fn check_request(
        &self,
        caller: u16,
        request: &BindRequest,
    ) -> Result<(u64, FrameNumber, Rights), Error> {
        let rights = request.rights().ok_or(Error::BadArgument)?;
        check_range(request.page(), 1)?;
        let frame = FrameNumber(request.frame);
        let guard = self.bindings.frames.guard(frame)?;
        self.environment(caller).capabilities.check(request.capability, &guard, rights)?;
        Ok((request.page(), frame, rights))
    }

    pub(crate) fn unbind(&mut self, from: u16, page: u64, count: u64) -> Result<u64, Error> {
        check_range(page, count)?;
        Ok(self.bindings.unbind(from, page, count))
    }

    pub(crate) fn protect(
        &mut self,
        target: u16,
        page: u64,
        count: u64,
        rights: Rights,
    ) -> Result<u64, Error> {
        check_range(page, count)?;
        self.bindings.protect(target, page, count, rights)?;
        Ok(0)
    }
}
