//! What appears on the UART, and where keys go.

use alloc::{string::String, sync::Arc, vec::Vec};

use crate::{
    VmPort,
    line::{Fed, Line},
    port::OUTPUT,
};

/// Ctrl-T moves the focus to the next VM that runs.
const FOCUS_KEY: u8 = 0x14;

/// Ctrl-Y asks how things are.
const STATUS_KEY: u8 = 0x19;

/// How many bytes of one VM are shown before the next VM has its turn.
const TURN: usize = 256;

/// One VM's place at the console.
#[derive(Debug)]
struct Channel {
    name: String,
    port: Arc<VmPort>,
    /// What of the VM's output is not a whole line: already shown if the VM has the focus, not shown yet otherwise.
    line: Line,
    /// When the line appears even though it is not complete. Only for a VM without the focus.
    deadline: Option<u64>,
    /// The VM has ended, and the focus passes it over.
    retired: bool,
}

/// The console multiplexer.
#[derive(Debug)]
pub struct Mux {
    channels: Vec<Channel>,
    focus: usize,
    patience: u64,
}

/// How many turns show all that a VM may have written.
pub const TURNS: usize = OUTPUT.div_ceil(TURN);

/// What came of a VM's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There may be more.
    More,
    /// That was all.
    Last,
}

/// What came of [`Mux::pump`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pumped {
    /// There may be more: pump again.
    pub again: bool,
    /// When to pump again though nobody writes, in the unit of [`pump`](Mux::pump)'s `now`.
    pub deadline: Option<u64>,
    /// The VMs, in the order they were added, that waited for room, which there now is.
    pub starved: Vec<usize>,
}

/// What came of [`Mux::type_byte`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// This VM has input.
    Input(usize),
    /// The focus moved.
    FocusMoved,
    /// Somebody asks how things are.
    StatusAsked,
    /// Nobody took the key.
    Dropped,
}

impl Mux {
    /// A multiplexer without VMs. A line that is not complete appears after `patience`, in the unit of [`pump`](Self::pump)'s `now`.
    #[must_use]
    pub const fn new(patience: u64) -> Self {
        Self {
            channels: Vec::new(),
            focus: 0,
            patience,
        }
    }

    /// Adds a VM. The first one has the focus.
    pub fn add(&mut self, name: &str, port: Arc<VmPort>) {
        self.channels.push(Channel {
            name: name.into(),
            port,
            line: Line::default(),
            deadline: None,
            retired: false,
        });
    }

    /// Whether a VM has written something that has not been pumped. If none has, the first that does will call its port's `wake`.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.channels
            .iter()
            .any(|channel| channel.port.has_output())
    }

    /// Shows what the VMs have written, a turn of each, through `out`.
    pub fn pump(&mut self, now: u64, out: &mut impl FnMut(&[u8])) -> Pumped {
        let mut again = false;
        for index in 0..self.channels.len() {
            // Each has its turn, whether or not another has more.
            again |= self.pump_turn(index, now, out) == Turn::More;
        }
        self.show_overdue(now, out);
        Pumped {
            again,
            deadline: self
                .channels
                .iter()
                .filter_map(|channel| channel.deadline)
                .min(),
            starved: (0..self.channels.len())
                .filter(|&index| {
                    self.channels
                        .get(index)
                        .is_some_and(|channel| channel.port.take_starved())
                })
                .collect(),
        }
    }

    /// Shows a turn of what VM number `index`, in the order they were added, has written. After [`TURNS`] of them all has appeared that it had
    /// written before the first.
    pub fn pump_turn(&mut self, index: usize, now: u64, out: &mut impl FnMut(&[u8])) -> Turn {
        let mut buf = [0; TURN];
        let Some(channel) = self.channels.get_mut(index) else {
            return Turn::Last;
        };
        let count = channel.port.read_output(&mut buf);
        let bytes = buf.get(..count).unwrap_or_default();
        if index == self.focus {
            show_focused(channel, bytes, out);
        } else {
            self.collect(index, bytes, now, out);
        }
        if count == TURN {
            Turn::More
        } else {
            Turn::Last
        }
    }

    /// Shows a line of the hypervisor's own.
    pub fn note(&self, text: &str, out: &mut impl FnMut(&[u8])) {
        self.show_line("axhv", text.as_bytes(), out);
    }

    /// Gives the focused VM a key, or obeys one that no VM gets.
    pub fn type_byte(&mut self, byte: u8, out: &mut impl FnMut(&[u8])) -> Typed {
        match byte {
            FOCUS_KEY => {
                self.move_focus(out);
                return Typed::FocusMoved;
            }
            STATUS_KEY => return Typed::StatusAsked,
            _ => {}
        }
        match self.channels.get(self.focus) {
            Some(channel) if channel.port.type_byte(byte) => Typed::Input(self.focus),
            _ => Typed::Dropped,
        }
    }

    /// Shows whatever is not shown yet, whole lines or not: the machine is about to stop.
    pub fn finish(&mut self, out: &mut impl FnMut(&[u8])) {
        while self.pump(0, out).again {}
        self.show_overdue(u64::MAX, out);
        if self
            .channels
            .get(self.focus)
            .is_some_and(|channel| !channel.line.is_empty())
        {
            out(b"\r\n");
        }
    }

    /// VM number `index`, in the order they were added, has ended: if it has the focus, that goes to the next that has not.
    pub fn retire(&mut self, index: usize, out: &mut impl FnMut(&[u8])) {
        if let Some(channel) = self.channels.get_mut(index) {
            channel.retired = true;
        }
        if index == self.focus {
            self.move_focus(out);
        }
    }

    fn move_focus(&mut self, out: &mut impl FnMut(&[u8])) {
        let count = self.channels.len();
        let runs = |index: &usize| {
            self.channels
                .get(*index)
                .is_some_and(|channel| !channel.retired)
        };
        let others = (1..=count).filter_map(|step| (self.focus + step).checked_rem(count));
        let Some(next) = others.into_iter().find(runs) else {
            return;
        };
        // The unfinished line of the VM that loses the focus stays where it is, and is over.
        if let Some(old) = self.channels.get_mut(self.focus) {
            if !old.line.is_empty() {
                out(b"\r\n");
            }
            old.line.clear();
        }
        self.focus = next;
        if let Some(new) = self.channels.get_mut(next) {
            for part in [
                b"[axhv] console of ",
                new.name.as_bytes(),
                b"\r\n",
                new.line.bytes(),
            ] {
                out(part);
            }
            new.deadline = None;
        }
    }

    /// Takes bytes of a VM without the focus, and shows each line that is complete.
    fn collect(&mut self, index: usize, bytes: &[u8], now: u64, out: &mut impl FnMut(&[u8])) {
        for &byte in bytes {
            let Some(channel) = self.channels.get_mut(index) else {
                return;
            };
            match channel.line.feed(byte) {
                Fed::Kept if channel.line.is_empty() => {}
                Fed::Kept => {
                    channel.deadline = channel.deadline.or(Some(now.saturating_add(self.patience)))
                }
                Fed::Complete => self.show_channel(index, out),
            }
        }
    }

    fn show_overdue(&mut self, now: u64, out: &mut impl FnMut(&[u8])) {
        for index in 0..self.channels.len() {
            let overdue =
                |channel: &Channel| channel.deadline.is_some_and(|deadline| deadline <= now);
            if self.channels.get(index).is_some_and(overdue) {
                self.show_channel(index, out);
            }
        }
    }

    /// Shows the line of a VM without the focus.
    fn show_channel(&mut self, index: usize, out: &mut impl FnMut(&[u8])) {
        if let Some(channel) = self.channels.get(index) {
            self.show_line(&channel.name, channel.line.bytes(), out);
        }
        if let Some(channel) = self.channels.get_mut(index) {
            channel.line.clear();
            channel.deadline = None;
        }
    }

    /// Shows a line under a name, and the focused VM's unfinished line again below it.
    fn show_line(&self, name: &str, text: &[u8], out: &mut impl FnMut(&[u8])) {
        let unfinished = self
            .channels
            .get(self.focus)
            .map_or(&[][..], |channel| channel.line.bytes());
        if !unfinished.is_empty() {
            out(b"\r\n");
        }
        for part in [b"[", name.as_bytes(), b"] "] {
            out(part);
        }
        show_text(text, out);
        out(b"\r\n");
        out(unfinished);
    }
}

/// Shows bytes of the VM with the focus as they are, and remembers its unfinished line.
fn show_focused(channel: &mut Channel, bytes: &[u8], out: &mut impl FnMut(&[u8])) {
    out(bytes);
    channel.line.feed_shown(bytes);
}

/// Shows text, with a dot for whatever a terminal would do something else with than show it.
fn show_text(text: &[u8], out: &mut impl FnMut(&[u8])) {
    for chunk in text.utf8_chunks() {
        for shown in chunk.valid().split_inclusive(is_control) {
            match shown.char_indices().next_back() {
                Some((at, last)) if is_control(last) => {
                    out(shown.get(..at).unwrap_or_default().as_bytes());
                    out(b".");
                }
                _ => out(shown.as_bytes()),
            }
        }
        chunk.invalid().iter().for_each(|_| out(b"."));
    }
}

/// Whether a terminal obeys it (Unicode's C0 and C1 controls), but for the tabulator.
fn is_control(character: char) -> bool {
    character.is_control() && character != '\t'
}

#[cfg(test)]
mod tests;
