use alloc::{string::String, sync::Arc, vec, vec::Vec};

use axaddrspace::GuestPhysAddr;
use axvcpu::{AccessWidth, VCpuState};
use axvmconfig::VmConfig;

use super::*;
use crate::{
    AxVM, AxVMRef, PowerState,
    testing::{Files, TestConsole, TestHal, machine, vm_config},
};

const ISA: &str = "rv64imafdch_zicsr_sstc";
const RAM: &str = "memory_regions = [[\"4MiB\"]]";
const PLIC: u64 = 0xc00_0000;
const UART: u64 = 0x1000_0000;
const UART_IRQ: u64 = 10;

type Vm<const W: usize> = AxVMRef<TestHal<W>, RISCVVCpu<TestHal<W>>>;

fn config(vm: VmConfig, console: Arc<TestConsole>) -> AxVMConfig<RiscvMachine> {
    AxVMConfig {
        vm,
        machine: Arc::new(machine(ISA)),
        images: Arc::new(Files(vec![("image", b"flat".to_vec())])),
        console,
        host: Arc::new(axdevice::NoHostDevices),
    }
}

fn vm<const W: usize>(cpus: usize) -> (Vm<W>, Arc<TestConsole>) {
    let console = Arc::new(TestConsole::new());
    (
        AxVM::new(config(vm_config(cpus, RAM), console.clone())).unwrap(),
        console,
    )
}

fn write<const W: usize>(vm: &Vm<W>, addr: u64, width: AccessWidth, data: u64) {
    let bus = &vm.devices().bus;
    bus.handle_mmio_write(GuestPhysAddr::new(addr), width, data)
        .unwrap();
}

fn read<const W: usize>(vm: &Vm<W>, addr: u64, width: AccessWidth) -> u64 {
    vm.devices()
        .bus
        .handle_mmio_read(GuestPhysAddr::new(addr), width)
        .unwrap()
}

#[test]
fn a_dedicated_pcpu_stays_the_vcpus_and_a_shared_one_does_not() {
    let made_of = |vm: VmConfig, pcpus| {
        let mut config = config(vm, Arc::new(TestConsole::new()));
        let mut machine = machine(ISA);
        machine.pcpus = pcpus;
        config.machine = Arc::new(machine);
        let ram = [GuestRange::new(GuestPhysAddr::new(0x8000_0000), 0x1000).unwrap()];
        vcpu_config(&config, &ram, &config.vm.vcpus[0])
    };
    let dedicated = made_of(vm_config(2, RAM), 4);
    assert_eq!(dedicated.wfi, WfiPolicy::Untrapped);
    assert_eq!(dedicated.sharing, riscv_vcpu::Sharing::Dedicated);
    assert_eq!(dedicated.vcpu_count, 2);
    assert_eq!(dedicated.ram[0].end, GuestPhysAddr::new(0x8000_1000));
    assert!(dedicated.features.contains(CpuFeatures::SSTC));
    assert!(
        !dedicated.features.contains(CpuFeatures::VECTOR),
        "the guest is not told of it"
    );
    let only = made_of(vm_config(1, RAM), 1);
    assert_eq!(only.wfi, WfiPolicy::Exit, "the only pCPU is everyone's");
    assert_eq!(only.sharing, riscv_vcpu::Sharing::Shared);
}

#[test]
fn the_first_hart_starts_with_its_number_and_the_device_tree() {
    let (vm, _) = vm::<69>(2);
    vm.boot().unwrap();
    let Some(PowerState::StartPending { entry, arg }) = vm.vcpu_power(0) else {
        panic!("vCPU 0 is not started")
    };
    assert_eq!(entry.as_u64(), 0x8020_0000, "a flat binary's place");
    vm.vcpu(0)
        .unwrap()
        .inspect(|arch| {
            let guest = &arch.registers().guest_regs;
            assert_eq!(
                (guest.sepc, guest.x[10], guest.x[11]),
                (entry.as_u64(), 0, arg)
            );
        })
        .unwrap();
    vm.vcpu(1)
        .unwrap()
        .inspect(|arch| assert_eq!(arch.registers().guest_regs.x[10], 1))
        .unwrap();
    assert_eq!(vm.vcpu_power(1), Some(PowerState::Off));
    assert_eq!(vm.vcpu(1).unwrap().state(), VCpuState::Free);
    let mut tree = vec![0; 0x1000];
    let mut memory = vm.memory.lock();
    memory
        .loader()
        .read(GuestPhysAddr::new(arg), &mut tree)
        .unwrap();
    assert!(fdt::Fdt::new(&tree).is_ok());
}

#[test]
fn input_at_the_console_reaches_the_hart_that_wants_it() {
    let (vm, console) = vm::<70>(2);
    vm.boot().unwrap();
    let line = |id: usize| vm.vcpu(id).unwrap().mailbox().take().levels;
    // Hart 1 in supervisor mode is context 3.
    write(&vm, PLIC + 4 * UART_IRQ, AccessWidth::Dword, 1);
    write(
        &vm,
        PLIC + 0x2000 + 3 * 0x80,
        AccessWidth::Dword,
        1 << UART_IRQ,
    );
    write(&vm, UART + 1, AccessWidth::Byte, 1);
    assert_eq!((line(0), line(1)), (0, 0));

    console.input.lock().unwrap().push_back(b'x');
    vm.console_poll();
    assert_eq!((line(0), line(1)), (0, 1 << EXTERNAL_INTERRUPT));
    let claim = PLIC + 0x20_0000 + 3 * 0x1000 + 4;
    assert_eq!(read(&vm, claim, AccessWidth::Dword), UART_IRQ);
    assert_eq!(line(1), 0, "claimed");
    assert_eq!(read(&vm, UART, AccessWidth::Byte), u64::from(b'x'));
    write(&vm, claim, AccessWidth::Dword, UART_IRQ);
    assert_eq!(line(1), 0, "the UART has no more");
    write(&vm, UART, AccessWidth::Byte, b'y'.into());
    assert_eq!(*console.written.lock().unwrap(), b"y");
}

#[test]
fn only_the_first_serial_port_is_the_console() {
    let text = std::format!(
        "{RAM}\n[devices]\nvirtual = [{{ id = \"a\", model = \"ns16550\" }}, \
         {{ id = \"b\", model = \"ns16550\", addr = 0x1000_1000, irq = 11 }}]"
    );
    let console = Arc::new(TestConsole::new());
    let vm: Vm<71> = AxVM::new(config(vm_config(1, &text), console.clone())).unwrap();
    write(&vm, UART, AccessWidth::Byte, b'1'.into());
    write(&vm, UART + 0x1000, AccessWidth::Byte, b'2'.into());
    assert_eq!(*console.written.lock().unwrap(), b"1");
    let names: Vec<_> = vm
        .devices()
        .bus
        .iter()
        .map(|device| String::from(device.name()))
        .collect();
    assert_eq!(names, ["plic", "a", "b"]);
}

/// A config keeps RAM from the places that the machine's devices have; that those are all of them is held here.
#[test]
fn devices_are_where_configs_know_them_to_be() {
    let (vm, _) = vm::<72>(1);
    let map = axvmconfig::Isa::Riscv64.guest_map();
    let bus = &vm.devices().bus;
    for page in (0..1 << 32).step_by(0x1000).map(GuestPhysAddr::new) {
        let found = bus.handle_mmio_read(page, AccessWidth::Byte);
        let answers = found != Err(axdevice::BusError::NoDevice);
        let is_kept = [map.interrupt_controller, map.uart]
            .iter()
            .any(|window| window.contains(page));
        assert!(!answers || is_kept, "{page}");
    }
    for place in [
        map.interrupt_controller.base.as_u64(),
        map.uart.base.as_u64(),
    ] {
        let found = bus.handle_mmio_read(GuestPhysAddr::new(place), AccessWidth::Byte);
        assert_ne!(found, Err(axdevice::BusError::NoDevice), "{place:#x}");
    }
}
