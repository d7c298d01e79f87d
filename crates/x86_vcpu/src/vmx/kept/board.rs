//! What is around the two local APICs that are compared: another vCPU's, an I/O APIC and 8259s.

use alloc::sync::Arc;

use axdevice::{
    ApicBus, AxVmDevices, Clock, CpuEvents, Delivery, Destination, Device, InterruptController,
    IoApic, LocalApic, Message, Pic8259, TriggerMode,
};
use axvcpu::{AccessWidth, LineLevel};

/// The pins whose lines ask by level, and their vectors, which nothing else has.
const LEVELS: [(u32, u8); 2] = [(16, 0x61), (17, 0x4a)];
/// The 8259's input that is used.
const INPUT: u32 = 5;
const ICW: [(u16, u64); 5] = [
    (0x20, 0x13),
    (0x21, 0x20),
    (0x21, 0x03),
    (0x21, 0xdf),
    (0xa1, 0xff),
];

/// What happens to a vCPU from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Another vCPU or a device interrupts it.
    Edge(u8),
    /// A line of the I/O APIC.
    Line(usize, LineLevel),
    /// An input of the 8259s.
    Input(LineLevel),
    Nmi,
    Init,
}

struct Standing;

impl Clock for Standing {
    fn now(&self) -> u64 {
        1000
    }

    fn frequency_hz(&self) -> u64 {
        1_000_000_000
    }
}

/// The board.
pub(super) struct Board {
    bus: Arc<ApicBus>,
    pub(super) local: Arc<LocalApic>,
    other: Arc<LocalApic>,
    io_apic: Arc<IoApic>,
    pic: Arc<Pic8259>,
}

impl Board {
    /// As firmware leaves it, but for what the lines lead to.
    pub(super) fn new(events: Arc<dyn CpuEvents>) -> Self {
        let bus = ApicBus::new(2, Arc::new(Standing), events);
        let io_apic = IoApic::new("ioapic", bus.clone());
        let pic = Pic8259::new("pic", &bus);
        let [local, other] = [0, 1].map(|cpu| bus.local(cpu).unwrap());
        let board = Self {
            bus,
            local,
            other,
            io_apic,
            pic,
        };
        let ports: AxVmDevices = board.pic.put_on(AxVmDevices::builder()).build().unwrap();
        for (port, value) in ICW {
            ports
                .handle_port_write(port, AccessWidth::Byte, value)
                .unwrap();
        }
        for (pin, vector) in LEVELS {
            const LEVEL: u64 = 1 << 15;
            board.write_io_apic(0x10 + 2 * pin, LEVEL | u64::from(vector));
        }
        for local in [&board.local, &board.other] {
            local.write(0xf0, AccessWidth::Dword, 0x1ff).unwrap();
        }
        board
    }

    fn write_io_apic(&self, register: u32, value: u64) {
        let dword = AccessWidth::Dword;
        self.io_apic.write(0x00, dword, register.into()).unwrap();
        self.io_apic.write(0x10, dword, value).unwrap();
    }

    pub(super) fn happens(&self, news: News) {
        let send = |delivery| {
            let destination = Destination::Physical(0);
            let _ = self.bus.send(Message {
                destination,
                delivery,
            });
        };
        match news {
            News::Edge(vector) => {
                let trigger = TriggerMode::Edge;
                send(Delivery::Fixed { vector, trigger });
            }
            News::Line(number, level) => {
                self.io_apic
                    .set_line(LEVELS[number % LEVELS.len()].0, level);
            }
            News::Input(level) => self.pic.set_line(INPUT, level),
            News::Nmi => send(Delivery::Nmi),
            News::Init => send(Delivery::Init),
        }
    }

    /// The power goes off and on again, for the local APICs. The other one's is switched on.
    pub(super) fn reset(&self) {
        self.local.reset();
        self.other.reset();
        self.other.write(0xf0, AccessWidth::Dword, 0x1ff).unwrap();
    }

    pub(super) fn spurious_vector(&self) -> u64 {
        seen(&self.local, 0x0f).unwrap_or(0)
    }

    /// All that can be seen of the state without changing any: whose register, which, and what it reads as.
    pub(super) fn registers(&self) -> impl Iterator<Item = (&'static str, u32, Option<u64>)> {
        let dword = AccessWidth::Dword;
        let own = there().map(move |index| ("own", index, seen(&self.local, index)));
        let others = there().map(move |index| ("other's", index, seen(&self.other, index)));
        let lines = LEVELS.iter().map(move |(pin, _)| {
            let select = self.io_apic.write(0x00, dword, (0x10 + 2 * pin).into());
            let entry = select.and_then(|()| self.io_apic.read(0x10, dword));
            ("I/O APIC", *pin, entry.ok())
        });
        let base = ("base", 0, self.local.read_msr(0x1b).ok());
        own.chain(others).chain(lines).chain([base])
    }
}

fn seen(local: &LocalApic, index: u32) -> Option<u64> {
    let page = local.read(16 * u64::from(index), AccessWidth::Dword);
    page.or_else(|_| local.read_msr(0x800 + index)).ok()
}

/// The registers that nothing happens to when they are read.
fn there() -> impl Iterator<Item = u32> {
    (0..0x40).filter(
        |index| matches!(index, 0x02 | 0x03 | 0x08..=0x0a | 0x0d..=0x28 | 0x30..=0x38 | 0x3e),
    )
}
