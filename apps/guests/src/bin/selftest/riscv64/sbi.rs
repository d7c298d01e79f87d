//! Calls to the SBI: what is there answers as specified, what is wrong is refused with the right
//! error code, and what is not there is "not supported".

use core::sync::atomic::{AtomicU8, Ordering};

use guests::arch::sbi::{
    self, ABSENT, ALL_HARTS, Answer, INVALID_PARAM, NOT_SUPPORTED, SUCCESS, call,
};
use guests::arch::{Machine, csr};
use guests::print;
use guests::report::{Hex, Verdict, Words, case, equal, holds};
use sbi_spec::{base, dbcn, hsm, rfnc, spi, srst, time};

use super::Check;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("sbi.version", version),
    Check::new("sbi.probe_present", probe_present),
    Check::new("sbi.probe_absent", probe_absent),
    Check::new("sbi.machine_ids", machine_ids),
    Check::new("sbi.unknown_extension", unknown_extension),
    Check::new("sbi.unknown_function", unknown_function),
    Check::new("sbi.time", set_timer),
    Check::new("sbi.ipi", ipi),
    Check::as_guest(
        "sbi.ipi_bad_hart",
        "OpenSBI 1.5 ignores such harts",
        ipi_bad_hart,
    ),
    Check::new("sbi.fence", fence),
    Check::as_guest(
        "sbi.fence_bad_hart",
        "OpenSBI 1.5 ignores such harts",
        fence_bad_hart,
    ),
    Check::as_guest(
        "sbi.fence_hypervisor",
        "the H extension is real",
        fence_hypervisor,
    ),
    Check::new("sbi.reset_bad_type", reset_bad_type),
    Check::new("sbi.reset_bad_reason", reset_bad_reason),
    Check::new("sbi.console_write", console_write),
    Check::new("sbi.console_write_byte", console_write_byte),
    Check::new("sbi.console_read", console_read),
    Check::as_guest(
        "sbi.console_bad_address",
        "OpenSBI says 'failed'",
        console_bad_address,
    ),
    Check::as_guest(
        "sbi.console_outside_ram",
        "firmware may fault",
        console_outside_ram,
    ),
    Check::new("sbi.legacy_console", legacy_console),
];

/// No machine has a hart with this id.
pub(super) const NO_HART: usize = 4000;

/// An extension id that the specification leaves unused.
const NO_EXTENSION: usize = 0x0bad_cafe;

fn version(_: &Machine) -> Verdict {
    let version = sbi::spec_version();
    holds(
        "version",
        version >= 0x0200_0000,
        Hex(version),
        Words("2.0 or later"),
    )?;
    holds(
        "version",
        version < 1 << 31,
        Hex(version),
        Words("bit 31 clear"),
    )
}

const EXTENSIONS: [(&str, usize); 7] = [
    ("BASE", base::EID_BASE),
    ("TIME", time::EID_TIME),
    ("IPI", spi::EID_SPI),
    ("RFENCE", rfnc::EID_RFNC),
    ("HSM", hsm::EID_HSM),
    ("SRST", srst::EID_SRST),
    ("DBCN", dbcn::EID_DBCN),
];

fn probe_present(_: &Machine) -> Verdict {
    for (name, extension) in EXTENSIONS {
        holds(
            name,
            sbi::probe(extension) != ABSENT,
            ABSENT,
            Words("present"),
        )?;
    }
    Ok(())
}

fn probe_absent(_: &Machine) -> Verdict {
    for extension in [NO_EXTENSION, usize::MAX, 0x0fff_ffff] {
        equal(
            format_args!("probe {extension:#x}"),
            sbi::probe(extension),
            ABSENT,
        )?;
    }
    Ok(())
}

/// The ids may have any value; asking for them is not an error.
fn machine_ids(_: &Machine) -> Verdict {
    for function in [
        base::GET_SBI_IMPL_ID,
        base::GET_SBI_IMPL_VERSION,
        base::GET_MVENDORID,
        base::GET_MARCHID,
        base::GET_MIMPID,
    ] {
        let answer = call(base::EID_BASE, function, [0; 6]);
        equal(format_args!("function {function}"), answer.error, SUCCESS)?;
    }
    Ok(())
}

fn unknown_extension(_: &Machine) -> Verdict {
    for extension in [NO_EXTENSION, usize::MAX, 0x0a00_0000] {
        for function in [0, 1, usize::MAX] {
            let answer = call(extension, function, [usize::MAX; 6]);
            equal(format_args!("{extension:#x}"), answer.error, NOT_SUPPORTED)?;
        }
    }
    Ok(())
}

fn unknown_function(_: &Machine) -> Verdict {
    for (name, extension) in EXTENSIONS {
        for function in [0x7f, 0x8000_0000, usize::MAX] {
            equal(name, call(extension, function, [0; 6]).error, NOT_SUPPORTED)?;
        }
    }
    Ok(())
}

/// Any deadline is a good one. The one in the past makes an interrupt pending, which nobody takes.
fn set_timer(_: &Machine) -> Verdict {
    for deadline in [0, u64::MAX, 1 << 63, u64::MAX - 1] {
        equal(
            format_args!("{deadline:#x}"),
            sbi::set_timer(deadline).error,
            SUCCESS,
        )?;
    }
    Ok(())
}

fn ipi(machine: &Machine) -> Verdict {
    let pending = || csr::pending_interrupts() & csr::SOFTWARE;
    for (name, mask, base) in [
        ("own bit", 1 << (machine.hart % 64), machine.hart / 64 * 64),
        ("own base", 1, machine.hart),
        ("all harts", 0, ALL_HARTS),
    ] {
        csr::clear_software_interrupt();
        equal(name, sbi::send_ipi(mask, base).error, SUCCESS)?;
        equal(name, Hex(pending()), Hex(csr::SOFTWARE))?;
    }
    csr::clear_software_interrupt();
    equal("no hart", sbi::send_ipi(0, 0).error, SUCCESS)?;
    equal("no hart", Hex(pending()), Hex(0))
}

fn ipi_bad_hart(machine: &Machine) -> Verdict {
    for (mask, base) in bad_masks(machine) {
        let answer = sbi::send_ipi(mask, base);
        equal(
            format_args!("mask {mask:#x} base {base:#x}"),
            answer.error,
            INVALID_PARAM,
        )?;
    }
    Ok(())
}

/// Hart masks that name a hart that does not exist, one of them beside one that does.
fn bad_masks(machine: &Machine) -> [(usize, usize); 4] {
    let after_last = machine.harts().max().unwrap_or(0) + 1;
    let beside = 1 << (after_last - machine.hart) | 1;
    [
        (1, NO_HART),
        (1, after_last),
        (beside, machine.hart),
        (0b11, usize::MAX - 1),
    ]
}

fn own_mask(machine: &Machine) -> (usize, usize) {
    (1, machine.hart)
}

fn fence(machine: &Machine) -> Verdict {
    use rfnc::{REMOTE_FENCE_I, REMOTE_SFENCE_VMA, REMOTE_SFENCE_VMA_ASID};
    for harts in [own_mask(machine), (0, ALL_HARTS), (0, 0)] {
        for (name, function) in [
            ("fence.i", REMOTE_FENCE_I),
            ("sfence.vma", REMOTE_SFENCE_VMA),
            ("sfence.vma asid", REMOTE_SFENCE_VMA_ASID),
        ] {
            for (start, size) in [
                (0, 0),
                (0, usize::MAX),
                (0x8020_0000, 4096),
                (0x8020_0123, 1),
                (0, 1 << 39),
            ] {
                let answer = sbi::remote_fence(function, harts, start, size, 1);
                equal(name, answer.error, SUCCESS)?;
            }
        }
    }
    Ok(())
}

fn fence_bad_hart(machine: &Machine) -> Verdict {
    for harts in bad_masks(machine) {
        for function in [
            rfnc::REMOTE_FENCE_I,
            rfnc::REMOTE_SFENCE_VMA,
            rfnc::REMOTE_SFENCE_VMA_ASID,
        ] {
            let answer = sbi::remote_fence(function, harts, 0, 4096, 0);
            equal(
                format_args!("harts {harts:x?}"),
                answer.error,
                INVALID_PARAM,
            )?;
        }
    }
    Ok(())
}

/// A guest's harts have no H extension.
fn fence_hypervisor(machine: &Machine) -> Verdict {
    for (name, function) in [
        ("hfence.gvma vmid", rfnc::REMOTE_HFENCE_GVMA_VMID),
        ("hfence.gvma", rfnc::REMOTE_HFENCE_GVMA),
        ("hfence.vvma asid", rfnc::REMOTE_HFENCE_VVMA_ASID),
        ("hfence.vvma", rfnc::REMOTE_HFENCE_VVMA),
    ] {
        let answer = sbi::remote_fence(function, own_mask(machine), 0, 4096, 0);
        equal(name, answer.error, NOT_SUPPORTED)?;
    }
    Ok(())
}

fn reset_bad_type(_: &Machine) -> Verdict {
    for kind in [3, 0x7fff_ffff, 0xefff_ffff] {
        let answer = sbi::system_reset(kind, srst::RESET_REASON_NO_REASON as usize);
        equal(format_args!("type {kind:#x}"), answer.error, INVALID_PARAM)?;
    }
    Ok(())
}

fn reset_bad_reason(_: &Machine) -> Verdict {
    for reason in [2, 0xdfff_ffff] {
        let answer = sbi::system_reset(srst::RESET_TYPE_SHUTDOWN as usize, reason);
        equal(
            format_args!("reason {reason:#x}"),
            answer.error,
            INVALID_PARAM,
        )?;
    }
    Ok(())
}

/// The debug console takes all bytes sooner or later, also across a page boundary.
fn console_write(_: &Machine) -> Verdict {
    #[repr(align(4096))]
    struct Pages([u8; 8192]);
    static TEXT: Pages = {
        let (mut pages, text) = ([b'?'; 8192], b"# across pages\r\n");
        let mut n = 0;
        while n < text.len() {
            pages[4096 - 8 + n] = text[n];
            n += 1;
        }
        Pages(pages)
    };
    let mut rest: &[u8] = &TEXT.0[4096 - 8..4096 + 8];
    while !rest.is_empty() {
        let answer = sbi::debug_console(dbcn::CONSOLE_WRITE, rest.len(), rest.as_ptr().addr(), 0);
        equal("error", answer.error, SUCCESS)?;
        holds(
            "length",
            answer.value <= rest.len(),
            answer.value,
            Words("at most what was given"),
        )?;
        rest = &rest[answer.value..];
    }
    let nothing = sbi::debug_console(dbcn::CONSOLE_WRITE, 0, TEXT.0.as_ptr().addr(), 0);
    equal(
        "no bytes",
        nothing,
        Answer {
            error: SUCCESS,
            value: 0,
        },
    )
}

fn console_write_byte(_: &Machine) -> Verdict {
    for byte in *b"# byte by byte\r\n" {
        equal("error", sbi::debug_console_byte(byte).error, SUCCESS)?;
    }
    Ok(())
}

/// Nobody types, so there is nothing to read, and the memory stays as it is.
fn console_read(_: &Machine) -> Verdict {
    static BUFFER: [AtomicU8; 16] = [const { AtomicU8::new(0xa5) }; 16];
    let answer = sbi::debug_console(dbcn::CONSOLE_READ, BUFFER.len(), BUFFER.as_ptr().addr(), 0);
    equal(
        "answer",
        answer,
        Answer {
            error: SUCCESS,
            value: 0,
        },
    )?;
    let touched = BUFFER
        .iter()
        .position(|byte| byte.load(Ordering::Relaxed) != 0xa5);
    equal("first byte written", touched, None)
}

/// No memory has an address of more than 64 bits.
fn console_bad_address(machine: &Machine) -> Verdict {
    let ram = machine.ram().start;
    for function in [dbcn::CONSOLE_WRITE, dbcn::CONSOLE_READ] {
        for high in [1, usize::MAX] {
            let answer = sbi::debug_console(function, 16, ram, high);
            equal(format_args!("high {high:#x}"), answer.error, INVALID_PARAM)?;
        }
    }
    Ok(())
}

fn console_outside_ram(machine: &Machine) -> Verdict {
    let end = machine.ram().end;
    for function in [dbcn::CONSOLE_WRITE, dbcn::CONSOLE_READ] {
        for (low, size) in [
            (end, 16),
            (end - 8, 16),
            (0x1000_0000, 1),
            (0, 16),
            (usize::MAX - 7, 16),
            (machine.ram().start, usize::MAX),
        ] {
            let answer = sbi::debug_console(function, size, low, 0);
            equal(
                format_args!("{size:#x} at {low:#x}"),
                answer.error,
                INVALID_PARAM,
            )?;
        }
    }
    Ok(())
}

/// The legacy calls return in a0 only.
fn legacy_console(_: &Machine) -> Verdict {
    const PUTCHAR: usize = 1;
    const GETCHAR: usize = 2;
    print!("# legacy ");
    for byte in *b"console\r\n" {
        let answer = call(PUTCHAR, 0, [usize::from(byte), 0x5a5a, 0, 0, 0, 0]);
        case("putchar", equal("a0", answer.error, SUCCESS))?;
    }
    case("getchar", equal("a0", call(GETCHAR, 0, [0; 6]).error.0, -1))
}
