//! The guest's own page tables: page faults, access faults behind a translation, and devices whose
//! virtual address is not the physical one.

use core::sync::atomic::Ordering;

use guests::arch::context::reg::{A0, A1, A2};
use guests::arch::context::{Code, Context, Mode, Regs, exception};
use guests::arch::{Machine, csr, uart};
use guests::code;
use guests::report::{Hex, Verdict, case, equal};

use super::Check;
use super::expect::{completed, same_registers, traps, traps_at};
use super::paging::{
    DATA, DEVICE_HOLE, EXECUTE_ONLY_CODE, FREE, INVALID, OUTSIDE, Page, Paging, READ_ONLY,
    RESERVED, ROOT_OUTSIDE, SUPERVISOR, TABLE_IN_DEVICE, TABLE_OUTSIDE, UART, USER_CODE, data, pte,
};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("translation.user_data", user_data),
    Check::new("translation.page_faults", page_faults),
    Check::new("translation.supervisor_faults", supervisor_faults),
    Check::new("translation.new_mapping", new_mapping),
    Check::new("translation.leaf_outside_ram", leaf_outside_ram),
    Check::as_guest(
        "translation.table_outside_ram",
        "QEMU says 'page fault'",
        table_outside_ram,
    ),
    Check::as_guest(
        "translation.table_in_device",
        "QEMU reads tables there",
        table_in_device,
    ),
    Check::new("translation.device", device),
    Check::new("translation.device_hole", device_hole),
    Check::new(
        "translation.device_by_execute_only_code",
        device_by_execute_only_code,
    ),
    Check::new(
        "translation.device_across_code_pages",
        device_across_code_pages,
    ),
];

/// What a context does to an address in a1, with the cause of each exception that can follow.
struct Access {
    name: &'static str,
    code: Code,
    page_fault: usize,
    access_fault: usize,
}

fn load() -> Access {
    Access {
        name: "load",
        code: code!("ld a0, 0(a1)"),
        page_fault: exception::LOAD_PAGE,
        access_fault: exception::LOAD_ACCESS,
    }
}

fn store() -> Access {
    Access {
        name: "store",
        code: code!("sd a0, 0(a1)"),
        page_fault: exception::STORE_PAGE,
        access_fault: exception::STORE_ACCESS,
    }
}

fn atomic() -> Access {
    Access {
        name: "atomic",
        code: code!("amoadd.d a0, a2, (a1)"),
        ..store()
    }
}

fn fetch() -> Access {
    Access {
        name: "fetch",
        code: code!("jr a1"),
        page_fault: exception::FETCH_PAGE,
        access_fault: exception::FETCH_ACCESS,
    }
}

impl Access {
    fn context(&self, mode: Mode, address: usize) -> Context {
        let code = match mode {
            Mode::Supervisor => self.code,
            Mode::User => self.code.seen_at(USER_CODE),
        };
        Context::new(&code, Regs::pattern().with(A1, address)).mode(mode)
    }

    /// The access faults with that cause, and `stval` has the virtual address.
    fn faults(&self, context: Context, cause: usize) -> Verdict {
        let address = context.regs[A1];
        // The PC of a fetch that faults is where it would have fetched.
        let pc = if self.name == "fetch" {
            address
        } else {
            context.regs[0]
        };
        case(self.name, traps_at(context, pc, &[cause], &[address]))
    }

    fn page_faults(&self, mode: Mode, address: usize) -> Verdict {
        self.faults(self.context(mode, address), self.page_fault)
    }

    fn access_faults(&self, mode: Mode, address: usize) -> Verdict {
        self.faults(self.context(mode, address), self.access_fault)
    }
}

/// Runs user-mode code to its end.
fn user(code: &Code, regs: Regs) -> Result<Regs, guests::report::Miss> {
    let code = code.seen_at(USER_CODE);
    completed(Context::new(&code, regs).mode(Mode::User), &code)
}

fn user_data(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    let regs = Regs::pattern().with(A1, DATA);
    let after = user(&code!("sd a0, 8(a1)", "ld a2, 8(a1)"), regs)?;
    same_registers(&after, &regs.with(A2, regs[A0]))?;
    equal(
        "in memory",
        data().0[1].load(Ordering::Relaxed) as usize,
        regs[A0],
    )
}

fn page_faults(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    let (load, store, atomic, fetch) = (load(), store(), atomic(), fetch());
    for address in [
        SUPERVISOR,
        INVALID,
        RESERVED,
        7 << 30,
        1 << 38,
        usize::MAX - 7,
    ] {
        for access in [&load, &store, &atomic, &fetch] {
            access.page_faults(Mode::User, address)?;
        }
    }
    store.page_faults(Mode::User, READ_ONLY)?;
    atomic.page_faults(Mode::User, READ_ONLY)?;
    load.page_faults(Mode::User, EXECUTE_ONLY_CODE)?;
    store.page_faults(Mode::User, USER_CODE)?;
    fetch.page_faults(Mode::User, DATA)
}

/// Supervisor mode may not touch user pages but with `sstatus.SUM`, and never execute them.
fn supervisor_faults(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    let (load, store, fetch) = (load(), store(), fetch());
    load.page_faults(Mode::Supervisor, DATA)?;
    store.page_faults(Mode::Supervisor, DATA)?;
    fetch.page_faults(Mode::Supervisor, USER_CODE)?;
    load.page_faults(Mode::Supervisor, INVALID)?;

    let with_sum = |access: &Access| {
        let context = access.context(Mode::Supervisor, DATA);
        context.status(csr::SSTATUS_SUM, csr::SSTATUS_SUM)
    };
    case("SUM", completed(with_sum(&store), &store.code))?;
    let read = case("SUM", completed(with_sum(&load), &load.code))?;
    equal("read with SUM", Hex(read[A0]), Hex(Regs::pattern()[A0]))?;
    let code = USER_CODE;
    let context = fetch
        .context(Mode::Supervisor, code)
        .status(csr::SSTATUS_SUM, csr::SSTATUS_SUM);
    case("SUM", fetch.faults(context, fetch.page_fault))?;
    // SUM stays in `sstatus` after the trap.
    Context::new(&code!("nop"), Regs::ZERO)
        .status(csr::SSTATUS_SUM, 0)
        .run();
    Ok(())
}

/// A changed entry counts after a fence.
fn new_mapping(machine: &Machine) -> Verdict {
    static OTHER: Page = Page::new();
    let paging = Paging::on(machine);
    data().0[0].store(0x11, Ordering::Relaxed);
    OTHER.0[0].store(0x22, Ordering::Relaxed);
    let access = load();
    let read = |address| Ok(user(&access.code, Regs::pattern().with(A1, address))?[A0]);
    for _ in 0..10 {
        paging.map_free(0, data().address(), pte::LEAF | pte::U | pte::R);
        equal("first page", read(FREE)?, 0x11)?;
        paging.map_free(0, OTHER.address(), pte::LEAF | pte::U | pte::R);
        equal("second page", read(FREE)?, 0x22)?;
        paging.map_free(0, 0, 0);
        access.page_faults(Mode::User, FREE)?;
    }
    Ok(())
}

fn leaf_outside_ram(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    for access in [load(), store(), atomic(), fetch()] {
        access.access_faults(Mode::User, OUTSIDE)?;
    }
    Ok(())
}

/// A table that is not there is an access fault of what needed it, not a page fault.
fn table_outside_ram(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    for address in [TABLE_OUTSIDE, ROOT_OUTSIDE] {
        for access in [load(), store(), atomic(), fetch()] {
            access.access_faults(Mode::User, address)?;
            access.access_faults(Mode::Supervisor, address)?;
        }
    }
    Ok(())
}

fn table_in_device(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    for access in [load(), store(), fetch()] {
        access.access_faults(Mode::User, TABLE_IN_DEVICE)?;
    }
    Ok(())
}

/// A device at another virtual address, for user mode.
fn device(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    let regs = Regs::pattern().with(A1, UART + uart::SCR);
    for byte in [0x80, 0x7f] {
        let after = user(&code!("sb a0, 0(a1)", "lb a2, 0(a1)"), regs.with(A0, byte))?;
        let read = i64::from(byte as u8 as i8) as usize;
        same_registers(&after, &regs.with(A0, byte).with(A2, read))?;
    }
    Ok(())
}

/// Nothing is there, and `stval` has the virtual address.
fn device_hole(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    for access in [load(), store(), atomic(), fetch()] {
        access.access_faults(Mode::User, DEVICE_HOLE + 0x128)?;
    }
    Ok(())
}

/// Who decodes an access to a device reads its instruction, where the guest itself could not.
fn device_by_execute_only_code(machine: &Machine) -> Verdict {
    let _paging = Paging::on(machine);
    uart::write(uart::SCR, 0xa5);
    let code = code!("lbu a0, 0(a1)").seen_at(EXECUTE_ONLY_CODE);
    let regs = Regs::pattern().with(A1, UART + uart::SCR);
    let after = completed(Context::new(&code, regs).mode(Mode::User), &code)?;
    same_registers(&after, &regs.with(A0, 0xa5))
}

/// An instruction whose halves lie in two pages that are neighbours only by their virtual
/// addresses: it reads SCR. With the second half from the physical neighbour it would read LSR.
fn device_across_code_pages(machine: &Machine) -> Verdict {
    static SECOND: Page = Page::new();
    let code = code!(
        ".balign 4096",
        ".option rvc",
        ".skip 4094",
        ".option norvc",
        "lbu a0, 5(a1)", // LSR
    );
    let first = code.end & !0xfff;
    // SAFETY: the `ebreak` after the instruction is in the section, and two bytes before it is
    // the instruction's second half, where the second page begins.
    let words = unsafe { ((code.end - 2) as *const u64).read_unaligned() };
    let offset = ((uart::LSR ^ uart::SCR) << 4) as u64; // bits 31:20 of the instruction
    SECOND.0[0].store(words ^ offset, Ordering::Relaxed);

    let paging = Paging::on(machine);
    let executable = pte::LEAF | pte::U | pte::X;
    paging.map_free(0, first - 4096, executable);
    paging.map_free(1, SECOND.address(), executable);
    uart::write(uart::SCR, 0xa5);
    let start = FREE + 4094;
    let code = Code {
        start,
        end: start + 4,
    };
    let regs = Regs::pattern().with(A1, UART);
    let after = completed(Context::new(&code, regs).mode(Mode::User), &code)?;
    same_registers(&after, &regs.with(A0, 0xa5))?;
    let hole = Context::new(&code, regs.with(A1, DEVICE_HOLE)).mode(Mode::User);
    traps(hole, &[exception::LOAD_ACCESS], &[DEVICE_HOLE + uart::SCR])
}
