//! Local APICs that the processor keeps are as those of software alone: whole vCPUs on [a processor as the manual has it](processor), beside
//! [what must come of it](plain). Their guests do the same; nothing is lost or invented, all comes in the same order, and registers read the same.

mod acts;
mod board;
mod plain;
mod processor;

extern crate std;

use alloc::{boxed::Box, rc::Rc, sync::Arc};
use core::{
    cell::RefCell,
    sync::atomic::{AtomicBool, Ordering},
};

use axaddrspace::{GuestPhysAddr, HostPhysAddr, LargestLeaf, NestedMode, SharedPage};
use axdevice::{ApicMode, AxVmDevices, CpuEvents, Keeps, Timed};
use axvcpu::{
    AccessWidth, AtHostInterrupt, AxArchPerCpu, AxArchVCpu, AxVCpuExitReason, AxVCpuHal,
    DeviceAccess, Mailbox,
};
use proptest::prelude::*;

use self::{
    acts::{Act, Place, act},
    board::{Board, News},
    plain::{Came, Plain},
    processor::{Deed, LOAD, LOAD_AT, Processor, STORE, STORE_AT},
};
use super::machine;
use crate::{
    HltPolicy, INIT, LocalApicHardware, NMI, NOTIFY, Sharing, X86PerCpu, X86Start, X86VCpu,
    X86VCpuConfig,
    testing::{CR3, ENTRY, RAM_BYTES, Ram, TestHost, qemu_epyc},
};

/// What a guest takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Interrupt(u8),
    Nmi,
}

/// The way from devices and other vCPUs to this one.
#[derive(Default)]
struct Wires {
    mailbox: Mailbox,
    kicked: AtomicBool,
    /// Nothing is left to be done: the vCPU comes back to the test.
    ends: AtomicBool,
}

impl Wires {
    fn take_kick(&self) -> bool {
        self.kicked.swap(false, Ordering::Relaxed)
    }

    fn end_round(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    fn post(&self, cpu: usize, letter: usize) {
        if cpu == 0 {
            self.mailbox.raise(letter);
            if self.mailbox.is_in_guest() {
                self.kicked.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl CpuEvents for Wires {
    fn notify(&self, cpu: usize) {
        self.post(cpu, NOTIFY);
    }

    fn nmi(&self, cpu: usize) {
        self.post(cpu, NMI);
    }

    fn init(&self, cpu: usize) {
        self.post(cpu, INIT);
    }

    fn startup(&self, _: usize, _: u8) {}
}

/// What a vCPU reaches: the VM's devices, and where nothing is all ones.
struct Devices {
    bus: AxVmDevices,
    wires: Arc<Wires>,
}

impl DeviceAccess for Devices {
    type Registers = axvcpu::NoDevices;

    fn mmio_read(&self, addr: GuestPhysAddr, width: AccessWidth) -> Option<u64> {
        let answer = self.bus.handle_mmio_read(addr, width);
        Some(answer.unwrap_or(u64::MAX))
    }

    fn mmio_write(&self, addr: GuestPhysAddr, width: AccessWidth, data: u64) -> Option<()> {
        let _ = self.bus.handle_mmio_write(addr, width, data);
        Some(())
    }

    fn at_host_interrupt(&self) -> AtHostInterrupt {
        if self.wires.ends.load(Ordering::Relaxed) {
            AtHostInterrupt::Leave
        } else {
            AtHostInterrupt::Stay
        }
    }
}

/// IA32_APIC_BASE in a mode.
fn apic_base(mode: ApicMode) -> u64 {
    0xfee0_0000
        | match mode {
            ApicMode::Disabled => 0,
            ApicMode::XApic => 1 << 11,
            ApicMode::X2Apic => 3 << 10,
        }
}

/// What of `value` an x2APIC's register takes, if it can be written.
fn msr_value(index: u16, value: u32) -> Option<u64> {
    let bits = match index {
        0x08 | 0x3f => 0xff,
        0x0b | 0x28 => 0,
        0x0f => 0x3ff,
        0x30 => return Some(u64::from(value >> 24 & 1) << 32 | u64::from(value & 0x000c_dfff)),
        0x35 => 0x1_a7ff,
        0x37 => 0x1_00ff,
        _ => return None,
    };
    Some(u64::from(value & bits))
}

/// A vCPU whose local APIC the processor keeps.
struct World {
    vcpu: X86VCpu<TestHost>,
    board: Rc<Board>,
    processor: Rc<RefCell<Processor>>,
    wires: Arc<Wires>,
    devices: Devices,
    sharing: Sharing,
    halted: bool,
    _stand_in: SharedPage,
}

const START: X86Start = X86Start::Long64 {
    rip: ENTRY,
    rsi: 0,
    cr3: CR3,
};

impl World {
    fn new(keeps: Keeps, sharing: Sharing, ram: &Arc<Ram>) -> Self {
        machine::power_on();
        crate::machine::with(|m| {
            m.cpuid.extend(qemu_epyc());
            const VMX: u32 = 1 << 5;
            const SVM: u32 = 1 << 2;
            m.cpuid.entry((1, 0)).and_modify(|leaf| leaf.ecx |= VMX);
            let leaf = m.cpuid.entry((0x8000_0001, 0));
            leaf.and_modify(|leaf| leaf.ecx &= !SVM);
        });
        let mut pcpu = X86PerCpu::<TestHost>::new(TestHost::this_pcpu()).unwrap();
        if !pcpu.is_enabled() {
            pcpu.hardware_enable().unwrap();
        }
        let wires = Arc::new(Wires::default());
        let board = Rc::new(Board::new(wires.clone()));
        let stand_in_page = SharedPage::new::<TestHost>().unwrap();
        let stand_in = stand_in_page.start();
        let config = X86VCpuConfig {
            vcpu_count: 2,
            tsc_hz: 1_000_000_000,
            nested_mode: NestedMode::Ept(LargestLeaf::Size1G),
            hlt: match sharing {
                Sharing::Dedicated => HltPolicy::Untrapped,
                Sharing::Shared => HltPolicy::Exit,
            },
            longest_turn: u64::MAX,
            sharing,
            ram: Arc::from([GuestPhysAddr::new(0)..GuestPhysAddr::new(RAM_BYTES as u64)]),
            local: board.local.clone(),
            local_hardware: match keeps {
                Keeps::TaskPriority => LocalApicHardware::TaskPriority,
                Keeps::Registers => LocalApicHardware::Registers { stand_in },
                Keeps::Everything => LocalApicHardware::Everything { stand_in },
            },
            timed: Arc::from([board.local.clone() as Arc<dyn Timed>]),
            memory: ram.clone(),
        };
        let mut vcpu = X86VCpu::new(1, 0, config).unwrap();
        vcpu.set_nested_root(HostPhysAddr::new(0x5000)).unwrap();
        vcpu.setup(START).unwrap();
        vcpu.bind().unwrap();
        let processor = Rc::new(RefCell::new(Processor::new(wires.clone())));
        let guest = processor.clone();
        machine::with(|m| {
            m.guest = Some(Box::new(move |registers, fields, injected| {
                guest.borrow_mut().turn(registers, fields, injected);
            }));
        });
        let bus = board.local.put_on(AxVmDevices::builder()).build();
        Self {
            vcpu,
            board,
            processor,
            devices: Devices {
                bus: bus.unwrap(),
                wires: wires.clone(),
            },
            wires,
            sharing,
            halted: false,
            _stand_in: stand_in_page,
        }
    }

    /// Does what `act` says, in `mode`; the answer is what was read.
    fn act(&mut self, act: Act, mode: ApicMode) -> Option<u64> {
        let board = self.board.clone();
        let elsewhere = move |news, more: Option<News>| {
            Box::new(move || {
                board.happens(news);
                more.into_iter().for_each(|news| board.happens(news));
            }) as Box<dyn FnOnce()>
        };
        let msr = |index: u16| 0x800 + u32::from(index);
        let deed = match act {
            Act::Interrupts(on) => Deed::Interrupts(on),
            Act::Cr8(class) => Deed::Cr8(class),
            Act::Write(index, value, form) => match (mode, msr_value(index, value)) {
                (ApicMode::X2Apic, Some(value)) => Deed::Wrmsr(msr(index), value),
                (_, _) => Deed::Store { index, value, form },
            },
            Act::Read(index) => match mode {
                ApicMode::X2Apic => Deed::Rdmsr(msr(index)),
                ApicMode::XApic | ApicMode::Disabled => Deed::Load { index },
            },
            Act::Switch(mode) => Deed::Wrmsr(0x1b, apic_base(mode)),
            Act::Halt => Deed::Halt,
            Act::InShadow(news) => Deed::InShadow(elsewhere(news, None)),
            // A vCPU that halts out of its guest is not there.
            Act::Outside(news, more, Place::Guest) if !self.halted => {
                Deed::Elsewhere(elsewhere(news, more))
            }
            Act::Outside(news, more, _) => {
                elsewhere(news, more)();
                if self.halted && !self.wires.mailbox.has_interrupt(0) {
                    return None;
                }
                self.drive();
                return None;
            }
            Act::Move => {
                self.vcpu.unbind().unwrap();
                self.vcpu.bind().unwrap();
                return None;
            }
            Act::Fault => Deed::Fault,
            Act::PowerOn => {
                self.board.reset();
                self.wires.mailbox.clear();
                self.restart();
                self.drive();
                return None;
            }
        };
        self.processor.borrow_mut().deed = Some(deed);
        self.drive();
        let mut processor = self.processor.borrow_mut();
        assert!(processor.deed.is_none(), "it was not done");
        processor.read.take()
    }

    fn restart(&mut self) {
        self.vcpu.setup(START).unwrap();
        self.halted = false;
    }

    /// The vCPU's task, until there is nothing to do.
    fn drive(&mut self) {
        loop {
            let exit = self.vcpu.run(&self.wires.mailbox, &self.devices).unwrap();
            match exit {
                AxVCpuExitReason::ExternalInterrupt { .. } => {
                    if self.wires.ends.swap(false, Ordering::Relaxed) {
                        self.halted = false;
                        return;
                    }
                    assert_eq!(self.sharing, Sharing::Shared);
                }
                AxVCpuExitReason::Halt => {
                    self.halted = true;
                    if !self.wires.mailbox.has_interrupt(0) {
                        return;
                    }
                }
                AxVCpuExitReason::CpuDown => self.restart(),
                AxVCpuExitReason::Nothing | AxVCpuExitReason::NestedPageFault { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Both worlds do `acts`.
fn compare(
    keeps: Keeps,
    sharing: Sharing,
    ram: &Arc<Ram>,
    acts: &[Act],
) -> Result<(), TestCaseError> {
    let (mut world, mut plain) = (World::new(keeps, sharing, ram), Plain::new());
    // What was left to be told from the start.
    world.drive();
    for (number, &act) in acts.iter().enumerate() {
        let mode = plain.mode();
        // The processor does not know of a local APIC that is switched off by software: it interrupts the guest by commands to itself all the same.
        let is_command = matches!(act, Act::Write(0x30 | 0x3f, ..));
        if is_command && keeps == Keeps::Everything && !plain.is_switched_on() {
            continue;
        }
        let Came::Done(expected) = plain.act(act) else {
            continue;
        };
        let read = world.act(act, mode);
        let taken = world.processor.borrow().taken.clone();
        prop_assert_eq!(&taken, &plain.taken, "{}: {:x?}", number, act);
        if let Some(expected) = expected {
            prop_assert_eq!(read, Some(expected), "{}: {:x?}", number, act);
        }
        for (seen, expected) in world.board.registers().zip(plain.board.registers()) {
            prop_assert_eq!(seen, expected, "{}: {:x?}", number, act);
        }
    }
    Ok(())
}

fn is_as_in_software(keeps: Keeps, sharing: Sharing) {
    // It is the same for all.
    let ram = Arc::new(Ram::new());
    ram.put_u64(CR3, 0x2007);
    ram.put_u64(0x2000, 0x87);
    ram.put(STORE_AT, &STORE);
    ram.put(LOAD_AT, &LOAD);
    let whole = ProptestConfig::default();
    let config = ProptestConfig {
        // Long sequences do for many.
        cases: whole.cases.div_ceil(4),
        ..whole
    };
    proptest!(config, |(acts in prop::collection::vec(act(), 1..80))| {
        compare(keeps, sharing, &ram, &acts)?;
    });
}

#[test]
fn the_task_priority_on_a_pcpu_of_its_own() {
    is_as_in_software(Keeps::TaskPriority, Sharing::Dedicated);
}

#[test]
fn the_task_priority_on_a_shared_pcpu() {
    is_as_in_software(Keeps::TaskPriority, Sharing::Shared);
}

#[test]
fn registers_on_a_pcpu_of_its_own() {
    is_as_in_software(Keeps::Registers, Sharing::Dedicated);
}

#[test]
fn registers_on_a_shared_pcpu() {
    is_as_in_software(Keeps::Registers, Sharing::Shared);
}

#[test]
fn everything_on_a_pcpu_of_its_own() {
    is_as_in_software(Keeps::Everything, Sharing::Dedicated);
}

#[test]
fn everything_on_a_shared_pcpu() {
    is_as_in_software(Keeps::Everything, Sharing::Shared);
}
