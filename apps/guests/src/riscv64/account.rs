//! The hypervisor's account of this hart.

use crate::account::{CALL, Refused};
use crate::arch::sbi;

/// Whether there is one.
pub fn is_there() -> bool {
    sbi::probe(CALL as usize) != sbi::ABSENT
}

/// Asks for it. It [`is_there`].
///
/// # Errors
/// [`Refused`]: it knows no such function, or no kind of exit of that number.
pub fn ask(function: u64, args: [u64; 2]) -> Result<u64, Refused> {
    let [a0, a1] = args.map(|arg| arg as usize);
    let answer = sbi::call(CALL as usize, function as usize, [a0, a1, 0, 0, 0, 0]);
    match answer.error {
        sbi::SUCCESS => Ok(answer.value as u64),
        _ => Err(Refused),
    }
}
