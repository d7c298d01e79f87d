# The way into an Intel guest and back.

    .pushsection .text.x86_vcpu_vmx, "ax"

# x86_vcpu_vmx_enter(rdi: GuestRegisters, rsi: what the VMCS holds as the host's RSP, edx: 0 to launch) -> eax: exited or failed.
    .global x86_vcpu_vmx_enter
    .type x86_vcpu_vmx_enter, @function
x86_vcpu_vmx_enter:
    push_host
    push rdi
    cmp [rsi], rsp
    je 2f
    mov [rsi], rsp
    mov eax, {HOST_RSP}
    vmwrite rax, rsp
2:  # Loads leave the flags alone.
    test edx, edx
    mov rax, [rdi + {RAX}]
    load_guest
    jz 3f
    vmresume
    jmp 4f
3:  vmlaunch
4:  # Still here: the guest was not entered. Its registers are as they are in memory.
    mov eax, {FAILED_INVALID}
    mov ecx, {FAILED_VALID}
    cmovz eax, ecx
    add rsp, 8
    pop_host
    ret
    .size x86_vcpu_vmx_enter, . - x86_vcpu_vmx_enter

# The guest left: RSP is what it was at the entry, all else but RIP still the guest's.
    .balign 16
    .global x86_vcpu_vmx_exit
    .type x86_vcpu_vmx_exit, @function
x86_vcpu_vmx_exit:
    push rdi
    mov rdi, [rsp + 8]
    mov [rdi + {RAX}], rax
    pop qword ptr [rdi + {RDI}]
    store_guest rdi
    mov eax, {EXITED}
    add rsp, 8
    pop_host
    ret
    .size x86_vcpu_vmx_exit, . - x86_vcpu_vmx_exit
    .popsection
