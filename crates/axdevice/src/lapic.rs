//! The local APICs of a PC's processors, and the bus between them (Intel SDM volume 3, chapter 12).
//!
//! Each vCPU has a [`LocalApic`], which only it accesses: by memory as an xAPIC, or by MSRs as an x2APIC. The [`ApicBus`] holds all of a
//! VM, carries messages between them and from the I/O APIC, and connects the 8259s to the pin LINT0.
//!
//! Where the processor can, it keeps the registers in a page while the guest runs ([`LocalInterrupts::keep_in`]): the guest then exits for few of its accesses.
//!
//! A state is behind a lock, but what a vCPU looks at before each entry is not: whether something waits, and when the timer expires.
//!
//! A message is at its destination at once. There is no SMI, no thermal or performance interrupt and no CMCI; an EOI is always told to
//! the I/O APIC if the interrupt was one of a level. IA32_APIC_BASE cannot move the page.

mod bus;
mod icr;
mod kept;
mod lvt;
mod message;
mod mode;
mod page;
mod priority;
mod registers;
mod shared;
mod state;
#[cfg(test)]
mod tests;
mod timer;
mod vectors;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use axaddrspace::{GuestPhysAddr, SharedPage};
use axvcpu::AccessWidth;

use crate::{
    AccessFault, AxVmDevicesBuilder, Device, HandOver, InterruptFlag, Keeps, LocalInterrupts,
    Schedule, Timed,
};
use mode::Mode;
use page::RegisterPage;
use registers::Register;
use shared::Shared;
use state::{Effect, State, Waiting};

pub use bus::ApicBus;
pub(crate) use bus::{EndOfInterrupt, ExternalInterrupts};
pub use message::{Acceptance, Delivery, Destination, DestinationMode, Message, TriggerMode};

/// The highest rate of timers that go on by themselves.
const MAX_PERIODIC_HZ: u64 = 10_000;

const IA32_APIC_BASE: u32 = 0x1b;
const IA32_TSC_DEADLINE: u32 = 0x6e0;
const X2APIC: u32 = 0x800;
const X2APIC_COUNT: u32 = 0x100;

/// The local APIC of one vCPU.
///
/// As a [`Device`] it is the xAPIC's page.
pub struct LocalApic {
    name: String,
    cpu: usize,
    shared: Arc<Shared>,
    bus: Arc<ApicBus>,
}

impl LocalApic {
    /// Where the xAPIC's registers are.
    pub const PAGE: GuestPhysAddr = GuestPhysAddr::new(mode::PAGE);

    /// The size of the page in bytes.
    pub const PAGE_SIZE: u64 = 0x1000;

    /// Ticks of the host's counter, and so of the TSC, in one of the clock that the timer counts: what CPUID leaf 0x15 tells the guest.
    pub const BUS_RATIO: u64 = timer::BUS_RATIO;

    fn new(cpu: usize, shared: Arc<Shared>, bus: Arc<ApicBus>) -> Self {
        Self {
            name: format!("lapic{cpu}"),
            cpu,
            shared,
            bus,
        }
    }

    /// Puts the page and the MSRs on the buses of what this vCPU alone can reach.
    #[must_use]
    pub fn put_on(self: &Arc<Self>, bus: AxVmDevicesBuilder) -> AxVmDevicesBuilder {
        let msrs: Arc<dyn Device> = Arc::new(Msrs(Arc::clone(self)));
        bus.mmio(Self::PAGE, Self::PAGE_SIZE, self.clone())
            .sys_reg_by_number(IA32_APIC_BASE, 1, Arc::clone(&msrs))
            .sys_reg_by_number(IA32_TSC_DEADLINE, 1, Arc::clone(&msrs))
            .sys_reg_by_number(X2APIC, X2APIC_COUNT, msrs)
    }

    /// RDMSR of IA32_APIC_BASE, IA32_TSC_DEADLINE or an x2APIC register; any other is refused.
    ///
    /// The deadline is one of the host's counter: who shows the guest another TSC converts it.
    ///
    /// # Errors
    /// [`AccessFault`], #GP for the guest: there is no such register, it cannot be read, or it is an x2APIC's and the mode is another (SDM volume 3,
    /// 12.12.2).
    #[inline]
    pub fn read_msr(&self, msr: u32) -> Result<u64, AccessFault> {
        self.shared.look(|state| match msr {
            IA32_APIC_BASE => Ok(state.base()),
            IA32_TSC_DEADLINE => Ok(state.tsc_deadline()),
            _ => {
                let register = x2apic_register(state, msr)?;
                if register.is_readable_msr() {
                    Ok(state.read(register, self.bus.clock()))
                } else {
                    Err(AccessFault)
                }
            }
        })
    }

    /// WRMSR of what [`read_msr`](Self::read_msr) reads.
    ///
    /// # Errors
    /// As for [`read_msr`](Self::read_msr), of writing; also for a value with reserved bits (12.12.1.3), and for a mode that the present one does not
    /// lead to (12.12.5). Nothing has changed.
    #[inline]
    pub fn write_msr(&self, msr: u32, value: u64) -> Result<Schedule, AccessFault> {
        self.change(|state| match msr {
            IA32_APIC_BASE => state.set_base(value).map(|()| Effect::Nothing),
            IA32_TSC_DEADLINE => {
                state.set_tsc_deadline(value);
                Ok(Effect::Nothing)
            }
            _ => {
                let register = x2apic_register(state, msr)?;
                match register.writable_msr_bits() {
                    Some(bits) if value & !bits == 0 => {
                        Ok(state.write(register, value, self.bus.clock()))
                    }
                    Some(_) | None => Err(AccessFault),
                }
            }
        })
    }

    #[inline]
    fn read_page(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let index = page_index(offset, width)?;
        match Register::of_xapic(index) {
            Some(register) => self.shared.look(|state| {
                expect_page(state)?;
                Ok(state.read(register, self.bus.clock()))
            }),
            None => self.with(|state| {
                expect_page(state)?;
                state.illegal_register();
                Ok(0)
            }),
        }
    }

    #[inline(never)]
    fn write_page(
        &self,
        offset: u64,
        width: AccessWidth,
        data: u64,
    ) -> Result<Schedule, AccessFault> {
        let index = page_index(offset, width)?;
        self.change(|state| {
            expect_page(state)?;
            Ok(match Register::of_xapic(index) {
                Some(register) => state.write(register, data, self.bus.clock()),
                None => {
                    state.illegal_register();
                    Effect::Nothing
                }
            })
        })
    }

    /// Whether IA32_APIC_BASE has it switched on, which CPUID leaf 1 shows.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.shared.look(|state| state.is_enabled())
    }

    /// Runs `f` on the state, and does what remains of it.
    #[inline(always)]
    fn change(
        &self,
        f: impl FnOnce(&mut State) -> Result<Effect, AccessFault>,
    ) -> Result<Schedule, AccessFault> {
        let (effect, effects) = self.shared.with(f);
        self.bus.perform(effect?, self.cpu);
        Ok(effects.schedule)
    }

    /// Has the vCPU look at what an access by the bus has changed.
    fn follow(&self, schedule: Schedule) {
        match schedule {
            Schedule::Kept => {}
            Schedule::Changed => self.bus.notify(self.cpu),
        }
    }

    /// Runs `f` on the state. The vCPU itself is here, and looks for what waits before it goes on: nobody is told.
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        self.shared.with(f).0
    }
}

/// The register behind an MSR, if there is one and the mode is right.
fn x2apic_register(state: &State, msr: u32) -> Result<Register, AccessFault> {
    let index = msr.checked_sub(X2APIC).ok_or(AccessFault)?;
    match state.mode() {
        Mode::X2Apic => Register::of_x2apic(index.into()).ok_or(AccessFault),
        Mode::XApic | Mode::Disabled => Err(AccessFault),
    }
}

/// Where `addr` is in the page, if it is there.
#[inline]
fn page_offset(addr: GuestPhysAddr) -> Option<u64> {
    let offset = addr.as_u64() ^ mode::PAGE;
    (offset < LocalApic::PAGE_SIZE).then_some(offset)
}

/// The registers are 32 bits wide, and each has 16 bytes to itself.
fn page_index(offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
    if width == AccessWidth::Dword && offset & 0xf == 0 {
        Ok(offset >> 4)
    } else {
        Err(AccessFault)
    }
}

/// Refuses the page unless the mode has one.
fn expect_page(state: &State) -> Result<(), AccessFault> {
    match state.mode() {
        Mode::XApic => Ok(()),
        Mode::X2Apic | Mode::Disabled => Err(AccessFault),
    }
}

impl Device for LocalApic {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        self.read_page(offset, width)
    }

    fn write(&self, offset: u64, width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        self.follow(self.write_page(offset, width, data)?);
        Ok(())
    }

    fn reset(&self) {
        self.with(State::reset);
    }
}

/// The MSRs of a local APIC.
struct Msrs(Arc<LocalApic>);

impl Msrs {
    fn number(offset: u64) -> Result<u32, AccessFault> {
        u32::try_from(offset).map_err(|_| AccessFault)
    }
}

impl Device for Msrs {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn read(&self, offset: u64, _width: AccessWidth) -> Result<u64, AccessFault> {
        self.0.read_msr(Self::number(offset)?)
    }

    fn write(&self, offset: u64, _width: AccessWidth, data: u64) -> Result<(), AccessFault> {
        self.0
            .follow(self.0.write_msr(Self::number(offset)?, data)?);
        Ok(())
    }

    fn reset(&self) {
        self.0.reset();
    }
}

impl LocalInterrupts for LocalApic {
    fn pending(&self) -> Option<u8> {
        self.shared.pending()
    }

    fn flag(&self) -> Arc<InterruptFlag> {
        self.shared.flag().clone()
    }

    fn acknowledge(&self) -> Option<u8> {
        match self.shared.take() {
            Waiting::Nothing => None,
            Waiting::Vector(vector) => Some(vector),
            Waiting::ExtInt => self.bus.acknowledge_ext_int(),
        }
    }

    fn keep_in(&self, page: SharedPage, keeps: Keeps) {
        self.with(|state| state.keep_in(RegisterPage::new(page, keeps)));
    }

    fn hand_over(&self) -> HandOver {
        self.with(|state| state.hand_over(self.bus.clock()))
    }

    fn is_deliverable(&self) -> bool {
        self.shared.look(State::is_deliverable)
    }

    fn held_back(&self) -> Option<u8> {
        self.shared.look(State::held_back)
    }

    fn written(&self, offset: u16) -> Schedule {
        let (effect, effects) = self
            .shared
            .with(|state| state.written(offset, self.bus.clock()));
        self.bus.perform(effect, self.cpu);
        effects.schedule
    }

    fn ended(&self, vector: u8) {
        let effect = self.with(|state| state.ended(vector));
        self.bus.perform(effect, self.cpu);
    }

    fn task_priority(&self) -> u8 {
        self.shared.task_priority() >> 4
    }

    fn set_task_priority(&self, class: u8) {
        self.with(|state| state.set_task_priority(class << 4));
    }

    fn load(&self, addr: GuestPhysAddr, width: AccessWidth) -> Option<u64> {
        self.read_page(page_offset(addr)?, width).ok()
    }

    fn store(&self, addr: GuestPhysAddr, width: AccessWidth, data: u64) -> Option<Schedule> {
        self.write_page(page_offset(addr)?, width, data).ok()
    }

    fn read_register(&self, number: u32) -> Option<u64> {
        self.read_msr(number).ok()
    }

    fn write_register(&self, number: u32, value: u64) -> Option<Schedule> {
        self.write_msr(number, value).ok()
    }
}

impl Timed for LocalApic {
    fn advance(&self, now: u64) -> u64 {
        self.with(|state| {
            state.advance(now);
            state.deadline()
        })
    }

    fn deadline(&self) -> u64 {
        self.shared.deadline()
    }
}
