# x86_vcpu_svm_run(rdi: GuestRegisters, rsi: the VMCB's address): runs the guest until it exits. Interrupts are off. RAX is in the VMCB, and the
# host's state is so many bytes behind that.

    .pushsection .text.x86_vcpu_svm, "ax"
    .global x86_vcpu_svm_run
    .type x86_vcpu_svm_run, @function
x86_vcpu_svm_run:
    push_host
    push rdi
    mov rax, rsi
    clgi
    sti
    load_guest
    vmload rax
    vmrun rax
    # RAX and RSP are the host's again, and global interrupts are off.
    cli
    vmsave rax
    add rax, {HOST}
    vmload rax
    pop rax
    store_guest rax
    mov [rax + {RDI}], rdi
    stgi
    pop_host
    ret
    .size x86_vcpu_svm_run, . - x86_vcpu_svm_run
    .popsection
