# The way into an Intel guest and back. The names in braces are offsets into GuestRegisters and constants, from the compiler.

    .pushsection .text.x86_vcpu_vmx, "ax"

# The callee-saved registers of the host.
.macro vmx_push_host
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
.endm
.macro vmx_pop_host
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
.endm

# x86_vcpu_vmx_enter(rdi: GuestRegisters, rsi: what the VMCS holds as the host's RSP, edx: 0 to launch) -> eax: exited or failed.
    .global x86_vcpu_vmx_enter
    .type x86_vcpu_vmx_enter, @function
x86_vcpu_vmx_enter:
    vmx_push_host
    push rdi
    cmp [rsi], rsp
    je 2f
    mov [rsi], rsp
    mov eax, {HOST_RSP}
    vmwrite rax, rsp
2:  # Loads leave the flags alone.
    test edx, edx
    mov rax, [rdi + {RAX}]
    mov rcx, [rdi + {RCX}]
    mov rdx, [rdi + {RDX}]
    mov rbx, [rdi + {RBX}]
    mov rbp, [rdi + {RBP}]
    mov rsi, [rdi + {RSI}]
    mov r8, [rdi + {R8}]
    mov r9, [rdi + {R8} + 8]
    mov r10, [rdi + {R8} + 16]
    mov r11, [rdi + {R8} + 24]
    mov r12, [rdi + {R8} + 32]
    mov r13, [rdi + {R8} + 40]
    mov r14, [rdi + {R8} + 48]
    mov r15, [rdi + {R8} + 56]
    mov rdi, [rdi + {RDI}]
    jz 3f
    vmresume
    jmp 4f
3:  vmlaunch
4:  # Still here: the guest was not entered. Its registers are as they are in memory.
    mov eax, {FAILED_INVALID}
    mov ecx, {FAILED_VALID}
    cmovz eax, ecx
    add rsp, 8
    vmx_pop_host
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
    mov [rdi + {RCX}], rcx
    mov [rdi + {RDX}], rdx
    mov [rdi + {RBX}], rbx
    mov [rdi + {RBP}], rbp
    mov [rdi + {RSI}], rsi
    pop qword ptr [rdi + {RDI}]
    mov [rdi + {R8}], r8
    mov [rdi + {R8} + 8], r9
    mov [rdi + {R8} + 16], r10
    mov [rdi + {R8} + 24], r11
    mov [rdi + {R8} + 32], r12
    mov [rdi + {R8} + 40], r13
    mov [rdi + {R8} + 48], r14
    mov [rdi + {R8} + 56], r15
    mov eax, {EXITED}
    add rsp, 8
    vmx_pop_host
    ret
    .size x86_vcpu_vmx_exit, . - x86_vcpu_vmx_exit
    .popsection
