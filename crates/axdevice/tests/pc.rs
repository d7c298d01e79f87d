//! A PC put together as a VM has it, driven the way a guest's kernel does: first by the 8259s, then by the APICs, with two vCPUs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use axdevice::{
    AcpiPm, ApicBus, AxVmDevices, BusError, CharBackend, Clock, CmosRtc, CpuEvents, DebugPort,
    I8042, IoApic, IsaLines, LocalApic, LocalInterrupts, NoPci, Pic8259, Pit8254, RegisterLayout,
    SystemPower, Timed, TimerWidth, Uart16550,
};
use axvcpu::AccessWidth;

const HZ: u64 = 1_000_000_000;
const UART: u16 = 0x3f8;
const PM: u16 = 0x600;

/// The clock, what vCPUs were told, and the power button's wire.
#[derive(Default)]
struct Machine {
    now: AtomicU64,
    notified: [AtomicUsize; 2],
    started: Mutex<Vec<(usize, u8)>>,
    power: Mutex<Vec<&'static str>>,
}

impl Clock for Machine {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn frequency_hz(&self) -> u64 {
        HZ
    }
}

impl CpuEvents for Machine {
    fn notify(&self, cpu: usize) {
        self.notified[cpu].fetch_add(1, Ordering::SeqCst);
    }

    fn nmi(&self, _cpu: usize) {}

    fn init(&self, _cpu: usize) {}

    fn startup(&self, cpu: usize, page: u8) {
        self.started.lock().unwrap().push((cpu, page));
    }
}

impl SystemPower for Machine {
    fn power_off(&self) {
        self.power.lock().unwrap().push("off");
    }

    fn reset(&self) {
        self.power.lock().unwrap().push("reset");
    }
}

#[derive(Default)]
struct Terminal {
    keys: Mutex<VecDeque<u8>>,
    screen: Mutex<Vec<u8>>,
}

impl CharBackend for Terminal {
    fn write(&self, bytes: &[u8]) -> usize {
        self.screen.lock().unwrap().extend(bytes);
        bytes.len()
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

struct Pc {
    machine: Arc<Machine>,
    terminal: Arc<Terminal>,
    uart: Arc<Uart16550>,
    devices: AxVmDevices,
    /// What each vCPU alone reaches.
    own: Vec<AxVmDevices>,
    local: Vec<Arc<LocalApic>>,
    timed: Vec<Arc<dyn Timed>>,
}

impl Pc {
    fn new() -> Self {
        let machine = Arc::new(Machine::default());
        let terminal = Arc::new(Terminal::default());
        let apics = ApicBus::new(2, machine.clone(), machine.clone());
        let local: Vec<Arc<LocalApic>> = (0..2).map(|cpu| apics.local(cpu).unwrap()).collect();
        let pic = Pic8259::new("pic", &apics);
        let io_apic = IoApic::new("ioapic", apics.clone());
        let lines = IsaLines::new(pic.clone(), io_apic.clone());
        let pit = Arc::new(Pit8254::new(
            "pit",
            lines.wire(IsaLines::TIMER),
            machine.clone(),
            machine.clone(),
        ));
        let rtc = Arc::new(CmosRtc::new(
            "rtc",
            lines.wire(IsaLines::RTC),
            1_700_000_000,
            machine.clone(),
            machine.clone(),
        ));
        let uart = Arc::new(Uart16550::new(
            "com1",
            RegisterLayout::Packed,
            lines.wire(IsaLines::COM1),
            terminal.clone(),
        ));
        let pm = Arc::new(AcpiPm::new(
            "pm",
            lines.wire(IsaLines::SCI),
            TimerWidth::Bits32,
            machine.clone(),
            machine.clone(),
        ));
        let builder = AxVmDevices::builder()
            .mmio(IoApic::PAGE, IoApic::PAGE_SIZE, io_apic)
            .port(UART, RegisterLayout::Packed.size() as u32, uart.clone())
            .port(PM, AcpiPm::PORTS, pm);
        let builder = pic.put_on(builder);
        let builder = pit.put_on(builder);
        let builder = rtc.put_on(builder);
        let builder = Arc::new(I8042::new("i8042", machine.clone())).put_on(builder);
        let builder = Arc::new(NoPci::new("pci", machine.clone())).put_on(builder);
        let builder = Arc::new(DebugPort::new("port80")).put_on(builder);
        let own = local
            .iter()
            .map(|local| local.put_on(AxVmDevices::builder()).build().unwrap())
            .collect();
        Self {
            machine,
            terminal,
            uart,
            devices: builder.build().unwrap(),
            own,
            local,
            timed: vec![pit, rtc],
        }
    }

    fn outb(&self, port: u16, value: u8) {
        self.devices
            .handle_port_write(port, AccessWidth::Byte, value.into())
            .unwrap();
    }

    fn inb(&self, port: u16) -> u8 {
        self.devices
            .handle_port_read(port, AccessWidth::Byte)
            .unwrap() as u8
    }

    fn apic_write(&self, cpu: usize, offset: u64, value: u32) {
        let addr = LocalApic::PAGE.checked_add(offset).unwrap();
        self.own[cpu]
            .handle_mmio_write(addr, AccessWidth::Dword, value.into())
            .unwrap();
    }

    fn io_apic_write(&self, register: u8, value: u32) {
        for (offset, value) in [(0, register.into()), (0x10, value)] {
            let addr = IoApic::PAGE.checked_add(offset).unwrap();
            self.devices
                .handle_mmio_write(addr, AccessWidth::Dword, value.into())
                .unwrap();
        }
    }

    /// Edges of `pin` go to `cpu`.
    fn redirect(&self, pin: u8, cpu: u32, vector: u32) {
        self.io_apic_write(0x11 + 2 * pin, cpu << 24);
        self.io_apic_write(0x10 + 2 * pin, vector);
    }

    /// vCPU 0 comes by at a time.
    fn at(&self, now: u64) {
        self.machine.now.store(now, Ordering::SeqCst);
        for timed in self
            .timed
            .iter()
            .chain([&(self.local[0].clone() as Arc<dyn Timed>)])
        {
            if now >= timed.deadline() {
                timed.advance(now);
            }
        }
    }
}

#[test]
fn an_old_kernel_runs_on_the_8259s() {
    let pc = Pc::new();
    // 100 Hz. The output rises with the mode: an edge that the initialization forgets.
    pc.outb(0x43, 0x34);
    pc.outb(0x40, 0x9c);
    pc.outb(0x40, 0x2e);
    for (port, words) in [(0x20, [0x11, 0x30, 4, 1]), (0xa0, [0x11, 0x38, 2, 1])] {
        pc.outb(port, words[0]);
        for word in &words[1..] {
            pc.outb(port + 1, *word);
        }
    }
    pc.outb(0x21, !0b1_0001);
    let local = &pc.local[0];
    for tick in 1..=5 {
        assert_eq!(local.pending(), None);
        pc.at(tick * HZ / 100 + HZ / 1000);
        assert_eq!(local.acknowledge(), Some(0x30), "tick {tick}");
        pc.outb(0x20, 0x20);
    }
    // A key.
    pc.outb(UART + 1, 1);
    pc.outb(UART + 4, 0x0b);
    pc.terminal.keys.lock().unwrap().push_back(b'k');
    pc.uart.poll();
    assert_eq!(local.acknowledge(), Some(0x34));
    assert_eq!(pc.inb(UART), b'k');
    pc.outb(0x20, 0x20);
    assert_eq!(local.pending(), None);
}

#[test]
fn a_new_kernel_runs_on_the_apics() {
    let pc = Pc::new();
    for cpu in 0..2 {
        pc.apic_write(cpu, 0xf0, 0x1ff);
    }
    // The 8259s are out of the way.
    pc.outb(0x21, 0xff);
    pc.outb(0xa1, 0xff);
    pc.apic_write(0, 0x350, 0x1_0700);
    // The second vCPU starts.
    pc.apic_write(0, 0x310, 1 << 24);
    for command in [0xc500, 0x8500, 0x0609, 0x0609] {
        pc.apic_write(0, 0x300, command);
    }
    assert_eq!(*pc.machine.started.lock().unwrap(), [(1, 9), (1, 9)]);
    pc.apic_write(1, 0xf0, 0x1ff);
    // The old timer by the I/O APIC's pin 2, as the MADT says.
    pc.redirect(2, 0, 0x30);
    pc.outb(0x43, 0x30);
    pc.outb(0x40, 0xff);
    pc.outb(0x40, 0x00);
    pc.at(HZ / 1000);
    assert_eq!(pc.local[0].acknowledge(), Some(0x30));
    pc.apic_write(0, 0xb0, 0);
    // The new one by a deadline.
    let own = &pc.own[0];
    pc.apic_write(0, 0x320, 0x4_00ec);
    own.handle_sys_reg_write(0x6e0, HZ).unwrap();
    assert_eq!(pc.local[0].deadline(), HZ);
    pc.at(HZ + 5);
    assert_eq!(pc.local[0].acknowledge(), Some(0xec));
    pc.apic_write(0, 0xb0, 0);
    // Output is interrupted on the second vCPU.
    pc.redirect(4, 1, 0x24);
    pc.outb(UART + 1, 2);
    assert_eq!(pc.machine.notified[1].load(Ordering::SeqCst), 1);
    assert_eq!(pc.local[1].acknowledge(), Some(0x24));
    pc.outb(UART, b'!');
    assert_eq!(*pc.terminal.screen.lock().unwrap(), b"!");
}

#[test]
fn the_machine_goes_down_by_every_way() {
    let pc = Pc::new();
    pc.devices
        .handle_port_write(PM + 4, AccessWidth::Word, 0x3400)
        .unwrap();
    pc.outb(0x64, 0xfe);
    pc.outb(NoPci::RESET_PORT, NoPci::RESET_VALUE);
    pc.outb(0x92, 1);
    assert_eq!(
        *pc.machine.power.lock().unwrap(),
        ["off", "reset", "reset", "reset"]
    );
    pc.devices.reset_all();
    for own in &pc.own {
        own.reset_all();
    }
}

#[test]
fn old_ports_answer_as_if_there_were_less() {
    let pc = Pc::new();
    assert_eq!(pc.inb(0x64), 0xff);
    assert_eq!(
        pc.devices.handle_port_read(0xcfc, AccessWidth::Dword),
        Ok(0xffff_ffff)
    );
    pc.outb(0x80, 0x42);
    assert_eq!(pc.inb(0x80), 0x42);
    assert_eq!(
        pc.devices.handle_port_read(0x1f7, AccessWidth::Byte),
        Err(BusError::NoDevice)
    );
    pc.outb(0x70, 9);
    assert_eq!(pc.inb(0x71), 0x23);
}

/// Two vCPUs send each other interrupts, as fast as they can, while lines rise and levels end: none is lost, and nobody waits for ever.
#[test]
fn no_interrupt_is_lost_between_vcpus() {
    const ROUNDS: u32 = 20_000;
    let pc = Pc::new();
    for cpu in 0..2 {
        pc.apic_write(cpu, 0xf0, 0x1ff);
        pc.apic_write(cpu, 0x310, (1 - cpu as u32) << 24);
    }
    // A level, to the other one.
    pc.redirect(9, 1, 0x8050);
    let running = AtomicUsize::new(1);
    thread::scope(|scope| {
        let pc = &pc;
        let running = &running;
        for cpu in 0..2 {
            scope.spawn(move || {
                let mut got = 0;
                // The first one opens.
                if cpu == 0 {
                    pc.apic_write(0, 0x300, 0x40);
                }
                while got < ROUNDS {
                    let Some(vector) = pc.local[cpu].acknowledge() else {
                        thread::yield_now();
                        continue;
                    };
                    if vector == 0x40 {
                        got += 1;
                        if cpu == 0 && got == ROUNDS {
                            running.store(0, Ordering::SeqCst);
                        } else {
                            pc.apic_write(cpu, 0x300, 0x40);
                        }
                    } else {
                        assert_eq!((cpu, vector), (1, 0x50));
                        // Whatever it is, it is quiet now.
                        pc.devices
                            .handle_port_write(PM, AccessWidth::Word, 0x100)
                            .unwrap();
                    }
                    pc.apic_write(cpu, 0xb0, 0);
                }
            });
        }
        scope.spawn(move || {
            while running.load(Ordering::SeqCst) != 0 {
                pc.devices
                    .handle_port_write(PM + 2, AccessWidth::Word, 0x100)
                    .unwrap();
                thread::yield_now();
            }
        });
    });
    assert!(
        pc.machine
            .notified
            .iter()
            .all(|count| count.load(Ordering::SeqCst) > 0)
    );
}
