//! The debug console (SBI specification, "Debug Console Extension"): bytes between guest memory and
//! the VM's console.

use axaddrspace::{AddrSpace, AxMmHal, GuestPhysAddr};
use axdevice::CharBackend;
use axvcpu::{ConsoleCall, HypercallError};
use spin::Mutex;

use crate::GuestRange;

/// Bytes that go over the stack at a time.
const CHUNK: usize = 256;
/// Bytes that one call moves at most; the answer tells the guest to come again. So no call keeps
/// the vCPU for long.
const MAX_PER_CALL: u64 = 4096;

/// What became of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done, and this is for the guest.
    Now(Result<u64, HypercallError>),
    /// The console has no room for a byte that the guest may not be let go without (SBI:
    /// `console_write_byte` blocks).
    NoRoom,
}

/// Serves `call` of a guest with this memory.
pub(crate) fn serve<H: AxMmHal>(
    call: ConsoleCall,
    console: &dyn CharBackend,
    ram: &[GuestRange],
    memory: &Mutex<AddrSpace<H>>,
) -> Answer {
    Answer::Now(match call {
        ConsoleCall::Write { addr, len } => move_chunks(ram, addr, len, |addr, buffer| {
            memory
                .lock()
                .memory()
                .read(addr, buffer)
                .map_err(|_| HypercallError::InvalidParam)?;
            Ok(console.write(buffer))
        }),
        ConsoleCall::Read { addr, len } => move_chunks(ram, addr, len, |addr, buffer| {
            let count = console.read(buffer).min(buffer.len());
            let bytes = buffer.get(..count).unwrap_or_default();
            memory
                .lock()
                .memory()
                .write(addr, bytes)
                .map_err(|_| HypercallError::InvalidParam)?;
            Ok(count)
        }),
        ConsoleCall::WriteByte(byte) => match console.write(&[byte]) {
            0 => return Answer::NoRoom,
            _ => Ok(0),
        },
        ConsoleCall::ReadByte => {
            let mut byte = [0];
            match console.read(&mut byte) {
                0 => Err(HypercallError::Failed),
                _ => Ok(u64::from(byte[0])),
            }
        }
    })
}

/// Calls `move_chunk` for one chunk after the other of `len` bytes at `addr`, all of which must be
/// RAM, until it moves less than it is given. Returns how many bytes were moved.
fn move_chunks(
    ram: &[GuestRange],
    addr: GuestPhysAddr,
    len: u64,
    mut move_chunk: impl FnMut(GuestPhysAddr, &mut [u8]) -> Result<usize, HypercallError>,
) -> Result<u64, HypercallError> {
    if !is_ram(ram, addr, len) {
        return Err(HypercallError::InvalidParam);
    }
    let mut buffer = [0; CHUNK];
    let mut done = 0;
    while done < len.min(MAX_PER_CALL) {
        let size = (len - done).min(CHUNK as u64) as usize;
        let chunk = buffer.get_mut(..size).unwrap_or_default();
        let at = addr.checked_add(done).ok_or(HypercallError::InvalidParam)?;
        match move_chunk(at, chunk) {
            Ok(count) => {
                done += count as u64;
                if count < size {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            // What was moved was moved; the guest finds the error when it comes again.
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Whether all `len` bytes at `addr` are in `ram`, of one region or of several in a row.
fn is_ram(ram: &[GuestRange], addr: GuestPhysAddr, len: u64) -> bool {
    let Some(range) = GuestRange::new(addr, len) else {
        return false;
    };
    let mut next = range.start();
    while next < range.end() {
        match ram
            .iter()
            .find(|region| region.start() <= next && next < region.end())
        {
            Some(region) => next = region.end(),
            None => return false,
        }
    }
    true
}
