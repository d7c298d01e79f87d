mod events;

use axdevice::{ApicMode, Standing};

use super::*;
use crate::{
    HltPolicy, LocalApicHardware,
    backend::{Alarm, Exit, Instruction, VendorPerCpu},
    cr::{cr0, cr4},
    event::{Event, Exception},
    regs::{SegmentRights, dr6, rflags},
    vmx::{
        VmxExitReason, VmxPerCpuState,
        controls::{primary, secondary},
        fields::{VmcsField, VmcsInterrupt16, VmcsTimer32},
        machine::{self, Fields, TestHal, power_on},
    },
};

type Vcpu = VmxVcpu<TestHal>;

/// Where the virtual-APIC page is, and the APIC-access page.
const REGISTERS: HostPhysAddr = HostPhysAddr::new(0x7000);
const STAND_IN: HostPhysAddr = HostPhysAddr::new(0x8000);

fn config(local: Option<(LocalApicHardware, HostPhysAddr)>) -> VendorConfig {
    VendorConfig {
        hlt: HltPolicy::Exit,
        longest_turn: u64::MAX,
        local,
    }
}

/// A loaded vCPU in real mode, whose local APIC is software's.
fn vcpu() -> Vcpu {
    vcpu_with(None)
}

fn vcpu_with(local: Option<LocalApicHardware>) -> Vcpu {
    power_on();
    core::mem::forget(VmxPerCpuState::<TestHal>::enable().ok().unwrap());
    machine::with(|m| m.forgotten.clear());
    let mut vcpu = Vcpu::new(config(local.map(|local| (local, REGISTERS)))).unwrap();
    vcpu.set_nested_root(HostPhysAddr::new(0x5000));
    vcpu.reset();
    vcpu.set(Register::Rip, 0xfff0);
    vcpu.set(Register::Rflags, rflags::ALWAYS);
    vcpu.set(Register::Cr0, cr0::RESET);
    vcpu.load(VmidAssignment::FlushAll(1)).unwrap();
    vcpu
}

fn step(f: impl FnOnce(&mut GuestRegisters, &mut Fields<'_>) + 'static) {
    machine::with(|m| m.script.push_back(alloc::boxed::Box::new(f)));
}

fn exits_with(reason: VmxExitReason) -> impl FnOnce(&mut GuestRegisters, &mut Fields<'_>) {
    move |_, fields| fields.set(VmcsReadOnly32::ExitReason.encoding(), reason as u64)
}

/// Runs the guest for one step of the script.
fn run(vcpu: &mut Vcpu) -> ExitInfo {
    vcpu.enter(&mut GuestRegisters::default(), 0).unwrap();
    vcpu.exit()
}

#[test]
fn launches_once_and_resumes_until_it_is_put() {
    let mut vcpu = vcpu();
    for _ in 0..3 {
        step(exits_with(VmxExitReason::Hlt));
        assert_eq!(run(&mut vcpu).exit, Exit::Instruction(Instruction::Hlt));
    }
    vcpu.put();
    vcpu.load(VmidAssignment::Kept(1)).unwrap();
    step(exits_with(VmxExitReason::Hlt));
    run(&mut vcpu);
    // Saving takes nothing away from the processor.
    vcpu.save();
    vcpu.reload();
    step(exits_with(VmxExitReason::Hlt));
    run(&mut vcpu);
    assert_eq!(machine::with(|m| (m.launches, m.resumes)), (2, 3));
}

#[test]
fn a_failed_entry_says_why() {
    let mut vcpu = vcpu();
    vcpu.launched = true;
    step(|_, _| {});
    let refused = vcpu.enter(&mut GuestRegisters::default(), 0).unwrap_err();
    let failure = vcpu.why_refused(refused);
    assert_eq!(failure.what, "VMRESUME of a VMCS that was not launched");
    assert_eq!((failure.raw.reason, failure.raw.pc), (5, 0xfff0));
}

#[test]
fn a_refused_guest_is_told_which_rule_it_broke() {
    let mut vcpu = vcpu();
    vcpu.set_segment(
        SegmentName::Cs,
        Segment {
            rights: SegmentRights(0x9b),
            limit: 0xffff,
            ..Segment::default()
        },
    );
    vcpu.set_segment(
        SegmentName::Ss,
        Segment {
            rights: SegmentRights(0x91),
            limit: 0xffff,
            ..Segment::default()
        },
    );
    step(|_, fields| fields.set(VmcsReadOnly32::ExitReason.encoding(), 0x8000_0021));
    let Exit::Refused(rule) = run(&mut vcpu).exit else {
        panic!("it was not refused");
    };
    assert_eq!(rule, "SS's type is not that of accessed writable data");
    step(|_, fields| fields.set(VmcsReadOnly32::ExitReason.encoding(), 0x8000_0022));
    assert_eq!(
        run(&mut vcpu).exit,
        Exit::Refused("VM-entry failure: MSR loading")
    );
    let reason = vcpu.raw_exit().reason;
    assert_eq!(vcpu.exit_name(reason), "VM-entry failure: MSR loading");
}

#[test]
fn the_guest_sees_its_own_control_registers() {
    let mut vcpu = vcpu();
    assert_eq!(vcpu.get(Register::Cr0), cr0::RESET);
    assert_eq!(VmcsGuestNW::Cr0.read(), cr0::ET | cr0::NE);
    assert_eq!(VmcsControlNW::Cr0ReadShadow.read(), cr0::RESET);
    vcpu.set(Register::Cr4, cr4::PAE);
    assert_eq!(vcpu.get(Register::Cr4), cr4::PAE);
    assert_eq!(VmcsGuestNW::Cr4.read(), cr4::PAE | cr4::MCE | 1 << 13);
    // The guest turns paging on, which it does without an exit.
    VmcsGuestNW::Cr0.write(VmcsGuestNW::Cr0.read() | cr0::PE | cr0::PG);
    assert_eq!(vcpu.get(Register::Cr0), cr0::RESET | cr0::PE | cr0::PG);
    // No bit is both the guest's and one that VMX or the host wants.
    assert_eq!(GUESTS_CR0 & (cr0::NE | cr0::CD | cr0::NW), 0);
    assert_eq!(GUESTS_CR4 & (1 << 13 | cr4::MCE | cr4::OSXSAVE), 0);
}

#[test]
fn ia32e_mode_follows_efer() {
    let mut vcpu = vcpu();
    let is_ia32e = || VmcsControl32::EntryControls.read() & entry::IA32E_MODE_GUEST != 0;
    assert!(!is_ia32e());
    vcpu.set(Register::Efer, efer::LME | efer::LMA);
    assert!(is_ia32e());
    vcpu.put();
    vcpu.load(VmidAssignment::Kept(1)).unwrap();
    assert!(is_ia32e());
    vcpu.set(Register::Efer, efer::LME);
    assert!(!is_ia32e());
}

#[test]
fn keeps_every_register_while_it_is_away() {
    let registers = [
        Register::Rip,
        Register::Rsp,
        Register::Rflags,
        Register::Cr0,
        Register::Cr2,
        Register::Cr3,
        Register::Cr4,
        Register::Efer,
        Register::Pat,
        Register::Dr6,
        Register::Dr7,
        Register::SysenterCs,
        Register::SysenterEsp,
        Register::SysenterEip,
        Register::Star,
        Register::Lstar,
        Register::Cstar,
        Register::Sfmask,
        Register::KernelGsBase,
    ];
    let mut vcpu = vcpu();
    let expect = |vcpu: &Vcpu, offset: u64| {
        for (n, register) in registers.into_iter().enumerate() {
            assert_eq!(vcpu.get(register), offset + n as u64, "{register:?}");
        }
    };
    let put = |vcpu: &mut Vcpu, offset: u64| {
        for (n, register) in registers.into_iter().enumerate() {
            vcpu.set(register, offset + n as u64);
        }
        expect(vcpu, offset);
    };
    put(&mut vcpu, 0x1000);
    vcpu.put();
    expect(&vcpu, 0x1000);
    // Someone else's.
    for number in msr::SWITCHED {
        hardware::write_msr(number, 0);
    }
    hardware::write_cr2(0);
    hardware::write_dr6(0);
    vcpu.load(VmidAssignment::Kept(1)).unwrap();
    expect(&vcpu, 0x1000);
    vcpu.save();
    put(&mut vcpu, 0x2000);
    vcpu.reload();
    step(exits_with(VmxExitReason::Hlt));
    run(&mut vcpu);
    expect(&vcpu, 0x2000);
    assert_eq!(hardware::read_msr(msr::number::LSTAR), 0x200f);
}

#[test]
fn forgets_only_what_it_must() {
    let mut vcpu = vcpu();
    let forgotten = || machine::with(|m| core::mem::take(&mut m.forgotten));
    assert_eq!(forgotten(), [Forget::Nested, Forget::Nested]);
    assert_eq!(VmcsControl64::Eptp.read(), 0x501e);
    vcpu.flush();
    assert_eq!(forgotten(), [Forget::Vpid(1)]);
    vcpu.retag(VmidAssignment::Fresh(7));
    assert_eq!((VmcsControl16::Vpid.read(), forgotten().len()), (7, 0));
    vcpu.put();
    vcpu.load(VmidAssignment::Kept(7)).unwrap();
    assert_eq!(forgotten(), []);
    vcpu.set_nested_root(HostPhysAddr::new(0x9000));
    assert_eq!(forgotten(), [Forget::Nested]);
    vcpu.put();
    vcpu.set_nested_root(HostPhysAddr::new(0xa000));
    vcpu.load(VmidAssignment::Kept(7)).unwrap();
    assert_eq!(VmcsControl64::Eptp.read(), 0xa01e);
    assert_eq!(forgotten(), [Forget::Nested]);
}

#[test]
fn the_last_exit_is_on_record() {
    let mut vcpu = vcpu();
    step(|_, fields| {
        fields.set(VmcsReadOnly32::ExitReason.encoding(), 48);
        fields.set(VmcsReadOnly64::GuestPhysicalAddress.encoding(), 0xfee0_0000);
    });
    run(&mut vcpu);
    let raw = vcpu.raw_exit();
    assert_eq!((raw.reason, raw.info2, raw.pc), (48, 0xfee0_0000, 0xfff0));
    assert_eq!(vcpu.exit_name(raw.reason), "EPT violation");
}

#[test]
fn the_timer_exits_once() {
    let mut vcpu = vcpu();
    let controls = || VmcsControl32::PinBased.read() & 1 << 6;
    assert_eq!(vcpu.set_deadline(0x1000), Alarm::Hardware);
    step(exits_with(VmxExitReason::PreemptionTimer));
    assert_eq!(run(&mut vcpu).exit, Exit::Deadline);
    assert_eq!((controls(), VmcsTimer32::Preemption.read()), (1 << 6, 0x80));
    step(exits_with(VmxExitReason::Hlt));
    run(&mut vcpu);
    assert_eq!(controls(), 0);
}

/// The controls that the VMCS has of those for local APICs: primary, secondary.
fn apic_controls() -> (u32, u32) {
    let cr8 = primary::CR8_LOAD_EXITING | primary::CR8_STORE_EXITING;
    (
        VmcsControl32::PrimaryProcBased.read() & (cr8 | primary::USE_TPR_SHADOW),
        VmcsControl32::SecondaryProcBased.read() & 0x311,
    )
}

fn standing(mode: ApicMode) -> Standing {
    Standing {
        mode,
        requested: 0x51,
        served: 0x42,
        levels: [1, 2, 3, 4],
    }
}

#[test]
fn a_local_apic_of_softwares_takes_no_control() {
    let mut vcpu = vcpu();
    let cr8 = primary::CR8_LOAD_EXITING | primary::CR8_STORE_EXITING;
    assert_eq!(apic_controls(), (cr8, 0));
    vcpu.take_over(HandOver::Nothing);
    assert_eq!(apic_controls(), (cr8, 0));
}

#[test]
fn the_controls_follow_what_is_kept_and_the_mode() {
    const ACCESSES: u32 = secondary::VIRTUALIZE_APIC_ACCESSES;
    const X2APIC: u32 = secondary::VIRTUALIZE_X2APIC_MODE;
    const SHOWN: u32 = secondary::APIC_REGISTER_VIRTUALIZATION;
    const INTERRUPTS: u32 = secondary::VIRTUAL_INTERRUPT_DELIVERY;
    let stand_in = STAND_IN;
    for (local, [disabled, xapic, x2apic]) in [
        (LocalApicHardware::TaskPriority, [0; 3]),
        (
            LocalApicHardware::Registers { stand_in },
            [ACCESSES, ACCESSES | SHOWN, X2APIC | SHOWN],
        ),
        (
            LocalApicHardware::Everything { stand_in },
            [
                ACCESSES,
                ACCESSES | SHOWN | INTERRUPTS,
                X2APIC | SHOWN | INTERRUPTS,
            ],
        ),
    ] {
        let mut vcpu = vcpu_with(Some(local));
        assert_eq!(VmcsControl64::VirtualApicAddress.read(), 0x7000);
        for (mode, expected) in [
            (ApicMode::XApic, xapic),
            (ApicMode::X2Apic, x2apic),
            (ApicMode::Disabled, disabled),
            (ApicMode::XApic, xapic),
        ] {
            vcpu.take_over(HandOver::All(standing(mode)));
            assert_eq!(
                apic_controls(),
                (primary::USE_TPR_SHADOW, expected),
                "{mode:?}"
            );
        }
        let access = VmcsControl64::ApicAccessAddress.read();
        assert_eq!(access, if xapic == 0 { 0 } else { 0x8000 });
    }
}

#[test]
fn interrupts_are_handed_to_the_processor() {
    let stand_in = STAND_IN;
    let mut vcpu = vcpu_with(Some(LocalApicHardware::Everything { stand_in }));
    let status = || VmcsInterrupt16::Status.read();
    vcpu.take_over(HandOver::All(standing(ApicMode::XApic)));
    assert_eq!(status(), 0x4251);
    let levels = [
        VmcsControl64::EoiExitBitmap0,
        VmcsControl64::EoiExitBitmap1,
        VmcsControl64::EoiExitBitmap2,
        VmcsControl64::EoiExitBitmap3,
    ];
    assert_eq!(levels.map(VmcsControl64::read), [1, 2, 3, 4]);
    vcpu.take_over(HandOver::Requests(0x31));
    assert_eq!(status(), 0x4251, "there is a more urgent one");
    vcpu.take_over(HandOver::Requests(0x93));
    assert_eq!(status(), 0x4293);
    // The guest takes it.
    step(|_, fields| {
        fields.set(VmcsReadOnly32::ExitReason.encoding(), 12);
        fields.set(VmcsInterrupt16::Status.encoding(), 0x9351);
    });
    run(&mut vcpu);
    // What comes while memory has the guest's state is there when it is loaded again, here or elsewhere.
    vcpu.save();
    vcpu.take_over(HandOver::Requests(0x61));
    vcpu.put();
    vcpu.load(VmidAssignment::Kept(1)).unwrap();
    assert_eq!(status(), 0x9361);
    vcpu.take_over(HandOver::All(Standing {
        requested: 0,
        served: 0,
        ..standing(ApicMode::XApic)
    }));
    assert_eq!(status(), 0);
}

#[test]
fn a_priority_that_holds_back_is_the_threshold() {
    let mut vcpu = vcpu_with(Some(LocalApicHardware::TaskPriority));
    for class in [5, 5, 0, 6] {
        vcpu.hold_back(class);
        assert_eq!(VmcsControl32::TprThreshold.read(), class.into());
    }
}

#[test]
fn no_more_is_kept_than_the_processor_can() {
    power_on();
    crate::machine::with(|m| m.msrs.insert(0x48b, 0x0217_7cff_0000_0000));
    let stand_in = STAND_IN;
    let made = |local| Vcpu::new(config(Some((local, REGISTERS)))).is_ok();
    assert!(!made(LocalApicHardware::Everything { stand_in }));
    assert!(!made(LocalApicHardware::Registers { stand_in }));
    assert!(made(LocalApicHardware::TaskPriority));
    assert!(made(LocalApicHardware::Nothing));
}

/// The access's kind is where an EPT violation says that it undid the blocking of NMIs.
#[test]
fn an_access_to_the_apic_page_leaves_nothing_behind() {
    let stand_in = STAND_IN;
    let mut vcpu = vcpu_with(Some(LocalApicHardware::Registers { stand_in }));
    step(|_, fields| {
        fields.set(VmcsReadOnly32::ExitReason.encoding(), 44);
        fields.set(6 << 12 | 1 << 10, 0x1040);
    });
    assert!(matches!(run(&mut vcpu).exit, Exit::Nested(_)));
    assert!(vcpu.is_open(Window::Nmi));
}
