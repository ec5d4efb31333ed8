//! What a liar tries. The kernel believes none of it.

use crate::stock::Stock;
use libos_net::exo_user::abi::tables::FrameState;
use libos_net::exo_user::{
    Error, FrameNumber, Kind, capability, contract, frame, revocation, slice, tables,
};

/// Tries to pay with what is somebody else's, to acknowledge what has not happened, and to get back
/// what was lost.
///
/// # Errors
/// The lie that was believed.
pub(crate) fn tell(stock: &Stock) -> Result<(), &'static str> {
    let own = contract::name().index();
    let theirs = tables::frames().iter().find(|(_, entry)| {
        entry.state == FrameState::Held as u8 && usize::from(entry.owner) != own
    });
    if let Some((number, _)) = theirs {
        // SAFETY: the frame is not this program's.
        let result = unsafe { frame::free(&[FrameNumber(number as u32)]) };
        if result.is_ok() {
            return Err("a frame of somebody else's was taken as payment");
        }
    }
    for kind in [Kind::Frames, Kind::Slices, Kind::Filters, Kind::Rings] {
        let epoch = contract::account(kind).epoch;
        if revocation::acknowledge(kind, epoch + 1).is_ok() {
            return Err("an epoch was acknowledged that never was");
        }
    }
    if stock.rebind_lost() {
        return Err("a lost frame was bound again");
    }
    let others = tables::slices()
        .iter()
        .find(|(_, entry)| entry.holder != 0 && entry.holder != contract::name().0);
    let positions = tables::system().positions.max(1) as usize;
    if let Some((index, _)) = others {
        let (cpu, position) = ((index / positions) as u32, (index % positions) as u32);
        if slice::give_back(cpu, position, capability::OWN) != Err(Error::NotDominated) {
            return Err("a slice of somebody else's was taken as payment");
        }
    }
    Ok(())
}
