# The way between the host and the guest. The symbols in braces are offsets into VmCpuRegisters, computed by the compiler.
#
# While the vCPU's loop runs, stvec holds riscv_vcpu_trap and sscratch the address of the VmCpuRegisters, in the guest and in the
# handler alike. The handler is a Rust function and so keeps the guest's callee-saved registers itself: on the short way, trap to
# handler to guest, they never reach memory. Neither does tp, which compilers leave to threads' storage, and which nothing here has.

    .pushsection .text.riscv_vcpu, "ax"
    .option push
    .option norvc

# Applies \op (ld or sd) to the guest's caller-saved registers but a0 and t0 to t2, and to sp and gp, where a0 holds the VmCpuRegisters.
.macro each_caller_saved op
    \op ra, {X}+8*1(a0)
    \op sp, {X}+8*2(a0)
    \op gp, {X}+8*3(a0)
    \op a1, {X}+8*11(a0)
    \op a2, {X}+8*12(a0)
    \op a3, {X}+8*13(a0)
    \op a4, {X}+8*14(a0)
    \op a5, {X}+8*15(a0)
    \op a6, {X}+8*16(a0)
    \op a7, {X}+8*17(a0)
    \op t3, {X}+8*28(a0)
    \op t4, {X}+8*29(a0)
    \op t5, {X}+8*30(a0)
    \op t6, {X}+8*31(a0)
.endm

# Applies \op to the guest's callee-saved registers, and to tp.
.macro each_callee_saved op
    \op tp, {X}+8*4(a0)
    \op s0, {X}+8*8(a0)
    \op s1, {X}+8*9(a0)
    \op s2, {X}+8*18(a0)
    \op s3, {X}+8*19(a0)
    \op s4, {X}+8*20(a0)
    \op s5, {X}+8*21(a0)
    \op s6, {X}+8*22(a0)
    \op s7, {X}+8*23(a0)
    \op s8, {X}+8*24(a0)
    \op s9, {X}+8*25(a0)
    \op s10, {X}+8*26(a0)
    \op s11, {X}+8*27(a0)
.endm

# Applies \op to what the host must find again, but for sp and gp.
.macro each_host op
    \op tp, {HOST_TP}(a0)
    \op ra, {HOST_RA}(a0)
    \op s0, {HOST_SAVED}+8*0(a0)
    \op s1, {HOST_SAVED}+8*1(a0)
    \op s2, {HOST_SAVED}+8*2(a0)
    \op s3, {HOST_SAVED}+8*3(a0)
    \op s4, {HOST_SAVED}+8*4(a0)
    \op s5, {HOST_SAVED}+8*5(a0)
    \op s6, {HOST_SAVED}+8*6(a0)
    \op s7, {HOST_SAVED}+8*7(a0)
    \op s8, {HOST_SAVED}+8*8(a0)
    \op s9, {HOST_SAVED}+8*9(a0)
    \op s10, {HOST_SAVED}+8*10(a0)
    \op s11, {HOST_SAVED}+8*11(a0)
.endm

# riscv_vcpu_enter(a0: registers, a1: handler, a2: device handler, a3: context, a4: clock): returns once a handler says Leave. Host interrupts are
# off throughout.
    .global riscv_vcpu_enter
    .type riscv_vcpu_enter, @function
riscv_vcpu_enter:
    each_host sd
    sd sp, {HOST_SP}(a0)
    sd gp, {HOST_GP}(a0)
    sd a1, {HANDLER}(a0)
    sd a2, {DEVICE_HANDLER}(a0)
    sd a3, {CONTEXT}(a0)
    sd a4, {CLOCK}(a0)
    lla t0, riscv_vcpu_trap
    csrrw t0, stvec, t0
    sd t0, {HOST_STVEC}(a0)
    csrw sscratch, a0
    each_callee_saved ld
    j .Lresume
    .size riscv_vcpu_enter, . - riscv_vcpu_enter

# The guest trapped.
    .balign 4
    .type riscv_vcpu_trap, @function
riscv_vcpu_trap:
    csrrw a0, sscratch, a0
    sd t0, {X}+8*5(a0)
    csrr t0, time
    sd t1, {X}+8*6(a0)
    sd t2, {X}+8*7(a0)
    ld t2, {CLOCK}(a0)
    ld t1, (t2)
    sub t1, t1, t0
    sd t1, (t2)
    each_caller_saved sd
    csrrw t0, sscratch, a0
    sd t0, {X}+8*10(a0)
    ld t1, {HANDLER}(a0)
    ld sp, {HOST_SP}(a0)
    ld gp, {HOST_GP}(a0)
    ld a1, {CONTEXT}(a0)
    jalr t1
    bnez a0, .Lnot_yet
    csrr a0, sscratch
.Lresume:
    each_caller_saved ld
    ld t2, {CLOCK}(a0)
    ld t1, (t2)
    csrr t0, time
    add t1, t1, t0
    sd t1, (t2)
    ld t0, {X}+8*5(a0)
    ld t1, {X}+8*6(a0)
    ld t2, {X}+8*7(a0)
    ld a0, {X}+8*10(a0)
    sret

# A device's value may come from, or go to, any register: all of them are in memory while it is called.
.Lnot_yet:
    addi a1, a0, -{NEXT_DEVICE}
    csrr a0, sscratch
    each_callee_saved sd
    bnez a1, .Lleave
    ld a1, {CONTEXT}(a0)
    ld t1, {DEVICE_HANDLER}(a0)
    jalr t1
    mv a1, a0
    csrr a0, sscratch
    bnez a1, .Lleave
    each_callee_saved ld
    j .Lresume

.Lleave:
    ld t0, {HOST_STVEC}(a0)
    csrw stvec, t0
    csrw sscratch, zero
    each_host ld
    ret
    .size riscv_vcpu_trap, . - riscv_vcpu_trap

# Applies \op (fld or fsd) to every floating-point register, where a0 holds an array of them.
.macro each_float op
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    \op f\n, 8*\n(a0)
    .endr
.endm

    .option arch, +d
    .global riscv_vcpu_save_float
riscv_vcpu_save_float:
    each_float fsd
    ret
    .global riscv_vcpu_load_float
riscv_vcpu_load_float:
    each_float fld
    ret

# riscv_vcpu_{{save,load}}_vector(a0: array of the registers, a1: bytes of eight registers): whole registers, so vl and vtype do not matter.
    .option arch, +v
    .global riscv_vcpu_save_vector
riscv_vcpu_save_vector:
    vs8r.v v0, (a0)
    add a0, a0, a1
    vs8r.v v8, (a0)
    add a0, a0, a1
    vs8r.v v16, (a0)
    add a0, a0, a1
    vs8r.v v24, (a0)
    ret
    .global riscv_vcpu_load_vector
riscv_vcpu_load_vector:
    vl8re8.v v0, (a0)
    add a0, a0, a1
    vl8re8.v v8, (a0)
    add a0, a0, a1
    vl8re8.v v16, (a0)
    add a0, a0, a1
    vl8re8.v v24, (a0)
    ret
    .option pop
    .popsection
