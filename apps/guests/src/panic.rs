//! What happens when a guest itself fails: it says so, and switches the machine off.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::{Exit, arch, println};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    // A panic while printing this one must not start over.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        println!("guest: {info}");
    }
    arch::power_off(Exit::Failure)
}
