//! What a program needs that has no operating system's library: an entry, memory, and an end for panics.

use core::{
    alloc::{GlobalAlloc, Layout},
    arch::naked_asm,
    panic::PanicInfo,
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

use kvmrun::{console::Console, init, linux, vm};

/// The first instruction, with nothing on the stack that this program looks at.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("xor ebp, ebp", "and rsp, -16", "call {main}", "ud2", main = sym start);
    #[cfg(target_arch = "riscv64")]
    naked_asm!("andi sp, sp, -16", "tail {main}", main = sym start);
}

extern "C" fn start() -> ! {
    let result = init::prepare().and_then(|()| vm::run(init::bundle()?));
    vm::end(&Console::new(), result)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let result = Err(alloc::format!("{info}"));
    vm::end(&Console::new(), result)
}

extern crate alloc;

/// Memory that never comes back: the program prepares a VM, runs it and ends.
struct Heap {
    next: AtomicUsize,
}

/// It is taken from the kernel in one piece, and from the machine as it is touched.
const HEAP: usize = 64 << 20;

#[global_allocator]
static GLOBAL: Heap = Heap {
    next: AtomicUsize::new(0),
};

impl Heap {
    /// Where the next allocation may begin.
    fn first(&self) -> Option<usize> {
        match self.next.load(Ordering::Acquire) {
            0 => {
                let start = linux::memory(HEAP, 4096, linux::Pages::Any).ok()?;
                let start = start.expose_provenance();
                // Only the first thread comes here, before there are others.
                self.next.store(start, Ordering::Release);
                END.store(start + HEAP, Ordering::Release);
                Some(start)
            }
            next => Some(next),
        }
    }
}

/// Where the memory ends.
static END: AtomicUsize = AtomicUsize::new(0);

// SAFETY: each allocation is a piece of its own of memory that nobody else has.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(mut next) = self.first() else {
            return ptr::null_mut();
        };
        loop {
            let start = next.next_multiple_of(layout.align());
            let end = match start.checked_add(layout.size()) {
                Some(end) if end <= END.load(Ordering::Acquire) => end,
                _ => return ptr::null_mut(),
            };
            let swapped =
                self.next
                    .compare_exchange_weak(next, end, Ordering::AcqRel, Ordering::Acquire);
            match swapped {
                Ok(_) => return ptr::with_exposed_provenance_mut(start),
                Err(now) => next = now,
            }
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
