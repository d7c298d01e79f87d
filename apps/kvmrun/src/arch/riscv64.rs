//! What is RISC-V's: KVM's harts, and an interrupt controller in the kernel where the machine has AIA.

use alloc::{borrow::ToOwned, format, string::String, sync::Arc, vec::Vec};

use axaddrspace::NestedMode;
use axdevice::{
    AxVmDevices, AxVmDevicesBuilder, CharBackend, CpuInterrupts, InterruptController, Plic,
};
use axvcpu::LineLevel;
use axvm::{AxVMConfig, IsaInfo, Machine, RiscvMachine};
use axvmconfig::{Isa, VmConfig};
use riscv_vcpu::CpuFeatures;

use crate::{
    bundle::Images,
    devices::{self, Power},
    kvm::{
        Kvm, Vcpu, Vm,
        abi::{CreateDevice, DeviceAttr, OneReg, request},
    },
    linux::{self, Failure, File},
    ram::Ram,
};

/// The instruction set of VMs.
pub const ISA: Isa = Isa::Riscv64;

/// Where the guest has KVM's APLIC, and each hart's IMSIC: as on QEMU's `virt`.
const APLIC: u64 = 0x0d00_0000;
const IMSICS: u64 = 0x2800_0000;
const IMSIC_SIZE: u64 = 0x1000;

/// The numbers of registers ("KVM_SET_ONE_REG", RISC-V).
mod reg {
    const RISCV_64_BITS: u64 = 0x8030_0000_0000_0000;
    const CORE: u64 = RISCV_64_BITS | 0x02 << 24;
    const TIMER: u64 = RISCV_64_BITS | 0x04 << 24;
    const ISA_EXTENSION: u64 = RISCV_64_BITS | 0x07 << 24;
    const SBI_EXTENSION: u64 = RISCV_64_BITS | 0x08 << 24;
    pub(super) const PC: u64 = CORE;
    pub(super) const A0: u64 = CORE | 10;
    pub(super) const A1: u64 = CORE | 11;
    pub(super) const TIMER_FREQUENCY: u64 = TIMER;
    pub(super) const HAS_D: u64 = ISA_EXTENSION | 2;
    pub(super) const HAS_SSTC: u64 = ISA_EXTENSION | 8;
    pub(super) const DEBUG_CONSOLE: u64 = SBI_EXTENSION | 9;
}

/// They come once there are vCPUs.
///
/// # Errors
/// None.
pub fn create_controllers(_: Vm) -> Result<(), Failure> {
    Ok(())
}

/// A register of the APLIC that a guest may read and write: how its first source is wired.
const SOURCE_CONFIG: u64 = APLIC + 4;

/// Creates KVM's AIA, if the machine lets it. What to tell the guest: where it finds a register that the
/// kernel answers for.
///
/// # Errors
/// None.
pub fn place_controllers(vm: Vm, vcpus: usize) -> Result<String, Failure> {
    match create_aia(vm, vcpus) {
        Ok(()) => Ok(format!("peer=kvm mmio={SOURCE_CONFIG}")),
        // The PLIC that the device tree tells of is this program's anyway.
        Err(_) => Ok(String::from("peer=kvm")),
    }
}

/// "KVM_DEV_TYPE_RISCV_AIA" (Documentation/virt/kvm/devices; include/uapi/asm/kvm.h).
fn create_aia(vm: Vm, vcpus: usize) -> Result<(), Failure> {
    const RISCV_AIA: u32 = 11;
    const CONFIG: u32 = 0;
    const ADDRESS: u32 = 1;
    const CONTROL: u32 = 2;
    let mut device = CreateDevice {
        kind: RISCV_AIA,
        fd: 0,
        flags: 0,
    };
    // SAFETY: this is what the request takes.
    unsafe {
        vm.file()
            .request_with("creating the AIA", request::CREATE_DEVICE, &mut device)?
    };
    let file = File::from_raw(device.fd as usize);
    let hart_bits = usize::BITS - vcpus.saturating_sub(1).leading_zeros();
    for (attr, value) in [(1, 255), (2, 96), (5, hart_bits)] {
        set(file, CONFIG, attr, value)?;
    }
    set(file, ADDRESS, 0, APLIC)?;
    for (at, vcpu) in (IMSICS..).step_by(IMSIC_SIZE as usize).zip(0..vcpus) {
        set(file, ADDRESS, 1 + vcpu as u64, at)?;
    }
    set(file, CONTROL, 0, 0_u32)
}

fn set<T>(file: File, group: u32, attr: u64, mut value: T) -> Result<(), Failure> {
    let mut attribute = DeviceAttr {
        flags: 0,
        group,
        attr,
        addr: (&raw mut value).expose_provenance() as u64,
    };
    // SAFETY: this is what the request takes; the callers know the width of each attribute.
    unsafe {
        file.request_with(
            "setting up the AIA",
            request::SET_DEVICE_ATTR,
            &mut attribute,
        )?
    };
    Ok(())
}

/// A PLIC and the serial ports.
///
/// # Errors
/// In words: there are more vCPUs than a PLIC has contexts for.
pub fn devices(
    _: Vm,
    vcpus: &[Vcpu],
    config: &VmConfig,
    console: &Arc<dyn CharBackend>,
    _: &Arc<Power>,
) -> Result<AxVmDevicesBuilder, String> {
    let map = config.isa.guest_map();
    let contexts = Plic::machine_supervisor_contexts(vcpus.len());
    let harts = Arc::new(Harts(vcpus.iter().map(Vcpu::file).collect()));
    let plic = Plic::new("plic", *map.irqs.end(), &contexts, harts);
    let plic = Arc::new(plic.map_err(|why| format!("{why}"))?);
    let window = map.interrupt_controller;
    let bus = AxVmDevices::builder().mmio(window.base, window.size, plic.clone());
    let lines: Arc<dyn InterruptController> = plic;
    Ok(devices::serial_ports(bus, config, console, &lines))
}

/// The harts' external interrupts.
struct Harts(Vec<File>);

impl CpuInterrupts for Harts {
    fn set_line(&self, cpu: usize, level: LineLevel) {
        if let Some(&hart) = self.0.get(cpu) {
            // KVM takes it for every vCPU that there is.
            let _ = Vcpu::external_interrupt(hart, level);
        }
    }
}

/// Loads the guest and makes the first vCPU ready for it; the others wait for it to start them.
///
/// # Errors
/// In words: the guest cannot be loaded, or KVM does not take the first vCPU's registers.
pub fn start(
    _: Kvm,
    vcpus: &[Vcpu],
    vm: VmConfig,
    images: Images,
    console: Arc<dyn CharBackend>,
    ram: &mut Ram,
) -> Result<(), String> {
    let first = vcpus.first().ok_or("the VM has no vCPU")?.file();
    let mut features = CpuFeatures::empty();
    let mut extensions = Vec::from(["i", "m", "a"]);
    if get(first, reg::HAS_D).is_ok_and(|has| has != 0) {
        features |= CpuFeatures::FLOAT;
        extensions.extend(["f", "d"]);
    }
    extensions.extend(["c", "zicsr", "zifencei"]);
    if get(first, reg::HAS_SSTC).is_ok_and(|has| has != 0) {
        features |= CpuFeatures::SSTC;
        extensions.push("sstc");
    }
    let ranges = ram.ranges();
    let config = AxVMConfig {
        vm,
        machine: Arc::new(Machine {
            timebase_hz: get(first, reg::TIMER_FREQUENCY)?,
            // It is KVM's affair.
            nested_mode: NestedMode::Sv39x4,
            pcpus: linux::cpus(),
            isa: RiscvMachine {
                cpus: IsaInfo {
                    extensions: extensions.into_iter().map(str::to_owned).collect(),
                    ..IsaInfo::default()
                },
                ..RiscvMachine::default()
            },
        }),
        images: Arc::new(images),
        console,
        host: Arc::new(axdevice::NoHostDevices),
    };
    let state =
        axvm::load_riscv(&config, features, &ranges, ram).map_err(|why| format!("{why}"))?;
    for vcpu in vcpus {
        // Older kernels have no such console, and guests do without it.
        let _ = put(vcpu.file(), reg::DEBUG_CONSOLE, 1);
    }
    put(first, reg::PC, state.entries.bsp_entry.as_u64())?;
    put(first, reg::A0, 0)?;
    put(first, reg::A1, state.arg)?;
    Ok(())
}

fn get(vcpu: File, id: u64) -> Result<u64, Failure> {
    let mut value = 0_u64;
    access(vcpu, request::GET_ONE_REG, id, &mut value)?;
    Ok(value)
}

fn put(vcpu: File, id: u64, mut value: u64) -> Result<(), Failure> {
    access(vcpu, request::SET_ONE_REG, id, &mut value)
}

/// Registers of 64 bits, which all those of [`reg`] are.
fn access(vcpu: File, request: u32, id: u64, value: &mut u64) -> Result<(), Failure> {
    let addr = (&raw mut *value).expose_provenance() as u64;
    let mut register = OneReg { id, addr };
    // SAFETY: this is what both requests take.
    unsafe { vcpu.request_with("a vCPU's register", request, &mut register) }.map(|_| ())
}
