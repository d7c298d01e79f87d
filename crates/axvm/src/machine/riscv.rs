//! What only a RISC-V machine has to say.

use alloc::{string::String, vec::Vec};

use riscv_vcpu::{CpuFeatures, MachineIds};

/// A RISC-V machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RiscvMachine {
    /// What its CPUs can do.
    pub cpus: IsaInfo,
    /// What a guest reads about its maker.
    pub ids: MachineIds,
}

/// What RISC-V CPUs can do, in the words of their device-tree bindings (Linux, riscv/cpus.yaml and
/// riscv/extensions.yaml).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IsaInfo {
    /// The extensions, in canonical order: `i`, `m`, `a` … `zicsr` …
    pub extensions: Vec<String>,
    /// The largest translation scheme: `riscv,sv39`, `riscv,sv48` or `riscv,sv57`.
    pub mmu_type: Option<String>,
    /// The bytes that a cache-block management instruction works on.
    pub cbom_block_size: Option<u32>,
    /// The bytes that a cache-block prefetch instruction works on.
    pub cbop_block_size: Option<u32>,
    /// The bytes that a cache-block zero instruction works on.
    pub cboz_block_size: Option<u32>,
}

/// The supervisor extensions that a guest has whenever the host does: they need nothing from a
/// hypervisor but what the vCPU enables for every guest. Those that are not listed stay hidden: a
/// guest that trusts in one would find it missing. Svpbmt is one: memory that a guest reads past the caches may not yet show
/// that its frames were zeroed, but what their last owner left.
const GUEST_SUPERVISOR_EXTENSIONS: [&str; 9] = [
    "ssccptr",
    "sscounterenw",
    "sstvala",
    "sstvecd",
    "ssu64xl",
    "svade",
    "svinval",
    "svnapot",
    "svvptc",
];

/// The user-level extensions that nevertheless need a hypervisor: entropy from a CSR, and the two
/// control-flow guards.
const HIDDEN_USER_EXTENSIONS: [&str; 3] = ["zicfilp", "zicfiss", "zkr"];

impl IsaInfo {
    /// Whether the CPUs have `extension`.
    #[must_use]
    pub fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|name| name == extension)
    }

    /// What a guest on these CPUs can use, if the vCPUs give it `features`.
    #[must_use]
    pub fn for_guest(&self, features: CpuFeatures) -> Self {
        let shown = |name: &&String| match name.as_str() {
            "h" => false,
            "f" | "d" | "q" | "zcf" | "zcd" => features.contains(CpuFeatures::FLOAT),
            "v" => features.contains(CpuFeatures::VECTOR),
            "sstc" => features.contains(CpuFeatures::SSTC),
            name if name.len() == 1 => true,
            name if name.starts_with("zf") => features.contains(CpuFeatures::FLOAT),
            name if name.starts_with("zv") => features.contains(CpuFeatures::VECTOR),
            name if name.starts_with('z') => !HIDDEN_USER_EXTENSIONS.contains(&name),
            name => GUEST_SUPERVISOR_EXTENSIONS.contains(&name),
        };
        Self {
            extensions: self.extensions.iter().filter(shown).cloned().collect(),
            ..self.clone()
        }
    }

    /// The ISA string (device tree: `riscv,isa`).
    #[must_use]
    pub fn isa_string(&self) -> String {
        let mut isa = String::from("rv64");
        for name in &self.extensions {
            if name.len() > 1 {
                isa.push('_');
            }
            isa.push_str(name);
        }
        isa
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::extensions_of;

    const QEMU: &str = "rv64imafdcvh_zicbom_zicsr_zkr_zfa_zba_zvfh_shcounterenw_smaia_ssaia_sstc_svadu_svpbmt_xvendor";

    fn host() -> IsaInfo {
        IsaInfo {
            extensions: extensions_of(QEMU),
            cbom_block_size: Some(64),
            ..IsaInfo::default()
        }
    }

    #[test]
    fn an_isa_string_comes_apart_and_together() {
        assert_eq!(host().isa_string(), QEMU);
        assert!(host().has("h") && host().has("sstc") && !host().has("q"));
    }

    #[test]
    fn a_guest_sees_what_it_can_use() {
        let guest = |features| host().for_guest(features).isa_string();
        let all = "rv64imafdcv_zicbom_zicsr_zfa_zba_zvfh_sstc";
        assert_eq!(guest(CpuFeatures::all()), all);
        assert_eq!(guest(CpuFeatures::empty()), "rv64imac_zicbom_zicsr_zba");
        assert_eq!(guest(CpuFeatures::FLOAT), "rv64imafdc_zicbom_zicsr_zfa_zba");
        assert_eq!(
            host().for_guest(CpuFeatures::all()).cbom_block_size,
            Some(64)
        );
    }
}
