//! Every state, every operation, with a good end and a bad one.

mod named;

use std::format;
use std::string::ToString;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::vec::Vec;

use axerrno::{AxError, AxErrorKind};

use super::*;
use crate::{DeviceAccess, HypercallError, LineLevel, NoDevices};

use VCpuState::{Blocked, Created, Free, Invalid, Ready, Running};

const STATES: [VCpuState; 6] = [Created, Free, Ready, Running, Blocked, Invalid];

/// An architecture that notes what is called, and fails at the call that it is told.
#[derive(Debug)]
struct Script {
    calls: Vec<&'static str>,
    fails_at: Option<&'static str>,
    /// Where `run` says that it is in the guest, and where it waits to be let out.
    guest: Option<(Sender<()>, Receiver<()>)>,
    account: Arc<Account>,
}

crate::exit_kinds! {
    /// Why a vCPU left its guest.
    enum ExitKind {
        /// Of each run.
        Run = "run",
    }
}

impl Default for Script {
    fn default() -> Self {
        Self {
            calls: Vec::new(),
            fails_at: None,
            guest: None,
            account: Arc::new(Account::new::<ExitKind>()),
        }
    }
}

impl Script {
    fn call(&mut self, name: &'static str) -> AxResult {
        self.calls.push(name);
        match self.fails_at {
            Some(failing) if failing == name => Err(AxErrorKind::Io.into()),
            Some(_) | None => Ok(()),
        }
    }
}

impl AxArchVCpu for Script {
    type CreateConfig = Script;
    type SetupConfig = ();

    fn new(_vm_id: usize, _vcpu_id: usize, config: Script) -> AxResult<Self> {
        let mut script = config;
        script.call("new").map(|()| script)
    }

    fn account(&self) -> &Arc<Account> {
        &self.account
    }

    fn set_entry(&mut self, _entry: GuestPhysAddr) -> AxResult {
        self.call("set_entry")
    }

    fn set_nested_root(&mut self, _root: HostPhysAddr) -> AxResult {
        self.call("set_nested_root")
    }

    fn setup(&mut self, _config: ()) -> AxResult {
        self.call("setup")
    }

    fn start_at(&mut self, _entry: GuestPhysAddr, _arg: u64) -> AxResult {
        self.call("start_at")
    }

    fn run<D: DeviceAccess>(
        &mut self,
        _mailbox: &Mailbox,
        _devices: &D,
    ) -> AxResult<AxVCpuExitReason> {
        if let Some((entered, leave)) = &self.guest {
            entered.send(()).unwrap();
            leave.recv().unwrap();
        }
        self.account.count(ExitKind::Run);
        self.call("run").map(|()| AxVCpuExitReason::Halt)
    }

    fn bind(&mut self) -> AxResult {
        self.call("bind")
    }

    fn unbind(&mut self) -> AxResult {
        self.call("unbind")
    }

    fn inject_interrupt(&mut self, _vector: usize) -> AxResult {
        self.call("inject_interrupt")
    }

    fn set_interrupt_line(&mut self, _vector: usize, _level: LineLevel) -> AxResult {
        self.call("set_interrupt_line")
    }

    fn set_return_value(&mut self, _answer: Result<u64, HypercallError>) {}

    fn finish_read(&mut self, _value: u64) -> AxResult {
        self.call("finish_read")
    }

    fn fault_access(&mut self) -> AxResult {
        self.call("fault_access")
    }

    fn has_pending_interrupt(&self) -> bool {
        false
    }

    fn timer_deadline(&self) -> Option<u64> {
        None
    }

    fn pc(&self) -> u64 {
        0
    }

    fn dump(&self, _out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        Ok(())
    }
}

type VCpu = AxVCpu<Script>;

const ENTRY: GuestPhysAddr = GuestPhysAddr::new(0x8020_0000);
const ROOT: HostPhysAddr = HostPhysAddr::new(0x9000_0000);
const PCPU: usize = 3;

/// One operation: where it begins and ends, and what it asks of the architecture, in order.
struct Operation {
    name: &'static str,
    from: VCpuState,
    to: VCpuState,
    calls: &'static [&'static str],
    make: fn(&VCpu) -> Result<(), VCpuError>,
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "setup",
        from: Created,
        to: Free,
        calls: &["set_nested_root", "set_entry", "setup"],
        make: |vcpu| vcpu.setup(ENTRY, ROOT, ()),
    },
    Operation {
        name: "reset",
        from: Free,
        to: Free,
        calls: &["setup", "start_at"],
        make: |vcpu| vcpu.reset(ENTRY, 7, ()),
    },
    Operation {
        name: "start_at",
        from: Free,
        to: Free,
        calls: &["start_at"],
        make: |vcpu| vcpu.start_at(ENTRY, 7),
    },
    Operation {
        name: "bind",
        from: Free,
        to: Ready,
        calls: &["bind"],
        make: |vcpu| vcpu.bind(PCPU),
    },
    Operation {
        name: "unbind",
        from: Ready,
        to: Free,
        calls: &["unbind"],
        make: VCpu::unbind,
    },
    Operation {
        name: "run",
        from: Ready,
        to: Ready,
        calls: &["run"],
        make: |vcpu| {
            vcpu.run(&NoDevices)
                .map(|reason| assert_eq!(reason, AxVCpuExitReason::Halt))
        },
    },
    Operation {
        name: "block",
        from: Free,
        to: Blocked,
        calls: &[],
        make: VCpu::block,
    },
    Operation {
        name: "unblock",
        from: Blocked,
        to: Free,
        calls: &[],
        make: VCpu::unblock,
    },
];

/// A vCPU in `state`, come there as it should, that fails at the call `fails_at`.
fn vcpu_in(state: VCpuState, fails_at: Option<&'static str>) -> VCpu {
    let vcpu = VCpu::new(1, 2, Some(1 << PCPU), Script::default()).unwrap();
    if state != Created {
        vcpu.setup(ENTRY, ROOT, ()).unwrap();
    }
    match state {
        Created | Free => {}
        Ready => vcpu.bind(PCPU).unwrap(),
        Running => {
            vcpu.bind(PCPU).unwrap();
            vcpu.transition_state(Ready, Running).unwrap();
        }
        Blocked => vcpu.block().unwrap(),
        Invalid => vcpu.transition_state(Free, Invalid).unwrap(),
    }
    {
        let mut script = vcpu.arch.lock();
        script.calls.clear();
        script.fails_at = fails_at;
    }
    assert_eq!(vcpu.state(), state);
    vcpu
}

fn calls(vcpu: &VCpu) -> Vec<&'static str> {
    vcpu.inspect(|script| script.calls.clone()).unwrap()
}

/// What must hold of any vCPU.
fn is_sound(vcpu: &VCpu) {
    assert_eq!(
        vcpu.pcpu().is_some(),
        vcpu.state().is_bound(),
        "{}",
        vcpu.state()
    );
    if vcpu.state() == Invalid {
        for operation in OPERATIONS {
            let Operation {
                name: operation,
                from: expected,
                make,
                ..
            } = *operation;
            let found = Invalid;
            assert_eq!(
                make(vcpu),
                Err(VCpuError::WrongState {
                    operation,
                    expected,
                    found
                })
            );
            assert_eq!(vcpu.state(), Invalid);
        }
    }
}

#[test]
fn an_operation_that_is_due_leads_on() {
    for operation in OPERATIONS {
        let vcpu = vcpu_in(operation.from, None);
        assert_eq!((operation.make)(&vcpu), Ok(()), "{}", operation.name);
        assert_eq!(vcpu.state(), operation.to, "{}", operation.name);
        assert_eq!(calls(&vcpu), operation.calls, "{}", operation.name);
        is_sound(&vcpu);
    }
}

#[test]
fn an_operation_that_is_not_due_is_the_end() {
    for &Operation {
        name: operation,
        from: expected,
        make,
        ..
    } in OPERATIONS
    {
        for found in STATES.into_iter().filter(|&found| found != expected) {
            let vcpu = vcpu_in(found, None);
            let error = VCpuError::WrongState {
                operation,
                expected,
                found,
            };
            assert_eq!(make(&vcpu), Err(error));
            assert_eq!(vcpu.state(), Invalid, "{operation} in {found}");
            assert!(calls(&vcpu).is_empty(), "{operation} in {found}");
            is_sound(&vcpu);
        }
    }
}

#[test]
fn an_operation_that_fails_is_the_end() {
    for operation in OPERATIONS {
        for (done, call) in operation.calls.iter().enumerate() {
            let vcpu = vcpu_in(operation.from, Some(call));
            let (from, to) = match operation.name {
                "run" => (Running, Ready),
                _ => (operation.from, operation.to),
            };
            let error = AxErrorKind::Io.into();
            let error = VCpuError::Failed {
                operation: operation.name,
                from,
                to,
                error,
            };
            assert_eq!((operation.make)(&vcpu), Err(error));
            assert_eq!(vcpu.state(), Invalid);
            assert_eq!(calls(&vcpu), operation.calls[..=done]);
            is_sound(&vcpu);
        }
    }
}

#[test]
fn who_and_where_it_is() {
    let vcpu = VCpu::new(4, 1, Some(0b1100), Script::default()).unwrap();
    assert_eq!(
        (vcpu.vm_id(), vcpu.id(), vcpu.affinity()),
        (4, 1, Some(0b1100))
    );
    assert_eq!((vcpu.state(), vcpu.pcpu()), (Created, None));
    vcpu.setup(ENTRY, ROOT, ()).unwrap();
    assert_eq!(vcpu.pcpu(), None);
    vcpu.bind(2).unwrap();
    assert_eq!(vcpu.pcpu(), Some(2));
    let _ = vcpu.run(&NoDevices).unwrap();
    assert_eq!(vcpu.pcpu(), Some(2));
    vcpu.unbind().unwrap();
    assert_eq!(vcpu.pcpu(), None);
    // A state that is moved by hand claims no pCPU.
    vcpu.transition_state(Free, Ready).unwrap();
    assert_eq!(vcpu.pcpu(), None);
}

#[test]
fn a_vcpu_that_cannot_be_made_is_not() {
    let config = Script {
        fails_at: Some("new"),
        ..Script::default()
    };
    assert_eq!(
        VCpu::new(0, 0, None, config).err(),
        Some(AxErrorKind::Io.into())
    );
}

#[test]
fn reset_throws_letters_away_and_start_keeps_them() {
    let vcpu = vcpu_in(Free, None);
    vcpu.mailbox().raise(1);
    vcpu.start_at(ENTRY, 0).unwrap();
    assert!(vcpu.mailbox().has_interrupt(u64::MAX));
    vcpu.mailbox().set_line(9, LineLevel::High);
    vcpu.reset(ENTRY, 0, ()).unwrap();
    assert!(!vcpu.mailbox().has_interrupt(u64::MAX));
    let mail = vcpu.mailbox().take();
    assert!(mail.fence_instructions, "new code is there");
    assert!(!mail.fence_translations);
}

#[test]
fn a_running_vcpu_is_busy_for_everyone_else_and_nothing_changes() {
    let (entered, has_entered) = channel();
    let (let_out, leave) = channel();
    let script = Script {
        guest: Some((entered, leave)),
        ..Script::default()
    };
    let vcpu = Arc::new(VCpu::new(1, 0, None, script).unwrap());
    vcpu.setup(ENTRY, ROOT, ()).unwrap();
    vcpu.bind(PCPU).unwrap();
    let runner = {
        let vcpu = vcpu.clone();
        thread::spawn(move || vcpu.run(&NoDevices))
    };
    has_entered.recv().unwrap();
    let never = || -> AxResult<()> { panic!("the closure of a busy vCPU is not called") };
    let others: [&dyn Fn() -> Result<(), VCpuError>; 5] = [
        &|| vcpu.with_state_transition(Running, Ready, never),
        &|| vcpu.manipulate_arch_vcpu(Running, Free, |_| never()),
        &|| vcpu.transition_state(Running, Invalid),
        &|| vcpu.with_arch(|_| never().unwrap()),
        &|| vcpu.inspect(|_| never().unwrap()),
    ];
    let is_unmoved = || assert_eq!((vcpu.state(), vcpu.pcpu()), (Running, Some(PCPU)));
    for operation in OPERATIONS {
        assert_eq!(
            (operation.make)(&vcpu),
            Err(VCpuError::Busy),
            "{}",
            operation.name
        );
        is_unmoved();
    }
    for attempt in others {
        assert_eq!(attempt(), Err(VCpuError::Busy));
        is_unmoved();
    }
    let_out.send(()).unwrap();
    assert_eq!(runner.join().unwrap(), Ok(AxVCpuExitReason::Halt));
    assert_eq!(vcpu.state(), Ready);
    assert_eq!(vcpu.unbind(), Ok(()));
}

#[test]
fn errors_say_what_was_wrong() {
    let wrong = VCpuError::WrongState {
        operation: "run",
        expected: Ready,
        found: Blocked,
    };
    assert_eq!(
        wrong.to_string(),
        "run needs a vCPU that is ready, and this one is blocked"
    );
    assert_eq!(AxError::from(wrong), AxErrorKind::BadState.into());
    let error = AxErrorKind::NoMemory.into();
    let failed = VCpuError::Failed {
        operation: "setup",
        from: Created,
        to: Free,
        error,
    };
    assert_eq!(
        failed.to_string(),
        format!("setup failed on the way from created to free: {error}")
    );
    assert_eq!(AxError::from(failed), error);
    assert_eq!(VCpuError::Busy.to_string(), "the vCPU is busy");
    assert_eq!(
        AxError::from(VCpuError::Busy),
        AxErrorKind::ResourceBusy.into()
    );
}

#[test]
fn every_state_survives_its_number() {
    for state in STATES {
        assert_eq!(VCpuState::from_u8(state as u8), state);
    }
    for raw in 6..=u8::MAX {
        assert_eq!(VCpuState::from_u8(raw), Invalid);
    }
}
