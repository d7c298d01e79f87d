use alloc::{string::String, vec, vec::Vec};
use std::sync::Mutex;

use axdevice::LocalInterrupts;
use axvcpu::{AccessWidth, LineLevel};

use super::*;
use crate::{
    boot::testing::pc_config,
    testing::{Files, TestConsole},
};

const LETTERS: Letters = Letters {
    notify: 0,
    nmi: 1,
    init: 2,
};
const HZ: u64 = 1_000_000_000;

/// What the devices asked of their VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Raise(usize, usize),
    Stop(usize, usize),
    Start(usize, u64),
    Down(SystemDownKind),
}

/// A VM and its clock.
#[derive(Default)]
struct Vm {
    asked: Mutex<Vec<Asked>>,
    now: Mutex<u64>,
}

impl Vm {
    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
    }

    fn take(&self) -> Vec<Asked> {
        core::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl VmLink for Vm {
    fn raise(&self, cpu: usize, vector: usize) {
        self.note(Asked::Raise(cpu, vector));
    }

    fn set_line(&self, cpu: usize, _: usize, _: LineLevel) {
        panic!("vCPU {cpu} has no lines");
    }

    fn stop(&self, cpu: usize, vector: usize) {
        self.note(Asked::Stop(cpu, vector));
    }

    fn start(&self, cpu: usize, entry: GuestPhysAddr) {
        self.note(Asked::Start(cpu, entry.as_u64()));
    }

    fn shut_down(&self, kind: SystemDownKind) {
        self.note(Asked::Down(kind));
    }

    fn read_ram(&self, _: GuestPhysAddr, _: &mut [u8]) -> bool {
        false
    }

    fn write_ram(&self, _: GuestPhysAddr, _: &[u8]) -> bool {
        false
    }
}

impl Clock for Vm {
    fn now(&self) -> u64 {
        *self.now.lock().unwrap()
    }

    fn frequency_hz(&self) -> u64 {
        HZ
    }
}

struct Bench {
    vm: Arc<Vm>,
    console: Arc<TestConsole>,
    board: Board,
}

fn bench(cpus: usize, devices: &str) -> Bench {
    let (vm, console) = (Arc::new(Vm::default()), Arc::new(TestConsole::new()));
    *vm.now.lock().unwrap() = 5 * HZ;
    let text = std::format!("memory_regions = [[\"4MiB\"]]\n{devices}");
    let config = pc_config(cpus, &text, Files(vec![]), console.clone());
    let board = Board::new(&config, vm.clone(), vm.clone(), LETTERS).unwrap();
    vm.take();
    Bench { vm, console, board }
}

impl Bench {
    fn out(&self, port: u16, value: u8) {
        let bus = &self.board.devices.bus;
        bus.handle_port_write(port, AccessWidth::Byte, value.into())
            .unwrap();
    }

    fn input(&self, port: u16) -> u64 {
        let bus = &self.board.devices.bus;
        bus.handle_port_read(port, AccessWidth::Byte).unwrap()
    }

    fn store(&self, cpu: usize, addr: u64, value: u32) {
        self.board
            .devices
            .bus_of(cpu)
            .handle_mmio_write(GuestPhysAddr::new(addr), AccessWidth::Dword, value.into())
            .unwrap();
    }

    fn load(&self, cpu: usize, addr: u64) -> u64 {
        let bus = self.board.devices.bus_of(cpu);
        bus.handle_mmio_read(GuestPhysAddr::new(addr), AccessWidth::Dword)
            .unwrap()
    }

    /// Has the I/O APIC pass `pin` on to vCPU 0, of whom the local APIC is on, as `vector`.
    fn route(&self, pin: u32, vector: u32) {
        self.store(0, LAPIC + 0xf0, 0x1ff);
        self.store(0, IOAPIC, 0x11 + 2 * pin);
        self.store(0, IOAPIC + 0x10, 0);
        self.store(0, IOAPIC, 0x10 + 2 * pin);
        self.store(0, IOAPIC + 0x10, vector);
    }
}

const LAPIC: u64 = 0xfee0_0000;
const IOAPIC: u64 = 0xfec0_0000;
const ICR_LOW: u64 = LAPIC + 0x300;
const ICR_HIGH: u64 = LAPIC + 0x310;

#[test]
fn each_vcpu_has_a_local_apic_of_its_own() {
    let bench = bench(3, "");
    for cpu in 0..3 {
        assert_eq!(bench.load(cpu, LAPIC + 0x20), (cpu as u64) << 24);
        let msr = bench.board.devices.bus_of(cpu).handle_sys_reg_read(0x1b);
        let boots = if cpu == 0 { 0x100 } else { 0 };
        assert_eq!(msr, Ok(LAPIC | 0x800 | boots));
    }
    assert_eq!(bench.board.devices.own_buses.len(), 2);
    let timed: Vec<_> = bench.board.sockets.iter().map(|s| s.timed.len()).collect();
    assert_eq!(timed, [3, 1, 1], "the first keeps the VM's timers");
}

#[test]
fn startup_ipis_start_vcpus_and_nmis_reach_them() {
    let bench = bench(2, "");
    bench.store(0, ICR_HIGH, 1 << 24);
    bench.store(0, ICR_LOW, 0x4500);
    assert!(bench.vm.take().contains(&Asked::Stop(1, LETTERS.init)));
    bench.store(0, ICR_LOW, 0x4608);
    assert_eq!(bench.vm.take(), [Asked::Start(1, 0x8000)]);
    bench.store(0, ICR_LOW, 0x4400);
    assert_eq!(bench.vm.take(), [Asked::Raise(1, LETTERS.nmi)]);
}

#[test]
fn input_at_the_console_interrupts_by_either_controller() {
    for by_io_apic in [true, false] {
        let bench = bench(1, "");
        let local = &bench.board.sockets[0].local;
        if by_io_apic {
            bench.route(4, 0x34);
        } else {
            // The first 8259, at vectors 0x20 on, lets line 4 through.
            for (port, value) in [
                (0x20, 0x11),
                (0x21, 0x20),
                (0x21, 4),
                (0x21, 1),
                (0x21, 0xef),
            ] {
                bench.out(port, value);
            }
        }
        bench.out(0x3f8 + 1, 1);
        bench.out(0x3f8 + 4, 0xb);
        assert_eq!(local.pending(), None);
        bench.vm.take();
        bench.console.input.lock().unwrap().push_back(b'x');
        bench.board.devices.console.as_ref().unwrap().poll();
        assert_eq!(bench.vm.take(), [Asked::Raise(0, LETTERS.notify)]);
        assert!(local.pending().is_some());
        let vector = if by_io_apic { 0x34 } else { 0x24 };
        assert_eq!(local.acknowledge(), Some(vector));
        assert_eq!(bench.input(0x3f8), b'x'.into());
        bench.out(0x3f8, b'y');
        assert_eq!(*bench.console.written.lock().unwrap(), b"y");
    }
}

#[test]
fn the_interval_timer_comes_by_pin_2() {
    let bench = bench(1, "");
    bench.route(2, 0x30);
    // Channel 0, mode 2, every 1000 ticks of 1193182 Hz.
    for (port, value) in [(0x43, 0x34), (0x40, 0xe8), (0x40, 3)] {
        bench.out(port, value);
    }
    let Socket { local, timed } = &bench.board.sockets[0];
    let deadline = timed[1..].iter().map(|timed| timed.deadline()).min();
    let deadline = deadline.unwrap();
    let period = HZ * 1000 / 1_193_182;
    assert!((5 * HZ + period - 2000..5 * HZ + period + 2000).contains(&deadline));
    *bench.vm.now.lock().unwrap() = deadline;
    timed.iter().for_each(|timed| {
        timed.advance(deadline);
    });
    assert_eq!(local.acknowledge(), Some(0x30));
}

#[test]
fn the_clock_shows_the_time_of_day() {
    let vm = Arc::new(Vm::default());
    *vm.now.lock().unwrap() = 5 * HZ;
    let console = Arc::new(TestConsole::new());
    let text = "memory_regions = [[\"4MiB\"]]";
    let mut config = pc_config(1, text, Files(vec![]), console.clone());
    // 2026-01-02 03:04:00, five seconds ago.
    Arc::get_mut(&mut config.machine).unwrap().isa.epoch_s = 1_767_323_040;
    let board = Board::new(&config, vm.clone(), vm.clone(), LETTERS).unwrap();
    let bench = Bench { vm, console, board };
    let cmos = |index| {
        bench.out(0x70, index);
        bench.input(0x71)
    };
    let shown = [0x32, 9, 8, 7, 4, 2, 0].map(cmos);
    assert_eq!(shown, [0x20, 0x26, 1, 2, 3, 4, 5]);
}

#[test]
fn the_ways_out_take_the_vm_down() {
    let bench = bench(1, "");
    let down = |kind| [Asked::Down(kind)];
    let bus = &bench.board.devices.bus;
    bus.handle_port_write(0x604, AccessWidth::Word, 5 << 10 | 1 << 13)
        .unwrap();
    assert_eq!(bench.vm.take(), down(SystemDownKind::PowerOff));
    for (port, value) in [(0xcf9, 6), (0x64, 0xfe), (0x92, 1)] {
        bench.out(port, value);
        assert_eq!(
            bench.vm.take(),
            down(SystemDownKind::Reset(ResetCause::Asked)),
            "{port:#x}"
        );
    }
}

#[test]
fn every_device_is_there_once_and_is_reset() {
    let bench = bench(
        2,
        "[devices]\nvirtual = [{ id = \"a\", model = \"ns16550\" }, \
         { id = \"b\", model = \"ns16550\", addr = 0x2f8, irq = 3 }]",
    );
    let names = |cpu| {
        let bus = bench.board.devices.bus_of(cpu);
        let mut names: Vec<_> = bus
            .iter()
            .map(|device| String::from(device.name()))
            .collect();
        names.dedup();
        names
    };
    let shared = [
        "ioapic", "pic", "pit", "rtc", "acpi", "i8042", "pci", "port80", "a", "b",
    ];
    assert_eq!(names(0), [&shared[..], &["lapic0"]].concat());
    assert_eq!(names(1), [&shared[..], &["lapic1"]].concat());
    bench.out(0x3f8, b'1');
    bench.out(0x2f8, b'2');
    assert_eq!(*bench.console.written.lock().unwrap(), b"1");

    bench.out(0x80, 7);
    bench.store(1, LAPIC + 0x80, 0x50);
    bench.board.devices.reset_all();
    assert_eq!(bench.input(0x80), 0);
    assert_eq!(bench.load(1, LAPIC + 0x80), 0);
    let bus = &bench.board.devices.bus;
    assert_eq!(
        bus.handle_port_read(0xcf8, AccessWidth::Dword),
        Ok(0xffff_ffff)
    );
    assert!(bus.handle_port_read(0x1f0, AccessWidth::Byte).is_err());
}

/// A config keeps RAM and its own devices from the places that the board has; that those are all of them is held here.
#[test]
fn the_board_is_where_configs_know_it_to_be() {
    use axvmconfig::{Isa, Window};

    let map = Isa::X86_64.guest_map();
    let bench = bench(1, "");
    let bus = &bench.board.devices.bus;
    // Whether the device lets itself be read so is its own affair.
    for page in (0..1 << 32).step_by(0x1000).map(GuestPhysAddr::new) {
        let found = bus.handle_mmio_read(page, AccessWidth::Dword);
        let answers = found != Err(axdevice::BusError::NoDevice);
        assert!(
            !answers || map.interrupt_controller.contains(page),
            "{page}"
        );
    }
    for (place, offset) in [(IoApic::PAGE, 0), (LocalApic::PAGE, 0x30)] {
        let register = GuestPhysAddr::new(place.as_u64() + offset);
        bus.handle_mmio_read(register, AccessWidth::Dword).unwrap();
    }
    let kept: Vec<Window> = map.own_devices.iter().copied().chain([map.uart]).collect();
    for port in 0..=u16::MAX {
        let found = bus.handle_port_read(port, AccessWidth::Byte);
        let answers = found != Err(axdevice::BusError::NoDevice);
        let at = GuestPhysAddr::new(port.into());
        assert!(
            !answers || kept.iter().any(|window| window.contains(at)),
            "{port:#x}"
        );
    }
}
