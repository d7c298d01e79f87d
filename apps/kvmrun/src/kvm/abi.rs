//! What KVM's requests are and take (Linux, include/uapi/linux/kvm.h).

/// What stands in a vCPU's shared page: a head that is always the same, then what the exit is about.
#[repr(C)]
#[derive(Debug)]
pub struct KvmRun {
    /// What is asked of KVM for the next run.
    pub request: [u8; 8],
    /// Why the vCPU stopped.
    pub exit_reason: u32,
    /// Whether the guest could take an interrupt, and more of x86's.
    pub state: [u8; 20],
    /// What the exit is about.
    pub payload: Payload,
}

/// What an exit is about, as it stands in memory.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Payload(pub [u8; 256]);

impl Payload {
    /// The number of `N` bytes at `at`; 0 past the end.
    pub fn number<const N: usize>(&self, at: usize) -> [u8; N] {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk());
        bytes.copied().unwrap_or([0; N])
    }

    /// Puts bytes at `at`, if there is room.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self
            .0
            .get_mut(at..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
        {
            place.copy_from_slice(bytes);
        }
    }
}

const _: () = {
    assert!(core::mem::offset_of!(KvmRun, exit_reason) == 8);
    assert!(core::mem::offset_of!(KvmRun, payload) == 32);
};

/// A piece of the guest's memory.
#[repr(C)]
#[derive(Debug)]
pub struct MemoryRegion {
    /// Its number.
    pub slot: u32,
    /// None of KVM's.
    pub flags: u32,
    /// Where the guest sees it.
    pub guest_phys_addr: u64,
    /// Its bytes.
    pub memory_size: u64,
    /// Where this program has it.
    pub userspace_addr: u64,
}

/// A register of any kind, by its number, and where its value is.
#[repr(C)]
#[derive(Debug)]
pub struct OneReg {
    /// Its number.
    pub id: u64,
    /// The address of the value.
    pub addr: u64,
}

/// A device in the kernel.
#[repr(C)]
#[derive(Debug)]
pub struct CreateDevice {
    /// What it is.
    pub kind: u32,
    /// Its file, from KVM.
    pub fd: u32,
    /// None of KVM's.
    pub flags: u32,
}

/// An attribute of such a device.
#[repr(C)]
#[derive(Debug)]
pub struct DeviceAttr {
    /// None of KVM's.
    pub flags: u32,
    /// What kind of attribute.
    pub group: u32,
    /// Which one.
    pub attr: u64,
    /// The address of the value.
    pub addr: u64,
}

/// An input of the interrupt controllers.
#[repr(C)]
#[derive(Debug)]
pub struct IrqLevel {
    /// Which.
    pub irq: u32,
    /// 0 or 1.
    pub level: u32,
}

/// Segment registers, control registers and tables.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the names are the manuals'")]
pub struct SystemRegs {
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    pub tr: Segment,
    pub ldt: Segment,
    pub gdt: [u64; 2],
    pub idt: [u64; 2],
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub cr8: u64,
    pub efer: u64,
    pub apic_base: u64,
    pub interrupts: [u64; 4],
}

/// A segment register, with what it was loaded with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the names are the manuals'")]
pub struct Segment {
    pub base: u64,
    pub limit: u32,
    pub selector: u16,
    pub kind: u8,
    pub present: u8,
    pub dpl: u8,
    pub db: u8,
    pub s: u8,
    pub l: u8,
    pub g: u8,
    pub avl: u8,
    pub unusable: u8,
    pub padding: u8,
}

/// General registers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the names are the manuals'")]
pub struct GeneralRegs {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8_to_r15: [u64; 8],
    pub rip: u64,
    pub rflags: u64,
}

/// What CPUID says.
#[repr(C)]
#[derive(Debug)]
pub struct Cpuid {
    /// How many entries count.
    pub nent: u32,
    /// None of KVM's.
    pub padding: u32,
    /// Leaf by leaf.
    pub entries: [CpuidEntry; 128],
}

/// What CPUID says to one leaf and subleaf.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the names are the manuals'")]
pub struct CpuidEntry {
    pub function: u32,
    pub index: u32,
    pub flags: u32,
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub padding: [u32; 3],
}

const _: () = {
    assert!(size_of::<MemoryRegion>() == 32);
    assert!(size_of::<Segment>() == 24);
    assert!(size_of::<SystemRegs>() == 312);
    assert!(size_of::<GeneralRegs>() == 144);
    assert!(size_of::<CpuidEntry>() == 40);
    assert!(core::mem::offset_of!(Cpuid, entries) == 8);
};

/// The numbers of requests.
pub mod request {
    #![allow(missing_docs, reason = "the names are KVM's")]

    use super::{
        CreateDevice, DeviceAttr, GeneralRegs, IrqLevel, MemoryRegion, OneReg, SystemRegs,
    };

    const KVMIO: u32 = 0xae;
    const WRITE: u32 = 1 << 30;
    const READ: u32 = 2 << 30;

    /// Linux's `_IOC` (include/uapi/asm-generic/ioctl.h): direction, size, type and number.
    const fn number(direction: u32, size: usize, number: u32) -> u32 {
        direction | (size as u32) << 16 | KVMIO << 8 | number
    }

    /// What has entries behind it counts without them.
    const HEAD: usize = 8;

    pub const CREATE_VM: u32 = number(0, 0, 0x01);
    pub const GET_VCPU_MMAP_SIZE: u32 = number(0, 0, 0x04);
    pub const GET_SUPPORTED_CPUID: u32 = number(READ | WRITE, HEAD, 0x05);
    pub const CREATE_VCPU: u32 = number(0, 0, 0x41);
    pub const SET_USER_MEMORY_REGION: u32 = number(WRITE, size_of::<MemoryRegion>(), 0x46);
    pub const SET_TSS_ADDR: u32 = number(0, 0, 0x47);
    pub const SET_IDENTITY_MAP_ADDR: u32 = number(WRITE, size_of::<u64>(), 0x48);
    pub const CREATE_IRQCHIP: u32 = number(0, 0, 0x60);
    pub const IRQ_LINE: u32 = number(WRITE, size_of::<IrqLevel>(), 0x61);
    /// 16 words, all of them flags.
    pub const CREATE_PIT2: u32 = number(WRITE, 64, 0x77);
    pub const RUN: u32 = number(0, 0, 0x80);
    pub const SET_REGS: u32 = number(WRITE, size_of::<GeneralRegs>(), 0x82);
    pub const GET_SREGS: u32 = number(READ, size_of::<SystemRegs>(), 0x83);
    pub const SET_SREGS: u32 = number(WRITE, size_of::<SystemRegs>(), 0x84);
    pub const INTERRUPT: u32 = number(WRITE, size_of::<u32>(), 0x86);
    pub const SET_CPUID2: u32 = number(WRITE, HEAD, 0x90);
    pub const GET_TSC_KHZ: u32 = number(0, 0, 0xa3);
    pub const GET_ONE_REG: u32 = number(WRITE, size_of::<OneReg>(), 0xab);
    pub const SET_ONE_REG: u32 = number(WRITE, size_of::<OneReg>(), 0xac);
    pub const CREATE_DEVICE: u32 = number(READ | WRITE, size_of::<CreateDevice>(), 0xe0);
    pub const SET_DEVICE_ATTR: u32 = number(WRITE, size_of::<DeviceAttr>(), 0xe1);
}

#[cfg(test)]
mod tests {
    use super::{Payload, request};

    #[test]
    fn requests_have_the_numbers_of_the_kernels_header() {
        let numbers = [
            (request::GET_SUPPORTED_CPUID, 0xc008_ae05),
            (request::SET_USER_MEMORY_REGION, 0x4020_ae46),
            (request::SET_IDENTITY_MAP_ADDR, 0x4008_ae48),
            (request::CREATE_IRQCHIP, 0xae60),
            (request::IRQ_LINE, 0x4008_ae61),
            (request::CREATE_PIT2, 0x4040_ae77),
            (request::SET_REGS, 0x4090_ae82),
            (request::GET_SREGS, 0x8138_ae83),
            (request::SET_SREGS, 0x4138_ae84),
            (request::INTERRUPT, 0x4004_ae86),
            (request::SET_CPUID2, 0x4008_ae90),
            (request::GET_ONE_REG, 0x4010_aeab),
            (request::SET_ONE_REG, 0x4010_aeac),
            (request::CREATE_DEVICE, 0xc00c_aee0),
            (request::SET_DEVICE_ATTR, 0x4018_aee1),
        ];
        for (ours, headers) in numbers {
            assert_eq!(ours, headers, "{ours:#x}");
        }
    }

    #[test]
    fn a_payload_ends_where_it_ends() {
        let mut payload = Payload([0; 256]);
        payload.put(252, &[1, 2, 3, 4]);
        payload.put(253, &[9; 4]);
        payload.put(usize::MAX, &[9]);
        assert_eq!(u32::from_le_bytes(payload.number(252)), 0x0403_0201);
        assert_eq!(payload.number(253), [0_u8; 4]);
    }
}
