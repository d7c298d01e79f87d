use alloc::{string::String, sync::Arc, vec, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering};

use axdevice::CharBackend;
use proptest::prelude::*;

use super::{Mux, TURNS, Turn, Typed};
use crate::VmPort;

const PATIENCE: u64 = 100;

struct Desk {
    mux: Mux,
    ports: Vec<Arc<VmPort>>,
    shown: Vec<u8>,
}

impl Desk {
    fn new(names: &[&str]) -> Self {
        let mut mux = Mux::new(PATIENCE);
        let ports: Vec<_> = names.iter().map(|_| VmPort::new(|| ())).collect();
        for (name, port) in names.iter().zip(&ports) {
            mux.add(name, port.clone());
        }
        Self {
            mux,
            ports,
            shown: Vec::new(),
        }
    }

    fn pump(&mut self, now: u64) -> super::Pumped {
        let shown = &mut self.shown;
        self.mux
            .pump(now, &mut |bytes| shown.extend_from_slice(bytes))
    }

    fn key(&mut self, byte: u8) -> Typed {
        let shown = &mut self.shown;
        self.mux
            .type_byte(byte, &mut |bytes| shown.extend_from_slice(bytes))
    }

    fn take(&mut self) -> String {
        String::from_utf8(core::mem::take(&mut self.shown)).unwrap()
    }
}

#[test]
fn the_focused_vm_appears_at_once_and_unchanged() {
    let mut desk = Desk::new(&["linux", "rtos"]);
    desk.ports[0].write(b"\x1b[1mlogin: ");
    desk.pump(0);
    assert_eq!(desk.take(), "\x1b[1mlogin: ");
}

#[test]
fn another_vm_appears_as_lines_under_its_name() {
    let mut desk = Desk::new(&["linux", "rtos"]);
    desk.ports[1].write(b"beat 1\r\nbea");
    let pumped = desk.pump(0);
    assert_eq!(desk.take(), "[rtos] beat 1\r\n");
    assert_eq!(pumped.deadline, Some(PATIENCE));
    desk.ports[1].write(b"t 2\n");
    desk.pump(50);
    assert_eq!(desk.take(), "[rtos] beat 2\r\n");
}

#[test]
fn an_unfinished_line_appears_when_it_has_waited() {
    let mut desk = Desk::new(&["linux", "rtos"]);
    desk.ports[1].write(b"prompt> ");
    assert_eq!(desk.pump(7).deadline, Some(107));
    assert_eq!(desk.pump(106).deadline, Some(107));
    assert_eq!(desk.take(), "");
    assert_eq!(desk.pump(107).deadline, None);
    assert_eq!(desk.take(), "[rtos] prompt> \r\n");
}

#[test]
fn the_focused_vms_unfinished_line_is_written_again_below() {
    let mut desk = Desk::new(&["linux", "rtos"]);
    desk.ports[0].write(b"boot ok\r\n~ # ls");
    desk.ports[1].write(b"beat\n");
    desk.pump(0);
    assert_eq!(desk.take(), "boot ok\r\n~ # ls\r\n[rtos] beat\r\n~ # ls");
}

/// A prompt that asks the terminal where its cursor is must not ask again with each line of another VM.
#[test]
fn what_is_written_again_asks_the_terminal_nothing() {
    let mut desk = Desk::new(&["linux", "rtos"]);
    desk.ports[0].write(b"~ # \x1b[6nlss\x08 \x08 \x1b[1;31m-l\x1b[m\x1bM\x07");
    desk.pump(0);
    desk.take();
    desk.ports[1].write(b"beat\n");
    desk.pump(0);
    assert_eq!(desk.take(), "\r\n[rtos] beat\r\n~ # ls -l");
}

#[test]
fn another_vm_cannot_control_the_terminal() {
    let mut desk = Desk::new(&["linux", "evil"]);
    desk.ports[1].write(b"\x1b[2Jgone\x07\tok\x7f\n");
    desk.pump(0);
    assert_eq!(desk.take(), "[evil] .[2Jgone.\tok.\r\n");
    // C1 controls, as a byte and as a character; text of other languages stays.
    desk.ports[1].write(b"\x9b2J");
    desk.ports[1].write("\u{9b}2J Gr\u{fc}\u{df}e\n".as_bytes());
    desk.pump(0);
    assert_eq!(desk.take(), "[evil] .2J.2J Gr\u{fc}\u{df}e\r\n");
}

#[test]
fn keys_go_to_the_focus_and_the_escape_key_moves_it() {
    let mut desk = Desk::new(&["linux", "rtos"]);
    let mut buf = [0; 4];
    assert_eq!(desk.key(b'a'), Typed::Input(0));
    assert_eq!(desk.ports[0].read(&mut buf), 1);
    assert_eq!(buf[0], b'a');
    desk.ports[1].write(b"half");
    desk.pump(0);
    assert_eq!(desk.key(super::FOCUS_KEY), Typed::FocusMoved);
    assert_eq!(desk.take(), "[axhv] console of rtos\r\nhalf");
    assert_eq!(desk.key(b'b'), Typed::Input(1));
    desk.ports[0].write(b"now under a name\n");
    desk.pump(0);
    assert_eq!(desk.take(), "\r\n[linux] now under a name\r\nhalf");
    assert_eq!(desk.key(super::FOCUS_KEY), Typed::FocusMoved);
    assert_eq!(desk.key(b'c'), Typed::Input(0));
}

#[test]
fn no_vm_gets_the_key_that_asks_how_things_are() {
    let mut desk = Desk::new(&["linux", "rtos"]);
    assert_eq!(desk.key(super::STATUS_KEY), Typed::StatusAsked);
    assert_eq!(desk.key(b'a'), Typed::Input(0));
    let mut buf = [0; 4];
    assert_eq!(desk.ports[0].read(&mut buf), 1);
    assert_eq!(desk.take(), "", "to tell is the asked one's job");
    assert_eq!(Desk::new(&[]).key(super::STATUS_KEY), Typed::StatusAsked);
}

#[test]
fn the_focus_leaves_a_vm_that_has_ended_and_passes_it_over() {
    let mut desk = Desk::new(&["a", "b", "c"]);
    let shown = &mut desk.shown;
    desk.mux
        .retire(1, &mut |bytes| shown.extend_from_slice(bytes));
    desk.mux
        .retire(0, &mut |bytes| shown.extend_from_slice(bytes));
    assert_eq!(desk.take(), "[axhv] console of c\r\n");
    assert_eq!(desk.key(super::FOCUS_KEY), Typed::FocusMoved);
    assert_eq!(desk.key(b'x'), Typed::Input(2));
    let shown = &mut desk.shown;
    desk.mux
        .retire(2, &mut |bytes| shown.extend_from_slice(bytes));
    assert_eq!(desk.key(b'x'), Typed::Input(2));
}

#[test]
fn keys_without_a_vm_or_without_room_are_dropped() {
    let mut empty = Desk::new(&[]);
    assert_eq!(empty.key(b'a'), Typed::Dropped);
    assert_eq!(empty.key(super::FOCUS_KEY), Typed::FocusMoved);
    let mut desk = Desk::new(&["linux"]);
    let taken = (0..1000)
        .filter(|_| desk.key(b'x') == Typed::Input(0))
        .count();
    assert_eq!(taken, 256);
}

#[test]
fn a_full_port_takes_no_more_and_hears_of_room() {
    let mut desk = Desk::new(&["linux"]);
    assert_eq!(desk.ports[0].write(&[b'x'; 5000]), 4096);
    assert_eq!(desk.ports[0].write(b"y"), 0);
    let pumped = desk.pump(0);
    assert_eq!(pumped.starved, vec![0]);
    assert!(pumped.again);
    assert_eq!(desk.pump(0).starved, Vec::<usize>::new());
    assert_eq!(desk.ports[0].write(b"y"), 1);
}

#[test]
fn writing_wakes_the_owner() {
    static WOKEN: AtomicUsize = AtomicUsize::new(0);
    let port = VmPort::new(|| {
        WOKEN.fetch_add(1, Ordering::Relaxed);
    });
    port.write(b"x");
    port.write(b"");
    assert_eq!(WOKEN.load(Ordering::Relaxed), 1);
}

#[test]
fn nothing_is_left_behind_at_the_end() {
    let mut desk = Desk::new(&["linux", "rtos"]);
    desk.ports[0].write(b"~ # ");
    desk.ports[1].write(&[b'z'; 600]);
    let shown = &mut desk.shown;
    desk.mux.finish(&mut |bytes| shown.extend_from_slice(bytes));
    let text = desk.take();
    assert_eq!(text.matches('z').count(), 600);
    assert!(text.ends_with("~ # \r\n"));
}

#[test]
fn notes_are_the_hypervisors_own_lines() {
    let mut desk = Desk::new(&["linux"]);
    desk.ports[0].write(b"~ # ");
    desk.pump(0);
    let shown = &mut desk.shown;
    desk.mux.note("VM \"rtos\" powered off", &mut |bytes| {
        shown.extend_from_slice(bytes)
    });
    assert_eq!(
        desk.take(),
        "~ # \r\n[axhv] VM \"rtos\" powered off\r\n~ # "
    );
}

proptest! {
    /// Whatever the VMs write, in whatever pieces, every visible byte appears once, in its VM's order.
    #[test]
    fn nothing_is_lost(pieces in proptest::collection::vec((0usize..3, "[a-c\r\n]{0,40}"), 0..40)) {
        let mut desk = Desk::new(&["0", "1", "2"]);
        let mut written = vec![String::new(); 3];
        for (vm, text) in &pieces {
            // Upper case, lower case and digits tell the VMs apart.
            let text: String = text.chars().map(|c| match (*vm, c) {
                (1, 'a'..='c') => c.to_ascii_uppercase(),
                (2, 'a'..='c') => char::from(c as u8 - b'a' + b'3'),
                _ => c,
            }).collect();
            assert_eq!(desk.ports[*vm].write(text.as_bytes()), text.len());
            written[*vm].push_str(&text);
            while desk.pump(0).again {}
        }
        let shown = &mut desk.shown;
        desk.mux.finish(&mut |bytes| shown.extend_from_slice(bytes));
        let shown = desk.take();
        for (vm, set) in [(1, "ABC"), (2, "345")] {
            let only = |text: &str| text.chars().filter(|c| set.contains(*c)).collect::<String>();
            prop_assert_eq!(only(&shown), only(&written[vm]));
        }
    }
}

/// One that writes faster than the console shows has its turns, and no more.
#[test]
fn all_that_was_written_before_appears_in_a_fixed_number_of_turns() {
    let mut desk = Desk::new(&["flood", "rtos"]);
    let (ports, shown) = (&desk.ports, &mut desk.shown);
    while ports[0].write(&[b'a'; 100]) > 0 {}
    ports[1].write(b"silent so far");
    for _ in 0..TURNS {
        let turn = desk
            .mux
            .pump_turn(0, 0, &mut |bytes| shown.extend_from_slice(bytes));
        assert_eq!(turn, Turn::More);
        ports[0].write(&[b'b'; 1000]);
    }
    assert_eq!(shown.iter().filter(|&&byte| byte == b'a').count(), 4096);
    assert!(!shown.contains(&b'b'), "that came later");
    assert_eq!(
        desk.mux.pump_turn(2, 0, &mut |_| ()),
        Turn::Last,
        "there is no such VM"
    );
}
