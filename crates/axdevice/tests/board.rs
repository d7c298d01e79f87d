//! A board put together as a VM has it: a UART that interrupts by a PLIC, both behind the bus, driven the way a guest's kernel does.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use axaddrspace::GuestPhysAddr;
use axdevice::{
    AxVmDevices, BusError, CharBackend, CpuInterrupts, Device, IrqLine, Plic, RegisterLayout,
    Uart16550,
};
use axvcpu::{AccessWidth, LineLevel};

const PLIC: u64 = 0x0c00_0000;
const UART: u64 = 0x1000_0000;
const UART_IRQ: u32 = 10;

/// The external interrupt line of the one vCPU.
#[derive(Default)]
struct Cpu {
    line: AtomicBool,
    changes: AtomicUsize,
}

impl CpuInterrupts for Cpu {
    fn set_line(&self, cpu: usize, level: LineLevel) {
        assert_eq!(cpu, 0);
        self.line.store(level == LineLevel::High, Ordering::SeqCst);
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

/// A terminal that takes at most 8 bytes until somebody looks.
#[derive(Default)]
struct Terminal {
    keys: Mutex<VecDeque<u8>>,
    screen: Mutex<Vec<u8>>,
    unseen: Mutex<usize>,
}

impl CharBackend for Terminal {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut unseen = self.unseen.lock().unwrap();
        let taken = bytes.len().min(8 - *unseen);
        *unseen += taken;
        self.screen.lock().unwrap().extend(&bytes[..taken]);
        taken
    }

    fn read(&self, buf: &mut [u8]) -> usize {
        let mut keys = self.keys.lock().unwrap();
        let count = buf.len().min(keys.len());
        for (place, key) in buf.iter_mut().zip(keys.drain(..count)) {
            *place = key;
        }
        count
    }
}

struct Board {
    devices: AxVmDevices,
    uart: Arc<Uart16550>,
    terminal: Arc<Terminal>,
    cpu: Arc<Cpu>,
}

impl Board {
    fn new() -> Self {
        let cpu = Arc::new(Cpu::default());
        let contexts = Plic::machine_supervisor_contexts(1);
        let plic = Arc::new(Plic::new("plic", 95, &contexts, cpu.clone()).unwrap());
        let terminal = Arc::new(Terminal::default());
        let irq = IrqLine::new(plic.clone(), UART_IRQ);
        let layout = RegisterLayout::Packed;
        let uart = Arc::new(Uart16550::new("uart0", layout, irq, terminal.clone()));
        let devices = AxVmDevices::builder()
            .mmio(GuestPhysAddr::new(UART), layout.size(), uart.clone())
            .mmio(GuestPhysAddr::new(PLIC), Plic::MMIO_SIZE, plic)
            .build()
            .unwrap();
        Self {
            devices,
            uart,
            terminal,
            cpu,
        }
    }

    fn uart_read(&self, register: u64) -> u8 {
        let addr = GuestPhysAddr::new(UART + register);
        self.devices
            .handle_mmio_read(addr, AccessWidth::Byte)
            .unwrap() as u8
    }

    fn uart_write(&self, register: u64, value: u8) {
        let addr = GuestPhysAddr::new(UART + register);
        self.devices
            .handle_mmio_write(addr, AccessWidth::Byte, value.into())
            .unwrap();
    }

    fn plic_read(&self, offset: u64) -> u32 {
        let addr = GuestPhysAddr::new(PLIC + offset);
        self.devices
            .handle_mmio_read(addr, AccessWidth::Dword)
            .unwrap() as u32
    }

    fn plic_write(&self, offset: u64, value: u32) {
        let addr = GuestPhysAddr::new(PLIC + offset);
        self.devices
            .handle_mmio_write(addr, AccessWidth::Dword, value.into())
            .unwrap();
    }

    fn start_drivers(&self) {
        self.plic_write(4 * u64::from(UART_IRQ), 1);
        self.plic_write(0x2080, 1 << UART_IRQ);
        self.plic_write(0x20_1000, 0);
        self.uart_write(2, 0x81);
        self.uart_write(1, 0x07);
    }

    /// Serves interrupts until the line falls: claim, ask the UART for its reasons, complete.
    fn serve(&self, output: &mut impl Iterator<Item = u8>, input: &mut Vec<u8>) {
        while self.cpu.line.load(Ordering::SeqCst) {
            let source = self.plic_read(0x20_1004);
            if source == UART_IRQ {
                while self.uart_read(2) & 1 == 0 {
                    let status = self.uart_read(5);
                    if status & 0x01 != 0 {
                        input.push(self.uart_read(0));
                    }
                    if status & 0x20 != 0 {
                        output
                            .by_ref()
                            .take(16)
                            .for_each(|byte| self.uart_write(0, byte));
                    }
                }
            }
            self.plic_write(0x20_1004, source);
        }
    }
}

#[test]
fn bytes_go_both_ways_by_interrupts_while_the_terminal_is_on_another_cpu() {
    let board = Board::new();
    let typed: Vec<u8> = (0..5000).map(|n| (n % 251) as u8).collect();
    let shown: Vec<u8> = (0..5000).map(|n| (n % 241) as u8).collect();
    let mut received = Vec::new();
    let mut output = shown.iter().copied();
    board.start_drivers();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut keys = typed.iter();
            let screen_is_full = || board.terminal.screen.lock().unwrap().len() == shown.len();
            while !keys.as_slice().is_empty() || !screen_is_full() {
                board
                    .terminal
                    .keys
                    .lock()
                    .unwrap()
                    .extend(keys.by_ref().take(5));
                *board.terminal.unseen.lock().unwrap() = 0;
                board.uart.poll();
                thread::yield_now();
            }
        });
        while received.len() < typed.len() || output.len() > 0 {
            board.serve(&mut output, &mut received);
            thread::yield_now();
        }
    });
    assert_eq!(received, typed);
    assert_eq!(*board.terminal.screen.lock().unwrap(), shown);
}

#[test]
fn a_quiet_board_leaves_its_cpu_alone() {
    let board = Board::new();
    board.start_drivers();
    board.serve(&mut std::iter::empty(), &mut Vec::new());
    let changes = board.cpu.changes.load(Ordering::SeqCst);
    for _ in 0..100 {
        board.uart.poll();
        board.uart_read(5);
    }
    assert_eq!(board.cpu.changes.load(Ordering::SeqCst), changes);
}

#[test]
fn a_reset_board_is_as_new() {
    let board = Board::new();
    board.start_drivers();
    assert!(board.cpu.line.load(Ordering::SeqCst));
    board.devices.reset_all();
    assert!(!board.cpu.line.load(Ordering::SeqCst));
    assert_eq!(board.plic_read(0x1000), 0, "no request is left over");
    assert_eq!(
        board.devices.iter().map(Device::name).collect::<Vec<_>>(),
        ["uart0", "plic"]
    );
    board.start_drivers();
    assert!(board.cpu.line.load(Ordering::SeqCst));
}

#[test]
fn what_devices_do_not_answer_is_a_fault() {
    let board = Board::new();
    for (addr, width, error) in [
        (UART, AccessWidth::Dword, BusError::Fault),
        (UART + 7, AccessWidth::Word, BusError::Fault),
        (UART + 8, AccessWidth::Byte, BusError::NoDevice),
        (PLIC + 2, AccessWidth::Dword, BusError::Fault),
        (PLIC, AccessWidth::Qword, BusError::Fault),
        (
            PLIC + Plic::MMIO_SIZE,
            AccessWidth::Dword,
            BusError::NoDevice,
        ),
    ] {
        let addr = GuestPhysAddr::new(addr);
        assert_eq!(board.devices.handle_mmio_read(addr, width), Err(error));
        assert_eq!(board.devices.handle_mmio_write(addr, width, 0), Err(error));
    }
}
