//! When an interrupt is taken: between which instructions, by which priority, and out of HLT.

use guests::arch::context::reg::{RAX, RCX, RDI, RSI, RSP};
use guests::arch::context::{Code, Context, Interrupts, Regs};
use guests::arch::cpu::FLAGS_IF;
use guests::arch::lapic::register::ICR;
use guests::arch::lapic::{self, command};
use guests::arch::{Machine, Timer};
use guests::report::{Hex, Verdict, Words, case, equal, holds};
use guests::{code, write_cr};

use super::Check;
use super::expect::{at_end, run, same_registers};
use super::lapic::{raise, taken};
use super::paging;
use crate::soon::soon;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("interrupts.disabled", disabled),
    Check::new("interrupts.sti_shadow", sti_shadow),
    Check::new("interrupts.sti_cli", sti_cli),
    Check::new("interrupts.popf", popf),
    Check::new("interrupts.task_priority", task_priority),
    Check::new("interrupts.sent_by_store", sent_by_store),
    Check::new("interrupts.gate", gate),
    Check::new("interrupts.hlt_pending", hlt_pending),
    Check::new("interrupts.hlt_wakes", hlt_wakes),
    Check::new("interrupts.hlt_again", hlt_again),
];

const VECTOR: u8 = 0x55;

/// An interrupt is pending when `code` starts with interrupts off, and is taken with `pc` as the
/// next instruction.
fn taken_at(machine: &Machine, code: &Code, regs: Regs, pc: usize) -> Verdict {
    raise(VECTOR);
    soon(machine, "IRR", || lapic::has(lapic::register::IRR, VECTOR))?;
    let mut context = Context::new(code, regs);
    let trap = context.run();
    if trap.vector == VECTOR.into() {
        lapic::end_of_interrupt();
    }
    equal("vector", Hex(trap.vector), Hex(VECTOR.into()))?;
    equal("rip", Hex(trap.pc), Hex(pc))
}

/// With RFLAGS.IF clear nothing is taken, whatever leaves the CPU.
fn disabled(machine: &Machine) -> Verdict {
    raise(VECTOR);
    let code = code!("mov ecx, 1000", "2: in al, 0x61", "loop 2b", "cpuid", "nop");
    at_end(Context::new(&code, Regs::ZERO).run(), &code)?;
    taken(machine, VECTOR)
}

/// STI lets one more instruction through, also if that one is done by a hypervisor.
fn sti_shadow(machine: &Machine) -> Verdict {
    for (name, code, len) in [
        ("nop", code!("sti", "nop", "nop", "nop"), 1),
        ("cpuid", code!("sti", "cpuid", "nop", "nop"), 2),
        ("in", code!("sti", "in al, 0x61", "nop", "nop"), 2),
        ("out", code!("sti", "out 0x80, al", "nop", "nop"), 2),
        ("rdmsr", code!("sti", "rdmsr", "nop", "nop"), 2),
        ("mmio", code!("sti", "mov eax, [rdi]", "nop", "nop"), 2),
    ] {
        let regs = Regs::ZERO
            .with(RCX, guests::arch::msr::APIC_BASE as usize)
            .with(RDI, lapic::BASE + lapic::register::VERSION as usize);
        case(name, taken_at(machine, &code, regs, code.start + 1 + len))?;
    }
    Ok(())
}

/// An STI that is taken back at once lets nothing in.
fn sti_cli(machine: &Machine) -> Verdict {
    raise(VECTOR);
    let code = code!("sti", "cli", "nop", "nop");
    let mut context = Context::new(&code, Regs::pattern());
    at_end(context.run(), &code)?;
    same_registers(&context.regs, &Regs::pattern())?;
    taken(machine, VECTOR)
}

/// POPF has no shadow.
fn popf(machine: &Machine) -> Verdict {
    let stack = paging::data().address() + 256;
    let code = code!("push rax", "popfq", "nop", "nop");
    let regs = Regs::pattern().with(RSP, stack).with(RAX, FLAGS_IF | 2);
    taken_at(machine, &code, regs, code.start + 2)
}

/// CR8 holds back classes up to its own, and lets go at once.
fn task_priority(_: &Machine) -> Verdict {
    const CLASS: usize = VECTOR as usize >> 4;
    for blocking in [CLASS, CLASS + 1, 15] {
        let code = code!(
            "mov cr8, rax",
            "sti",
            "nop",
            "nop",
            "cpuid",
            "mov cr8, rsi",
            "nop",
            "nop",
            "nop"
        );
        raise(VECTOR);
        let regs = Regs::ZERO.with(RAX, blocking).with(RSI, CLASS - 1);
        let mut context = Context::new(&code, regs);
        let trap = run(&mut context);
        // SAFETY: interrupts are off in Rust code.
        unsafe { write_cr!("cr8", 0_usize) }
        lapic::end_of_interrupt();
        equal("vector", Hex(trap.vector), Hex(VECTOR.into()))?;
        let released = code.end - 3;
        let there = (released..code.end).contains(&trap.pc);
        holds("rip", there, Hex(trap.pc), Words("after mov cr8"))?;
    }
    Ok(())
}

/// A store to the APIC that makes an interrupt pending is done, and then it is taken.
fn sent_by_store(_: &Machine) -> Verdict {
    let code = code!("mov [rdi], eax", "2: loop 2b");
    let regs = Regs::pattern()
        .with(RCX, 1_000_000_000)
        .with(RDI, lapic::BASE + ICR as usize)
        .with(RAX, (command::SELF | u32::from(VECTOR)) as usize);
    let mut context = Context::new(&code, regs).interrupts(Interrupts::On);
    let trap = context.run();
    lapic::end_of_interrupt();
    equal("vector", Hex(trap.vector), Hex(VECTOR.into()))?;
    equal("rip", Hex(trap.pc), Hex(code.start + 2))?;
    same_registers(&context.regs, &regs.with(RCX, context.regs[RCX]))
}

/// An interrupt gate turns interrupts off, and what was on is on the stack.
fn gate(_: &Machine) -> Verdict {
    raise(VECTOR);
    let code = code!("2: jmp 2b");
    let mut context = Context::new(&code, Regs::ZERO).interrupts(Interrupts::On);
    context.run();
    let flags: usize;
    // SAFETY: reads the flags.
    unsafe { core::arch::asm!("pushfq", "pop {}", out(reg) flags) }
    lapic::end_of_interrupt();
    equal("pushed", Hex(context.flags & FLAGS_IF), Hex(FLAGS_IF))?;
    equal("now", Hex(flags & FLAGS_IF), Hex(0))
}

/// With an interrupt pending HLT goes on at once.
fn hlt_pending(machine: &Machine) -> Verdict {
    let code = code!("sti", "hlt", "2: jmp 2b");
    for _ in 0..10 {
        taken_at(machine, &code, Regs::ZERO, code.start + 2)?;
    }
    Ok(())
}

fn hlt_wakes(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    let code = code!("sti", "hlt", "2: jmp 2b");
    for _ in 0..5 {
        let deadline = timer.now() + timer.ticks_per_second() / 500;
        timer.set(deadline);
        let trap = Context::new(&code, Regs::ZERO).run();
        let now = timer.now();
        lapic::end_of_interrupt();
        equal("vector", Hex(trap.vector), Hex(Timer::VECTOR.into()))?;
        equal("rip", Hex(trap.pc), Hex(code.start + 2))?;
        // A count is a little coarser than a time stamp.
        let slack = timer.ticks_per_second() / 20_000;
        let late = now + slack >= deadline;
        holds("time", late, now, Words("the deadline or later"))?;
    }
    Ok(())
}

/// HLT does not wake for what the task's priority holds back, but for the timer it does.
fn hlt_again(machine: &Machine) -> Verdict {
    let timer = machine.timer();
    raise(0x31);
    // SAFETY: interrupts are off in Rust code.
    unsafe { write_cr!("cr8", 3_usize) }
    timer.set(timer.now() + timer.ticks_per_second() / 500);
    let code = code!("sti", "hlt", "2: jmp 2b");
    let trap = run(&mut Context::new(&code, Regs::ZERO));
    lapic::end_of_interrupt();
    // SAFETY: as before.
    unsafe { write_cr!("cr8", 0_usize) }
    equal("vector", Hex(trap.vector), Hex(Timer::VECTOR.into()))?;
    taken(machine, 0x31)
}
