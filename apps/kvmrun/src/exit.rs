//! What a vCPU leaves the kernel for ("The kvm_run structure").

use axvcpu::AccessWidth;

use crate::kvm::abi::{KvmRun, Payload};

/// Why a vCPU stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It reads or writes I/O ports: `count` times, the values one after the other in the shared page.
    Port {
        /// Which way.
        direction: Direction,
        /// How much at a time.
        width: AccessWidth,
        /// Where.
        port: u16,
        /// How often.
        count: u32,
        /// Where in the shared page the values are.
        offset: usize,
    },
    /// It reads memory that is not there. The answer goes to [`MMIO_DATA`].
    MmioRead {
        /// Where.
        addr: u64,
        /// How much.
        width: AccessWidth,
    },
    /// It writes memory that is not there.
    MmioWrite {
        /// Where.
        addr: u64,
        /// How much.
        width: AccessWidth,
        /// What.
        data: u64,
    },
    /// It calls the SBI for something that the kernel does not do. The answer goes to [`SBI_RET`].
    Sbi {
        /// The extension.
        extension: u64,
        /// The function of it.
        function: u64,
        /// The arguments.
        args: [u64; 6],
    },
    /// It asks for the end of the machine.
    System(SystemEvent),
    /// It cannot go on: a triple fault.
    Shutdown,
    /// Nothing is to be done.
    Nothing,
    /// What this program knows nothing about; with the reason's number and two words of what it says.
    Other {
        /// KVM's number of the reason.
        reason: u32,
        /// What stands first in what the exit is about.
        words: [u64; 2],
    },
}

/// Which way an access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the vCPU.
    In,
    /// From the vCPU.
    Out,
}

/// How a guest wants its machine to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemEvent {
    /// It is off.
    PowerOff,
    /// It starts again.
    Reset,
    /// It has crashed.
    Crash,
}

/// Where the answer to an [`Exit::MmioRead`] goes.
pub const MMIO_DATA: usize = 8;
/// Where the error and the value of an SBI call go.
pub const SBI_RET: usize = 64;

mod reason {
    pub(super) const IO: u32 = 2;
    pub(super) const MMIO: u32 = 6;
    pub(super) const IRQ_WINDOW_OPEN: u32 = 7;
    pub(super) const SHUTDOWN: u32 = 8;
    pub(super) const INTR: u32 = 10;
    pub(super) const SYSTEM_EVENT: u32 = 24;
    pub(super) const RISCV_SBI: u32 = 35;
}

impl Exit {
    /// The exit that KVM tells of.
    pub fn decode(run: &KvmRun) -> Self {
        let about = &run.payload;
        let other = Self::Other {
            reason: run.exit_reason,
            words: [0, 8].map(|at| word(about, at)),
        };
        match run.exit_reason {
            reason::IO => port(about).unwrap_or(other),
            reason::MMIO => mmio(about).unwrap_or(other),
            reason::RISCV_SBI => Self::Sbi {
                extension: word(about, 0),
                function: word(about, 8),
                args: [16, 24, 32, 40, 48, 56].map(|at| word(about, at)),
            },
            reason::SYSTEM_EVENT => match u32::from_le_bytes(about.number(0)) {
                1 => Self::System(SystemEvent::PowerOff),
                2 => Self::System(SystemEvent::Reset),
                3 => Self::System(SystemEvent::Crash),
                _ => other,
            },
            reason::SHUTDOWN => Self::Shutdown,
            reason::IRQ_WINDOW_OPEN | reason::INTR => Self::Nothing,
            _ => other,
        }
    }
}

fn port(about: &Payload) -> Option<Exit> {
    let [direction, size] = about.number(0);
    Some(Exit::Port {
        direction: match direction {
            0 => Direction::In,
            _ => Direction::Out,
        },
        width: width(size.into())?,
        port: u16::from_le_bytes(about.number(2)),
        count: u32::from_le_bytes(about.number(4)),
        offset: usize::try_from(word(about, 8)).ok()?,
    })
}

fn mmio(about: &Payload) -> Option<Exit> {
    let (addr, data) = (word(about, 0), word(about, MMIO_DATA));
    let width = width(u32::from_le_bytes(about.number(16)))?;
    let [is_write] = about.number(20);
    Some(match is_write {
        0 => Exit::MmioRead { addr, width },
        _ => Exit::MmioWrite {
            addr,
            width,
            data: data & width.mask(),
        },
    })
}

fn word(about: &Payload, at: usize) -> u64 {
    u64::from_le_bytes(about.number(at))
}

fn width(bytes: u32) -> Option<AccessWidth> {
    match bytes {
        1 => Some(AccessWidth::Byte),
        2 => Some(AccessWidth::Word),
        4 => Some(AccessWidth::Dword),
        8 => Some(AccessWidth::Qword),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(exit_reason: u32, about: &[(usize, &[u8])]) -> KvmRun {
        let mut run = KvmRun {
            request: [0; 8],
            exit_reason,
            state: [0; 20],
            payload: Payload([0; 256]),
        };
        for (at, bytes) in about {
            run.payload.put(*at, bytes);
        }
        run
    }

    #[test]
    fn ports_are_read_and_written() {
        let about: [(usize, &[u8]); 3] = [(0, &[1, 1, 0xf8, 0x03]), (4, &[1]), (8, &[0, 0x10])];
        let exit = Exit::decode(&run(2, &about));
        let (direction, width) = (Direction::Out, AccessWidth::Byte);
        let expected = Exit::Port {
            direction,
            width,
            port: 0x3f8,
            count: 1,
            offset: 0x1000,
        };
        assert_eq!(exit, expected);
        let exit = Exit::decode(&run(2, &[(1, &[3])]));
        let (reason, words) = (2, [0x300, 0]);
        assert_eq!(
            exit,
            Exit::Other { reason, words },
            "there is no such width"
        );
    }

    #[test]
    fn what_is_written_to_memory_is_as_wide_as_it_says() {
        let mut about: Vec<(usize, &[u8])> = vec![(3, &[0x10]), (8, &[0xff; 8]), (16, &[2])];
        let (addr, width) = (0x1000_0000, AccessWidth::Word);
        assert_eq!(
            Exit::decode(&run(6, &about)),
            Exit::MmioRead { addr, width }
        );
        about.push((20, &[1]));
        let data = 0xffff;
        assert_eq!(
            Exit::decode(&run(6, &about)),
            Exit::MmioWrite { addr, width, data }
        );
    }

    #[test]
    fn calls_keep_their_arguments() {
        let about: [(usize, &[u8]); 3] = [(0, b"NCBD"), (8, &[2]), (56, &[6])];
        let exit = Exit::decode(&run(35, &about));
        let expected = Exit::Sbi {
            extension: 0x4442_434e,
            function: 2,
            args: [0, 0, 0, 0, 0, 6],
        };
        assert_eq!(exit, expected);
    }

    #[test]
    fn a_machine_ends_as_it_says() {
        let event = |kind: u8| Exit::decode(&run(24, &[(0, &[kind])]));
        assert_eq!(event(1), Exit::System(SystemEvent::PowerOff));
        assert_eq!(event(2), Exit::System(SystemEvent::Reset));
        assert_eq!(event(3), Exit::System(SystemEvent::Crash));
        assert!(matches!(event(9), Exit::Other { reason: 24, .. }));
        assert_eq!(Exit::decode(&run(8, &[])), Exit::Shutdown);
        assert!(matches!(
            Exit::decode(&run(17, &[(0, &[4])])),
            Exit::Other {
                reason: 17,
                words: [4, 0]
            }
        ));
    }
}
