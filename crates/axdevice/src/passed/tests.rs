//! From a device of the machine through the host to a guest's controller, and back.

use alloc::sync::{Arc, Weak};

use axvcpu::LineLevel::{High, Low};
use proptest::prelude::*;
use spin::Mutex;

use super::*;
use crate::testing::{Events, Lines, TestClock};
use crate::{ApicBus, InterruptController, IoApic, LocalInterrupts, Plic};

const IRQ: u32 = 11;
const GUEST: u32 = 12;

/// A machine with one device, whose line asks by its level, or, each time that it goes high, by an edge.
#[derive(Default)]
struct Machine(Mutex<Host>);

#[derive(Default)]
struct Host {
    arrival: Option<Arrival>,
    line_is_high: bool,
    /// It has asked, and the host has not looked.
    asks: bool,
    /// The host has taken it, and nobody has served it.
    is_claimed: bool,
    /// How often it came.
    came: usize,
}

impl Machine {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn set_line(&self, level: LineLevel) {
        let mut host = self.0.lock();
        host.asks |= !host.line_is_high && level == High;
        host.line_is_high = level == High;
    }

    /// The host looks whether its device asks by its level; if so, it takes the interrupt.
    fn look(&self) {
        let mut host = self.0.lock();
        if host.line_is_high && !host.is_claimed && host.arrival.is_some() {
            host.is_claimed = true;
            Self::come(host);
        }
    }

    /// By an edge.
    fn look_at_edge(&self) {
        let mut host = self.0.lock();
        if host.asks && host.arrival.is_some() {
            host.asks = false;
            Self::come(host);
        }
    }

    fn come(mut host: spin::MutexGuard<'_, Host>) {
        host.came += 1;
        let arrival = host.arrival.clone().expect("it is open");
        drop(host);
        arrival();
    }
}

impl HostDevices for Machine {
    fn open_interrupt(&self, irq: u32, pcpu: usize, arrival: Arrival) -> Result<(), NotLed> {
        if irq != IRQ {
            return Err(NotLed { pcpu });
        }
        assert_eq!(pcpu, 3);
        let mut host = self.0.lock();
        assert!(host.arrival.is_none() && !host.is_claimed);
        host.arrival = Some(arrival);
        Ok(())
    }

    fn interrupt_served(&self, irq: u32) {
        let mut host = self.0.lock();
        assert!(irq == IRQ && host.is_claimed, "served once for each time");
        host.is_claimed = false;
    }

    fn close_interrupt(&self, irq: u32) {
        assert_eq!(irq, IRQ);
        let mut host = self.0.lock();
        host.arrival = None;
        host.is_claimed = false;
    }

    fn read_port(&self, port: u16, width: AccessWidth) -> Result<u64, AccessFault> {
        Ok(u64::from(port) << 8 | width.bytes() as u64)
    }

    fn write_port(&self, port: u16, _: AccessWidth, _: u64) -> Result<(), AccessFault> {
        if port == 0x2f8 {
            Ok(())
        } else {
            Err(AccessFault)
        }
    }
}

/// A PLIC whose source 12 is the machine's interrupt 11.
struct Board {
    machine: Arc<Machine>,
    plic: Arc<Plic>,
    lines: Arc<Lines>,
    interrupt: Arc<PassedInterrupt>,
}

const ENABLE: u64 = 0x2000;
const CLAIM: u64 = 0x20_0004;
const DWORD: AccessWidth = AccessWidth::Dword;

impl Board {
    fn new() -> Self {
        let (machine, lines) = (Machine::new(), Lines::new());
        let plic = Arc::new(Plic::new("plic", 95, &[Some(0)], lines.clone()).unwrap());
        let controller: Arc<dyn InterruptController> = plic.clone();
        let line = IrqLine::new(controller, GUEST);
        let interrupt = PassedInterrupt::new(IRQ, HostTrigger::Level, machine.clone(), line);
        let interrupt = Arc::new(interrupt);
        let weak: Weak<PassedInterrupt> = Arc::downgrade(&interrupt);
        plic.on_served(GUEST, weak);
        let board = Self {
            machine,
            plic,
            lines,
            interrupt,
        };
        board.start();
        board
    }

    /// The VM starts, and the guest wants the interrupt.
    fn start(&self) {
        self.plic.reset();
        self.interrupt.open(3, || ()).unwrap();
        self.plic.write(4 * u64::from(GUEST), DWORD, 1).unwrap();
        self.enable(true);
    }

    fn enable(&self, enabled: bool) {
        let word = u64::from(enabled) << GUEST;
        self.plic.write(ENABLE, DWORD, word).unwrap();
    }

    fn claim(&self) -> u32 {
        self.plic.read(CLAIM, DWORD).unwrap() as u32
    }

    fn complete(&self, source: u32) {
        self.plic.write(CLAIM, DWORD, source.into()).unwrap();
    }

    fn came(&self) -> usize {
        self.machine.0.lock().came
    }
}

#[test]
fn a_level_comes_when_the_guest_has_served_the_last() {
    let board = Board::new();
    board.machine.set_line(High);
    board.machine.look();
    assert_eq!(board.lines.level(0), Low, "nobody has delivered it");
    board.interrupt.deliver();
    assert_eq!(board.lines.level(0), High);
    for times in 1..5 {
        // The device asks all the time, and the host does not hear.
        board.machine.look();
        board.interrupt.deliver();
        assert_eq!(board.came(), times);
        assert_eq!((board.claim(), board.claim()), (GUEST, 0));
        board.machine.look();
        assert_eq!(board.came(), times);
        board.complete(GUEST);
        assert_eq!((board.claim(), board.lines.level(0)), (0, Low));
        board.machine.look();
        board.interrupt.deliver();
        assert_eq!((board.came(), board.lines.level(0)), (times + 1, High));
    }
    // What the guest says of what it has not claimed counts for nothing.
    board.complete(GUEST);
    board.machine.look();
    assert_eq!((board.came(), board.lines.level(0)), (5, High));
    board.machine.set_line(Low);
    assert_eq!(board.claim(), GUEST);
    board.complete(GUEST);
    board.complete(GUEST);
    board.machine.look();
    board.interrupt.deliver();
    assert_eq!(
        (board.came(), board.lines.level(0), board.claim()),
        (5, Low, 0)
    );
}

#[test]
fn a_vm_that_ends_leaves_nothing_behind() {
    for steps in 0..4 {
        let board = Board::new();
        board.machine.set_line(High);
        if steps > 0 {
            board.machine.look();
        }
        if steps > 1 {
            board.interrupt.deliver();
        }
        if steps > 2 {
            assert_eq!(board.claim(), GUEST);
        }
        board.interrupt.close();
        board.interrupt.close();
        // It is too late for these.
        board.interrupt.deliver();
        board.complete(GUEST);
        board.machine.look();
        assert_eq!(board.came(), usize::from(steps > 0));
        // The device goes on asking, and the guest of the next life hears.
        board.start();
        assert_eq!(board.claim(), 0, "{steps}");
        board.machine.look();
        board.interrupt.deliver();
        assert_eq!(board.claim(), GUEST, "{steps}");
    }
    let board = Board::new();
    board.interrupt.close();
    assert_eq!(Arc::strong_count(&board.interrupt), 1);
    let line = IrqLine::new(board.plic.clone(), 1);
    let none = Arc::new(PassedInterrupt::new(
        1,
        HostTrigger::Level,
        board.machine,
        line,
    ));
    assert_eq!(none.open(3, || ()), Err(NotLed { pcpu: 3 }));
    assert_eq!(Arc::strong_count(&none), 1);
}

#[test]
fn who_is_told_is_told_once_each_time() {
    let board = Board::new();
    board.interrupt.close();
    let told = Arc::new(Mutex::new(0));
    let count = told.clone();
    let tell = move || *count.lock() += 1;
    board.interrupt.open(3, tell).unwrap();
    let arrival = board.machine.0.lock().arrival.clone().unwrap();
    // A host that calls too often does no harm.
    arrival();
    arrival();
    assert_eq!(*told.lock(), 1);
    board.interrupt.close();
    arrival();
    assert_eq!(*told.lock(), 1);
}

#[test]
fn each_edge_comes() {
    let (machine, lines) = (Machine::new(), Lines::new());
    let interrupt = PassedInterrupt::new(IRQ, HostTrigger::Edge, machine.clone(), lines.wire(5));
    let interrupt = Arc::new(interrupt);
    interrupt.open(3, || ()).unwrap();
    for times in 1..4 {
        for level in [High, Low] {
            machine.set_line(level);
        }
        machine.look_at_edge();
        interrupt.deliver();
        interrupt.deliver();
        assert_eq!((lines.changes(), lines.level(5)), (2 * times, Low));
    }
    // Nobody waits for who serves it.
    interrupt.served();
    assert_eq!(machine.0.lock().came, 3);
}

#[test]
fn a_pin_of_the_io_apic_is_served_by_its_eoi() {
    let apics = ApicBus::new(1, TestClock::new(1), Events::new());
    let io_apic = IoApic::new("ioapic", apics.clone());
    let local = apics.local(0).unwrap();
    let machine = Machine::new();
    let pins: Arc<dyn InterruptController> = io_apic.clone();
    let line = IrqLine::new(pins, 20);
    let interrupt = PassedInterrupt::new(IRQ, HostTrigger::Level, machine.clone(), line);
    let interrupt = Arc::new(interrupt);
    let weak: Weak<PassedInterrupt> = Arc::downgrade(&interrupt);
    io_apic.on_served(20, weak);
    // What a reset does not change.
    io_apic.reset();
    interrupt.open(3, || ()).unwrap();
    let set = |register: u64, value| {
        io_apic.write(0, DWORD, register).unwrap();
        io_apic.write(0x10, DWORD, value).unwrap();
    };
    local.write(0xf0, DWORD, 0x1ff).unwrap();
    set(0x10 + 2 * 20, 1 << 15 | 0x51);
    machine.set_line(High);
    for times in 1..4 {
        machine.look();
        interrupt.deliver();
        assert_eq!(local.acknowledge(), Some(0x51));
        machine.look();
        assert_eq!(machine.0.lock().came, times);
        local.write(0xb0, DWORD, 0).unwrap();
        assert_eq!(local.acknowledge(), None, "the line was lowered");
        assert!(!machine.0.lock().is_claimed);
    }
    // One that the guest has masked waits for it.
    set(0x10 + 2 * 20, 1 << 16 | 1 << 15 | 0x51);
    machine.look();
    interrupt.deliver();
    machine.look();
    assert_eq!((local.acknowledge(), machine.0.lock().came), (None, 4));
    set(0x10 + 2 * 20, 1 << 15 | 0x52);
    assert_eq!(local.acknowledge(), Some(0x52));
}

#[test]
fn ports_are_the_machines() {
    let ports = PassedPorts::new("com2", 0x2f8, Machine::new());
    assert_eq!(ports.name(), "com2");
    assert_eq!(ports.read(7, AccessWidth::Byte), Ok(0x2ff01));
    assert_eq!(ports.read(2, AccessWidth::Word), Ok(0x2fa02));
    assert_eq!(ports.write(0, AccessWidth::Byte, 1), Ok(()));
    assert_eq!(ports.write(1, AccessWidth::Byte, 1), Err(AccessFault));
    for offset in [0xfd08, 1 << 16, u64::MAX] {
        assert_eq!(ports.read(offset, AccessWidth::Byte), Err(AccessFault));
    }
    let none = PassedPorts::new("none", 0, Arc::new(NoHostDevices));
    assert_eq!(none.read(0, AccessWidth::Byte), Err(AccessFault));
    assert_eq!(none.write(0, AccessWidth::Byte, 0), Err(AccessFault));
    none.reset();
}

/// What may happen.
const STEPS: [fn(&Board); 10] = [
    |board| board.machine.set_line(High),
    |board| board.machine.set_line(Low),
    |board| board.machine.look(),
    |board| board.interrupt.deliver(),
    |board| assert!([0, GUEST].contains(&board.claim())),
    |board| board.complete(GUEST),
    |board| board.complete(1),
    |board| board.enable(false),
    |board| board.enable(true),
    |board| {
        board.interrupt.close();
        board.start();
    },
];

proptest! {
    /// Whatever device, host and guest do in whatever order: what is asked for comes in the end, and what is served was asked for.
    #[test]
    fn nothing_gets_lost(steps in prop::collection::vec(0..STEPS.len(), 0..60)) {
        let board = Board::new();
        for step in steps {
            STEPS[step](&board);
        }
        board.enable(true);
        board.machine.set_line(Low);
        // Whatever the guest was at, it ends.
        for _ in 0..3 {
            board.interrupt.deliver();
            board.claim();
            board.complete(GUEST);
        }
        prop_assert_eq!((board.claim(), board.lines.level(0)), (0, Low));
        let before = board.came();
        board.machine.set_line(High);
        board.machine.look();
        board.interrupt.deliver();
        prop_assert_eq!((board.came(), board.claim()), (before + 1, GUEST));
    }
}
