use super::*;
use crate::regs::SegmentRights;
use crate::{
    machine as cpu,
    regs::gpr,
    svm::machine::then,
    testing::{TestHost, power_on},
};

type Vcpu = SvmVcpu<TestHost>;

fn config(hlt: HltPolicy) -> VendorConfig {
    VendorConfig {
        hlt,
        longest_turn: u64::MAX,
        local: None,
    }
}

fn vcpu() -> Vcpu {
    power_on();
    let mut vcpu = Vcpu::new(config(HltPolicy::Exit)).unwrap();
    vcpu.set_nested_root(HostPhysAddr::new(0x5000));
    vcpu.reset();
    vcpu.load(VmidAssignment::Fresh(3)).unwrap();
    vcpu
}

fn with_features(edx: u32) -> Vcpu {
    power_on();
    cpu::with(|m| m.cpuid.get_mut(&(0x8000_000a, 0)).unwrap().edx |= edx);
    Vcpu::new(config(HltPolicy::Untrapped)).unwrap()
}

fn run(vcpu: &mut Vcpu) -> GuestRegisters {
    let mut registers = GuestRegisters::default();
    registers.gpr[gpr::RAX] = 0x11;
    vcpu.enter(&mut registers, 0).unwrap();
    registers
}

#[test]
fn the_vmcb_says_what_exits() {
    let vcpu = vcpu();
    let control = &vcpu.pages.vmcb().control;
    assert!(control.intercepts.contains(INTERCEPTS | Intercepts::HLT));
    assert!(control.intercepts2.contains(Intercepts2::VMRUN));
    assert_eq!(
        (control.intercept_cr_reads, control.intercept_cr_writes),
        (0, 0x111)
    );
    assert_eq!((control.nested_paging, control.nested_cr3), (1, 0x5000));
    assert_eq!((control.asid, control.tsc_offset), (3, 0));
    assert_eq!(control.virtual_interrupt, VirtualInterrupt::MASKING);
    let untrapped = with_features(0);
    assert!(
        !untrapped
            .pages
            .vmcb()
            .control
            .intercepts
            .contains(Intercepts::HLT)
    );
}

#[test]
fn rax_goes_by_the_vmcb() {
    let mut vcpu = vcpu();
    then(|_, vmcb| {
        assert_eq!(vmcb.save.rax, 0x11);
        vmcb.save.rax = 0x22;
        vmcb.control.exit_code = exit_code::CPUID;
    });
    assert_eq!(run(&mut vcpu).gpr[gpr::RAX], 0x22);
    assert_eq!(vcpu.exit_name(vcpu.raw_exit().reason), "CPUID");
}

#[test]
fn every_register_keeps_its_value_and_efer_hides_svme() {
    use Register as R;
    let mut vcpu = vcpu();
    let all = [
        R::Rip,
        R::Rsp,
        R::Rflags,
        R::Cr0,
        R::Cr2,
        R::Cr3,
        R::Cr4,
        R::Efer,
        R::Pat,
        R::Dr6,
        R::Dr7,
        R::SysenterCs,
        R::SysenterEsp,
        R::SysenterEip,
        R::Star,
        R::Lstar,
        R::Cstar,
        R::Sfmask,
        R::KernelGsBase,
    ];
    for (value, register) in all.into_iter().enumerate() {
        vcpu.set(register, value as u64 + 1);
    }
    for (value, register) in all.into_iter().enumerate() {
        assert_eq!(vcpu.get(register), value as u64 + 1, "{register:?}");
    }
    assert_eq!(vcpu.save_area().efer & EFER_SVME, EFER_SVME);
    for (selector, name) in SegmentName::ALL.into_iter().enumerate() {
        let segment = Segment {
            selector: selector as u16,
            rights: SegmentRights(0xa09b),
            limit: 7,
            base: 9,
        };
        vcpu.set_segment(name, segment);
        assert_eq!(vcpu.segment(name), segment);
    }
    assert_eq!(vcpu.save_area().cs.attributes, 0xa9b);
    let rights = SegmentRights(0xc0f3);
    vcpu.set_segment(
        SegmentName::Ss,
        Segment {
            rights,
            ..Segment::default()
        },
    );
    assert_eq!(vcpu.privilege(), 3);
    for name in [TableName::Gdtr, TableName::Idtr] {
        let table = DescriptorTable { base: 5, limit: 6 };
        vcpu.set_table(name, table);
        assert_eq!(vcpu.table(name), table);
    }
}

#[test]
fn clean_bits_cover_what_did_not_change() {
    let mut vcpu = with_features(SvmFeatures::CLEAN_BITS.bits());
    let clean = |expected: Clean| {
        then(move |_, vmcb| {
            assert_eq!(vmcb.control.clean, expected);
            vmcb.control.exit_code = exit_code::INTR;
        });
    };
    vcpu.load(VmidAssignment::Fresh(1)).unwrap();
    clean(Clean::empty());
    run(&mut vcpu);
    clean(Clean::all());
    run(&mut vcpu);
    vcpu.set(Register::Cr4, 1);
    vcpu.set(Register::Rip, 1);
    vcpu.await_open(Window::Interrupt);
    clean(Clean::all() - Clean::CONTROL_REGISTERS - Clean::VIRTUAL_INTERRUPT - Clean::INTERCEPTS);
    run(&mut vcpu);
    vcpu.set_segment(SegmentName::Cs, Segment::default());
    vcpu.retag(VmidAssignment::Fresh(2));
    clean(Clean::all() - Clean::SEGMENTS - Clean::ASID);
    run(&mut vcpu);
    // Elsewhere, nothing is known.
    vcpu.load(VmidAssignment::Fresh(2)).unwrap();
    clean(Clean::empty());
    run(&mut vcpu);
    // And without the feature, the field is zero.
    let mut plain = self::vcpu();
    clean(Clean::empty());
    run(&mut plain);
    clean(Clean::empty());
    run(&mut plain);
}

#[test]
fn flushes_are_as_narrow_as_the_hardware_allows() {
    for (mut vcpu, narrow) in [
        (vcpu(), TlbControl::ALL),
        (
            with_features(SvmFeatures::FLUSH_BY_ASID.bits()),
            TlbControl::GUEST,
        ),
    ] {
        let flushes = |expected: TlbControl| {
            then(move |_, vmcb| {
                assert_eq!(vmcb.control.tlb_control, expected);
                vmcb.control.exit_code = exit_code::INTR;
            });
        };
        vcpu.load(VmidAssignment::FlushAll(1)).unwrap();
        vcpu.flush();
        flushes(if narrow == TlbControl::ALL {
            narrow
        } else {
            TlbControl::ALL
        });
        run(&mut vcpu);
        flushes(TlbControl::NOTHING);
        run(&mut vcpu);
        vcpu.retag(VmidAssignment::Kept(1));
        vcpu.flush();
        flushes(narrow);
        run(&mut vcpu);
    }
}

#[test]
fn an_injected_event_is_gone_after_the_exit() {
    let mut vcpu = vcpu();
    vcpu.inject(Event::Interrupt(0x30));
    then(|_, vmcb| {
        assert_eq!(vmcb.control.event_injection, 0x8000_0030);
        vmcb.control.exit_code = exit_code::INTR;
    });
    run(&mut vcpu);
    then(|_, vmcb| {
        assert_eq!(vmcb.control.event_injection, 0);
        vmcb.control.exit_code = exit_code::INTR;
    });
    run(&mut vcpu);
}

#[test]
fn windows_follow_flags_and_shadow() {
    let mut vcpu = vcpu();
    assert!(!vcpu.is_open(Window::Interrupt) && vcpu.is_open(Window::Nmi));
    vcpu.set(Register::Rflags, rflags::INTERRUPT);
    assert!(vcpu.is_open(Window::Interrupt));
    vcpu.pages.vmcb_mut().control.interrupt_shadow = 1;
    assert!(!vcpu.is_open(Window::Interrupt));
    vcpu.end_shadow();
    assert!(vcpu.is_open(Window::Interrupt));
    vcpu.await_open(Window::Interrupt);
    let pending = vcpu.pages.vmcb().control.virtual_interrupt;
    assert_eq!(pending.0, 1 << 24 | 1 << 20 | 0xf << 16 | 1 << 8);
    then(|_, vmcb| vmcb.control.exit_code = exit_code::VINTR);
    run(&mut vcpu);
    assert_eq!(vcpu.exit().exit, Exit::InterruptWindow);
    let control = &vcpu.pages.vmcb().control;
    assert_eq!(control.virtual_interrupt, VirtualInterrupt::MASKING);
    assert!(!control.intercepts.contains(Intercepts::VINTR));
}

#[test]
fn an_nmi_that_was_not_delivered_leaves_the_way_open() {
    let mut vcpu = vcpu();
    vcpu.inject(Event::Nmi);
    assert!(!vcpu.is_open(Window::Nmi));
    then(|_, vmcb| {
        assert!(vmcb.control.intercepts.contains(Intercepts::IRET));
        vmcb.control.exit_code = exit_code::NESTED_PAGE_FAULT;
        vmcb.control.exit_interrupt_info = 0x8000_0202;
    });
    run(&mut vcpu);
    assert_eq!(vcpu.exit().interrupted, Some(Event::Nmi));
    assert!(vcpu.is_open(Window::Nmi));
    assert!(
        !vcpu
            .pages
            .vmcb()
            .control
            .intercepts
            .contains(Intercepts::IRET)
    );
}

#[test]
fn the_task_priority_is_what_cr8_reads() {
    let mut vcpu = vcpu();
    vcpu.set_task_priority(5);
    let control = &vcpu.pages.vmcb().control;
    assert_eq!(control.virtual_interrupt.0, 1 << 24 | 5);
}

#[test]
fn fetched_bytes_count_where_they_are_there() {
    let mut vcpu = with_features(SvmFeatures::DECODE_ASSISTS.bits());
    let control = &mut vcpu.pages.vmcb_mut().control;
    control.fetched_count = 3;
    control.fetched_bytes[..3].copy_from_slice(&[1, 2, 3]);
    assert_eq!(vcpu.fetched_bytes(), [1, 2, 3]);
    vcpu.pages.vmcb_mut().control.fetched_count = 16;
    assert_eq!(vcpu.fetched_bytes(), []);
    assert_eq!(self::vcpu().fetched_bytes(), []);
}

/// Why the guest is not entered.
fn refusal_of(vcpu: &mut Vcpu) -> &'static str {
    vcpu.enter(&mut GuestRegisters::default(), 0).unwrap();
    assert_eq!(vcpu.frequent(), Frequent::Other);
    let Exit::Refused(what) = vcpu.exit().exit else {
        panic!("it was entered");
    };
    what
}

#[test]
fn refusals_name_the_rule() {
    let mut vcpu = vcpu();
    let mut refused = |change: fn(&mut Vcpu)| {
        change(&mut vcpu);
        then(|_, vmcb| vmcb.control.exit_code = exit_code::INVALID);
        refusal_of(&mut vcpu)
    };
    let long = |vcpu: &mut Vcpu| {
        vcpu.set(Register::Efer, 1 << 8 | 1 << 10);
        vcpu.set(Register::Cr0, 1 << 31 | 1);
    };
    assert_eq!(refused(long), "long mode without CR4.PAE");
    let reserved = |vcpu: &mut Vcpu| vcpu.set(Register::Efer, 1 << 9);
    assert_eq!(refused(reserved), "EFER has reserved bits");
    let off = |vcpu: &mut Vcpu| vcpu.pages.vmcb_mut().save.efer = 0;
    assert_eq!(refused(off), "EFER.SVME is clear");
    let host = |vcpu: &mut Vcpu| vcpu.retag(VmidAssignment::Kept(0));
    assert_eq!(refused(host), "ASID 0 is the host's");
}

#[test]
fn a_refusal_has_words_whatever_the_width_of_its_code() {
    use crate::cr::{cr0, efer};
    for code in [exit_code::INVALID, 0xffff_ffff] {
        let mut vcpu = vcpu();
        vcpu.set(Register::Efer, efer::LME);
        vcpu.set(Register::Cr0, cr0::PG);
        vcpu.set(Register::Cr4, crate::cr::cr4::PAE);
        then(move |_, vmcb| vmcb.control.exit_code = code);
        let refused = refusal_of(&mut vcpu);
        assert!(refused.contains("without CR0.PE"), "{refused}");
        let reason = vcpu.raw_exit().reason;
        assert_eq!(reason, exit_code::INVALID);
        assert_eq!(vcpu.exit_name(reason), "invalid guest state");
    }
}

#[test]
fn a_machine_check_is_the_hosts() {
    let mut vcpu = vcpu();
    then(|_, vmcb| vmcb.control.exit_code = exit_code::EXCEPTION + 18);
    run(&mut vcpu);
    assert_eq!(vcpu.exit().exit, Exit::HostNmi);
    assert_eq!(cpu::with(|m| m.host_events.clone()), [18]);
}
