//! A machine that is running: its serial line and its end.

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use crate::Arch;

/// How a machine ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status: 0 says that all went well, 1 that something did not.
    pub status: Option<i32>,
    /// Everything on the serial line, and what the emulator complained of.
    pub output: String,
    /// The serial line alone.
    pub serial: String,
}

/// A machine that is running. Ends with the value.
#[derive(Debug)]
pub struct Run {
    child: Child,
    keyboard: Option<ChildStdin>,
    heard: Receiver<(Source, Vec<u8>)>,
    output: String,
    serial: String,
    /// How far [`expect`](Self::expect) has looked.
    seen: usize,
    patience: Duration,
    deadline: Instant,
    ramdisk: PathBuf,
    arch: Arch,
}

/// Where bytes come from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Serial,
    Emulator,
}

impl Run {
    pub(crate) fn start(
        arch: Arch,
        mut command: Command,
        ramdisk: PathBuf,
        patience: Duration,
    ) -> Self {
        let mut child = command.spawn().expect("the emulator's script can be run");
        let (sender, heard) = channel();
        forward(Source::Serial, child.stdout.take(), sender.clone());
        forward(Source::Emulator, child.stderr.take(), sender);
        Self {
            keyboard: child.stdin.take(),
            child,
            heard,
            output: String::new(),
            serial: String::new(),
            seen: 0,
            patience,
            deadline: Instant::now() + patience,
            ramdisk,
            arch,
        }
    }

    /// Waits until `text` appears after what was expected before, and returns what stands between.
    ///
    /// # Panics
    /// If the machine ends first, or takes too long; with all it said.
    pub fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.output[self.seen..].find(text) {
                let between = self.output[self.seen..self.seen + at].to_owned();
                self.seen += at + text.len();
                return between;
            }
            if !self.listen() {
                panic!(
                    "the machine ended, and never said {text:?}:\n{}",
                    self.output
                );
            }
        }
    }

    /// The rest of the line that was expected last.
    ///
    /// # Panics
    /// As [`expect`](Self::expect).
    pub fn rest_of_line(&mut self) -> String {
        self.expect("\n").trim_end().to_owned()
    }

    /// Everything on the serial line so far.
    #[must_use]
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Types.
    ///
    /// # Panics
    /// If the machine has ended.
    pub fn send(&mut self, keys: &str) {
        let keyboard = self
            .keyboard
            .as_mut()
            .expect("the keyboard is connected while the machine runs");
        keyboard
            .write_all(keys.as_bytes())
            .and_then(|()| keyboard.flush())
            .expect("the machine is running");
    }

    /// Waits until the machine ends by itself.
    ///
    /// # Panics
    /// If it takes too long; with all it said.
    #[must_use]
    pub fn end(mut self) -> Ended {
        while self.listen() {}
        let status = self.child.wait().expect("the emulator was started").code();
        let status = status.map(|status| self.arch.status(status));
        Ended {
            status,
            output: std::mem::take(&mut self.output),
            serial: std::mem::take(&mut self.serial),
        }
    }

    /// Takes in more of what the machine says; false if it has ended.
    fn listen(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        // One that never falls silent has no more time than others.
        let heard = if left.is_zero() {
            Err(RecvTimeoutError::Timeout)
        } else {
            self.heard.recv_timeout(left)
        };
        match heard {
            Ok((source, bytes)) => {
                let text = String::from_utf8_lossy(&bytes);
                self.output.push_str(&text);
                match source {
                    Source::Serial => self.serial.push_str(&text),
                    Source::Emulator => {}
                }
                true
            }
            Err(RecvTimeoutError::Disconnected) => false,
            Err(RecvTimeoutError::Timeout) => {
                panic!(
                    "the machine is still running after {:?}:\n{}",
                    self.patience, self.output
                )
            }
        }
    }
}

impl Run {
    /// Has a script that has something to put away do that; what does not end soon is killed.
    fn ask_to_end(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // There is no safe way to send another signal than the last.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.ask_to_end();
        // Neither can fail but for a machine that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.ramdisk);
    }
}

fn forward(
    source: Source,
    from: Option<impl Read + Send + 'static>,
    to: Sender<(Source, Vec<u8>)>,
) {
    let mut from = from.expect("the stream is piped");
    thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(count) = from.read(&mut buf)
            && count > 0
            && to.send((source, buf[..count].into())).is_ok()
        {}
    });
}
