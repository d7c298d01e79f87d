//! KVM: virtual machines by requests to files (Linux, Documentation/virt/kvm/api.rst, whose chapters the
//! names are).

pub mod abi;

use core::sync::atomic::{AtomicU8, Ordering};

use abi::{KvmRun, MemoryRegion, request};
use axvcpu::LineLevel;
use syscalls::Errno;

use crate::{
    exit::Exit,
    linux::{Access, Failure, File},
    ram::Region,
};

/// KVM itself.
#[derive(Clone, Copy, Debug)]
pub struct Kvm(File);

impl Kvm {
    /// KVM of the running kernel.
    ///
    /// # Errors
    /// There is no KVM.
    pub fn open() -> Result<Self, Failure> {
        let opened = File::open(c"/dev/kvm", Access::ReadWrite);
        let what = "opening /dev/kvm (has this machine SVM, VMX or the H extension?)";
        opened.map(Self).map_err(|errno| Failure { what, errno })
    }

    /// The file behind it, for requests of one architecture.
    pub const fn file(self) -> File {
        self.0
    }

    /// A virtual machine without anything in it.
    ///
    /// # Errors
    /// KVM refuses.
    pub fn create_vm(self) -> Result<Vm, Failure> {
        let fd = self.0.request("creating a VM", request::CREATE_VM, 0)?;
        Ok(Vm {
            kvm: self,
            file: File::from_raw(fd),
        })
    }
}

/// A virtual machine.
#[derive(Clone, Copy, Debug)]
pub struct Vm {
    kvm: Kvm,
    file: File,
}

impl Vm {
    /// The file behind it, for requests of one architecture.
    pub const fn file(self) -> File {
        self.file
    }

    /// Gives it memory.
    ///
    /// # Errors
    /// KVM refuses the region, as one that is not of whole pages or lies over another.
    pub fn add_memory(self, slot: u32, region: &Region) -> Result<(), Failure> {
        let mut memory = MemoryRegion {
            slot,
            flags: 0,
            guest_phys_addr: region.range.start().as_u64(),
            memory_size: region.range.size(),
            userspace_addr: region.place.expose_provenance() as u64,
        };
        let what = "giving the VM memory";
        // SAFETY: that is what the request takes; a region's memory is the guest's for ever.
        unsafe {
            self.file
                .request_with(what, request::SET_USER_MEMORY_REGION, &mut memory)
        }
        .map(|_| ())
    }

    /// A vCPU of it.
    ///
    /// # Errors
    /// KVM refuses, or what it shares cannot be mapped.
    pub fn create_vcpu(self, id: usize) -> Result<Vcpu, Failure> {
        let fd = self
            .file
            .request("creating a vCPU", request::CREATE_VCPU, id)?;
        let file = File::from_raw(fd);
        let size = self
            .kvm
            .0
            .request("sizing a vCPU", request::GET_VCPU_MMAP_SIZE, 0)?;
        let run = file.share(size)?;
        Ok(Vcpu {
            file,
            run: run.cast(),
            size,
        })
    }

    /// Sets an input of the interrupt controllers.
    ///
    /// # Errors
    /// There is no such input.
    #[cfg(target_arch = "x86_64")]
    pub fn set_line(self, irq: u32, level: LineLevel) -> Result<(), Failure> {
        let level = match level {
            LineLevel::Low => 0,
            LineLevel::High => 1,
        };
        let mut line = abi::IrqLevel { irq, level };
        // SAFETY: that is what the request takes.
        unsafe {
            self.file
                .request_with("setting a line", request::IRQ_LINE, &mut line)
        }
        .map(|_| ())
    }
}

/// A vCPU.
#[derive(Debug)]
pub struct Vcpu {
    file: File,
    /// What KVM and this program tell each other.
    run: *mut KvmRun,
    size: usize,
}

// SAFETY: what is shared with KVM may be used by any thread, one at a time.
unsafe impl Send for Vcpu {}

impl Vcpu {
    /// The file behind it, for requests of one architecture.
    pub const fn file(&self) -> File {
        self.file
    }

    /// Sets the external interrupt of a hart.
    ///
    /// # Errors
    /// `file` is no vCPU's.
    #[cfg(target_arch = "riscv64")]
    pub fn external_interrupt(file: File, level: LineLevel) -> Result<(), Failure> {
        // "KVM_INTERRUPT", RISC-V.
        let mut interrupt: u32 = match level {
            LineLevel::Low => (-2_i32).cast_unsigned(),
            LineLevel::High => (-1_i32).cast_unsigned(),
        };
        // SAFETY: that is what the request takes.
        unsafe { file.request_with("setting a line", request::INTERRUPT, &mut interrupt) }
            .map(|_| ())
    }

    /// Runs the guest until it needs something. What the last exit asked for has its answer by now.
    ///
    /// # Errors
    /// `EINTR` and `EAGAIN` for a vCPU that may run again at once; any other for one that cannot go on.
    pub fn run(&mut self) -> Result<Exit, Errno> {
        self.file.run(request::RUN)?;
        // SAFETY: KVM has stopped writing, and this thread alone has the vCPU.
        Ok(Exit::decode(unsafe { &*self.run }))
    }

    /// The words that came with the last exit, to be answered.
    pub fn answer(&mut self) -> &mut abi::Payload {
        // SAFETY: as in `run`.
        unsafe { &mut (*self.run).payload }
    }

    /// Bytes of the part that KVM shares, by their place in it; `None` outside.
    pub fn shared(&mut self, at: usize, len: usize) -> Option<&[AtomicU8]> {
        let end = at.checked_add(len)?;
        let place = self.run.cast::<AtomicU8>().wrapping_add(at);
        // SAFETY: that many bytes are mapped, for ever.
        (end <= self.size).then(|| unsafe { core::slice::from_raw_parts(place, len) })
    }

    /// The bytes there as a number.
    pub fn load(&mut self, at: usize, len: usize) -> Option<u64> {
        let bytes = self.shared(at, len)?.iter().take(8);
        let bytes = bytes.map(|byte| u64::from(byte.load(Ordering::Relaxed)));
        Some(bytes.rev().fold(0, |number, byte| number << 8 | byte))
    }

    /// Puts a number there.
    pub fn store(&mut self, at: usize, len: usize, value: u64) -> Option<()> {
        let bytes = self.shared(at, len)?;
        for (place, byte) in bytes.iter().zip(value.to_le_bytes()) {
            place.store(byte, Ordering::Relaxed);
        }
        Some(())
    }
}
