//! Pages bound to frames.

use crate::call::{address, call};
use exo_abi::request::BindRequest;
use exo_abi::{Call, EnvName, Error, Rights};

/// Binds pages of the caller. All or none.
///
/// # Errors
/// `NoCapability`, `NotDominated`, `BadAddress`, `TooLong`, `BadArgument`, `NoFrame`,
/// `WriteExecute`, `DonationSpent`, `TlbFull`.
///
/// # Safety
/// Nothing refers to the pages, unless they are bound to the same frames with no fewer rights.
/// What is bound twice, or in two environments, changes under its readers.
pub unsafe fn bind(requests: &[BindRequest]) -> Result<(), Error> {
    bind_in(EnvName::NONE, 0, requests)
}

/// Binds pages of another environment, over which the capability has `CONTROL`. All or none.
///
/// # Errors
/// As [`bind`], and `NoEnvironment`, `StaleEnvironment`, `WrongState`.
pub fn bind_for(
    environment: EnvName,
    capability: u32,
    requests: &[BindRequest],
) -> Result<(), Error> {
    if environment.is_none() {
        return Err(Error::NoEnvironment);
    }
    bind_in(environment, capability, requests)
}

fn bind_in(environment: EnvName, capability: u32, requests: &[BindRequest]) -> Result<(), Error> {
    let (list, count) = (address(requests), requests.len() as u64);
    // SAFETY: the list is read only. `bind` hands its obligation on to its caller, and `bind_for`
    // is about pages that this program cannot see.
    unsafe { call(Call::Bind { environment, capability, list, count }) }.map(|_| ())
}

/// Unbinds `count` pages from the address `page` on, and returns how many were bound.
///
/// # Errors
/// `BadAddress`, `TooLong`.
///
/// # Safety
/// Nothing refers to the pages.
pub unsafe fn unbind(page: u64, count: u64) -> Result<u64, Error> {
    // SAFETY: for the pages the caller answers.
    unsafe { call(Call::Unbind { environment: EnvName::NONE, capability: 0, page, count }) }
}

/// Gives `count` pages from the address `page` on new rights, within those with which they were
/// bound. All or none.
///
/// # Errors
/// `BadAddress`, `TooLong`, `BadArgument`, `PageNotBound`, `NotDominated`, `WriteExecute`.
///
/// # Safety
/// No reference needs a right that is taken away.
pub unsafe fn protect(page: u64, count: u64, rights: Rights) -> Result<(), Error> {
    let environment = EnvName::NONE;
    // SAFETY: for the pages the caller answers.
    unsafe { call(Call::Protect { environment, capability: 0, page, count, rights }) }.map(|_| ())
}
