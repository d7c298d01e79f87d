//! Calls to the Supervisor Binary Interface.

use core::arch::asm;
use core::fmt::{self, Debug, Formatter};

use sbi_spec::{base, dbcn, hsm, rfnc, spi, srst, time};

use crate::Exit;

/// What a call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `a0`.
    pub error: Error,
    /// `a1`; without meaning where `error` is not [`SUCCESS`].
    pub value: usize,
}

/// An error code of the specification's table "Standard SBI Errors".
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(pub isize);

impl Debug for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "SBI error {}", self.0)
    }
}

/// Completed successfully.
pub const SUCCESS: Error = Error(0);
/// Failed.
pub const FAILED: Error = Error(-1);
/// The extension or the function is not there.
pub const NOT_SUPPORTED: Error = Error(-2);
/// A parameter is invalid.
pub const INVALID_PARAM: Error = Error(-3);
/// Not allowed.
pub const DENIED: Error = Error(-4);
/// An address is invalid.
pub const INVALID_ADDRESS: Error = Error(-5);
/// Is available already.
pub const ALREADY_AVAILABLE: Error = Error(-6);

/// `probe_extension` of what is absent.
pub const ABSENT: usize = base::UNAVAILABLE_EXTENSION;
/// The `hart_mask_base` that stands for all harts.
pub const ALL_HARTS: usize = usize::MAX;
/// The implementation id of OpenSBI: the guest runs on a machine without a hypervisor.
pub const OPENSBI: usize = base::impl_id::OPEN_SBI;

/// Calls `function` of `extension`.
pub fn call(extension: usize, function: usize, args: [usize; 6]) -> Answer {
    let [a0, a1, a2, a3, a4, a5] = args;
    let (error, value): (usize, usize);
    // SAFETY: an SBI call keeps every register but a0 and a1. The memory it may write (that of
    // DBCN reads) is borrowed by the one wrapper that passes any.
    unsafe {
        asm!(
            "ecall",
            inlateout("a0") a0 => error,
            inlateout("a1") a1 => value,
            in("a2") a2, in("a3") a3, in("a4") a4, in("a5") a5,
            in("a6") function, in("a7") extension,
            options(nostack),
        );
    }
    Answer {
        error: Error(error.cast_signed()),
        value,
    }
}

/// A function of BASE without arguments, by its number; BASE never fails.
pub fn base(function: usize) -> usize {
    call(base::EID_BASE, function, [0; 6]).value
}

/// Version of the specification: major in bits 30:24, minor in 23:0.
pub fn spec_version() -> usize {
    base(base::GET_SBI_SPEC_VERSION)
}

/// Who implements the SBI.
pub fn implementation() -> usize {
    base(base::GET_SBI_IMPL_ID)
}

/// [`ABSENT`], or something else if the extension is there.
pub fn probe(extension: usize) -> usize {
    call(
        base::EID_BASE,
        base::PROBE_EXTENSION,
        [extension, 0, 0, 0, 0, 0],
    )
    .value
}

/// Requests a timer interrupt at `deadline` and clears the pending one.
pub fn set_timer(deadline: u64) -> Answer {
    call(
        time::EID_TIME,
        time::SET_TIMER,
        [deadline as usize, 0, 0, 0, 0, 0],
    )
}

/// Sends a software interrupt to the harts of a mask.
pub fn send_ipi(mask: usize, base: usize) -> Answer {
    call(spi::EID_SPI, spi::SEND_IPI, [mask, base, 0, 0, 0, 0])
}

/// A fence on other harts: `function` of RFENCE on `[start, start + size)`, with `tag` an ASID
/// or VMID.
pub fn remote_fence(
    function: usize,
    (mask, base): (usize, usize),
    start: usize,
    size: usize,
    tag: usize,
) -> Answer {
    call(rfnc::EID_RFNC, function, [mask, base, start, size, tag, 0])
}

/// Starts a hart at `address` with `opaque` in its a1.
pub fn hart_start(hart: usize, address: usize, opaque: usize) -> Answer {
    call(
        hsm::EID_HSM,
        hsm::HART_START,
        [hart, address, opaque, 0, 0, 0],
    )
}

/// Stops the calling hart; returns only if that failed.
pub fn hart_stop() -> Answer {
    call(hsm::EID_HSM, hsm::HART_STOP, [0; 6])
}

/// The state of a hart.
pub fn hart_status(hart: usize) -> Answer {
    call(hsm::EID_HSM, hsm::HART_GET_STATUS, [hart, 0, 0, 0, 0, 0])
}

/// Suspends the calling hart; a retentive suspend returns at the next interrupt.
pub fn hart_suspend(kind: u32, address: usize, opaque: usize) -> Answer {
    call(
        hsm::EID_HSM,
        hsm::HART_SUSPEND,
        [kind as usize, address, opaque, 0, 0, 0],
    )
}

/// `function` of DBCN on `size` bytes at a physical address of two halves.
pub fn debug_console(function: usize, size: usize, low: usize, high: usize) -> Answer {
    call(dbcn::EID_DBCN, function, [size, low, high, 0, 0, 0])
}

/// Writes one byte to the debug console.
pub fn debug_console_byte(byte: u8) -> Answer {
    call(
        dbcn::EID_DBCN,
        dbcn::CONSOLE_WRITE_BYTE,
        [usize::from(byte), 0, 0, 0, 0, 0],
    )
}

/// Resets the system; returns only if that failed.
pub fn system_reset(kind: usize, reason: usize) -> Answer {
    call(
        srst::EID_SRST,
        srst::SYSTEM_RESET,
        [kind, reason, 0, 0, 0, 0],
    )
}

/// Switches the machine off and tells it how the guest ended.
pub fn power_off(exit: Exit) -> ! {
    let reason = match exit {
        Exit::Success => srst::RESET_REASON_NO_REASON,
        Exit::Failure => srst::RESET_REASON_SYSTEM_FAILURE,
    };
    system_reset(srst::RESET_TYPE_SHUTDOWN as usize, reason as usize);
    loop {
        // SAFETY: waiting changes nothing.
        unsafe { asm!("wfi", options(nomem, nostack)) }
    }
}
