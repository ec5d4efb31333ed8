//! The capabilities of an environment.

use exo_abi::layout::CAPABILITIES;
use exo_abi::{Capability, CapabilityName, Error, Rights};

/// The capability slots of one environment.
#[derive(Clone, Copy, Debug)]
pub struct CapabilityTable {
    slots: [Option<Capability>; CAPABILITIES],
}

impl CapabilityTable {
    /// A table without capabilities.
    pub const EMPTY: Self = Self { slots: [None; CAPABILITIES] };

    /// The capability in `slot`.
    ///
    /// # Errors
    /// [`Error::NoCapability`] if the slot is empty or beyond the last.
    pub fn get(&self, slot: u32) -> Result<Capability, Error> {
        self.slots.get(slot as usize).copied().flatten().ok_or(Error::NoCapability)
    }

    /// Puts a capability into `slot`; one without rights empties it. Authority is checked before,
    /// by [`derive`](Self::derive).
    ///
    /// # Errors
    /// [`Error::NoCapability`] if the slot is beyond the last.
    pub fn set(&mut self, slot: u32, capability: Capability) -> Result<(), Error> {
        let place = self.slots.get_mut(slot as usize).ok_or(Error::NoCapability)?;
        *place = (!capability.rights.is_empty()).then_some(capability);
        Ok(())
    }

    /// Whether the capability in `slot` covers `name` with `rights`. [`Rights::WIRED`] is no
    /// authority and is not asked for.
    ///
    /// # Errors
    /// [`Error::NoCapability`], [`Error::NotDominated`].
    #[inline]
    pub fn check(&self, slot: u32, name: &CapabilityName, rights: Rights) -> Result<(), Error> {
        let rights = rights.difference(Rights::WIRED);
        self.derive(slot, &Capability { name: *name, rights })
    }

    /// Takes rights away from all capabilities below a name.
    pub fn revoke(&mut self, revoked: &Capability) {
        for slot in &mut self.slots {
            let below = slot.filter(|held| revoked.name.is_prefix_of(&held.name));
            if let Some(Capability { name, rights }) = below {
                let rights = rights.difference(revoked.rights);
                *slot = (!rights.is_empty()).then_some(Capability { name, rights });
            }
        }
    }

    /// Whether `capability` may be made from the one in slot `source`.
    ///
    /// # Errors
    /// [`Error::NoCapability`], [`Error::NotDominated`].
    pub fn derive(&self, source: u32, capability: &Capability) -> Result<(), Error> {
        if self.get(source)?.dominates(capability) { Ok(()) } else { Err(Error::NotDominated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(parts: &[u8]) -> CapabilityName {
        CapabilityName::new(parts).unwrap_or(CapabilityName::ROOT)
    }

    #[test]
    fn only_what_is_dominated_can_be_used_or_derived() {
        let mut table = CapabilityTable::EMPTY;
        let mine = Capability { name: name(&[1]), rights: Rights::READ | Rights::GRANT };
        assert_eq!(table.set(3, mine), Ok(()));
        assert_eq!(table.check(3, &name(&[1, 9]), Rights::READ), Ok(()));
        assert_eq!(table.check(3, &name(&[1]), Rights::READ | Rights::WIRED), Ok(()));
        assert_eq!(table.check(3, &name(&[1]), Rights::WRITE), Err(Error::NotDominated));
        assert_eq!(table.check(3, &name(&[]), Rights::READ), Err(Error::NotDominated));
        assert_eq!(table.check(4, &name(&[1]), Rights::READ), Err(Error::NoCapability));
        assert_eq!(table.derive(3, &Capability::ROOT), Err(Error::NotDominated));
        assert_eq!(table.derive(u32::MAX, &mine), Err(Error::NoCapability));
    }

    #[test]
    fn what_is_below_a_name_goes_with_it() {
        let mut table = CapabilityTable::EMPTY;
        let both = Rights::READ | Rights::WRITE;
        for (slot, parts) in [&[][..], &[1], &[1, 2], &[1, 2, 3], &[2]].into_iter().enumerate() {
            let capability = Capability { name: name(parts), rights: both };
            assert_eq!(table.set(slot as u32, capability), Ok(()));
        }
        table.revoke(&Capability { name: name(&[1, 2]), rights: Rights::WRITE });
        table.revoke(&Capability { name: name(&[1, 2, 3]), rights: both });
        let rights = [0, 1, 2, 3, 4].map(|slot| table.get(slot).map(|held| held.rights));
        let gone = Err(Error::NoCapability);
        assert_eq!(rights, [Ok(both), Ok(both), Ok(Rights::READ), gone, Ok(both)]);
    }

    #[test]
    fn no_rights_empty_a_slot() {
        let mut table = CapabilityTable::EMPTY;
        assert_eq!(table.set(0, Capability::ROOT), Ok(()));
        assert_eq!(
            table.set(0, Capability { rights: Rights::empty(), ..Capability::ROOT }),
            Ok(())
        );
        assert_eq!(table.get(0), Err(Error::NoCapability));
        assert_eq!(table.set(CAPABILITIES as u32, Capability::ROOT), Err(Error::NoCapability));
    }
}
