//! What is x86's: KVM's PC, and the states that it starts in.

use alloc::{boxed::Box, format, string::String, sync::Arc};
use core::arch::x86_64::_rdtsc;

use axaddrspace::{LargestLeaf, NestedMode};
use axdevice::{
    AcpiPm, AxVmDevices, AxVmDevicesBuilder, CharBackend, Clock, CmosRtc, CpuEvents, DebugPort,
    I8042, InterruptController, IrqLine, IsaLines, NoPci, TimerWidth,
};
use axvcpu::LineLevel;
use axvm::{AxVMConfig, Machine, X86Machine};
use axvmconfig::{Isa, VmConfig, X86_ACPI_PORTS};
use x86_vcpu::X86Start;

use crate::{
    bundle::Images,
    devices::{self, Power},
    kvm::{
        Kvm, Vcpu, Vm,
        abi::{Cpuid, CpuidEntry, GeneralRegs, Segment, SystemRegs, request},
    },
    linux::{self, Failure},
    ram::Ram,
};

/// The instruction set of VMs.
pub const ISA: Isa = Isa::X86_64;

/// Pages that Intel's CPUs without unrestricted guests need, where the guest has nothing: the page table,
/// then the task state.
const IDENTITY_MAP: u64 = 0xfffb_c000;
const TASK_STATE: usize = 0xfffb_d000;

/// The interrupt controllers and the timer of a PC. They come before any vCPU.
///
/// # Errors
/// KVM refuses one.
pub fn create_controllers(vm: Vm) -> Result<(), Failure> {
    let file = vm.file();
    file.request("placing the task state", request::SET_TSS_ADDR, TASK_STATE)?;
    let (what, mut at) = ("placing the page table", IDENTITY_MAP);
    // SAFETY: this is what the request takes.
    unsafe { file.request_with(what, request::SET_IDENTITY_MAP_ADDR, &mut at)? };
    let what = "creating the interrupt controllers";
    file.request(what, request::CREATE_IRQCHIP, 0)?;
    let mut flags = [0_u32; 16];
    // SAFETY: this is what the request takes.
    unsafe { file.request_with("creating the timer", request::CREATE_PIT2, &mut flags)? };
    Ok(())
}

/// They are where they are on every PC. What to tell the guest.
///
/// # Errors
/// None.
pub fn place_controllers(_: Vm, _: usize) -> Result<String, Failure> {
    Ok(String::from("peer=kvm"))
}

/// The devices that KVM has not.
///
/// # Errors
/// In words: KVM does not tell the rate of the time stamp counter, or there is no vCPU.
pub fn devices(
    vm: Vm,
    vcpus: &[Vcpu],
    config: &VmConfig,
    console: &Arc<dyn CharBackend>,
    power: &Arc<Power>,
) -> Result<AxVmDevicesBuilder, String> {
    let lines: Arc<dyn InterruptController> = Arc::new(Lines(vm));
    let clock = Arc::new(Counter {
        hz: tsc_khz(vcpus)? * 1000,
    });
    let wire = IrqLine::new(lines.clone(), IsaLines::RTC);
    let rtc = CmosRtc::new("rtc", wire, EPOCH_S, clock.clone(), Arc::new(Unheard));
    let sci = IrqLine::new(lines.clone(), IsaLines::SCI);
    let pm = AcpiPm::new("acpi", sci, TimerWidth::Bits32, clock, power.clone());
    let bus = AxVmDevices::builder().port(X86_ACPI_PORTS as u16, AcpiPm::PORTS, Arc::new(pm));
    // A Linux that finds no clock asks for the time until it has waited for a second.
    let bus = Arc::new(rtc).put_on(bus);
    let bus = Arc::new(I8042::new("i8042", power.clone())).put_on(bus);
    let bus = Arc::new(NoPci::new("pci", power.clone())).put_on(bus);
    let bus = Arc::new(DebugPort::new("port80")).put_on(bus);
    Ok(devices::serial_ports(bus, config, console, &lines))
}

/// The time of day when this program starts, the same in every run: 2026-01-01.
const EPOCH_S: u64 = 1_767_225_600;

/// Nobody waits here for the deadlines of a device, so that the clock's alarm never rings.
struct Unheard;

impl CpuEvents for Unheard {
    fn notify(&self, _: usize) {}

    fn nmi(&self, _: usize) {}

    fn init(&self, _: usize) {}

    fn startup(&self, _: usize, _: u8) {}
}

/// KVM's interrupt controllers.
struct Lines(Vm);

impl InterruptController for Lines {
    fn set_line(&self, source: u32, level: LineLevel) {
        // A line that KVM does not have leads nowhere.
        let _ = self.0.set_line(source, level);
    }
}

/// The time stamp counter.
struct Counter {
    hz: u64,
}

impl Clock for Counter {
    fn now(&self) -> u64 {
        // SAFETY: Linux lets every program read it.
        unsafe { _rdtsc() }
    }

    fn frequency_hz(&self) -> u64 {
        self.hz.max(1)
    }
}

fn tsc_khz(vcpus: &[Vcpu]) -> Result<u64, String> {
    let first = vcpus.first().ok_or("the VM has no vCPU")?;
    let khz = first
        .file()
        .request("asking for the TSC's rate", request::GET_TSC_KHZ, 0)?;
    Ok(khz as u64)
}

/// Loads the guest and makes the vCPUs ready for it.
///
/// # Errors
/// In words: the guest cannot be loaded, or KVM does not take what the vCPUs are told.
pub fn start(
    kvm: Kvm,
    vcpus: &[Vcpu],
    vm: VmConfig,
    images: Images,
    console: Arc<dyn CharBackend>,
    ram: &mut Ram,
) -> Result<(), String> {
    let tsc_khz = tsc_khz(vcpus)?;
    let ranges = ram.ranges();
    let config = AxVMConfig {
        vm,
        machine: Arc::new(Machine {
            timebase_hz: tsc_khz * 1000,
            // It is KVM's affair.
            nested_mode: NestedMode::Npt(LargestLeaf::Size1G),
            pcpus: linux::cpus(),
            isa: X86Machine::default(),
        }),
        images: Arc::new(images),
        console,
        host: Arc::new(axdevice::NoHostDevices),
    };
    let state = axvm::load_x86(&config, &ranges, ram).map_err(|why| format!("{why}"))?;
    let mut cpuid = supported_cpuid(kvm)?;
    for (id, vcpu) in vcpus.iter().enumerate() {
        describe(&mut cpuid, id as u32, tsc_khz as u32);
        let what = "setting CPUID";
        // SAFETY: this is what the request takes: it reads as many entries as it has.
        unsafe {
            vcpu.file()
                .request_with(what, request::SET_CPUID2, &mut *cpuid)?
        };
    }
    let first = vcpus.first().ok_or("the VM has no vCPU")?;
    set_up(first, state.setup)
}

/// What KVM can do on this CPU.
fn supported_cpuid(kvm: Kvm) -> Result<Box<Cpuid>, Failure> {
    let mut cpuid = Box::new(Cpuid {
        nent: 128,
        padding: 0,
        entries: [CpuidEntry::default(); 128],
    });
    let (what, request) = ("asking for CPUID", request::GET_SUPPORTED_CPUID);
    // SAFETY: this is what the request takes: it writes no more entries than there are.
    unsafe { kvm.file().request_with(what, request, &mut *cpuid)? };
    Ok(cpuid)
}

/// The first of the leaves that hypervisors answer, and the one with the rates of the clocks.
const HYPERVISOR: u32 = 0x4000_0000;
const TIMING: u32 = HYPERVISOR + 0x10;
/// The rate of KVM's APIC timers: a nanosecond a tick.
const APIC_KHZ: u32 = 1_000_000;

/// Makes what KVM can do into what CPU `id` says of itself.
fn describe(cpuid: &mut Cpuid, id: u32, tsc_khz: u32) {
    const TSC_DEADLINE: u32 = 1 << 24;
    const HYPERVISOR_IS_THERE: u32 = 1 << 31;
    let count = cpuid.nent as usize;
    let mut has_timing = false;
    for entry in cpuid.entries.iter_mut().take(count) {
        match entry.function {
            1 => {
                entry.ebx = entry.ebx & 0x00ff_ffff | id << 24;
                // KVM does not say so by itself, since it depends on the interrupt controllers.
                entry.ecx |= TSC_DEADLINE | HYPERVISOR_IS_THERE;
            }
            0xb | 0x1f => entry.edx = id,
            HYPERVISOR => entry.eax = entry.eax.max(TIMING),
            TIMING => {
                (entry.eax, entry.ebx) = (tsc_khz, APIC_KHZ);
                has_timing = true;
            }
            _ => {}
        }
    }
    if !has_timing && let Some(entry) = cpuid.entries.get_mut(count) {
        *entry = CpuidEntry {
            function: TIMING,
            eax: tsc_khz,
            ebx: APIC_KHZ,
            ..CpuidEntry::default()
        };
        cpuid.nent += 1;
    }
}

/// Puts a vCPU into the state that its boot protocol asks for.
fn set_up(vcpu: &Vcpu, start: X86Start) -> Result<(), String> {
    let mut system = SystemRegs::default();
    let (what, file) = ("setting a vCPU's registers", vcpu.file());
    // SAFETY: this is what the request takes.
    unsafe { file.request_with(what, request::GET_SREGS, &mut system)? };
    let mut general = first_state(start, &mut system)?;
    // SAFETY: these are what the requests take.
    unsafe {
        file.request_with(what, request::SET_SREGS, &mut system)?;
        file.request_with(what, request::SET_REGS, &mut general)?;
    }
    Ok(())
}

fn first_state(start: X86Start, system: &mut SystemRegs) -> Result<GeneralRegs, String> {
    const ALWAYS_ONE: u64 = 1 << 1;
    let mut general = GeneralRegs {
        rflags: ALWAYS_ONE,
        ..GeneralRegs::default()
    };
    let (cr0_pe, cr0_et, cr0_pg) = (1 << 0, 1 << 4, 1 << 31);
    match start {
        X86Start::Protected32 { eip, ebx, eax } => {
            (general.rip, general.rbx, general.rax) = (eip.into(), ebx.into(), eax.into());
            system.cr0 = cr0_pe | cr0_et;
            segments(system, CodeSize::Bits32);
        }
        X86Start::Long64 { rip, rsi, cr3 } => {
            (general.rip, general.rsi) = (rip, rsi);
            let (cr4_pae, efer_lme, efer_lma) = (1 << 5, 1 << 8, 1 << 10);
            (system.cr3, system.cr4) = (cr3, cr4_pae);
            system.efer = efer_lme | efer_lma;
            system.cr0 = cr0_pe | cr0_et | cr0_pg;
            segments(system, CodeSize::Bits64);
        }
        X86Start::RealMode { .. } | X86Start::Parked => {
            return Err("no kernel starts like that".into());
        }
    }
    Ok(general)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CodeSize {
    Bits32,
    Bits64,
}

/// Flat segments, with the selectors that Linux's boot protocol asks for.
fn segments(system: &mut SystemRegs, code: CodeSize) {
    const CODE: (u16, u8) = (0x10, 0xb);
    const DATA: (u16, u8) = (0x18, 0x3);
    let flat = |(selector, kind)| Segment {
        limit: u32::MAX,
        selector,
        kind,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Segment::default()
    };
    let (db, l) = match code {
        CodeSize::Bits32 => (1, 0),
        CodeSize::Bits64 => (0, 1),
    };
    system.cs = Segment {
        db,
        l,
        ..flat(CODE)
    };
    let data = flat(DATA);
    (system.ds, system.es, system.ss) = (data, data, data);
    (system.fs, system.gs) = (data, data);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpuid(functions: &[u32]) -> Cpuid {
        let mut entries = [CpuidEntry::default(); 128];
        for (entry, &function) in entries.iter_mut().zip(functions) {
            (entry.function, entry.eax, entry.ebx) = (function, HYPERVISOR + 1, !0);
        }
        Cpuid {
            nent: functions.len() as u32,
            padding: 0,
            entries,
        }
    }

    #[test]
    fn each_cpu_has_a_number_and_knows_its_clocks() {
        let mut cpuid = cpuid(&[0, 1, 0xb, HYPERVISOR]);
        for id in [0, 1] {
            describe(&mut cpuid, id, 1_000_000);
            let [_, first, topology, hypervisor, timing, ..] = cpuid.entries;
            assert_eq!(first.ebx, id << 24 | 0xff_ffff);
            assert_eq!(first.ecx, 1 << 31 | 1 << 24);
            assert_eq!(topology.edx, id);
            assert_eq!((hypervisor.eax, cpuid.nent), (TIMING, 5));
            assert_eq!((timing.function, timing.eax), (TIMING, 1_000_000));
        }
    }

    #[test]
    fn kernels_start_in_the_mode_that_they_ask_for() {
        let mut system = SystemRegs::default();
        let (eip, ebx, eax) = (0x20_0000, 0x9_0000, 0x2bad_b002);
        let protected = X86Start::Protected32 { eip, ebx, eax };
        let general = first_state(protected, &mut system).unwrap();
        assert_eq!((general.rip, general.rax), (0x20_0000, 0x2bad_b002));
        assert_eq!((system.cr0, system.efer), (0x11, 0));
        assert_eq!((system.cs.db, system.cs.l, system.cs.kind), (1, 0, 0xb));

        let (rip, rsi, cr3) = (0x100_0200, 0x9_0000, 0x9_2000);
        let long = X86Start::Long64 { rip, rsi, cr3 };
        let general = first_state(long, &mut system).unwrap();
        assert_eq!((general.rip, general.rsi), (rip, rsi));
        assert_eq!((system.cr0, system.efer), (0x8000_0011, 0x500));
        assert_eq!((system.cs.db, system.cs.l), (0, 1));
        assert!(first_state(X86Start::Parked, &mut system).is_err());
    }
}
