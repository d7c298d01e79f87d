//! All 16 general-purpose registers survive every kind of exit, but for what an instruction returns.

use guests::arch::context::reg::{RAX, RBX, RCX, RDI, RDX};
use guests::arch::context::{Context, Interrupts, Mode, Regs};
use guests::arch::lapic::register;
use guests::arch::{Machine, Timer, cpu, lapic, msr, port, uart};
use guests::code;
use guests::report::{Hex, Verdict, case, equal};

use super::Check;
use super::expect::{changes, changes_nothing, completes, interrupted_in, same_registers};
use super::paging::Paging;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("registers.in", port_in),
    Check::new("registers.out", port_out),
    Check::new("registers.mmio", mmio),
    Check::new("registers.rdmsr", rdmsr),
    Check::new("registers.hlt", hlt),
    Check::new("registers.timer_in_user_mode", timer_in_user_mode),
    Check::new("registers.long_run", long_run),
    Check::new("registers.many", many),
];

/// Exits of every kind, short and long: CPUID, MSRs, ports, device accesses, interrupts, timers,
/// sleep.
pub(super) fn leave_often(machine: &Machine) {
    let timer = machine.timer();
    for n in 0..200 {
        cpu::cpuid(n as u32 % 2, 0);
        msr::read(msr::APIC_BASE);
        uart::write(uart::SCR, n as u8);
        uart::read(uart::SCR);
        port::write(0x80, n as u8);
        lapic::read(register::VERSION);
        lapic::send(0, lapic::command::SELF | u32::from(Timer::VECTOR));
        timer.sleep_until(timer.now() + timer.ticks_per_second() / 100_000 * n);
    }
    timer.stop();
}

fn port_in(_: &Machine) -> Verdict {
    uart::write(uart::SCR, 0x5a);
    let regs = Regs::pattern().with(RDX, usize::from(uart::BASE + uart::SCR));
    changes(&code!("in al, dx"), regs, RAX, regs[RAX] & !0xff | 0x5a)
}

fn port_out(_: &Machine) -> Verdict {
    let regs = Regs::pattern().with(RDX, usize::from(uart::BASE + uart::SCR));
    changes_nothing(&code!("out dx, al"), regs)?;
    equal("scratch", uart::read(uart::SCR), regs[RAX] as u8)
}

fn mmio(_: &Machine) -> Verdict {
    let version = lapic::read(register::VERSION) as usize;
    let regs = Regs::pattern().with(RDI, lapic::BASE + register::VERSION as usize);
    changes(&code!("mov ebx, [rdi]"), regs, RBX, version)
}

fn rdmsr(_: &Machine) -> Verdict {
    let value = msr::read(msr::APIC_BASE) as usize;
    let regs = Regs::pattern().with(RCX, msr::APIC_BASE as usize);
    let expected = regs.with(RAX, value & 0xffff_ffff).with(RDX, value >> 32);
    same_registers(&completes(&code!("rdmsr"), regs)?, &expected)
}

/// HLT with nothing pending, which gives the CPU away until the timer's interrupt.
fn hlt(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    let code = code!("sti", "hlt", "2: jmp 2b");
    for n in 0..20 {
        timer.set(timer.now() + timer.ticks_per_second() / 10_000 * n);
        let mut context = Context::new(&code, Regs::pattern());
        let trap = context.run();
        lapic::end_of_interrupt();
        equal("vector", Hex(trap.vector), Hex(Timer::VECTOR.into()))?;
        equal("rip", Hex(trap.pc), Hex(code.start + 2))?;
        same_registers(&context.regs, &Regs::pattern())?;
    }
    Ok(())
}

fn timer_in_user_mode(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    let _paging = Paging::on();
    for _ in 0..20 {
        timer.set(timer.now() + timer.ticks_per_second() / 5000);
        let verdict = interrupted_in(Mode::User, Timer::VECTOR);
        lapic::end_of_interrupt();
        verdict?;
    }
    Ok(())
}

/// A tenth of a second without an exit of its own, in which the host's interrupts come and go.
fn long_run(machine: &Machine) -> Verdict {
    let end = cpu::time_stamp() + machine.timer().ticks_per_second() / 10;
    let code = code!(
        "2: rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "cmp rax, rbx",
        "jb 2b"
    );
    let regs = Regs::pattern().with(RBX, end as usize);
    let after = completes(&code, regs)?;
    same_registers(&after, &regs.with(RAX, after[RAX]).with(RDX, after[RDX]))
}

/// Different exits in turn, with the timer's interrupt in between wherever it comes.
fn many(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    let code = code!(
        "2: mov ecx, 0x1b",
        "rdmsr",
        "xor eax, eax",
        "cpuid",
        "mov edx, 0x3ff",
        "in al, dx",
        "out dx, al",
        "mov eax, [rdi]",
        "jmp 2b"
    );
    let regs = Regs::pattern().with(RDI, lapic::BASE + register::VERSION as usize);
    for n in 0..50 {
        timer.set(timer.now() + timer.ticks_per_second() / 100_000 * n);
        let mut context = Context::new(&code, regs).interrupts(Interrupts::On);
        let trap = context.run();
        lapic::end_of_interrupt();
        equal("vector", Hex(trap.vector), Hex(Timer::VECTOR.into()))?;
        let written = [RAX, RBX, RCX, RDX]
            .into_iter()
            .fold(regs, |regs, n| regs.with(n, context.regs[n]));
        case("loop", same_registers(&context.regs, &written))?;
    }
    Ok(())
}
