//! A guest asks what its vCPU's time goes into ([`ACCOUNT_CALL`](axvcpu::ACCOUNT_CALL)): it sees what the hypervisor does for it, as whoever
//! manages the VM does.
//!
//! First argument: the function. The others are the function's own.

use axvcpu::{HypercallError, Statement};

use crate::smp::Answer;

/// How often the vCPU left its guest, this call included: for the reason of a number, or in all.
const EXITS: u64 = 0;
/// Eight bytes of a reason's name, zero behind its end: of this reason, from this multiple of eight on.
const NAME: u64 = 1;
/// Ticks of the guest's counter in the guest.
const GUEST_TICKS: u64 = 2;
/// Ticks in the hypervisor.
const HYPERVISOR_TICKS: u64 = 3;

/// For [`EXITS`]: every reason.
const ALL: u64 = u64::MAX;

/// What the guest is told.
pub(crate) fn answer(statement: &Statement, args: [u64; 6]) -> Answer {
    let [function, kind, part, ..] = args;
    match function {
        EXITS if kind == ALL => Ok(statement.exits_in_all()),
        EXITS => exit(statement, kind).map(|(_, count)| count),
        NAME => exit(statement, kind).map(|(name, _)| eight_bytes(name, part)),
        GUEST_TICKS => Ok(statement.guest_ticks),
        HYPERVISOR_TICKS => Ok(statement.hypervisor_ticks),
        _ => Err(HypercallError::NotSupported),
    }
}

fn exit(statement: &Statement, kind: u64) -> Result<(&'static str, u64), HypercallError> {
    usize::try_from(kind)
        .ok()
        .and_then(|kind| statement.exits().nth(kind))
        .ok_or(HypercallError::InvalidParam)
}

fn eight_bytes(name: &str, part: u64) -> u64 {
    let chunk = usize::try_from(part)
        .ok()
        .and_then(|part| name.as_bytes().chunks(8).nth(part));
    let mut bytes = [0; 8];
    for (byte, &from) in bytes.iter_mut().zip(chunk.unwrap_or_default()) {
        *byte = from;
    }
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use axvcpu::Account;

    use super::*;

    axvcpu::exit_kinds! {
        /// Why a vCPU left its guest.
        enum ExitKind {
            /// One.
            Short = "short",
            /// Another.
            Long = "longer-than-eight",
        }
    }

    #[test]
    fn every_function_answers() {
        let account = Account::new::<ExitKind>();
        account.bound(1000);
        account.entering(1003);
        account.count(ExitKind::Short);
        account.count(ExitKind::Long);
        account.count(ExitKind::Long);
        let statement = account.statement(1010);
        let ask = |function, a, b| answer(&statement, [function, a, b, 0, 0, 0]);
        assert_eq!(ask(EXITS, 1, 0), Ok(2));
        assert_eq!(ask(EXITS, ALL, 0), Ok(3));
        assert_eq!(ask(GUEST_TICKS, 0, 0), Ok(7));
        assert_eq!(ask(HYPERVISOR_TICKS, 0, 0), Ok(3));
        let text = |kind, part| ask(NAME, kind, part).map(u64::to_le_bytes);
        assert_eq!(text(0, 0), Ok(*b"short\0\0\0"));
        assert_eq!(text(1, 0), Ok(*b"longer-t"));
        assert_eq!(text(1, 2), Ok(*b"t\0\0\0\0\0\0\0"));
        assert_eq!(text(1, 3), Ok([0; 8]));
        assert_eq!(text(1, u64::MAX), Ok([0; 8]));
    }

    #[test]
    fn wrong_questions_are_told_apart() {
        let statement = Account::new::<ExitKind>().statement(0);
        let ask = |function, kind| answer(&statement, [function, kind, 0, 0, 0, 0]);
        assert_eq!(ask(EXITS, 2), Err(HypercallError::InvalidParam));
        assert_eq!(ask(NAME, 2), Err(HypercallError::InvalidParam));
        assert_eq!(ask(4, 0), Err(HypercallError::NotSupported));
    }
}
