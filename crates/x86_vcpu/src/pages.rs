//! Pages that the hardware reads and writes while a guest runs: a VMCS, a VMCB, the maps beside them.

use core::marker::PhantomData;

use axaddrspace::{AxMmHal, Frame, FrameSize, HostPhysAddr};
use axerrno::{AxResult, ax_err_type};

/// What may lie in such pages.
///
/// # Safety
/// Whatever the bytes are, they are a value of the type.
pub(crate) unsafe trait AnyBytes {}

// SAFETY: bytes.
unsafe impl<const N: usize> AnyBytes for [u8; N] {}

/// Pages of the vCPU's or pCPU's own with a `T` in them, which is zero at first.
#[derive(Debug)]
pub(crate) struct HardwarePages<T, M: AxMmHal> {
    frame: Frame<M>,
    contents: PhantomData<T>,
}

impl<T: AnyBytes, M: AxMmHal> HardwarePages<T, M> {
    const SIZE: FrameSize = {
        let size = match size_of::<T>() {
            0x1000 => FrameSize::Size4K,
            0x4000 => FrameSize::Size16K,
            _ => panic!("no such frame"),
        };
        assert!(align_of::<T>() <= size_of::<T>());
        size
    };

    /// All zero.
    pub(crate) fn zeroed() -> AxResult<Self> {
        let frame = Frame::alloc(Self::SIZE)
            .ok_or_else(|| ax_err_type!(NoMemory, "no memory for what the hardware keeps"))?;
        Ok(Self {
            frame,
            contents: PhantomData,
        })
    }

    /// Where the processor finds them.
    #[inline(always)]
    pub(crate) const fn start(&self) -> HostPhysAddr {
        self.frame.start()
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> &T {
        let contents = core::ptr::with_exposed_provenance(self.frame.virt().as_usize());
        // SAFETY: the frame is ours alone, of the size of `T` and aligned to that, and was zeroed; what the hardware has written since is a `T` too. It writes
        // only while a guest runs, with nothing borrowed.
        unsafe { &*contents }
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        let contents = core::ptr::with_exposed_provenance_mut(self.frame.virt().as_usize());
        // SAFETY: as in `get`; borrowed exclusively. Bytes that are changed under the hardware's hands only confuse the guest's own state.
        unsafe { &mut *contents }
    }
}
