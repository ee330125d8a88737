//! The pause program: all that runs in a pod's sandbox container, and PID 1 where the pod shares its process namespace.
//!
//! ```text
//!   pause                    as `wait`
//!   pause wait [TEXT...]     prints TEXT if there is any, then reaps orphans until SIGTERM or SIGINT; ends with 0
//!   pause say [TEXT...]      prints TEXT; ends with 0
//!   pause exit N             ends with N, 0 to 255
//! ```
//!
//! TEXT is printed with a space between words and a newline behind. Any other arguments end it with 2, and what the kernel
//! refuses (a full disk under stdout, a seccomp profile without rt_sigtimedwait) with 1, each with a line on stderr.
//!
//! It is no module of the crate: `build.rs` compiles it by itself and `image.rs` packs it. It must have no heap and no libc, it
//! must not open or write files, and it must sleep when there is nothing to do. Nothing in it can panic, which keeps it small.

#![no_std]
#![no_main]
// Loops stay loops: LLVM would turn some into calls of memcmp or strlen, which nothing here provides.
#![no_builtins]
#![deny(unsafe_op_in_unsafe_fn)]

use sys::{Args, EINTR, SIGCHLD, SIGINT, SIGTERM, STDERR, STDOUT};

const USAGE: &str = "usage: pause [wait [TEXT...] | say [TEXT...] | exit N]";

/// Why a mode did not come to its good end.
enum Failure {
    /// The arguments are not as [`USAGE`] says.
    Usage,
    /// What the kernel refused to do.
    Refused(&'static str),
}

/// Runs the mode that the arguments name; gives the exit code.
fn run(args: Args) -> u8 {
    let (code, message) = match mode(args) {
        Ok(code) => return code,
        Err(Failure::Usage) => (2, USAGE),
        Err(Failure::Refused(message)) => (1, message),
    };
    // nobody is left to tell when stderr fails too
    let _ = print(STDERR, message.as_bytes()).and_then(|()| print(STDERR, b"\n"));
    code
}

fn mode(mut args: Args) -> Result<u8, Failure> {
    let name = args.next().unwrap_or(b"wait");
    if equal(name, b"wait") {
        wait(args).map(|()| 0)
    } else if equal(name, b"say") {
        say(args).map(|()| 0)
    } else if equal(name, b"exit") {
        match (args.next().and_then(number), args.next()) {
            (Some(code), None) => Ok(code),
            _ => Err(Failure::Usage),
        }
    } else {
        Err(Failure::Usage)
    }
}

/// Reaps until it is told to end.
///
/// The signals are blocked before the first line is out, so none is lost: what comes between two waits stays pending, also for
/// PID 1, which the kernel spares every signal that is neither blocked nor handled.
fn wait(text: Args) -> Result<(), Failure> {
    let signals = [SIGINT, SIGTERM, SIGCHLD];
    sys::block(&signals).map_err(|_| Failure::Refused("pause: can't block signals"))?;
    if !text.is_empty() {
        say(text)?;
    }
    loop {
        // One SIGCHLD may stand for many children, and some may have come with an exec before it was blocked.
        while sys::reap() {}
        match sys::next_signal(&signals) {
            Ok(SIGCHLD) | Err(EINTR) => {}
            Ok(_) => return Ok(()),
            Err(_) => return Err(Failure::Refused("pause: can't wait for signals")),
        }
    }
}

/// Prints words with a space between them and a newline behind.
fn say(words: impl Iterator<Item = &'static [u8]>) -> Result<(), Failure> {
    let mut space: &[u8] = b"";
    for word in words {
        print(STDOUT, space)?;
        print(STDOUT, word)?;
        space = b" ";
    }
    print(STDOUT, b"\n")
}

/// Writes all of it, however little the kernel takes at a time.
fn print(file: usize, mut text: &[u8]) -> Result<(), Failure> {
    while !text.is_empty() {
        match sys::write(file, text) {
            Ok(written @ 1..) => text = text.get(written..).unwrap_or_default(),
            Err(EINTR) => {}
            Ok(0) | Err(_) => return Err(Failure::Refused("pause: can't write")),
        }
    }
    Ok(())
}

/// A decimal number up to 255.
fn number(digits: &[u8]) -> Option<u8> {
    let first = *digits.first()?;
    let value = |digit: u8| digit.checked_sub(b'0').filter(|value| *value <= 9);
    value(first)?;
    digits.iter().try_fold(0_u8, |sum, digit| sum.checked_mul(10)?.checked_add(value(*digit)?))
}

/// `==` of slices is a call of memcmp.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

/// Required by the language; the linker drops it, as nothing here can panic.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(1)
}

/// What the kernel is asked for, each call in a safe wrapper: the only place with `unsafe`.
mod sys {
    use core::arch::{asm, global_asm};

    pub const STDOUT: usize = 1;
    pub const STDERR: usize = 2;
    pub const SIGINT: usize = 2;
    pub const SIGTERM: usize = 15;
    pub const SIGCHLD: usize = 17;
    /// The error number of a call that a signal, or a stop and its continuation, has cut short.
    pub const EINTR: usize = 4;

    const SIG_BLOCK: usize = 0;
    const WNOHANG: usize = 1;
    /// Every process that is our child; -1 as the kernel reads it.
    const ANY_CHILD: usize = usize::MAX;
    /// The size of the kernel's signal set, which it insists on being told.
    const SET_BYTES: usize = size_of::<u64>();
    /// The kernel answers with the result, or with minus an error number, of which none is greater.
    const MAX_ERROR: usize = 4095;

    #[cfg(target_arch = "x86_64")]
    mod number {
        pub const WRITE: usize = 1;
        pub const RT_SIGPROCMASK: usize = 14;
        pub const WAIT4: usize = 61;
        pub const RT_SIGTIMEDWAIT: usize = 128;
        pub const EXIT_GROUP: usize = 231;
    }

    #[cfg(target_arch = "aarch64")]
    mod number {
        pub const WRITE: usize = 64;
        pub const EXIT_GROUP: usize = 94;
        pub const RT_SIGPROCMASK: usize = 135;
        pub const RT_SIGTIMEDWAIT: usize = 137;
        pub const WAIT4: usize = 260;
    }

    // The kernel enters here, with the stack pointer at the argument count and no return address; both ABIs want the stack
    // aligned to 16 bytes at a call.
    #[cfg(target_arch = "x86_64")]
    global_asm!(
        ".globl _start",
        "_start:",
        "xor ebp, ebp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {enter}",
        enter = sym enter,
    );

    #[cfg(target_arch = "aarch64")]
    global_asm!(
        ".globl _start",
        "_start:",
        "mov x29, xzr",
        "mov x30, xzr",
        "mov x0, sp",
        "bl {enter}",
        enter = sym enter,
    );

    /// Reads what the kernel has put on the stack: the count of arguments, a pointer to each, and a null pointer.
    ///
    /// # Safety
    /// `stack` is the stack pointer as it was at the program's start.
    unsafe extern "C" fn enter(stack: *const *const u8) -> ! {
        // SAFETY: the count is one word; at least the closing null pointer is behind it.
        let first = unsafe { stack.add(1) };
        let mut args = Args { next: first };
        // the program's own name
        args.next();
        exit(super::run(args).into())
    }

    /// The program's arguments, as yet unread.
    pub struct Args {
        /// In the kernel's array of pointers to zero-terminated strings, which ends with a null pointer and lives as long as we.
        next: *const *const u8,
    }

    impl Args {
        pub fn is_empty(&self) -> bool {
            // SAFETY: `next` is never moved past the null pointer.
            unsafe { (*self.next).is_null() }
        }
    }

    impl Iterator for Args {
        type Item = &'static [u8];

        fn next(&mut self) -> Option<&'static [u8]> {
            if self.is_empty() {
                return None;
            }
            // SAFETY: the array goes on, as this is not its null pointer. The string ends with a zero, is never written to,
            // and is there until the process ends.
            unsafe {
                let text = *self.next;
                self.next = self.next.add(1);
                let mut length = 0;
                while *text.add(length) != 0 {
                    length += 1;
                }
                Some(core::slice::from_raw_parts(text, length))
            }
        }
    }

    /// Writes some of a text; gives the count of bytes taken, or the error number.
    pub fn write(file: usize, text: &[u8]) -> Result<usize, usize> {
        // SAFETY: the kernel reads `text` and nothing else of ours.
        unsafe { call(number::WRITE, [file, text.as_ptr().addr(), text.len(), 0]) }
    }

    /// Keeps signals pending until [`next_signal`] takes them.
    pub fn block(signals: &[usize]) -> Result<(), usize> {
        let set = set_of(signals);
        // SAFETY: the kernel reads the set, whose size it is told; the null pointer asks for no copy of the old one.
        unsafe { call(number::RT_SIGPROCMASK, [SIG_BLOCK, (&raw const set).addr(), 0, SET_BYTES]) }.map(|_| ())
    }

    /// Sleeps until one of these signals is pending, and takes it.
    pub fn next_signal(signals: &[usize]) -> Result<usize, usize> {
        let set = set_of(signals);
        // SAFETY: the kernel reads the set, whose size it is told; the null pointers ask for no details and set no time limit.
        unsafe { call(number::RT_SIGTIMEDWAIT, [(&raw const set).addr(), 0, 0, SET_BYTES]) }
    }

    /// Takes one dead child's remains away; false when there is none.
    pub fn reap() -> bool {
        // SAFETY: the null pointers ask for neither status nor usage.
        let reaped = unsafe { call(number::WAIT4, [ANY_CHILD, 0, WNOHANG, 0]) };
        matches!(reaped, Ok(1..))
    }

    pub fn exit(code: usize) -> ! {
        loop {
            // SAFETY: ends the process; no memory is involved.
            let _ = unsafe { call(number::EXIT_GROUP, [code, 0, 0, 0]) };
        }
    }

    /// Bit 0 is signal 1.
    fn set_of(signals: &[usize]) -> u64 {
        signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
    }

    /// A system call; gives its result or its error number.
    ///
    /// # Safety
    /// The arguments are what the call takes, and the memory they point to is there for as long as it lasts.
    unsafe fn call(number: usize, [a, b, c, d]: [usize; 4]) -> Result<usize, usize> {
        let result: usize;
        // SAFETY: the caller's part is above. These are the kernel's registers, and rcx and r11 are all that it loses.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
                lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        // SAFETY: the caller's part is above. These are the kernel's registers, and it keeps every one but x0.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d,
                options(nostack));
        }
        match result.wrapping_neg() {
            error @ 1..=MAX_ERROR => Err(error),
            _ => Ok(result),
        }
    }
}
