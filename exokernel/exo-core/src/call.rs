//! The calls: decoded once, then one match over all of them.

use crate::context::Context;
use crate::kernel::Kernel;
use crate::machine::Machine;
use exo_abi::tables::{EndReason, StatisticsWord};
use exo_abi::{Call, Error, FrameNumber, Rights};

/// What a call gets.
pub(crate) type Answer = Result<u64, Error>;

/// A part of a program's memory that a call names: so many bytes, or a list of so many.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) count: u64,
}

impl<M: Machine> Kernel<'_, M> {
    /// Makes a call that [`Processor::call`](crate::Processor::call) could not make.
    pub fn call(&mut self, context: &mut Context) {
        let Some(caller) = self.here().cpu.current() else { return };
        let call = Call::unpack(&context.call());
        let result = call.and_then(|call| self.perform(caller, call));
        if result.is_err() {
            self.count(StatisticsWord::Refused, 1);
        }
        context.answer(result);
    }

    pub(crate) fn perform(&mut self, caller: u16, call: Call) -> Answer {
        match call {
            Call::Null {} => Ok(self.environment(caller).name.0),
            Call::Batch { list, count, flags } => {
                self.batch(caller, Span { start: list, count }, flags)
            }
            Call::ConsoleWrite { address, length } => {
                self.console_write(caller, Span { start: address, count: length })
            }
            Call::ConsoleRead { capability, address, length } => {
                self.console_read(caller, capability, Span { start: address, count: length })
            }
            Call::FrameAllocate { list, count, capability } => {
                self.frame_allocate(caller, Span { start: list, count }, capability)
            }
            Call::FrameFree { list, count } => self.frame_free(caller, Span { start: list, count }),
            Call::FrameTransfer { environment, capability, list, count } => {
                let to = self.living_target(caller, environment, capability, Rights::GRANT)?;
                self.frame_transfer(caller, to, Span { start: list, count })
            }
            Call::Donate { list, count } => self.donate(caller, Span { start: list, count }),
            Call::Bind { environment, capability, list, count } => {
                let into = self.living_target(caller, environment, capability, Rights::CONTROL)?;
                self.bind(caller, into, Span { start: list, count })
            }
            Call::Unbind { environment, capability, page, count } => {
                let from = self.living_target(caller, environment, capability, Rights::CONTROL)?;
                self.unbind(from, page, count)
            }
            Call::Protect { environment, capability, page, count, rights } => {
                let target =
                    self.living_target(caller, environment, capability, Rights::CONTROL)?;
                self.protect(target, page, count, rights)
            }
            Call::RingCreate { list, count } => {
                self.ring_create(caller, Span { start: list, count })
            }
            Call::RingDestroy { ring } => self.ring_destroy(caller, ring),
            Call::FilterInstall { environment, capability, address, length, ring } => {
                let filter = self.read_filter(caller, Span { start: address, count: length })?;
                self.filter_install(caller, environment, capability, &filter, ring)
            }
            Call::FilterRemove { filter, capability } => {
                self.filter_remove(caller, filter, capability)
            }
            Call::Send { capability, list, count } => {
                self.send(caller, capability, Span { start: list, count })
            }
            Call::HandlerInstall { ring, capability, address, length, state } => {
                let state = FrameNumber(state);
                self.handler_install(caller, ring, capability, [address, length], state)
            }
            Call::Notify { frame, capability } => {
                self.notify(caller, FrameNumber(frame), capability)
            }
            _ => self.perform_control(caller, call),
        }
    }

    fn perform_control(&mut self, caller: u16, call: Call) -> Answer {
        match call {
            Call::EnvironmentCreate { request } => self.create(caller, request),
            Call::EnvironmentStart { environment, capability, entry, stack, argument } => {
                let child = self.living_target(caller, environment, capability, Rights::CONTROL)?;
                self.start(child, entry, stack, argument)
            }
            Call::EnvironmentDestroy { environment, capability, code } => {
                let target = self.target(caller, environment, capability, Rights::CONTROL)?;
                let own = target == caller;
                let reason = if own { EndReason::Exited } else { EndReason::Destroyed };
                self.destroy(target, reason, code);
                Ok(0)
            }
            Call::CapabilityGrant { environment, authority, destination, source, low, high } => {
                let to = self.living_target(caller, environment, authority, Rights::GRANT)?;
                self.capability_grant(caller, to, destination, source, [low, high])
            }
            Call::CapabilityRevoke { source, low, high, frame } => {
                self.capability_revoke(caller, source, [low, high], frame)
            }
            Call::Slice { cpu, position, environment, capability } => {
                self.slice(caller, (cpu, position), environment, capability)
            }
            Call::Revoke { environment, capability, kind, count, own, wall } => {
                let from = self.living_target(caller, environment, capability, Rights::REVOKE)?;
                self.revoke(caller, from, kind, count, [own, wall])
            }
            Call::Grant { environment, kind, count } => {
                self.grant(caller, environment, kind, count)
            }
            Call::Acknowledge { kind, epoch } => self.acknowledge(caller, kind, epoch),
            Call::MachineExit { capability, code } => {
                self.check_own(caller, capability, Rights::MACHINE)?;
                self.machine.exit(code);
                Ok(0)
            }
            _ => Err(Error::UnknownCall),
        }
    }
}
