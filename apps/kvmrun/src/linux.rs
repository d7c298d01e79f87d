//! Linux's system calls, as far as this program needs them.

use alloc::{format, string::String};
use core::{ffi::CStr, fmt, ptr, slice};

use linux_raw_sys::{general as uapi, ioctl as tty};
use syscalls::{Errno, Sysno, syscall};

/// A system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it was for.
    pub what: &'static str,
    /// Why it failed.
    pub errno: Errno,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.errno)
    }
}

impl From<Failure> for String {
    fn from(why: Failure) -> Self {
        format!("{why}")
    }
}

fn named(what: &'static str) -> impl FnOnce(Errno) -> Failure {
    move |errno| Failure { what, errno }
}

/// An open file. None is ever closed: the program ends with the machine.
#[derive(Clone, Copy, Debug)]
pub struct File(usize);

impl File {
    /// The console that the kernel opened for the first process.
    pub const CONSOLE: Self = Self(1);

    /// Opens what is there.
    ///
    /// # Errors
    /// `ENOENT` if there is none; else why the kernel does not open it.
    pub fn open(path: &CStr, access: Access) -> Result<Self, Errno> {
        let flags = uapi::O_CLOEXEC
            | match access {
                Access::Read => uapi::O_RDONLY,
                Access::ReadWrite => uapi::O_RDWR,
            };
        // SAFETY: the path ends with a zero.
        unsafe { syscall!(Sysno::openat, uapi::AT_FDCWD, path.as_ptr(), flags, 0) }.map(Self)
    }

    /// The file that a call returned.
    pub(crate) const fn from_raw(fd: usize) -> Self {
        Self(fd)
    }

    /// All its bytes, for ever.
    ///
    /// # Errors
    /// It has no size, or cannot be mapped.
    pub fn contents(self) -> Result<&'static [u8], Failure> {
        // SAFETY: takes no pointer.
        let len = unsafe { syscall!(Sysno::lseek, self.0, 0, uapi::SEEK_END) }
            .map_err(named("finding a file's size"))?;
        let place = map(len, uapi::PROT_READ, uapi::MAP_PRIVATE, Some(self))?;
        // SAFETY: it stays mapped, and nobody writes to the files that this program reads.
        Ok(unsafe { slice::from_raw_parts(place, len) })
    }

    /// Maps what a device shares.
    ///
    /// # Errors
    /// It cannot be mapped.
    pub fn share(self, len: usize) -> Result<*mut u8, Failure> {
        let access = uapi::PROT_READ | uapi::PROT_WRITE;
        map(len, access, uapi::MAP_SHARED, Some(self))
    }

    /// Writes all of `bytes`, or what it takes of them.
    pub fn write(self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // SAFETY: the kernel reads the bytes.
            match unsafe { syscall!(Sysno::write, self.0, bytes.as_ptr(), bytes.len()) } {
                Ok(taken @ 1..) => bytes = bytes.get(taken..).unwrap_or_default(),
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// A request with a number for its argument.
    ///
    /// # Errors
    /// The device refuses; `what` says what it was about.
    pub fn request(
        self,
        what: &'static str,
        request: u32,
        argument: usize,
    ) -> Result<usize, Failure> {
        // SAFETY: by the type of the request, which is one of this program's constants, the argument
        // is no pointer.
        unsafe { syscall!(Sysno::ioctl, self.0, request, argument) }.map_err(named(what))
    }

    /// A request that reads, writes or does both to `argument`.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    ///
    /// # Safety
    /// `T`, and what it announces behind it, is what `request` takes.
    pub unsafe fn request_with<T>(
        self,
        what: &'static str,
        request: u32,
        argument: &mut T,
    ) -> Result<usize, Failure> {
        // SAFETY: by contract.
        unsafe { syscall!(Sysno::ioctl, self.0, request, ptr::from_mut(argument)) }
            .map_err(named(what))
    }

    /// A request that is made over and over, without anything but its error.
    ///
    /// # Errors
    /// The device refuses.
    pub fn run(self, request: u32) -> Result<(), Errno> {
        // SAFETY: as in `request`.
        unsafe { syscall!(Sysno::ioctl, self.0, request, 0) }.map(|_| ())
    }

    /// Has a terminal pass on bytes as they are.
    pub fn make_raw(self) {
        // The kernel's `struct termios` begins with the flags of input and output.
        let mut settings = [0_u32; 16];
        let settings = ptr::from_mut(&mut settings);
        // SAFETY: the structure has 36 bytes (60 in its newer form).
        unsafe {
            if syscall!(Sysno::ioctl, self.0, tty::TCGETS, settings).is_ok() {
                (*settings)[1] &= !uapi::OPOST;
                // A terminal that keeps its settings prints one byte more at each line's end.
                let _ = syscall!(Sysno::ioctl, self.0, tty::TCSETS, settings);
            }
        }
    }

    /// Waits until a terminal has sent everything.
    pub fn drain(self) {
        // SAFETY: takes no pointer. What is no terminal has nothing to wait for.
        let _ = unsafe { syscall!(Sysno::ioctl, self.0, tty::TCSBRK, 1) };
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
}

fn map(len: usize, access: u32, flags: u32, file: Option<File>) -> Result<*mut u8, Failure> {
    let file = file.map_or(usize::MAX, |file| file.0);
    // SAFETY: the kernel chooses a place where nothing is.
    unsafe { syscall!(Sysno::mmap, 0, len, access, flags, file, 0) }
        .map(ptr::with_exposed_provenance_mut)
        .map_err(named("mapping memory"))
}

/// Memory that is zero until it is written, at a multiple of `align`, a power of two; for ever.
///
/// # Errors
/// There is no room for so much, or the kernel knows no large pages to keep away.
pub fn memory(len: usize, align: usize, pages: Pages) -> Result<*mut u8, Failure> {
    let flags = uapi::MAP_PRIVATE | uapi::MAP_ANONYMOUS | uapi::MAP_NORESERVE;
    let place = map(len + align, uapi::PROT_READ | uapi::PROT_WRITE, flags, None)?;
    let place = place.map_addr(|addr| addr.next_multiple_of(align));
    let advice = match pages {
        Pages::Any => return Ok(place),
        Pages::Small => uapi::MADV_NOHUGEPAGE,
    };
    // SAFETY: concerns the memory that was just mapped.
    unsafe { syscall!(Sysno::madvise, place, len, advice) }
        .map_err(named("choosing a page size"))?;
    Ok(place)
}

/// The pages that memory may be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// As the kernel likes.
    Any,
    /// The smallest.
    Small,
}

/// Makes a node for a character device.
///
/// # Errors
/// `EEXIST` if there is a file; else why the kernel does not make it.
pub fn make_device(path: &CStr, major: u32, minor: u32) -> Result<(), Errno> {
    let mode = uapi::S_IFCHR | 0o600;
    let device = major << 8 | minor;
    // SAFETY: the path ends with a zero.
    unsafe { syscall!(Sysno::mknodat, uapi::AT_FDCWD, path.as_ptr(), mode, device) }.map(|_| ())
}

/// Loads a kernel module, compressed as Debian's are.
///
/// # Errors
/// The kernel does not take it, or it finds nothing that it is for (`EOPNOTSUPP`, for one).
pub fn load_module(file: File) -> Result<(), Errno> {
    const COMPRESSED: usize = 4;
    // SAFETY: the parameters are a string that ends with a zero.
    unsafe { syscall!(Sysno::finit_module, file.0, c"".as_ptr(), COMPRESSED) }.map(|_| ())
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// There is no such CPU, or it is not for this program.
pub fn pin_to(cpu: usize) -> Result<(), Failure> {
    const BITS: usize = u64::BITS as usize;
    let mut mask = [0_u64; 16];
    if let Some(word) = mask.get_mut(cpu / BITS) {
        *word = 1 << (cpu % BITS);
    }
    // SAFETY: the kernel reads the mask.
    unsafe {
        syscall!(
            Sysno::sched_setaffinity,
            0,
            size_of_val(&mask),
            mask.as_ptr()
        )
    }
    .map(|_| ())
    .map_err(named("pinning a vCPU"))
}

/// Lets time go by.
pub fn sleep(seconds: u64) {
    let time = [seconds, 0];
    // SAFETY: the kernel reads the time. Being woken early does no harm.
    let _ = unsafe { syscall!(Sysno::nanosleep, time.as_ptr(), 0) };
}

/// How many CPUs the calling thread may run on.
pub fn cpus() -> usize {
    let mut mask = [0_u64; 16];
    // SAFETY: the kernel writes no more than the mask has.
    let filled = unsafe {
        syscall!(
            Sysno::sched_getaffinity,
            0,
            size_of_val(&mask),
            mask.as_mut_ptr()
        )
    };
    let ones: u32 = mask.iter().map(|word| word.count_ones()).sum();
    filled.map_or(1, |_| ones.max(1) as usize)
}

/// Powers the machine off.
pub fn power_off() -> ! {
    const MAGIC: [usize; 2] = [0xfee1_dead, 672_274_793];
    loop {
        // SAFETY: takes no pointer that counts.
        let _ = unsafe {
            syscall!(
                Sysno::reboot,
                MAGIC[0],
                MAGIC[1],
                uapi::LINUX_REBOOT_CMD_POWER_OFF,
                0
            )
        };
    }
}

/// Runs `main` with `argument` in a thread of its own, on a stack of its own.
///
/// # Errors
/// There is no memory for its stack, or the kernel starts no more threads.
pub fn spawn(main: extern "C" fn(usize) -> !, argument: usize) -> Result<(), Failure> {
    const STACK: usize = 256 << 10;
    const FLAGS: u32 = uapi::CLONE_VM
        | uapi::CLONE_FS
        | uapi::CLONE_FILES
        | uapi::CLONE_SIGHAND
        | uapi::CLONE_THREAD
        | uapi::CLONE_SYSVSEM;
    let stack = memory(STACK, 16, Pages::Any)?;
    // Two words on it, which keeps it aligned.
    let top = stack.wrapping_add(STACK - 16).cast::<usize>();
    // SAFETY: the stack is the new thread's alone.
    let result = unsafe {
        top.write(argument);
        top.wrapping_add(1).write(main as *const () as usize);
        clone(FLAGS as usize, top.cast())
    };
    match result.cast_signed() {
        errno @ ..0 => Err(named("starting a thread")(Errno::new(-errno as i32))),
        _ => Ok(()),
    }
}

/// Has a thread start that pops an argument and a function to call off its `stack`.
///
/// # Safety
/// That function never returns, and the stack is nobody else's.
#[cfg(target_arch = "x86_64")]
unsafe fn clone(flags: usize, stack: *mut u8) -> usize {
    let result;
    // SAFETY: by contract; the new thread never comes to the end of this.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "pop rdi",
            "pop rax",
            "call rax",
            "ud2",
            "2:",
            inlateout("rax") Sysno::clone as usize => result,
            in("rdi") flags,
            in("rsi") stack,
            in("rdx") 0,
            in("r10") 0,
            in("r8") 0,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// Has a thread start that pops an argument and a function to call off its `stack`.
///
/// # Safety
/// That function never returns, and the stack is nobody else's.
#[cfg(target_arch = "riscv64")]
unsafe fn clone(flags: usize, stack: *mut u8) -> usize {
    let result;
    // SAFETY: by contract; the new thread never comes to the end of this.
    unsafe {
        core::arch::asm!(
            "ecall",
            "bnez a0, 2f",
            "ld a0, 0(sp)",
            "ld t0, 8(sp)",
            "addi sp, sp, 16",
            "jalr t0",
            "unimp",
            "2:",
            inlateout("a0") flags => result,
            in("a1") stack,
            in("a2") 0,
            in("a3") 0,
            in("a4") 0,
            in("a7") Sysno::clone as usize,
        );
    }
    result
}
