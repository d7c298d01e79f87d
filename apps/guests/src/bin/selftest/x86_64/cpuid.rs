//! CPUID: what it says, and that it is one instruction however it is written and wherever it stands.

use guests::arch::context::reg::{RAX, RBX, RCX, RDX};
use guests::arch::context::{Code, Context, Regs, exception};
use guests::arch::cpu::{self, CR4_OSXSAVE, Feature, HYPERVISOR_LEAF, cpuid};
use guests::arch::{Machine, lapic};
use guests::report::{Hex, Miss, Verdict, Words, case, equal, holds, skip};
use guests::{code, read_cr, write_cr};

use super::Check;
use super::expect::{completed, completes, each, forbidden, same_registers};
use super::paging::{PAGE, Paging, STAGE, stage};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("cpuid.leaves", leaves),
    Check::new("cpuid.apic_id", apic_id),
    Check::new("cpuid.registers", registers),
    Check::new("cpuid.prefixes", prefixes),
    Check::new("cpuid.too_long", too_long),
    Check::new("cpuid.page_end", page_end),
    Check::new("cpuid.two_pages", two_pages),
    Check::new("cpuid.osxsave", osxsave),
    Check::new("cpuid.absent_subleaf", absent_subleaf),
    Check::as_guest("cpuid.hypervisor", "it has another name", hypervisor),
    Check::as_guest(
        "cpuid.no_virtualization",
        "a CPU may have it",
        no_virtualization,
    ),
    Check::as_guest("cpuid.frequency", "only AxHV tells it", frequency),
];

/// What every CPU of 64 bits has, and every PC needs.
fn leaves(_: &Machine) -> Verdict {
    holds(
        "leaves",
        cpuid(0, 0).a >= 1,
        cpuid(0, 0).a,
        Words("1 or more"),
    )?;
    let last = cpuid(0x8000_0000, 0).a;
    holds(
        "extended leaves",
        last >= 0x8000_0008,
        Hex(last as usize),
        Words("0x80000008 or more"),
    )?;
    // FPU, TSC, MSR, PAE, CMPXCHG8B, APIC, PGE, CMOV, PAT, FXSR, SSE, SSE2.
    const BASIC: u32 = 0x0701_a371;
    // SYSCALL, NX, long mode.
    const EXTENDED: u32 = 1 << 29 | 1 << 20 | 1 << 11;
    for (name, got, needed) in [
        ("leaf 1", cpuid(1, 0).d, BASIC),
        ("leaf 0x80000001", cpuid(0x8000_0001, 0).d, EXTENDED),
    ] {
        let [got, needed] = [got & needed, needed].map(|bits| Hex(bits as usize));
        equal(name, got, needed)?;
    }
    Ok(())
}

fn apic_id(_: &Machine) -> Verdict {
    equal("id", cpuid(1, 0).b >> 24, lapic::id() & 0xff)
}

/// The vendor's name, which is the same at any time.
const LEAF: usize = 0;

fn plain() -> Result<Regs, Miss> {
    let regs = Regs::pattern().with(RAX, LEAF).with(RCX, 0);
    completes(&code!("cpuid"), regs)
}

/// Four registers are written, with their upper halves zero.
fn registers(_: &Machine) -> Verdict {
    let leaf = cpuid(LEAF as u32, 0);
    let mut expected = Regs::pattern();
    for (register, value) in [(RAX, leaf.a), (RBX, leaf.b), (RCX, leaf.c), (RDX, leaf.d)] {
        expected = expected.with(register, value as usize);
    }
    same_registers(&plain()?, &expected)?;
    // Only the lower half of RAX and RCX counts.
    let upper = 0xdead_beef << 32;
    let regs = Regs::pattern().with(RAX, upper | LEAF).with(RCX, upper);
    same_registers(&completes(&code!("cpuid"), regs)?, &expected)
}

fn prefixes(_: &Machine) -> Verdict {
    let expected = plain()?;
    for (name, code) in each![
        ".byte 0x66, 0x0f, 0xa2",
        ".byte 0x67, 0x0f, 0xa2",
        ".byte 0xf2, 0x0f, 0xa2",
        ".byte 0xf3, 0x0f, 0xa2",
        ".byte 0x2e, 0x0f, 0xa2",
        ".byte 0x48, 0x0f, 0xa2",
        ".byte 0x66, 0xf3, 0x64, 0x4f, 0x0f, 0xa2",
        ".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x0f, 0xa2",
    ] {
        let regs = Regs::pattern().with(RAX, LEAF).with(RCX, 0);
        let after = case(name, completes(&code, regs))?;
        case(name, same_registers(&after, &expected))?;
    }
    Ok(())
}

/// An instruction has 15 bytes at most.
fn too_long(_: &Machine) -> Verdict {
    forbidden(&code!(".fill 14, 1, 0x66", "cpuid"))
}

/// Runs the code that was staged; it ends in a fetch from the page after it.
fn runs_off(code: &Code, start: usize, end: usize) -> Verdict {
    let staged = Code { start, end };
    let regs = Regs::pattern().with(RAX, LEAF).with(RCX, 0);
    let mut context = Context::new(&staged, regs);
    let trap = context.run();
    const FETCH: usize = 1 << 4;
    equal("vector", Hex(trap.vector), Hex(exception::PAGE_FAULT))?;
    equal("error code", Hex(trap.error), Hex(FETCH))?;
    equal("rip", Hex(trap.pc), Hex(end))?;
    equal("cr2", Hex(trap.address), Hex(end))?;
    same_registers(&context.regs, &completes(code, regs)?)
}

/// The last bytes of a page, with no page behind it: whoever wants to know the instruction must not
/// ask for more than there is.
fn page_end(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    for (name, code) in each!["cpuid", "nop; cpuid", ".byte 0x66, 0xf3, 0x0f, 0xa2"] {
        let bytes = code.bytes();
        let len = bytes.len() - 1;
        stage(2 * PAGE - len, &bytes[..len]);
        let end = STAGE + 2 * PAGE;
        case(name, runs_off(&code, end - len, end))?;
    }
    Ok(())
}

/// An instruction in two pages that do not follow each other in memory.
fn two_pages(_: &Machine) -> Verdict {
    let _paging = Paging::on();
    for (name, code) in each!["cpuid", ".byte 0x66, 0xf3, 0x64, 0x4f, 0x0f, 0xa2",] {
        let len = code.end - code.start;
        for first in 1..len {
            stage(PAGE - first, code.bytes());
            let start = STAGE + PAGE - first;
            let staged = Code {
                start,
                end: start + len,
            };
            let regs = Regs::pattern().with(RAX, LEAF).with(RCX, 0);
            let trapped = completed(Context::new(&staged, regs), &staged);
            case(name, same_registers(&case(name, trapped)?, &plain()?))?;
        }
    }
    Ok(())
}

/// The bit follows CR4, at once.
fn osxsave(_: &Machine) -> Verdict {
    if !Feature::Xsave.is_there() {
        return skip("no XSAVE");
    }
    let before = read_cr!("cr4");
    let bit = || cpuid(1, 0).c >> 27 & 1;
    let mut seen = [0; 2];
    for (n, seen) in seen.iter_mut().enumerate() {
        let set = if n == 1 { CR4_OSXSAVE } else { 0 };
        // SAFETY: this program uses no registers of that kind.
        unsafe { write_cr!("cr4", before & !CR4_OSXSAVE | set) }
        *seen = bit();
    }
    // SAFETY: as before.
    unsafe { write_cr!("cr4", before) }
    equal("off and on", seen, [0, 1])
}

fn absent_subleaf(_: &Machine) -> Verdict {
    if cpuid(0, 0).a < 7 {
        return skip("no leaf 7");
    }
    let leaf = cpuid(7, 1000);
    equal("leaf 7, 1000", [leaf.a, leaf.b, leaf.c, leaf.d], [0; 4])
}

fn hypervisor(_: &Machine) -> Verdict {
    let signature = cpu::hypervisor().unwrap_or_default();
    let name = str::from_utf8(&signature).unwrap_or("?");
    equal("signature", name, "AxHVAxHVAxHV")?;
    let last = cpuid(HYPERVISOR_LEAF, 0).a;
    let in_range = (HYPERVISOR_LEAF..HYPERVISOR_LEAF + 0x100).contains(&last);
    holds("last", in_range, Hex(last as usize), Words("a leaf"))
}

fn no_virtualization(_: &Machine) -> Verdict {
    for feature in [Feature::Svm, Feature::Vmx] {
        let there = feature.is_there();
        holds(format_args!("{feature:?}"), !there, there, Words("nothing"))?;
    }
    let svm = cpuid(0x8000_000a, 0);
    equal("leaf 0x8000000a", [svm.a, svm.b, svm.c, svm.d], [0; 4])
}

/// What the leaf of the frequency says, held against the PIT.
fn frequency(_: &Machine) -> Verdict {
    let told = u64::from(cpuid(HYPERVISOR_LEAF + 0x10, 0).a) * 1000;
    super::timer::agrees_with_pit(told)
}
