//! What a VMX instruction that failed says of itself (SDM vol. 3, 31.4 "VM Instruction Error Numbers").

/// The error number in words.
#[must_use]
pub const fn instruction_error(number: u32) -> &'static str {
    match number {
        0 => "no error number",
        1 => "VMCALL in VMX root operation",
        2 => "VMCLEAR with an invalid physical address",
        3 => "VMCLEAR of the VMXON region",
        4 => "VMLAUNCH of a VMCS that is not clear",
        5 => "VMRESUME of a VMCS that was not launched",
        6 => "VMRESUME after VMXOFF",
        7 => "VM entry with invalid control fields",
        8 => "VM entry with invalid host-state fields",
        9 => "VMPTRLD with an invalid physical address",
        10 => "VMPTRLD of the VMXON region",
        11 => "VMPTRLD of a VMCS with a wrong revision identifier",
        12 => "VMREAD or VMWRITE of a VMCS field that this processor does not have",
        13 => "VMWRITE of a read-only VMCS field",
        15 => "VMXON in VMX root operation",
        16 => "VM entry with an invalid executive-VMCS pointer",
        17 => "VM entry with an executive VMCS that was not launched",
        18 => "VM entry with an executive-VMCS pointer that is not the VMXON pointer",
        19 => "VMCALL with a VMCS that is not clear",
        20 => "VMCALL with invalid VM-exit control fields",
        22 => "VMCALL with a wrong MSEG revision identifier",
        23 => "VMXOFF under dual-monitor treatment",
        24 => "VMCALL with invalid SMM-monitor features",
        25 => "VM entry with invalid VM-execution controls in the executive VMCS",
        26 => "VM entry with events blocked by MOV SS",
        28 => "INVEPT or INVVPID with an invalid operand",
        _ => "a VM-instruction error that the manual does not have",
    }
}
