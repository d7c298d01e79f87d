//! What pCPU 0 does: the console, and the news of the VMs.

use alloc::{collections::VecDeque, sync::Arc};
use core::sync::atomic::{AtomicBool, Ordering};

use axconsole::{Mux, Pumped, TURNS, Turn, Typed, VmPort};
use axvcpu::AxVCpuHal;
use axvm::AxVMHal;
use kspin::SpinNoIrq;

use crate::{
    host::{self, Host, NEVER, RunResult, VmTimer},
    life::Then,
    manager::Manager,
    park::{self, Place},
};

/// The pCPU that keeps house.
pub(crate) const PCPU: usize = 0;

/// How long an unfinished line of a VM without the focus waits.
const LINE_PATIENCE_MILLIS: u64 = 100;

/// How long housekeeping waits for more to show before it sleeps until it is kicked. A VM that writes byte by byte thus pays for a kick
/// once, not for each byte, and nobody sees the difference.
const DOZE_MILLIS: u64 = 1;

/// A VM has written something.
static WRITTEN: AtomicBool = AtomicBool::new(false);
/// There is something that does not wait: a key, a VM's news, the end of [`TIMER`].
static URGENT: AtomicBool = AtomicBool::new(false);
/// Whether housekeeping sleeps, or is about to, and what is written needs a kick to be seen.
static ASLEEP: AtomicBool = AtomicBool::new(false);

/// Ends a doze, and a console line's wait.
static TIMER: VmTimer = VmTimer::new(|_| URGENT.store(true, Ordering::SeqCst), 0);

/// What was typed and not read yet; the interrupt handler fills it.
static TYPED: SpinNoIrq<VecDeque<u8>> = SpinNoIrq::new(VecDeque::new());
/// More than anybody types ahead; past it, keys are dropped.
const TYPED_MAX: usize = 1024;

/// Has housekeeping show what a VM has written. From any pCPU.
pub(crate) fn show() {
    WRITTEN.store(true, Ordering::SeqCst);
    if ASLEEP.load(Ordering::SeqCst) {
        rouse();
    }
}

/// Wakes housekeeping. One kick is enough, however long it takes to come.
#[cold]
#[inline(never)]
fn rouse() {
    if ASLEEP.swap(false, Ordering::SeqCst) {
        Host::kick(PCPU);
    }
}

/// Has housekeeping look for news. From any pCPU.
pub(crate) fn wake() {
    URGENT.store(true, Ordering::SeqCst);
    if Host::this_pcpu() != PCPU {
        Host::kick(PCPU);
    }
}

/// The UART's interrupt.
fn read_keys() {
    let mut buf = [0; 16];
    let mut typed = TYPED.lock();
    loop {
        let count = host::console_read(&mut buf);
        if count == 0 {
            break;
        }
        let room = TYPED_MAX.saturating_sub(typed.len());
        typed.extend(buf.iter().take(count.min(room)));
    }
    drop(typed);
    URGENT.store(true, Ordering::SeqCst);
}

/// The housekeeping task.
pub(crate) struct Housekeeping {
    mux: Mux,
    place: Place,
}

impl Housekeeping {
    /// The calling task keeps house from now on.
    pub(crate) fn new() -> Self {
        TYPED.lock().reserve(TYPED_MAX);
        TIMER.register();
        let mux = Mux::new(host::ticks_of_millis(LINE_PATIENCE_MILLIS));
        let house = Self {
            mux,
            place: Place::take(),
        };
        if !host::on_console_input(read_keys) {
            house.note("the machine's console has no interrupt: keys are not read");
        }
        house
    }

    /// Shows a line of the hypervisor's own.
    pub(crate) fn note(&self, line: &str) {
        self.mux.note(line, &mut host::console_write);
    }

    /// Shows what is wrong.
    pub(crate) fn error(&self, what: &str) {
        self.mux
            .note(&alloc::format!("error: {what}"), &mut host::console_write);
    }

    /// Gives a VM a place at the console. In the order of the manager's VMs.
    pub(crate) fn add_vm(&mut self, name: &str, port: Arc<VmPort>) {
        self.mux.add(name, port);
    }

    /// Keeps house until every VM has ended.
    pub(crate) fn keep(&mut self, manager: &mut Manager) -> RunResult {
        loop {
            URGENT.store(false, Ordering::SeqCst);
            let written = WRITTEN.swap(false, Ordering::SeqCst);
            self.read_keys(manager);
            let pumped = self.pump(manager);
            self.tell_news(manager);
            if manager.all_ended() {
                return manager.result();
            }
            let deadlines = [pumped.deadline, manager.news_due()];
            let deadline = deadlines.into_iter().flatten().min();
            match pumped {
                Pumped { again: true, .. } => park::give_way(),
                // What came since will not be told of again.
                _ if written || self.mux.has_output() => self.doze(deadline),
                _ => self.sleep(deadline),
            }
        }
    }

    /// Tells what happened to the VMs.
    fn tell_news(&mut self, manager: &mut Manager) {
        for vm in 0..manager.count() {
            // The end of a VM may have been all that there was to wait for before its memory goes back.
            while let Then::Over(_) = self.tell_news_of(vm, manager) {}
        }
    }

    fn tell_news_of(&mut self, vm: usize, manager: &mut Manager) -> Then {
        let Some(news) = manager.take_news(vm) else {
            return Then::Runs;
        };
        // What the VM wrote before comes first; no more than it may have written before, for it may be writing still.
        for _ in 0..TURNS {
            match self
                .mux
                .pump_turn(vm, Host::now(), &mut host::console_write)
            {
                Turn::More => park::give_way(),
                Turn::Last => break,
            }
        }
        // Room that this made is seen at the next round.
        WRITTEN.store(true, Ordering::SeqCst);
        for line in &news.lines {
            self.note(line);
        }
        match news.then {
            Then::Runs => {}
            Then::Over(_) => self.mux.retire(vm, &mut host::console_write),
        }
        news.then
    }

    /// Shows all that is left.
    pub(crate) fn finish(&mut self) {
        self.mux.finish(&mut host::console_write);
    }

    fn read_keys(&mut self, manager: &Manager) {
        loop {
            // The lock is not held while the key has its effect: the handler must not wait for a VM.
            let key = TYPED.lock().pop_front();
            let Some(key) = key else { break };
            match self.mux.type_byte(key, &mut host::console_write) {
                Typed::Input(vm) => poll(manager, vm),
                Typed::StatusAsked => self.tell_status(manager),
                Typed::FocusMoved | Typed::Dropped => {}
            }
        }
    }

    fn tell_status(&self, manager: &Manager) {
        for line in manager.status() {
            self.note(&line);
        }
    }

    fn pump(&mut self, manager: &Manager) -> Pumped {
        let pumped = self.mux.pump(Host::now(), &mut host::console_write);
        for &vm in &pumped.starved {
            poll(manager, vm);
        }
        pumped
    }

    /// Waits for more to show, for a moment.
    fn doze(&self, deadline: Option<u64>) {
        let end = Host::now() + host::ticks_of_millis(DOZE_MILLIS);
        TIMER.arm(deadline.map_or(end, |deadline| deadline.min(end)));
        self.place.park_until(|| URGENT.load(Ordering::SeqCst));
    }

    /// Waits until there is something to do.
    fn sleep(&self, deadline: Option<u64>) {
        TIMER.arm(deadline.unwrap_or(NEVER));
        ASLEEP.store(true, Ordering::SeqCst);
        self.place
            .park_until(|| WRITTEN.load(Ordering::SeqCst) || URGENT.load(Ordering::SeqCst));
        ASLEEP.store(false, Ordering::SeqCst);
    }
}

/// Tells a VM's devices that there is input, or room.
fn poll(manager: &Manager, vm: usize) {
    if let Some(vm) = manager.vm(vm) {
        vm.console_poll();
    }
}
