//! Events: in which form they are injected, when their windows are open, and what an exit in the midst of one leaves.

use super::*;

/// What the next entry injects.
fn injection(vcpu: &mut Vcpu, event: Event) -> (u32, u32) {
    vcpu.inject(event);
    step(exits_with(VmxExitReason::Hlt));
    vcpu.enter(&mut GuestRegisters::default(), 0).unwrap();
    vcpu.exit();
    (
        VmcsControl32::EntryInterruptInfo.read(),
        VmcsControl32::EntryExceptionErrorCode.read(),
    )
}

#[test]
fn injects_each_event_in_its_form() {
    let mut vcpu = vcpu();
    let fault = Event::Exception(Exception {
        vector: 13,
        error_code: Some(0x18),
    });
    // The processor clears the valid bit at the exit. Real mode has no error codes.
    assert_eq!(injection(&mut vcpu, fault).0, 0x30d);
    vcpu.set(Register::Cr0, cr0::RESET | cr0::PE);
    assert_eq!(injection(&mut vcpu, fault), (0xb0d, 0x18));
    assert_eq!(injection(&mut vcpu, Event::Nmi).0, 0x202);
    assert_eq!(injection(&mut vcpu, Event::Interrupt(0x31)).0, 0x031);
    assert_eq!(
        injection(&mut vcpu, Event::Software).0,
        0x031,
        "nothing new"
    );
    // Saved, but still in the hardware.
    vcpu.save();
    vcpu.reload();
    assert_eq!(injection(&mut vcpu, Event::Interrupt(0x32)).0, 0x032);
    // What an entry left that failed is gone when the vCPU is loaded again.
    vcpu.inject(Event::Nmi);
    vcpu.put();
    vcpu.load(VmidAssignment::Kept(1)).unwrap();
    assert_eq!(VmcsControl32::EntryInterruptInfo.read(), 0);
}

#[test]
fn windows_open_once() {
    let mut vcpu = vcpu();
    let asked = || VmcsControl32::PrimaryProcBased.read() & (1 << 2 | 1 << 22);
    vcpu.await_open(Window::Interrupt);
    vcpu.await_open(Window::Nmi);
    step(exits_with(VmxExitReason::InterruptWindow));
    assert_eq!(run(&mut vcpu).exit, Exit::InterruptWindow);
    assert_eq!(asked(), 1 << 2 | 1 << 22);
    step(exits_with(VmxExitReason::NmiWindow));
    assert_eq!(run(&mut vcpu).exit, Exit::NmiWindow);
    assert_eq!(asked(), 1 << 22);
    step(exits_with(VmxExitReason::Hlt));
    run(&mut vcpu);
    assert_eq!(asked(), 0);
    vcpu.await_open(Window::Interrupt);
    vcpu.ignore(Window::Interrupt);
    step(exits_with(VmxExitReason::Hlt));
    run(&mut vcpu);
    assert_eq!(asked(), 0);
}

#[test]
fn is_open_where_nothing_blocks() {
    let mut vcpu = vcpu();
    let mut open = |interruptibility, flags| {
        VmcsGuest32::Interruptibility.write(interruptibility);
        vcpu.set(Register::Rflags, flags);
        let open = [Window::Interrupt, Window::Nmi].map(|window| vcpu.is_open(window));
        vcpu.end_shadow();
        (open, VmcsGuest32::Interruptibility.read())
    };
    assert_eq!(open(0, 0x202), ([true, true], 0));
    assert_eq!(open(0, 0x002), ([false, true], 0));
    assert_eq!(open(1, 0x202), ([false, false], 0));
    assert_eq!(open(2, 0x202), ([false, false], 0));
    assert_eq!(open(8, 0x202), ([true, false], 8));
    assert_eq!(open(9, 0x202), ([false, false], 8));
}

#[test]
fn an_interrupted_nmi_is_no_longer_being_handled() {
    let mut vcpu = vcpu();
    step(|_, fields| {
        fields.set(VmcsReadOnly32::ExitReason.encoding(), 48);
        fields.set(VmcsReadOnly32::IdtVectoringInfo.encoding(), 0x8000_0202);
        fields.set(VmcsGuest32::Interruptibility.encoding(), 8);
    });
    assert_eq!(run(&mut vcpu).interrupted, Some(Event::Nmi));
    assert!(vcpu.is_open(Window::Nmi));
}

#[test]
fn an_interrupted_iret_blocks_nmis_again() {
    let mut vcpu = vcpu();
    step(|_, fields| {
        fields.set(VmcsReadOnly32::ExitReason.encoding(), 48);
        fields.set(6 << 12 | 1 << 10, 1 << 12 | 0x181);
    });
    assert_eq!(run(&mut vcpu).interrupted, None);
    assert!(!vcpu.is_open(Window::Nmi));
}

#[test]
fn nmis_and_machine_checks_are_the_hosts() {
    let mut vcpu = vcpu();
    for info in [0x8000_0202, 0x8000_0312] {
        step(move |_, fields| {
            fields.set(VmcsReadOnly32::ExitReason.encoding(), 0);
            fields.set(VmcsReadOnly32::ExitInterruptInfo.encoding(), info);
        });
        assert_eq!(run(&mut vcpu).exit, Exit::HostNmi);
    }
    step(exits_with(VmxExitReason::Init));
    assert_eq!(run(&mut vcpu).exit, Exit::HostNmi);
    assert_eq!(crate::machine::with(|m| m.host_events.clone()), [2, 18]);
}

#[test]
fn a_debug_exception_is_told_in_dr6() {
    let mut vcpu = vcpu();
    vcpu.set(Register::Dr6, dr6::RESET | 1);
    vcpu.set(Register::Dr7, 0x2400);
    step(|_, fields| {
        fields.set(VmcsReadOnly32::ExitReason.encoding(), 0);
        fields.set(VmcsReadOnly32::ExitInterruptInfo.encoding(), 0x8000_0301);
        fields.set(6 << 12 | 1 << 10, 0x4002);
    });
    assert_eq!(
        run(&mut vcpu).exit,
        Exit::Exception {
            vector: 1,
            error_code: None
        }
    );
    assert_eq!(vcpu.get(Register::Dr6), dr6::RESET | 0x4002);
    assert_eq!(vcpu.get(Register::Dr7), 0x400);
}

#[test]
fn int1_is_over_when_its_exception_comes() {
    let mut vcpu = vcpu();
    vcpu.set(Register::Rip, 0x1000);
    step(|_, fields| {
        fields.set(VmcsReadOnly32::ExitReason.encoding(), 0);
        fields.set(VmcsReadOnly32::ExitInterruptInfo.encoding(), 0x8000_0501);
        fields.set(VmcsReadOnly32::ExitInstructionLength.encoding(), 1);
    });
    let debug = Exit::Exception {
        vector: 1,
        error_code: None,
    };
    assert_eq!(run(&mut vcpu).exit, debug);
    assert_eq!(vcpu.get(Register::Rip), 0x1001);
}
