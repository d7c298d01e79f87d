# x86_vcpu_svm_run(rdi: GuestRegisters, rsi: the VMCB's address, rdx: the host state's): runs the guest until it exits. Interrupts are off.
# The symbols in braces are offsets into GuestRegisters. RAX and RSP are in the VMCB.

    .pushsection .text.x86_vcpu_svm, "ax"
    .global x86_vcpu_svm_run
    .type x86_vcpu_svm_run, @function
x86_vcpu_svm_run:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    push rdx
    push rdi
    mov rax, rsi
    clgi
    sti
    mov rcx, [rdi + {RCX}]
    mov rdx, [rdi + {RDX}]
    mov rbx, [rdi + {RBX}]
    mov rbp, [rdi + {RBP}]
    mov rsi, [rdi + {RSI}]
    mov r8, [rdi + {R8}]
    mov r9, [rdi + {R9}]
    mov r10, [rdi + {R10}]
    mov r11, [rdi + {R11}]
    mov r12, [rdi + {R12}]
    mov r13, [rdi + {R13}]
    mov r14, [rdi + {R14}]
    mov r15, [rdi + {R15}]
    mov rdi, [rdi + {RDI}]
    vmload rax
    vmrun rax
    # RAX and RSP are the host's again, and global interrupts are off.
    cli
    vmsave rax
    mov rax, [rsp + 8]
    vmload rax
    pop rax
    mov [rax + {RCX}], rcx
    mov [rax + {RDX}], rdx
    mov [rax + {RBX}], rbx
    mov [rax + {RBP}], rbp
    mov [rax + {RSI}], rsi
    mov [rax + {RDI}], rdi
    mov [rax + {R8}], r8
    mov [rax + {R9}], r9
    mov [rax + {R10}], r10
    mov [rax + {R11}], r11
    mov [rax + {R12}], r12
    mov [rax + {R13}], r13
    mov [rax + {R14}], r14
    mov [rax + {R15}], r15
    stgi
    pop rdx
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
    .size x86_vcpu_svm_run, . - x86_vcpu_svm_run
    .popsection
