//! What CPUID tells a guest: the host's own answers, filtered by a table of what a guest can use, with the topology of its VM.
//!
//! Hidden are: VMX and SVM, what needs MSRs or state that a guest is not given (performance counters, speculation control, SGX, resource control,
//! tracing, protection keys, shadow stacks, power management), and MONITOR.

use axdevice::LocalApic;

use crate::{
    cr::cr4,
    hardware::{self, CpuidResult},
    xsave::{self, XCR0_ALWAYS},
};

/// The words of features that others look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    Ecx1,
    Edx1,
    Ebx7,
    Ecx7,
    ExtendedEdx1,
}

const EXTENDED: u32 = 0x8000_0000;
const HYPERVISOR: u32 = 0x4000_0000;
/// The rates of the TSC and of the local APIC's timer in kHz, as some hypervisors have agreed on.
const TIMING: u32 = HYPERVISOR + 0x10;
/// The same, as the ratio of the TSC to a crystal, and the crystal's rate in Hz.
const CRYSTAL: u32 = 0x15;
/// The processor's rates in MHz: base, maximum, bus.
const PROCESSOR: u32 = 0x16;
const MAX_BASIC: u32 = 0x1f;
const MAX_EXTENDED: u32 = 0x1f;

/// "AxHVAxHVAxHV", in EBX, ECX and EDX of leaf 0x4000_0000.
const SIGNATURE: u32 = u32::from_le_bytes(*b"AxHV");

/// The first letters of "GenuineIntel", in EBX of leaf 0.
const INTEL: u32 = u32::from_le_bytes(*b"Genu");

/// The features of leaf 1, ECX.
const SHOWN_ECX1: u32 = bits(&[0, 1, 9, 12, 13, 17, 19, 20, 22, 23, 25, 26, 28, 29, 30]);
/// Those that are emulated, so that the host need not have them: x2APIC, the TSC deadline timer, and that there is a hypervisor.
const FORCED_ECX1: u32 = bits(&[21, 24, 31]);
const OSXSAVE_ECX1: u32 = 1 << 27;
/// Leaf 1, EDX: all but the serial number, debug store, thermal control and break events.
const SHOWN_EDX1: u32 = !bits(&[10, 18, 20, 21, 22, 28, 29, 30, 31]);
/// The local APIC is ours.
const FORCED_EDX1: u32 = 1 << 9;
const HTT_EDX1: u32 = 1 << 28;
/// Leaf 7: FSGSBASE, BMI, AVX2, SMEP, ERMS, INVPCID, AVX-512, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA.
const SHOWN_EBX7: u32 = bits(&[
    0, 3, 5, 7, 8, 9, 10, 13, 16, 17, 18, 19, 20, 21, 23, 24, 26, 27, 28, 29, 30, 31,
]);
/// AVX-512 and AES vectors, UMIP, five-level paging, RDPID.
const SHOWN_ECX7: u32 = bits(&[1, 2, 6, 8, 9, 10, 11, 12, 14, 16, 22]);
/// Fast short REP MOVSB, VP2INTERSECT, MD_CLEAR, SERIALIZE.
const SHOWN_EDX7: u32 = bits(&[2, 3, 4, 8, 10, 14]);
/// AVX-VNNI, BF16, fast string operations.
const SHOWN_EAX7_1: u32 = bits(&[4, 5, 10, 11, 12]);
/// Leaf 0xd.1: XSAVEOPT, XSAVEC, XGETBV of index 1; no supervisor states.
const SHOWN_EAXD_1: u32 = bits(&[0, 1, 2]);
/// Leaf 0x8000_0001, ECX: LAHF, CR8, LZCNT, SSE4A, misaligned SSE, PREFETCHW, XOP, FMA4, TBM, topology leaves.
const SHOWN_EXTENDED_ECX1: u32 = bits(&[0, 4, 5, 6, 7, 8, 11, 16, 21, 22]);
const CMP_LEGACY: u32 = 1 << 1;
const TOPOLOGY_EXTENSIONS: u32 = 1 << 22;
/// Leaf 0x8000_0001, EDX: what leaf 1 has as well, SYSCALL, NX, MMX extensions, FFXSR, 1 GiB pages, RDTSCP, long mode, 3DNow!.
const SHOWN_EXTENDED_EDX1: u32 = bits(&[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 20, 22, 23, 24, 25, 26, 27, 29, 30,
    31,
]);
/// Leaf 0x8000_0008, EBX: CLZERO, error pointers with XRSTOR, WBNOINVD.
const SHOWN_EXTENDED_EBX8: u32 = bits(&[0, 2, 9]);
/// The TSC's rate does not change.
const INVARIANT_TSC: u32 = 1 << 8;
/// The local APIC's timer always runs.
const ARAT: u32 = 1 << 2;

const fn bits(numbers: &[u32]) -> u32 {
    let mut word = 0;
    let mut i = 0;
    while i < numbers.len() {
        word |= 1 << numbers[i];
        i += 1;
    }
    word
}

const NOTHING: CpuidResult = CpuidResult {
    eax: 0,
    ebx: 0,
    ecx: 0,
    edx: 0,
};

/// What every guest is shown at `leaf`, before its topology, its state and its own limits are put in.
pub(crate) fn shown(leaf: u32, subleaf: u32) -> CpuidResult {
    let host = |leaf| hardware::cpuid(leaf, subleaf);
    match leaf {
        0 => {
            let host = host(leaf);
            CpuidResult {
                eax: host.eax.min(MAX_BASIC),
                ..host
            }
        }
        1 => {
            let host = host(leaf);
            CpuidResult {
                ecx: host.ecx & SHOWN_ECX1 | FORCED_ECX1,
                edx: host.edx & SHOWN_EDX1 | FORCED_EDX1,
                ..host
            }
        }
        2 | 4 | PROCESSOR => host(leaf),
        6 => CpuidResult {
            eax: ARAT,
            ..NOTHING
        },
        7 => shown_7(subleaf),
        0xd => shown_d(subleaf),
        EXTENDED => {
            let host = host(leaf);
            CpuidResult {
                eax: host.eax.min(EXTENDED + MAX_EXTENDED),
                ..host
            }
        }
        0x8000_0001 => {
            let host = host(leaf);
            CpuidResult {
                ecx: host.ecx & SHOWN_EXTENDED_ECX1,
                edx: host.edx & SHOWN_EXTENDED_EDX1,
                ..host
            }
        }
        // The processor's name, its caches and TLBs.
        0x8000_0002..=0x8000_0006 | 0x8000_0019 | 0x8000_001a | 0x8000_001d => host(leaf),
        0x8000_0007 => CpuidResult {
            edx: host(leaf).edx & INVARIANT_TSC,
            ..NOTHING
        },
        0x8000_0008 => {
            let host = host(leaf);
            CpuidResult {
                eax: host.eax,
                ebx: host.ebx & SHOWN_EXTENDED_EBX8,
                ..NOTHING
            }
        }
        HYPERVISOR => CpuidResult {
            eax: TIMING,
            ebx: SIGNATURE,
            ecx: SIGNATURE,
            edx: SIGNATURE,
        },
        _ => NOTHING,
    }
}

fn shown_7(subleaf: u32) -> CpuidResult {
    match subleaf {
        0 => {
            let host = hardware::cpuid(7, 0);
            CpuidResult {
                eax: host.eax.min(1),
                ebx: host.ebx & SHOWN_EBX7,
                ecx: host.ecx & SHOWN_ECX7,
                edx: host.edx & SHOWN_EDX7,
            }
        }
        1 if hardware::cpuid(7, 0).eax >= 1 => CpuidResult {
            eax: hardware::cpuid(7, 1).eax & SHOWN_EAX7_1,
            ..NOTHING
        },
        _ => NOTHING,
    }
}

/// The state components that a guest has.
fn shown_d(subleaf: u32) -> CpuidResult {
    let allowed = xsave::supported_xcr0();
    if allowed == 0 {
        return NOTHING;
    }
    match subleaf {
        0 => CpuidResult {
            eax: allowed as u32,
            ebx: xsave::area_size(XCR0_ALWAYS),
            ecx: xsave::area_size(allowed),
            edx: (allowed >> 32) as u32,
        },
        1 => CpuidResult {
            eax: hardware::cpuid(0xd, 1).eax & SHOWN_EAXD_1,
            ..NOTHING
        },
        component @ 2..64 if allowed >> component & 1 == 1 => CpuidResult {
            edx: 0,
            ..hardware::cpuid(0xd, component)
        },
        _ => NOTHING,
    }
}

/// The subleaves that are kept of those leaves that have any.
const CACHE_SUBLEAVES: usize = 5;
const STATE_COMPONENTS: usize = 19;

/// The basic leaves that have no subleaves, and show nothing that a guest changes.
const PLAIN: u32 = !bits(&[1, 4, 7, 0xb, 0xd, 0x1f]);

/// CPUID of one vCPU.
#[derive(Debug)]
pub(crate) struct CpuidTable {
    basic: [CpuidResult; MAX_BASIC as usize + 1],
    extended: [CpuidResult; MAX_EXTENDED as usize + 1],
    caches: [CpuidResult; CACHE_SUBLEAVES],
    features_1: CpuidResult,
    components: [CpuidResult; STATE_COMPONENTS],
    extended_caches: [CpuidResult; CACHE_SUBLEAVES],
    topology: [CpuidResult; 2],
    timing: CpuidResult,
}

impl CpuidTable {
    /// For vCPU `id` of `count`, whose TSC counts `tsc_hz` a second.
    pub(crate) fn new(id: usize, count: usize, tsc_hz: u64) -> Self {
        let each = |leaf: u32| move |subleaf: usize| shown(leaf, subleaf as u32);
        let mut table = Self {
            basic: core::array::from_fn(|leaf| shown(leaf as u32, 0)),
            extended: core::array::from_fn(|leaf| shown(EXTENDED + leaf as u32, 0)),
            caches: core::array::from_fn(each(4)),
            features_1: shown(7, 1),
            components: core::array::from_fn(each(0xd)),
            extended_caches: core::array::from_fn(each(0x8000_001d)),
            topology: [NOTHING; 2],
            timing: NOTHING,
        };
        table.tell_rates(tsc_hz);
        let highest = table.basic[0].eax as usize;
        for leaf in table.basic.iter_mut().skip(highest + 1) {
            *leaf = NOTHING;
        }
        let highest = table.extended[0].eax.saturating_sub(EXTENDED) as usize;
        for leaf in table.extended.iter_mut().skip(highest + 1) {
            *leaf = NOTHING;
        }
        table.place(id as u32, count as u32);
        table
    }

    /// Puts the VM's topology in: one package of `count` cores of one thread; APIC ids are vCPU ids.
    fn place(&mut self, id: u32, count: u32) {
        let id_bits = count.next_power_of_two().ilog2();
        let one = &mut self.basic[1];
        one.ebx = one.ebx & 0xffff | (count & 0xff) << 16 | id << 24;
        if count > 1 {
            one.edx |= HTT_EDX1;
        }
        for (caches, cores_at) in [
            (&mut self.caches, Some(26)),
            (&mut self.extended_caches, None),
        ] {
            for cache in caches.iter_mut().filter(|cache| cache.eax & 0x1f != 0) {
                let sharers = if cache.eax >> 5 & 0b111 >= 3 {
                    count - 1
                } else {
                    0
                };
                cache.eax = cache.eax & 0x3fff | sharers << 14;
                if let Some(shift) = cores_at {
                    cache.eax |= ((1 << id_bits) - 1) << shift;
                }
            }
        }
        self.topology = [
            // One thread a core.
            CpuidResult {
                eax: 0,
                ebx: 1,
                ecx: 1 << 8,
                edx: id,
            },
            CpuidResult {
                eax: id_bits,
                ebx: count,
                ecx: 2 << 8 | 1,
                edx: id,
            },
        ];
        if count > 1 && self.basic[0].ebx != INTEL {
            self.extended[1].ecx |= CMP_LEGACY;
            self.extended[8].ecx = id_bits << 12 | (count - 1);
        }
        if self.extended[1].ecx & TOPOLOGY_EXTENSIONS != 0 {
            self.extended[0x1e] = CpuidResult {
                eax: id,
                ebx: id,
                ..NOTHING
            };
        }
    }

    /// The local APIC's timer counts at the rate of our TSC, not at that of the host's crystal.
    fn tell_rates(&mut self, tsc_hz: u64) {
        let ratio = LocalApic::BUS_RATIO;
        let word = |rate| u32::try_from(rate).unwrap_or(0);
        self.timing = CpuidResult {
            eax: word(tsc_hz / 1000),
            ebx: word(tsc_hz / ratio / 1000),
            ..NOTHING
        };
        self.basic[CRYSTAL as usize] = CpuidResult {
            eax: 1,
            ebx: word(ratio),
            ecx: word(tsc_hz / ratio),
            edx: 0,
        };
        // Intel defines both, and a guest there that finds them need not measure either rate against the 8254, an exit for each look. A host
        // from before them takes nothing from what they say of a guest's timers.
        let has_both = self.basic[0].eax >= PROCESSOR && self.basic[PROCESSOR as usize].eax != 0;
        if self.basic[0].ebx == INTEL && !has_both {
            self.basic[0].eax = self.basic[0].eax.max(PROCESSOR);
            let mhz = word(tsc_hz / 1_000_000);
            self.basic[PROCESSOR as usize] = CpuidResult {
                eax: mhz,
                ebx: mhz,
                ecx: word(tsc_hz / ratio / 1_000_000),
                edx: 0,
            };
        }
    }

    /// A word of features.
    pub(crate) fn feature(&self, leaf: Leaf) -> u32 {
        match leaf {
            Leaf::Ecx1 => self.basic[1].ecx,
            Leaf::Edx1 => self.basic[1].edx,
            Leaf::Ebx7 => self.basic[7].ebx,
            Leaf::Ecx7 => self.basic[7].ecx,
            Leaf::ExtendedEdx1 => self.extended[1].edx,
        }
    }

    /// Family, model and stepping.
    pub(crate) const fn signature(&self) -> u32 {
        self.basic[1].eax
    }

    /// Whether RDTSCP or RDPID is there, and with it the MSR that it reads.
    pub(crate) const fn has_tsc_aux(&self) -> bool {
        self.extended[1].edx >> 27 & 1 == 1 || self.basic[7].ecx >> 22 & 1 == 1
    }

    /// The answer to CPUID of a leaf, if that is all that it depends on.
    #[inline(always)]
    pub(crate) fn plain(&self, leaf: u32) -> Option<&CpuidResult> {
        let answer = self.basic.get(leaf as usize)?;
        (PLAIN >> leaf & 1 == 1).then_some(answer)
    }

    /// The answer to CPUID. `state`: what it depends on that changes, asked only where it does.
    #[cold]
    #[inline(never)]
    pub(crate) fn answer(
        &self,
        leaf: u32,
        subleaf: u32,
        state: impl FnOnce() -> CpuidState,
    ) -> CpuidResult {
        let of =
            |subleaves: &[CpuidResult]| subleaves.get(subleaf as usize).copied().unwrap_or(NOTHING);
        match leaf {
            1 => {
                let mut one = self.basic[1];
                if state().cr4 & cr4::OSXSAVE != 0 {
                    one.ecx |= OSXSAVE_ECX1;
                }
                one
            }
            4 => of(&self.caches),
            7 => match subleaf {
                0 => self.basic[7],
                1 => self.features_1,
                _ => NOTHING,
            },
            0xb | 0x1f if self.basic[0].eax >= leaf => {
                let mut level = of(&self.topology);
                level.ecx |= subleaf & 0xff;
                level.edx = self.topology[0].edx;
                level
            }
            0xd => {
                let mut component = of(&self.components);
                if subleaf < 2 && component.eax != 0 {
                    component.ebx = xsave::area_size(state().xcr0);
                }
                component
            }
            0..=MAX_BASIC => self.basic[leaf as usize],
            0x8000_001d => of(&self.extended_caches),
            EXTENDED..=0x8000_001f => self.extended[(leaf - EXTENDED) as usize],
            HYPERVISOR => shown(HYPERVISOR, 0),
            TIMING => self.timing,
            _ => NOTHING,
        }
    }
}

/// What CPUID's answers depend on and the guest changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuidState {
    pub(crate) cr4: u64,
    pub(crate) xcr0: u64,
}

#[cfg(test)]
mod tests;
