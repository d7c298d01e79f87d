//! One vCPU is one task, pinned to one pCPU.
//!
//! The task drives its vCPU until the VM says otherwise, and sleeps by [`park`](crate::park) when the vCPU waits. While the task of a vCPU that owns
//! its pCPU is current, the scheduler does not tick there: there is nothing to schedule.

use alloc::{boxed::Box, format, sync::Arc};

use axtask::TaskExt;
use axvcpu::{AxVCpuHal, SystemDownKind};
use axvm::{AxVMHal, VCpuNext};
use axvmconfig::{Sharing, VCpuPlacement};

use crate::{
    arch,
    host::{self, Host, NEVER, VmTimer},
    housekeeping,
    life::{AfterDown, Left, Life},
    manager::home,
    park::Place,
};

/// What the scheduler's hooks need to know of a vCPU's task.
struct VCpuTask {
    /// The vCPU's timer: its wait's end, and its guest's where the hardware has none for guests.
    timer: &'static VmTimer,
    sharing: Sharing,
}

/// The part of it that hangs on the task.
struct Hook(Arc<VCpuTask>);

#[extern_trait::extern_trait]
impl TaskExt for Hook {
    fn on_enter(&self) {
        host::set_current_timer(Some(self.0.timer));
        match self.0.sharing {
            Sharing::Dedicated => host::suspend_tick(),
            Sharing::Shared => {}
        }
    }

    fn on_leave(&self) {
        host::set_current_timer(None);
        match self.0.sharing {
            Sharing::Dedicated => host::resume_tick(),
            Sharing::Shared => {}
        }
    }
}

/// Starts the tasks of all of a VM's vCPUs.
pub(crate) fn spawn_all(life: &Arc<Life>) {
    for placement in &life.vm().config().vm.vcpus {
        // One for each vCPU that there ever is, and there are as many as the configs say.
        let timer: &'static VmTimer = Box::leak(Box::new(VmTimer::new(|_| (), 0)));
        let sharing = placement.sharing_on(host::pcpu_count());
        let hook = Hook(Arc::new(VCpuTask { timer, sharing }));
        let (life, id) = (life.clone(), placement.vcpu_id);
        let name = format!("{}/{id}", life.vm().name());
        let place = Place::on(home(placement));
        host::spawn_pinned(home(placement), name, hook, move || {
            run(&life, id, timer, &place);
            drop(place);
            // The last to know of it is housekeeping, which gives its memory back.
            drop(life);
            housekeeping::wake();
        });
    }
}

/// Has the task of a vCPU look whether it has reason to wake.
pub(crate) fn wake(placement: &VCpuPlacement) {
    Host::kick(home(placement));
}

/// The task.
fn run(life: &Life, id: usize, timer: &'static VmTimer, place: &Place) {
    // A device's lock is also taken in the midst of an exit, with interrupts off: its holder must not be put aside for that.
    let _held = host::hold_pcpu();
    timer.register();
    if let Err(error) = arch::enable_this_pcpu() {
        let pcpu = Host::this_pcpu();
        life.refuse(format!("pCPU {pcpu} cannot run guests: {error}"));
    }
    loop {
        match life.vm().drive(id) {
            VCpuNext::Wait { deadline } => {
                timer.arm(deadline);
                place.park_until(|| life.vm().vcpu_should_wake(id));
                timer.arm(NEVER);
            }
            VCpuNext::Off => place.park_until(|| life.vm().vcpu_should_wake(id)),
            VCpuNext::VmDown(kind) => match wait_for_what_follows(life, place, timer, kind) {
                AfterDown::Restarted => {}
                AfterDown::Over => break,
            },
            VCpuNext::VmFailed => {
                // Another vCPU may have taken the VM down for a reason of its own, which was first.
                let kind = life.vm().shutting_down().unwrap_or(SystemDownKind::Crash);
                match wait_for_what_follows(life, place, timer, kind) {
                    AfterDown::Restarted => {}
                    AfterDown::Over => break,
                }
            }
        }
    }
}

fn wait_for_what_follows(
    life: &Life,
    place: &Place,
    timer: &'static VmTimer,
    kind: SystemDownKind,
) -> AfterDown {
    let ended = match life.leave() {
        Left::Others(ended) => ended,
        Left::Last(ended) => {
            let earliest = life.earliest(kind);
            timer.arm(earliest);
            place.park_until(|| Host::now() >= earliest);
            timer.arm(NEVER);
            life.decide(kind);
            ended
        }
    };
    place.park_until(|| life.after(ended).is_some());
    life.after(ended).unwrap_or(AfterDown::Over)
}
