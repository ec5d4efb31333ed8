//! Calls about pages.

use crate::board::CpuCell;
use crate::call::{Answer, Span};
use crate::context::Context;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::user_memory::read_words;
use core::sync::atomic::Ordering::Relaxed;
use exo_abi::layout::{BIND_MAX, LIST_MAX};
use exo_abi::name::PAGE_SIZE;
use exo_abi::request::{BIND_WORDS, BindRequest};
use exo_abi::{Error, Rights};
use secure_bindings::check_pages;

/// The most pages that one unbind or protect goes over.
const PAGES_MAX: u64 = 1 << 16;

/// Refuses a range of pages that is too long, isn't aligned or reaches outside what can be bound.
fn check_range(page: u64, count: u64) -> Result<(), Error> {
    if count > PAGES_MAX {
        return Err(Error::TooLong);
    }
    check_pages(page, count).map(|_| ())
}

impl<M: Machine> Kernel<'_, M> {
    /// Whoever runs has made the call that binds pages. Returns whether it was one page of its own, for
    /// which nothing else had to be done: if not, nothing has changed, and [`Kernel::call`] has to make
    /// the call.
    pub fn bind_one(&mut self, cpu: &CpuCell<'_>, context: &mut Context) -> bool {
        let own = context.rdi == 0 && context.rsi == 0 && context.r10 == 1;
        let slot = cpu.current().filter(|_| own);
        let bound = slot.and_then(|slot| self.bind_listed(slot, context.rdx));
        if bound.is_some() {
            context.answer(Ok(0));
        }
        bound.is_some()
    }

    /// Binds the page of the one request in a list.
    #[inline(always)]
    fn bind_listed(&mut self, slot: u16, list: u64) -> Option<()> {
        let frame = self.bindings.translate(slot, list, Rights::READ)?;
        let behind = &self.machine.page(frame)[(list % PAGE_SIZE / 8) as usize..];
        let words = behind.first_chunk::<BIND_WORDS>().filter(|_| list.is_multiple_of(8))?;
        let request = BindRequest::from_words([0, 1].map(|word: usize| words[word].load(Relaxed)));
        let capabilities = &self.environments[usize::from(slot)].capabilities;
        self.bindings.bind_one(
            slot,
            Some(request).filter(|request| request.more == 0)?,
            |guard, rights| capabilities.check(request.capability.into(), guard, rights),
        )
    }

    pub(crate) fn bind(&mut self, caller: u16, into: u16, list: Span) -> Answer {
        if list.count > LIST_MAX {
            return Err(Error::TooLong);
        }
        let words = &mut self.lists.words[..BIND_WORDS * list.count as usize];
        read_words(&self.bindings, self.machine, caller, list.start, words)?;
        let requests = words.as_chunks().0.iter().map(|&words| BindRequest::from_words(words));
        if requests.clone().map(|request| request.count()).sum::<u64>() > BIND_MAX {
            return Err(Error::TooLong);
        }
        let capabilities = &self.environments[caller as usize].capabilities;
        self.bindings.bind_all(into, requests, |request, guard| {
            let rights = request.rights().unwrap_or_default();
            capabilities.check(request.capability.into(), guard, rights)
        })?;
        Ok(0)
    }

    pub(crate) fn unbind(&mut self, from: u16, page: u64, count: u64) -> Answer {
        check_range(page, count)?;
        Ok(self.bindings.unbind(from, page, count))
    }

    pub(crate) fn protect(&mut self, target: u16, page: u64, count: u64, rights: Rights) -> Answer {
        check_range(page, count)?;
        self.bindings.protect(target, page, count, rights).map(|()| 0)
    }
}
