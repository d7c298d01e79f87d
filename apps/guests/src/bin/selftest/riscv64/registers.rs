//! All 31 general-purpose registers survive every kind of exit, but for what a call returns.

use guests::arch::context::reg::{A0, A1, A6, A7, T0, T1};
use guests::arch::context::{Context, Mode, Regs, interrupt};
use guests::arch::{Machine, csr};
use guests::code;
use guests::report::{Hex, Verdict, equal};
use sbi_spec::{base, hsm, rfnc, spi, time};

use super::Check;
use super::expect::{completes, same_registers};
use super::paging::{Paging, USER_CODE};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("registers.sbi_call", sbi_call),
    Check::new("registers.unknown_sbi_call", unknown_sbi_call),
    Check::new("registers.wfi", wfi),
    Check::new("registers.timer_in_user_mode", timer_in_user_mode),
    Check::new("registers.long_run", long_run),
];

/// Calls that the hypervisor answers in different places.
fn sbi_call(machine: &Machine) -> Verdict {
    let call = code!("ecall");
    for (name, extension, function, args) in [
        ("BASE", base::EID_BASE, base::GET_SBI_SPEC_VERSION, [0, 0]),
        ("TIME", time::EID_TIME, time::SET_TIMER, [usize::MAX, 0]),
        ("IPI", spi::EID_SPI, spi::SEND_IPI, [1, machine.hart]),
        (
            "RFENCE",
            rfnc::EID_RFNC,
            rfnc::REMOTE_FENCE_I,
            [1, machine.hart],
        ),
        ("HSM", hsm::EID_HSM, hsm::HART_GET_STATUS, [machine.hart, 0]),
    ] {
        let regs = Regs::pattern().with(A0, args[0]).with(A1, args[1]);
        let regs = regs.with(A6, function).with(A7, extension);
        let after = completes(&call, regs)?;
        equal(name, Hex(after[A0]), Hex(0))?;
        same_registers(&after, &regs.with(A0, 0).with(A1, after[A1]))?;
    }
    Ok(())
}

fn unknown_sbi_call(_: &Machine) -> Verdict {
    let regs = Regs::pattern();
    let after = completes(&code!("ecall"), regs)?;
    let not_supported = 2_usize.wrapping_neg();
    same_registers(&after, &regs.with(A0, not_supported).with(A1, after[A1]))
}

/// WFI with nothing pending, which gives the hart away until the timer's interrupt is pending.
fn wfi(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    csr::enable_interrupts(csr::TIMER);
    let code = code!("1: wfi", "csrr t0, sip", "andi t0, t0, 0x20", "beqz t0, 1b");
    for n in 0..20 {
        timer.set(timer.now() + timer.ticks_per_second() / 10_000 * n);
        let after = completes(&code, Regs::pattern())?;
        same_registers(&after, &Regs::pattern().with(T0, csr::TIMER))?;
    }
    Ok(())
}

fn timer_in_user_mode(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    let paging = Paging::on(machine);
    // In user mode `sstatus.SIE` does not count.
    csr::enable_interrupts(csr::TIMER);
    let spin = code!("1: j 1b").seen_at(USER_CODE);
    for _ in 0..20 {
        timer.set(timer.now() + timer.ticks_per_second() / 5000);
        let mut context = Context::new(&spin, Regs::pattern()).mode(Mode::User);
        let trap = context.run();
        equal("scause", Hex(trap.cause), Hex(interrupt::TIMER))?;
        equal("sepc", Hex(trap.pc), Hex(spin.start))?;
        equal(
            "sstatus.SPP",
            Hex(context.status & csr::SSTATUS_SPP),
            Hex(0),
        )?;
        same_registers(&context.regs, &Regs::pattern())?;
    }
    drop(paging);
    Ok(())
}

/// A tenth of a second without an exit of its own, in which the host's interrupts come and go.
fn long_run(machine: &Machine) -> Verdict {
    let end = csr::time() + machine.timer().ticks_per_second() / 10;
    let code = code!("1: rdtime t0", "bltu t0, t1, 1b");
    let regs = Regs::pattern().with(T1, end as usize);
    let after = completes(&code, regs)?;
    same_registers(&after, &regs.with(T0, after[T0]))
}
