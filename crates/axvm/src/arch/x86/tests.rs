use alloc::{vec, vec::Vec};

use super::*;
use crate::{
    boot::testing::{TestRam, bz_image, pc_config, range},
    testing::{Files, TestConsole, TestHal, booted, poke, world},
};

type Cpu<const W: usize> = X86VCpu<TestHal<W>>;

const RAM: &str = "memory_regions = [[\"20MiB\"]]";

fn config(cpus: usize, image: Vec<u8>) -> AxVMConfig<X86Machine> {
    let files = Files(vec![("image", image)]);
    pc_config(cpus, RAM, files, Arc::new(TestConsole::new()))
}

#[test]
fn vcpus_are_made_from_what_the_config_says() {
    const W: usize = 73;
    // Another VM, of whose RAM these vCPUs read.
    let (vm, _) = booted::<W>(1);
    let base = crate::testing::RAM;
    poke(&vm, base + 0x3000, b"abcd");
    world::<W>()
        .now
        .store(77, core::sync::atomic::Ordering::SeqCst);
    let made_of = |pcpus| {
        let mut config = config(2, Vec::new());
        Arc::get_mut(&mut config.machine).unwrap().pcpus = pcpus;
        let ram = [range(0, 20 << 20)];
        Cpu::<W>::parts(&config, &ram, world::<W>().link()).unwrap()
    };
    let Parts { devices, vcpus } = made_of(4);
    assert!(devices.console.is_some());
    assert_eq!(vcpus.len(), 2);
    for (vcpu, timers) in vcpus.iter().zip([3, 1]) {
        assert_eq!(vcpu.hlt, HltPolicy::Untrapped);
        assert_eq!(vcpu.sharing, x86_vcpu::Sharing::Dedicated);
        assert_eq!((vcpu.vcpu_count, vcpu.timed.len()), (2, timers));
        assert_eq!(vcpu.ram[0].end, GuestPhysAddr::new(20 << 20));
        assert_eq!(vcpu.local.pending(), None);
    }
    let mut bytes = [0; 4];
    let memory = &vcpus[0].memory;
    assert!(memory.read(GuestPhysAddr::new(base + 0x3000), &mut bytes));
    assert_eq!(&bytes, b"abcd");
    assert!(memory.write(GuestPhysAddr::new(base + 0x3004), b"efgh"));
    assert!(!memory.read(GuestPhysAddr::new(0), &mut bytes));
    let only = &made_of(1).vcpus[0];
    assert_eq!(only.hlt, HltPolicy::Exit, "the only pCPU is everyone's");
    assert_eq!(only.sharing, x86_vcpu::Sharing::Shared);
}

#[test]
fn a_vm_starts_in_the_mode_of_its_kernels_protocol() {
    let load = |image: Vec<u8>| {
        let mut ram = TestRam::new(0, 20 << 20);
        Cpu::<0>::load(&config(2, image), &[range(0, 20 << 20)], &mut ram).unwrap()
    };
    let linux = load(bz_image().0);
    let X86Start::Long64 { rip, rsi, cr3 } = linux.setup else {
        panic!("{:?}", linux.setup)
    };
    assert_eq!((rip, rsi), (linux.entries.bsp_entry.as_u64(), linux.arg));
    assert_eq!((rip, cr3 % 0x1000), ((16 << 20) + 0x200, 0));
    assert_eq!(linux.entries.ap_entry.as_u64(), 0);
    let flat = load(b"flat".to_vec());
    let info = flat.arg as u32;
    let expected = X86Start::Protected32 {
        eip: 0x20_0000,
        ebx: info,
        eax: 0x2bad_b002,
    };
    assert_eq!(flat.setup, expected);
    assert_eq!(Cpu::<0>::parked(), X86Start::Parked);
}
