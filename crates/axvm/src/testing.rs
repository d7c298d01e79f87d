//! What the tests share: [`host`] and [`guest`], and VMs made of them.
//!
//! Tests run at the same time, so each has a world of its own, by number: `TestHal<7>`,
//! `ScriptedCpu<7>` and `world::<7>()` belong together.

mod guest;
mod host;

use alloc::{collections::VecDeque, string::String, sync::Arc, vec, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use axaddrspace::{GuestPhysAddr, NestedMode};
use axdevice::CharBackend;
use axvmconfig::{Isa, VmConfig};

use crate::{AxVM, AxVMConfig, AxVMRef, ImageSource, IsaInfo, Machine, RiscvMachine, VmError};
pub(crate) use guest::{DEVICE, DEVICE_HOLE, DEVICE_VALUE, EXTERNAL, ScriptedCpu};
use host::PCPUS;
pub(crate) use host::{Event, Failure, TestHal, run_on, world};

pub(crate) const RAM: u64 = 0x8000_0000;

/// A console that takes and gives a few bytes at a time.
pub(crate) struct TestConsole {
    pub(crate) written: Mutex<Vec<u8>>,
    pub(crate) input: Mutex<VecDeque<u8>>,
    pub(crate) room: AtomicUsize,
}

impl TestConsole {
    pub(crate) fn new() -> Self {
        Self {
            written: Mutex::default(),
            input: Mutex::default(),
            room: AtomicUsize::new(usize::MAX),
        }
    }
}

impl CharBackend for TestConsole {
    fn write(&self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room.load(Ordering::SeqCst));
        self.room.fetch_sub(count, Ordering::SeqCst);
        self.written
            .lock()
            .unwrap()
            .extend_from_slice(&bytes[..count]);
        count
    }

    fn read(&self, buf: &mut [u8]) -> usize {
        let mut input = self.input.lock().unwrap();
        let count = buf.len().min(input.len());
        buf.iter_mut()
            .zip(input.drain(..count))
            .for_each(|(to, from)| *to = from);
        count
    }
}

/// Files by path.
pub(crate) struct Files(pub(crate) Vec<(&'static str, Vec<u8>)>);

impl ImageSource for Files {
    fn open(&self, path: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(name, _)| *name == path)
            .map(|(_, bytes)| &bytes[..])
    }
}

/// The config of a VM named `linux` whose kernel is `image`, with `text` for the rest of `[kernel]`
/// and what follows.
pub(crate) fn vm_config(cpus: usize, text: &str) -> VmConfig {
    config_of(Isa::Riscv64, cpus, text)
}

/// The same for any instruction set.
pub(crate) fn config_of(isa: Isa, cpus: usize, text: &str) -> VmConfig {
    let pcpus: Vec<String> = (1..=cpus).map(|pcpu| alloc::format!("{pcpu}")).collect();
    let text = alloc::format!(
        "[base]\nid = 1\nname = \"linux\"\nphys_cpu_ids = [{}]\n[kernel]\nkernel_path = \"image\"\n{text}",
        pcpus.join(", ")
    );
    VmConfig::parse("vms/linux.toml", &text, isa).unwrap()
}

/// The extensions in an ISA string such as `rv64imafdc_zicsr`.
pub(crate) fn extensions_of(isa: &str) -> Vec<String> {
    let mut parts = isa.strip_prefix("rv64").unwrap().split('_');
    let letters = parts.next().unwrap().chars().map(String::from);
    letters.chain(parts.map(String::from)).collect()
}

pub(crate) fn machine(isa: &str) -> Machine<RiscvMachine> {
    Machine {
        timebase_hz: 10_000_000,
        nested_mode: NestedMode::Sv39x4,
        pcpus: 4,
        isa: RiscvMachine {
            cpus: IsaInfo {
                extensions: extensions_of(isa),
                ..IsaInfo::default()
            },
            ..RiscvMachine::default()
        },
    }
}

/// A VM of scripted vCPUs, vCPU `n` on pCPU `n + 1`, with its console.
pub(crate) type TestVm<const W: usize> = AxVM<TestHal<W>, ScriptedCpu<W>>;

pub(crate) fn try_vm<const W: usize>(
    cpus: usize,
    text: &str,
) -> Result<(AxVMRef<TestHal<W>, ScriptedCpu<W>>, Arc<TestConsole>), VmError> {
    let console = Arc::new(TestConsole::new());
    let config = AxVMConfig {
        vm: vm_config(cpus, text),
        machine: Arc::new(machine("rv64imac_sstc")),
        images: Arc::new(Files(vec![("image", b"kernel".to_vec())])),
        console: console.clone(),
        host: Arc::new(axdevice::NoHostDevices),
    };
    AxVM::new(config).map(|vm| (vm, console))
}

/// 64 KiB of RAM, and 64 KiB that are filled on first touch.
pub(crate) const MEMORY: &str = "memory_regions = [{ gpa = 0x8000_0000, size = \"64KiB\" }, \
    { gpa = 0x8010_0000, size = \"64KiB\", map_type = \"lazy\" }]";
pub(crate) const LAZY: u64 = 0x8010_0000;

/// A booted VM whose vCPU 0 has started, and only that.
pub(crate) fn booted<const W: usize>(
    cpus: usize,
) -> (AxVMRef<TestHal<W>, ScriptedCpu<W>>, Arc<TestConsole>) {
    let (vm, console) = try_vm::<W>(cpus, MEMORY).unwrap();
    vm.boot().unwrap();
    for id in 0..cpus {
        let _ = world::<W>().take_events(id);
    }
    (0..PCPUS).for_each(|pcpu| world::<W>().kicks[pcpu].store(0, Ordering::SeqCst));
    (vm, console)
}

/// `len` bytes of the guest's memory at `addr`.
pub(crate) fn peek<const W: usize>(vm: &TestVm<W>, addr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    vm.memory
        .lock()
        .loader()
        .read(GuestPhysAddr::new(addr), &mut bytes)
        .unwrap();
    bytes
}

/// Writes `bytes` to the guest's memory.
pub(crate) fn poke<const W: usize>(vm: &TestVm<W>, addr: u64, bytes: &[u8]) {
    vm.memory
        .lock()
        .loader()
        .write(GuestPhysAddr::new(addr), bytes)
        .unwrap();
}
