//! The fields of a VMCS, typed by width and by class (SDM vol. 3, appendix B).
//!
//! Each enumeration holds the fields of one class and one width: its `read` answers, and its `write` takes, an integer of that width
//! and no other. Read-only fields have no `write`.

use super::vmcs;

/// A field's encoding says its width in bits 14:13 and its class in bits 11:10 (appendix B, "Field Encoding in VMCS"); bit 0 would
/// mean the high half of a 64-bit field.
const fn encoding_fits(encoding: u32, width: u32, class: u32) -> bool {
    encoding >> 13 & 0b11 == width && encoding >> 10 & 0b11 == class && encoding & 1 == 0
}

mod width {
    pub(super) const U16: u32 = 0;
    pub(super) const U64: u32 = 1;
    pub(super) const U32: u32 = 2;
    pub(super) const NATURAL: u32 = 3;
}

mod class {
    pub(super) const CONTROL: u32 = 0;
    pub(super) const READ_ONLY: u32 = 1;
    pub(super) const GUEST: u32 = 2;
    pub(super) const HOST: u32 = 3;
}

/// A field, whatever its class and width.
pub(crate) trait VmcsField: Copy + 'static {
    /// An integer of its width.
    type Int: Copy;

    /// All fields of this class and width.
    const ALL: &'static [Self];

    /// Its encoding.
    fn encoding(self) -> u32;

    /// A value of its width as VMREAD and VMWRITE carry it.
    fn widen(value: Self::Int) -> u64;

    /// The opposite; what does not fit is zero in hardware.
    fn narrow(raw: u64) -> Self::Int;
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $int:ty, $width:ident, $class:ident, $access:ident { $($field:ident = $encoding:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            #[repr(u32)]
            pub enum $name {
                $(
                    #[doc = concat!("Encoding ", stringify!($encoding), ".")]
                    $field = $encoding,
                )*
            }

            $(const _: () = assert!(encoding_fits($encoding, width::$width, class::$class));)*

            impl VmcsField for $name {
                type Int = $int;

                const ALL: &'static [Self] = &[$(Self::$field,)*];

                #[inline(always)]
                fn encoding(self) -> u32 {
                    self as u32
                }

                #[inline(always)]
                fn widen(value: $int) -> u64 {
                    u64::from(value)
                }

                #[inline(always)]
                fn narrow(raw: u64) -> $int {
                    raw as $int
                }
            }

            impl $name {
                /// What the current VMCS holds.
                #[inline(always)]
                #[must_use]
                #[allow(dead_code, reason = "some classes are only written")]
                pub(crate) fn read(self) -> $int {
                    vmcs::read(self as u32) as $int
                }

                fields!(@$access $int);
            }
        )*
    };
    (@writable $int:ty) => {
        /// Changes what the current VMCS holds.
        #[inline(always)]
        #[allow(dead_code, reason = "the guest's state is written by its encodings")]
        pub(crate) fn write(self, value: $int) {
            vmcs::write(self as u32, u64::from(value));
        }
    };
    (@read_only $int:ty) => {};
    // The host's state decides where the hypervisor goes on after an exit: `percpu` and the entry alone write it.
    (@host $int:ty) => {
        /// Changes what the current VMCS holds.
        #[inline(always)]
        pub(super) fn write(self, value: $int) {
            vmcs::write(self as u32, u64::from(value));
        }
    };
}

fields! {
    /// 16-bit control fields.
    VmcsControl16: u16, U16, CONTROL, writable {
        Vpid = 0x0000,
    }

    /// 64-bit control fields.
    VmcsControl64: u64, U64, CONTROL, writable {
        MsrBitmap = 0x2004,
        VirtualApicAddress = 0x2012,
        ApicAccessAddress = 0x2014,
        Eptp = 0x201a,
        EoiExitBitmap0 = 0x201c,
        EoiExitBitmap1 = 0x201e,
        EoiExitBitmap2 = 0x2020,
        EoiExitBitmap3 = 0x2022,
        XssExitingBitmap = 0x202c,
        EnclsExitingBitmap = 0x202e,
    }

    /// 32-bit control fields.
    VmcsControl32: u32, U32, CONTROL, writable {
        PinBased = 0x4000,
        PrimaryProcBased = 0x4002,
        ExceptionBitmap = 0x4004,
        PageFaultErrorMask = 0x4006,
        PageFaultErrorMatch = 0x4008,
        Cr3TargetCount = 0x400a,
        ExitControls = 0x400c,
        ExitMsrStoreCount = 0x400e,
        ExitMsrLoadCount = 0x4010,
        EntryControls = 0x4012,
        EntryMsrLoadCount = 0x4014,
        EntryInterruptInfo = 0x4016,
        EntryExceptionErrorCode = 0x4018,
        EntryInstructionLength = 0x401a,
        TprThreshold = 0x401c,
        SecondaryProcBased = 0x401e,
    }

    /// Natural-width control fields.
    VmcsControlNW: u64, NATURAL, CONTROL, writable {
        Cr0Mask = 0x6000,
        Cr4Mask = 0x6002,
        Cr0ReadShadow = 0x6004,
        Cr4ReadShadow = 0x6006,
    }

    /// 64-bit read-only fields.
    VmcsReadOnly64: u64, U64, READ_ONLY, read_only {
        GuestPhysicalAddress = 0x2400,
    }

    /// 32-bit read-only fields.
    VmcsReadOnly32: u32, U32, READ_ONLY, read_only {
        InstructionError = 0x4400,
        ExitReason = 0x4402,
        ExitInterruptInfo = 0x4404,
        ExitInterruptErrorCode = 0x4406,
        IdtVectoringInfo = 0x4408,
        IdtVectoringErrorCode = 0x440a,
        ExitInstructionLength = 0x440c,
        ExitInstructionInfo = 0x440e,
    }

    /// Natural-width read-only fields.
    VmcsReadOnlyNW: u64, NATURAL, READ_ONLY, read_only {
        ExitQualification = 0x6400,
        GuestLinearAddress = 0x640a,
    }

    /// 16-bit fields of the guest's state.
    VmcsGuest16: u16, U16, GUEST, writable {
        EsSelector = 0x0800,
        CsSelector = 0x0802,
        SsSelector = 0x0804,
        DsSelector = 0x0806,
        FsSelector = 0x0808,
        GsSelector = 0x080a,
        LdtrSelector = 0x080c,
        TrSelector = 0x080e,
    }

    /// 64-bit fields of the guest's state.
    VmcsGuest64: u64, U64, GUEST, writable {
        LinkPointer = 0x2800,
        DebugCtl = 0x2802,
        Pat = 0x2804,
        Efer = 0x2806,
        Pdpte0 = 0x280a,
        Pdpte1 = 0x280c,
        Pdpte2 = 0x280e,
        Pdpte3 = 0x2810,
    }

    /// 32-bit fields of the guest's state.
    VmcsGuest32: u32, U32, GUEST, writable {
        EsLimit = 0x4800,
        CsLimit = 0x4802,
        SsLimit = 0x4804,
        DsLimit = 0x4806,
        FsLimit = 0x4808,
        GsLimit = 0x480a,
        LdtrLimit = 0x480c,
        TrLimit = 0x480e,
        GdtrLimit = 0x4810,
        IdtrLimit = 0x4812,
        EsAccess = 0x4814,
        CsAccess = 0x4816,
        SsAccess = 0x4818,
        DsAccess = 0x481a,
        FsAccess = 0x481c,
        GsAccess = 0x481e,
        LdtrAccess = 0x4820,
        TrAccess = 0x4822,
        Interruptibility = 0x4824,
        ActivityState = 0x4826,
        SysenterCs = 0x482a,
    }

    /// The field of the guest's state that exists only where its control does.
    VmcsTimer32: u32, U32, GUEST, writable {
        Preemption = 0x482e,
    }

    /// The field of the guest's state that exists only with virtual-interrupt delivery: RVI below, SVI above.
    VmcsInterrupt16: u16, U16, GUEST, writable {
        Status = 0x0810,
    }

    /// Natural-width fields of the guest's state.
    VmcsGuestNW: u64, NATURAL, GUEST, writable {
        Cr0 = 0x6800,
        Cr3 = 0x6802,
        Cr4 = 0x6804,
        EsBase = 0x6806,
        CsBase = 0x6808,
        SsBase = 0x680a,
        DsBase = 0x680c,
        FsBase = 0x680e,
        GsBase = 0x6810,
        LdtrBase = 0x6812,
        TrBase = 0x6814,
        GdtrBase = 0x6816,
        IdtrBase = 0x6818,
        Dr7 = 0x681a,
        Rsp = 0x681c,
        Rip = 0x681e,
        Rflags = 0x6820,
        PendingDebugExceptions = 0x6822,
        SysenterEsp = 0x6824,
        SysenterEip = 0x6826,
    }

    /// 16-bit fields of the host's state.
    VmcsHost16: u16, U16, HOST, host {
        EsSelector = 0x0c00,
        CsSelector = 0x0c02,
        SsSelector = 0x0c04,
        DsSelector = 0x0c06,
        FsSelector = 0x0c08,
        GsSelector = 0x0c0a,
        TrSelector = 0x0c0c,
    }

    /// 64-bit fields of the host's state.
    VmcsHost64: u64, U64, HOST, host {
        Pat = 0x2c00,
        Efer = 0x2c02,
    }

    /// 32-bit fields of the host's state.
    VmcsHost32: u32, U32, HOST, host {
        SysenterCs = 0x4c00,
    }

    /// Natural-width fields of the host's state.
    VmcsHostNW: u64, NATURAL, HOST, host {
        Cr0 = 0x6c00,
        Cr3 = 0x6c02,
        Cr4 = 0x6c04,
        FsBase = 0x6c06,
        GsBase = 0x6c08,
        TrBase = 0x6c0a,
        GdtrBase = 0x6c0c,
        IdtrBase = 0x6c0e,
        SysenterEsp = 0x6c10,
        SysenterEip = 0x6c12,
        Rsp = 0x6c14,
        Rip = 0x6c16,
    }
}
