//! Why SVM leaves a guest (AMD APM 2, appendix C, "SVM Intercept Exit Codes").

/// Declares the exit codes that stand alone.
macro_rules! exit_codes {
    ($($name:ident = $code:literal $text:literal,)*) => {
        $(pub(super) const $name: u64 = $code;)*

        /// The manual's name for `code`.
        pub(super) const fn name(code: u64) -> &'static str {
            match code {
                0x00..=0x0f => "read of a control register",
                0x10..=0x1f => "write of a control register",
                0x20..=0x2f => "read of a debug register",
                0x30..=0x3f => "write of a debug register",
                0x40..=0x5f => "exception",
                $($name => $text,)*
                _ => "exit code of no name",
            }
        }
    };
}

/// MOV from CR0; the others follow, as they do each of these.
pub(super) const CR_READ: u64 = 0x00;
pub(super) const CR_WRITE: u64 = 0x10;
pub(super) const EXCEPTION: u64 = 0x40;

exit_codes! {
    INTR = 0x60 "INTR",
    NMI = 0x61 "NMI",
    SMI = 0x62 "SMI",
    INIT = 0x63 "INIT",
    VINTR = 0x64 "VINTR",
    CR0_SELECTIVE_WRITE = 0x65 "selective write of CR0",
    IDTR_READ = 0x66 "SIDT",
    GDTR_READ = 0x67 "SGDT",
    LDTR_READ = 0x68 "SLDT",
    TR_READ = 0x69 "STR",
    IDTR_WRITE = 0x6a "LIDT",
    GDTR_WRITE = 0x6b "LGDT",
    LDTR_WRITE = 0x6c "LLDT",
    TR_WRITE = 0x6d "LTR",
    RDTSC = 0x6e "RDTSC",
    RDPMC = 0x6f "RDPMC",
    PUSHF = 0x70 "PUSHF",
    POPF = 0x71 "POPF",
    CPUID = 0x72 "CPUID",
    RSM = 0x73 "RSM",
    IRET = 0x74 "IRET",
    SOFTWARE_INTERRUPT = 0x75 "INT n",
    INVD = 0x76 "INVD",
    PAUSE = 0x77 "PAUSE",
    HLT = 0x78 "HLT",
    INVLPG = 0x79 "INVLPG",
    INVLPGA = 0x7a "INVLPGA",
    IO = 0x7b "IN or OUT",
    MSR = 0x7c "RDMSR or WRMSR",
    TASK_SWITCH = 0x7d "task switch",
    FERR_FREEZE = 0x7e "FP legacy freeze",
    SHUTDOWN = 0x7f "shutdown",
    VMRUN = 0x80 "VMRUN",
    VMMCALL = 0x81 "VMMCALL",
    VMLOAD = 0x82 "VMLOAD",
    VMSAVE = 0x83 "VMSAVE",
    STGI = 0x84 "STGI",
    CLGI = 0x85 "CLGI",
    SKINIT = 0x86 "SKINIT",
    RDTSCP = 0x87 "RDTSCP",
    ICEBP = 0x88 "INT1",
    WBINVD = 0x89 "WBINVD",
    MONITOR = 0x8a "MONITOR",
    MWAIT = 0x8b "MWAIT",
    MWAIT_ARMED = 0x8c "MWAIT, armed",
    XSETBV = 0x8d "XSETBV",
    RDPRU = 0x8e "RDPRU",
    NESTED_PAGE_FAULT = 0x400 "nested page fault",
    AVIC_INCOMPLETE_IPI = 0x401 "AVIC incomplete IPI",
    AVIC_NOT_ACCELERATED = 0x402 "AVIC access not accelerated",
    VMGEXIT = 0x403 "VMGEXIT",
    BUSY = 0xffff_ffff_ffff_fffe "VMCB busy",
    INVALID = 0xffff_ffff_ffff_ffff "invalid guest state",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_have_names() {
        assert_eq!(name(CPUID), "CPUID");
        assert_eq!(name(CR_WRITE + 8), "write of a control register");
        assert_eq!(name(EXCEPTION + 14), "exception");
        assert_eq!(name(0x1234), "exit code of no name");
    }
}
