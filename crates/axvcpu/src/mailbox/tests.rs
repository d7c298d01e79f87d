//! No letter is lost, whoever posts and whatever the vCPU does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::thread::{self, Thread};
use std::time::Duration;
use std::vec::Vec;

use super::*;

#[test]
fn edges_and_fences_are_taken_once_and_lines_stay() {
    let mailbox = Mailbox::new();
    assert_eq!(mailbox.take(), Mail::default());
    mailbox.raise(0);
    mailbox.raise(61);
    mailbox.raise(61);
    mailbox.set_line(9, LineLevel::High);
    mailbox.request_instruction_fence();
    assert!(mailbox.has_fence() && mailbox.has_interrupt(u64::MAX));
    let mail = mailbox.take();
    let expected = Mail {
        edges: 1 | 1 << 61,
        levels: 1 << 9,
        fence_instructions: true,
        fence_translations: false,
    };
    assert_eq!(mail, expected);
    assert!(!mailbox.has_fence() && mailbox.has_interrupt(u64::MAX));
    assert_eq!(
        mailbox.take(),
        Mail {
            levels: 1 << 9,
            ..Mail::default()
        }
    );
    mailbox.set_line(9, LineLevel::Low);
    assert!(!mailbox.has_interrupt(u64::MAX));
    mailbox.request_translation_fence();
    assert!(!mailbox.has_interrupt(u64::MAX));
    assert_eq!(
        mailbox.take(),
        Mail {
            fence_translations: true,
            ..Mail::default()
        }
    );
}

#[test]
fn a_wrong_number_raises_nothing() {
    let mailbox = Mailbox::new();
    for vector in [62, 63] {
        mailbox.raise(vector);
    }
    for vector in [64, 65, 1 << 32, (1 << 32) + 3, usize::MAX] {
        mailbox.raise(vector);
        mailbox.set_line(vector, LineLevel::High);
        mailbox.set_line(vector, LineLevel::Low);
    }
    assert_eq!(mailbox.take(), Mail::default());
}

#[test]
fn a_new_life_begins_without_what_was_raised_before() {
    let mailbox = Mailbox::new();
    for kept in [None, Some(3), Some(64)] {
        mailbox.raise(1);
        mailbox.raise(3);
        mailbox.set_line(2, LineLevel::High);
        mailbox.forget_raised(kept);
        let mail = mailbox.take();
        let left = if kept == Some(3) { 1 << 3 } else { 0 };
        assert_eq!((mail.edges, mail.levels), (left, 1 << 2), "{kept:?}");
    }
}

#[test]
fn clear_leaves_nothing_but_where_the_vcpu_is() {
    let mailbox = Mailbox::new();
    mailbox.raise(1);
    mailbox.set_line(2, LineLevel::High);
    mailbox.request_instruction_fence();
    mailbox.entering();
    mailbox.clear();
    assert!(mailbox.is_in_guest());
    assert_eq!(mailbox.take(), Mail::default());
    mailbox.left();
    assert!(!mailbox.is_in_guest());
}

/// One sender and one vCPU, at the same instant, again and again: either the vCPU sees the letter or the sender sees the vCPU. A store that
/// is still in its pCPU's buffer when the other side looks would break this.
#[test]
fn either_side_sees_the_other() {
    const ROUNDS: u64 = 200_000;
    struct Pair {
        mailbox: Mailbox,
        arrived: AtomicU64,
    }
    /// Goes on once both sides have come here for the `n`th time, counted from 1.
    fn meet(arrived: &AtomicU64, n: u64) {
        arrived.fetch_add(1, Ordering::SeqCst);
        let mut spins = 0u32;
        while arrived.load(Ordering::SeqCst) < 2 * n {
            spins += 1;
            if spins.is_multiple_of(1000) {
                thread::yield_now();
            }
        }
    }
    let pair = Arc::new(Pair {
        mailbox: Mailbox::new(),
        arrived: AtomicU64::new(0),
    });
    let sender = {
        let pair = pair.clone();
        thread::spawn(move || -> Vec<bool> {
            (0..ROUNDS)
                .map(|round| {
                    meet(&pair.arrived, 2 * round + 1);
                    pair.mailbox.raise(0);
                    let sees_vcpu = pair.mailbox.is_in_guest();
                    meet(&pair.arrived, 2 * round + 2);
                    sees_vcpu
                })
                .collect()
        })
    };
    let sees_letter: Vec<bool> = (0..ROUNDS)
        .map(|round| {
            meet(&pair.arrived, 2 * round + 1);
            pair.mailbox.entering();
            let mail = pair.mailbox.take();
            meet(&pair.arrived, 2 * round + 2);
            // The sender comes back only after the next meeting.
            pair.mailbox.clear();
            pair.mailbox.left();
            mail.edges != 0
        })
        .collect();
    let sees_vcpu = sender.join().unwrap();
    let lost = sees_letter
        .iter()
        .zip(&sees_vcpu)
        .filter(|(letter, vcpu)| !**letter && !**vcpu);
    assert_eq!(lost.count(), 0);
}

/// Several senders, each with a vector of its own, post, kick if the vCPU is in its guest, and wait until it has answered. The vCPU
/// stays in its guest until kicked. One lost letter, and both wait for ever.
#[test]
fn no_letter_is_lost() {
    const SENDERS: usize = 3;
    const LETTERS: u64 = 50_000;
    const TOO_LONG: Duration = Duration::from_secs(100);
    struct Vm {
        mailbox: Mailbox,
        answered: [AtomicU64; SENDERS],
        fences: AtomicU64,
        done: AtomicUsize,
    }
    let vm = Arc::new(Vm {
        mailbox: Mailbox::new(),
        answered: Default::default(),
        fences: AtomicU64::new(0),
        done: AtomicUsize::new(0),
    });
    let vcpu = {
        let vm = vm.clone();
        thread::spawn(move || {
            while vm.done.load(Ordering::SeqCst) < SENDERS {
                vm.mailbox.entering();
                let mail = vm.mailbox.take();
                if mail == Mail::default() && vm.done.load(Ordering::SeqCst) < SENDERS {
                    // In the guest. A kick that came since `entering` is pending and ends this at once.
                    let since = std::time::Instant::now();
                    thread::park_timeout(TOO_LONG);
                    assert!(since.elapsed() < TOO_LONG, "a letter was lost");
                }
                vm.mailbox.left();
                for (sender, answered) in vm.answered.iter().enumerate() {
                    answered.fetch_add(mail.edges >> sender & 1, Ordering::SeqCst);
                }
                vm.fences
                    .fetch_add(u64::from(mail.fence_instructions), Ordering::SeqCst);
            }
        })
    };
    let kick = |vm: &Vm, vcpu: &Thread| {
        if vm.mailbox.is_in_guest() {
            vcpu.unpark();
        }
    };
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (vm, vcpu) = (vm.clone(), vcpu.thread().clone());
            thread::spawn(move || {
                for letter in 1..=LETTERS {
                    vm.mailbox.raise(sender);
                    if sender == 0 {
                        vm.mailbox.request_instruction_fence();
                    }
                    kick(&vm, &vcpu);
                    let since = std::time::Instant::now();
                    while vm.answered[sender].load(Ordering::SeqCst) < letter {
                        assert!(since.elapsed() < 2 * TOO_LONG, "letter {letter} was lost");
                        thread::yield_now();
                    }
                }
                vm.done.fetch_add(1, Ordering::SeqCst);
                vcpu.unpark();
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    vcpu.join().unwrap();
    for answered in &vm.answered {
        assert_eq!(
            answered.load(Ordering::SeqCst),
            LETTERS,
            "each letter is read once"
        );
    }
    assert!(!vm.mailbox.has_fence() || vm.mailbox.take().fence_instructions);
    assert!(vm.fences.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_letter_can_be_taken_back() {
    let mailbox = Mailbox::new();
    mailbox.raise(1);
    mailbox.raise(2);
    mailbox.withdraw(1);
    mailbox.withdraw(64);
    mailbox.withdraw(3);
    assert_eq!(mailbox.take().edges, 1 << 2);
}

#[test]
fn a_masked_line_ends_no_wait() {
    let mailbox = Mailbox::new();
    mailbox.set_line(10, LineLevel::High);
    assert!(mailbox.has_interrupt(1 << 10) && !mailbox.has_interrupt(1 << 9));
    mailbox.raise(2);
    assert!(mailbox.has_interrupt(0), "raised once");
}

#[test]
fn a_devices_letter_is_taken_by_itself() {
    let mailbox = Mailbox::new();
    assert!(!mailbox.take_device_letter());
    mailbox.raise(1);
    assert!(!mailbox.take_device_letter());
    mailbox.raise(crate::DEVICE_LETTER);
    assert!(mailbox.has_interrupt(0), "who waits, wakes");
    assert!(mailbox.take_device_letter() && !mailbox.take_device_letter());
    assert_eq!(mailbox.take().edges, 1 << 1);
}
