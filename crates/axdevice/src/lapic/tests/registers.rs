//! What registers hold, where they are, and who may access them.

use proptest::prelude::*;

use super::*;
use crate::testing::WIDTHS;
use crate::{AxVmDevices, BusError};

/// Intel SDM volume 3, 12.4.7.1, but for LINT0 of vCPU 0, which firmware opens.
fn power_on(cpu: usize, register: u32) -> u32 {
    match register {
        ID => (cpu as u32) << 24,
        VERSION => 0x0005_0014,
        DFR => 0xffff_ffff,
        SVR => 0xff,
        LVT_LINT0 if cpu == 0 => 0x700,
        0x32..=0x37 => 0x1_0000,
        _ => 0,
    }
}

/// Those of SDM table 12-1 that there are.
fn xapic_registers() -> impl Iterator<Item = u32> {
    [0x02, 0x03]
        .into_iter()
        .chain(0x08..=0x28)
        .chain(0x30..=0x39)
        .chain([0x3e])
}

/// Those of SDM table 12-6 that there are.
fn x2apic_registers() -> impl Iterator<Item = u32> {
    xapic_registers()
        .filter(|register| ![0x09, 0x0c, 0x0e, 0x31].contains(register))
        .chain([SELF_IPI])
}

#[test]
fn registers_after_power_on_and_after_a_reset() {
    let bench = Bench::cold(3);
    let check = || {
        for cpu in 0..3 {
            for register in xapic_registers() {
                let value = bench.read(cpu, register);
                assert_eq!(value, power_on(cpu, register), "{cpu} {register:#x}");
            }
            let bsp = if cpu == 0 { BASE_BSP } else { 0 };
            let base = bench.apics[cpu].read_msr(BASE);
            assert_eq!(base, Ok(ADDRESS | BASE_ENABLE | bsp));
            assert_eq!(bench.pending(cpu), None);
        }
    };
    check();
    for cpu in 0..3 {
        for register in xapic_registers() {
            bench.write(cpu, register, 0x5a5a_5a5a);
        }
    }
    bench.to_x2apic(1);
    for apic in &bench.apics {
        apic.reset();
    }
    check();
}

#[test]
fn what_can_be_written_is_kept() {
    let bench = Bench::xapic(1);
    for (register, kept) in [
        (TPR, 0xff),
        (LDR, 0xff00_0000),
        (SVR, 0x3ff),
        (ICR_HIGH, 0xffff_ffff),
        (LVT_TIMER, 0x0007_00ff),
        (0x33, 0x0001_07ff),
        (0x34, 0x0001_07ff),
        (LVT_LINT0, 0x0001_a7ff),
        (LVT_LINT1, 0x0001_a7ff),
        (LVT_ERROR, 0x0001_00ff),
        (DIVIDE, 0xb),
    ] {
        bench.write(0, SVR, 0x1ff);
        bench.write(0, register, u32::MAX);
        assert_eq!(bench.read(0, register), kept, "{register:#x}");
        bench.write(0, SVR, 0x1ff);
        bench.write(0, register, 0);
        assert_eq!(bench.read(0, register), 0, "{register:#x}");
        // A mask for what follows.
        bench.write(
            0,
            register,
            if (0x32..=0x37).contains(&register) {
                0x1_0000
            } else {
                0
            },
        );
    }
    bench.write(0, DFR, 0);
    assert_eq!(bench.read(0, DFR), 0x0fff_ffff);
    for register in [ID, VERSION, APR, PPR, ISR, TMR, IRR, CURRENT_COUNT] {
        let before = bench.read(0, register);
        bench.write(0, register, !before);
        assert_eq!(bench.read(0, register), before, "{register:#x}");
    }
}

#[test]
fn the_page_answers_aligned_words_only() {
    let bench = Bench::cold(1);
    for offset in 0..0x1000 {
        for width in WIDTHS {
            let answers = offset % 16 == 0 && width == AccessWidth::Dword;
            let apic = &bench.apics[0];
            assert_eq!(apic.read(offset, width).is_ok(), answers, "{offset:#x}");
            assert_eq!(apic.write(offset, width, 0).is_ok(), answers);
        }
    }
}

#[test]
fn each_mode_has_its_own_door() {
    let bench = Bench::cold(1);
    let apic = &bench.apics[0];
    let door = |page: bool, msrs: bool| {
        let offset = u64::from(VERSION) << 4;
        assert_eq!(apic.read(offset, AccessWidth::Dword).is_ok(), page);
        assert_eq!(apic.write(offset, AccessWidth::Dword, 0).is_ok(), page);
        assert_eq!(bench.rdmsr(0, VERSION).is_ok(), msrs);
        assert_eq!(bench.wrmsr(0, TPR, 0).is_ok(), msrs);
        assert_eq!(apic.is_enabled(), page || msrs);
    };
    door(true, false);
    bench.to_x2apic(0);
    door(false, true);
    apic.write_msr(BASE, ADDRESS).unwrap();
    door(false, false);
    apic.write_msr(BASE, ADDRESS | BASE_ENABLE).unwrap();
    door(true, false);
}

#[test]
fn modes_change_as_the_manual_shows() {
    let off = ADDRESS;
    let xapic = ADDRESS | BASE_ENABLE;
    let x2apic = ADDRESS | BASE_ENABLE | BASE_X2APIC;
    let nonsense = ADDRESS | BASE_X2APIC;
    for (from, to, is_allowed) in [
        (off, off, true),
        (off, xapic, true),
        (off, x2apic, false),
        (off, nonsense, false),
        (xapic, off, true),
        (xapic, xapic, true),
        (xapic, x2apic, true),
        (xapic, nonsense, false),
        (x2apic, off, true),
        (x2apic, xapic, false),
        (x2apic, x2apic, true),
        (x2apic, nonsense, false),
    ] {
        let bench = Bench::cold(2);
        let apic = &bench.apics[1];
        apic.write_msr(BASE, from).unwrap();
        let result = apic.write_msr(BASE, to);
        assert_eq!(result.is_ok(), is_allowed, "{from:#x} to {to:#x}");
        let now = if is_allowed { to } else { from };
        assert_eq!(apic.read_msr(BASE), Ok(now));
    }
    let bench = Bench::cold(1);
    let apic = &bench.apics[0];
    for bit in (0..64).filter(|bit| ![8, 10, 11].contains(bit)) {
        let base = (ADDRESS | BASE_ENABLE) ^ 1 << bit;
        assert_eq!(apic.write_msr(BASE, base), Err(AccessFault), "bit {bit}");
    }
    // Who starts first is not for software to say.
    apic.write_msr(BASE, ADDRESS | BASE_ENABLE).unwrap();
    assert_eq!(apic.read_msr(BASE), Ok(ADDRESS | BASE_ENABLE | BASE_BSP));
}

#[test]
fn the_way_to_x2apic_keeps_all_and_the_way_off_loses_all() {
    let bench = Bench::xapic(4);
    bench.write(3, TPR, 0x45);
    bench.write(3, LDR, 0x0800_0000);
    bench.write(3, LVT_ERROR, 0x51);
    bench.write(3, ICR_HIGH, 0x0200_0000);
    bench.write(3, ICR, 0x0_0040);
    bench.to_x2apic(3);
    assert_eq!(bench.rdmsr(3, ID), Ok(3));
    assert_eq!(bench.rdmsr(3, TPR), Ok(0x45));
    assert_eq!(bench.rdmsr(3, SVR), Ok(0x1ff));
    assert_eq!(bench.rdmsr(3, LDR), Ok(8));
    assert_eq!(bench.rdmsr(3, LVT_ERROR), Ok(0x51));
    assert_eq!(bench.rdmsr(3, ICR), Ok(0x40));
    bench.apics[3].write_msr(BASE, ADDRESS).unwrap();
    bench.apics[3]
        .write_msr(BASE, ADDRESS | BASE_ENABLE)
        .unwrap();
    for register in xapic_registers() {
        assert_eq!(bench.read(3, register), power_on(3, register));
    }
}

#[test]
fn x2apic_ids_follow_from_the_number_of_the_vcpu() {
    let bench = Bench::x2apic(40);
    for cpu in 0..40u64 {
        assert_eq!(bench.rdmsr(cpu as usize, ID), Ok(cpu));
        let logical = (cpu / 16) << 16 | 1 << (cpu % 16);
        assert_eq!(bench.rdmsr(cpu as usize, LDR), Ok(logical));
    }
}

#[test]
fn x2apic_registers_that_do_not_exist_are_refused() {
    let bench = Bench::x2apic(1);
    let write_only = [EOI, SELF_IPI];
    let read_only = |register: u32| {
        matches!(register, ID | VERSION | PPR | LDR | CURRENT_COUNT)
            || (0x10..=0x27).contains(&register)
    };
    for register in 0..0x100 {
        let exists = x2apic_registers().any(|known| known == register);
        let readable = exists && !write_only.contains(&register);
        let writable = exists && !read_only(register);
        assert_eq!(bench.rdmsr(0, register).is_ok(), readable, "{register:#x}");
        assert_eq!(
            bench.wrmsr(0, register, 0).is_ok(),
            writable,
            "{register:#x}"
        );
    }
    for msr in [0, 0x1a, 0x1c, 0x6df, 0x6e1, 0x7ff, 0x900, u32::MAX] {
        assert_eq!(bench.apics[0].read_msr(msr), Err(AccessFault));
        assert_eq!(bench.apics[0].write_msr(msr, 0), Err(AccessFault));
    }
}

#[test]
fn x2apic_bits_that_do_not_exist_are_refused() {
    for (register, bits) in [
        (TPR, 0xff),
        (EOI, 0),
        (SVR, 0x3ff),
        (ESR, 0),
        (ICR, 0xffff_ffff_000c_dfff_u64),
        (LVT_TIMER, 0x0007_10ff),
        (0x33, 0x0001_17ff),
        (0x34, 0x0001_17ff),
        (LVT_LINT0, 0x0001_f7ff),
        (LVT_LINT1, 0x0001_f7ff),
        (LVT_ERROR, 0x0001_10ff),
        (INITIAL_COUNT, 0xffff_ffff),
        (DIVIDE, 0xb),
        (SELF_IPI, 0xff),
    ] {
        for bit in 0..64 {
            let bench = Bench::x2apic(1);
            let result = bench.wrmsr(0, register, 1 << bit);
            let exists = bits >> bit & 1 != 0;
            assert_eq!(result.is_ok(), exists, "{register:#x} bit {bit}");
        }
    }
}

#[test]
fn switching_off_by_software_masks_the_table() {
    let bench = Bench::xapic(1);
    for entry in LVT_TIMER..=LVT_ERROR {
        bench.write(0, entry, 0x40);
    }
    bench.write(0, SVR, 0xff);
    for entry in LVT_TIMER..=LVT_ERROR {
        assert_eq!(bench.read(0, entry), 0x1_0040);
        bench.write(0, entry, 0x41);
        assert_eq!(bench.read(0, entry), 0x1_0041);
    }
    bench.write(0, SVR, 0x1ff);
    assert_eq!(bench.read(0, LVT_TIMER), 0x1_0041);
}

#[test]
fn errors_show_after_a_write_and_the_first_interrupts() {
    let bench = Bench::xapic(1);
    bench.write(0, LVT_ERROR, 0x50);
    let illegal_register = 1 << 7;
    let send_illegal = 1 << 5;
    bench.read(0, 0x3f);
    assert_eq!(bench.acknowledge(0), Some(0x50));
    bench.write(0, EOI, 0);
    // More of them are logged, but nobody is told again.
    bench.write(0, 0x01, 0);
    bench.write(0, ICR, 0x4_0003);
    assert_eq!(bench.pending(0), None);
    assert_eq!(bench.read(0, ESR), 0);
    bench.write(0, ESR, 0);
    assert_eq!(bench.read(0, ESR), illegal_register | send_illegal);
    bench.write(0, ESR, 0xffff_ffff);
    assert_eq!(bench.read(0, ESR), 0);
    // Armed again. An error interrupt of an illegal vector is one more error.
    bench.write(0, LVT_ERROR, 0x05);
    bench.read(0, 0x3f);
    assert_eq!(bench.pending(0), None);
    bench.write(0, ESR, 0);
    assert_eq!(bench.read(0, ESR), illegal_register | 1 << 6);
}

#[test]
fn a_local_apic_is_on_the_buses_of_its_vcpu() {
    let bench = Bench::cold(2);
    let builder = bench.apics[1].put_on(AxVmDevices::builder());
    let devices = builder.build().unwrap();
    let page = LocalApic::PAGE;
    let read = || devices.handle_mmio_read(page.checked_add(0x20).unwrap(), AccessWidth::Dword);
    assert_eq!(read(), Ok(1 << 24));
    assert_eq!(devices.handle_sys_reg_read(0x802), Err(BusError::Fault));
    let base = devices.handle_sys_reg_read(BASE).unwrap();
    devices
        .handle_sys_reg_write(BASE, base | BASE_X2APIC)
        .unwrap();
    assert_eq!(devices.handle_sys_reg_read(0x802), Ok(1));
    assert_eq!(read(), Err(BusError::Fault));
    assert_eq!(devices.handle_sys_reg_read(0x6e0), Ok(0));
    assert_eq!(devices.handle_sys_reg_read(0x900), Err(BusError::NoDevice));
    devices.reset_all();
    assert_eq!(read(), Ok(1 << 24));
}

proptest! {
    /// Whatever is written to the page can be written again after it was read, and then changes nothing.
    #[test]
    fn registers_read_back_what_they_keep(
        register in (0x08u32..0x40).prop_filter("it keeps what is written", |register| {
            ![ICR, EOI, ESR, INITIAL_COUNT].contains(register)
        }),
        value: u32,
    ) {
        let bench = Bench::xapic(1);
        bench.write(0, register, value);
        let kept = bench.read(0, register);
        bench.write(0, register, kept);
        prop_assert_eq!(bench.read(0, register), kept);
    }
}
