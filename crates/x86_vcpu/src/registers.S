# What both vendors' ways into a guest and back share. The names in braces are offsets into GuestRegisters; RSP is in the VMCS or VMCB.

# The callee-saved registers of the host.
.macro push_host
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
.endm
.macro pop_host
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
.endm

# The guest's, but RAX, from rdi. The flags stay.
.macro load_guest
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
.endm

# The guest's, but RAX and RDI, to \to, which is one of those two.
.macro store_guest to
    mov [\to + {RCX}], rcx
    mov [\to + {RDX}], rdx
    mov [\to + {RBX}], rbx
    mov [\to + {RBP}], rbp
    mov [\to + {RSI}], rsi
    mov [\to + {R8}], r8
    mov [\to + {R8} + 8], r9
    mov [\to + {R8} + 16], r10
    mov [\to + {R8} + 24], r11
    mov [\to + {R8} + 32], r12
    mov [\to + {R8} + 40], r13
    mov [\to + {R8} + 48], r14
    mov [\to + {R8} + 56], r15
.endm
