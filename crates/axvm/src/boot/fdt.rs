//! The device tree of a RISC-V VM (Devicetree Specification 0.4; the bindings are Linux's).
//!
//! It says what there is: CPUs, memory, interrupt controller, UARTs, devices of the machine's, and what the kernel is told on
//! its way. Places and numbers come from the caller, who built the devices from the same ones.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use axaddrspace::GuestPhysAddr;
use axvmconfig::Window;
use vm_fdt::{Error, FdtWriter};

use super::ram::GuestRange;
use crate::IsaInfo;

/// The clock of a PC's UART times two; with it every usual baud rate has a divisor.
const UART_CLOCK_HZ: u32 = 3_686_400;
/// The number of the supervisor external interrupt at a hart's own controller (privileged
/// specification, "scause").
const SUPERVISOR_EXTERNAL: u32 = 9;
/// A context that is wired to nothing (binding sifive,plic-1.0.0).
const NO_INTERRUPT: u32 = u32::MAX;

/// A VM, as its device tree says it.
pub(crate) struct GuestTree<'a> {
    pub(crate) name: &'a str,
    pub(crate) cmdline: Option<&'a str>,
    pub(crate) ramdisk: Option<GuestRange>,
    pub(crate) memory: &'a [GuestRange],
    pub(crate) cpus: u32,
    pub(crate) timebase_hz: u64,
    /// What the guest's CPUs can do.
    pub(crate) isa: &'a IsaInfo,
    pub(crate) plic: PlicNode,
    /// The first is the console.
    pub(crate) uarts: &'a [UartNode],
    /// The machine's own that the guest is to know of.
    pub(crate) passed: &'a [PassedNode<'a>],
}

/// The interrupt controller. Each hart has two contexts: machine mode, which is wired to nothing,
/// then supervisor mode.
pub(crate) struct PlicNode {
    pub(crate) window: Window,
    /// The highest source number.
    pub(crate) sources: u32,
}

/// A 16550A with its registers in consecutive bytes.
pub(crate) struct UartNode {
    pub(crate) window: Window,
    pub(crate) irq: u32,
}

/// A device of the machine's, of which nothing is known but what the config says.
pub(crate) struct PassedNode<'a> {
    pub(crate) window: Window,
    pub(crate) irq: Option<u32>,
    pub(crate) compatible: &'a str,
}

impl GuestTree<'_> {
    /// The flattened tree. It fails for names and strings that no device tree can hold, which a
    /// checked config does not have.
    pub(crate) fn flatten(&self) -> Result<Vec<u8>, Error> {
        let mut fdt = FdtWriter::new()?;
        let root = fdt.begin_node("")?;
        fdt.property_string("compatible", "axhv,vm")?;
        fdt.property_string("model", &format!("AxHV VM {}", self.name))?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        self.chosen(&mut fdt)?;
        for region in self.memory {
            let node = fdt.begin_node(&unit("memory", region.start()))?;
            fdt.property_string("device_type", "memory")?;
            reg(&mut fdt, region.start(), region.size())?;
            fdt.end_node(node)?;
        }
        self.cpus(&mut fdt)?;
        self.soc(&mut fdt)?;
        fdt.end_node(root)?;
        fdt.finish()
    }

    fn chosen(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        let node = fdt.begin_node("chosen")?;
        if let Some(cmdline) = self.cmdline {
            fdt.property_string("bootargs", cmdline)?;
        }
        if let Some(ramdisk) = self.ramdisk {
            fdt.property_u64("linux,initrd-start", ramdisk.start().as_u64())?;
            fdt.property_u64("linux,initrd-end", ramdisk.end().as_u64())?;
        }
        if let Some(uart) = self.uarts.first() {
            let path = format!("/soc/{}", unit("serial", uart.window.base));
            fdt.property_string("stdout-path", &path)?;
        }
        fdt.end_node(node)
    }

    fn cpus(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        let isa_string = self.isa.isa_string();
        let cpus = fdt.begin_node("cpus")?;
        fdt.property_u32("#address-cells", 1)?;
        fdt.property_u32("#size-cells", 0)?;
        match u32::try_from(self.timebase_hz) {
            Ok(hz) => fdt.property_u32("timebase-frequency", hz)?,
            Err(_) => fdt.property_u64("timebase-frequency", self.timebase_hz)?,
        }
        for cpu in 0..self.cpus {
            let node = fdt.begin_node(&format!("cpu@{cpu:x}"))?;
            fdt.property_string("device_type", "cpu")?;
            fdt.property_u32("reg", cpu)?;
            fdt.property_string("status", "okay")?;
            fdt.property_string("compatible", "riscv")?;
            fdt.property_string("riscv,isa", &isa_string)?;
            fdt.property_string("riscv,isa-base", "rv64i")?;
            fdt.property_string_list("riscv,isa-extensions", self.isa.extensions.clone())?;
            if let Some(mmu_type) = &self.isa.mmu_type {
                fdt.property_string("mmu-type", mmu_type)?;
            }
            for (name, size) in [
                ("riscv,cbom-block-size", self.isa.cbom_block_size),
                ("riscv,cbop-block-size", self.isa.cbop_block_size),
                ("riscv,cboz-block-size", self.isa.cboz_block_size),
            ] {
                if let Some(size) = size {
                    fdt.property_u32(name, size)?;
                }
            }
            let intc = fdt.begin_node("interrupt-controller")?;
            fdt.property_string("compatible", "riscv,cpu-intc")?;
            fdt.property_null("interrupt-controller")?;
            fdt.property_u32("#interrupt-cells", 1)?;
            fdt.property_phandle(intc_phandle(cpu))?;
            fdt.end_node(intc)?;
            fdt.end_node(node)?;
        }
        fdt.end_node(cpus)
    }

    fn soc(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        let soc = fdt.begin_node("soc")?;
        fdt.property_string("compatible", "simple-bus")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_null("ranges")?;
        // Phandles 1 to `cpus` are the harts' own controllers.
        let plic_phandle = intc_phandle(self.cpus);
        let plic = fdt.begin_node(&unit("interrupt-controller", self.plic.window.base))?;
        compatible(fdt, &["sifive,plic-1.0.0", "riscv,plic0"])?;
        reg(fdt, self.plic.window.base, self.plic.window.size)?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_u32("#address-cells", 0)?;
        fdt.property_u32("#interrupt-cells", 1)?;
        fdt.property_u32("riscv,ndev", self.plic.sources)?;
        let contexts: Vec<u32> = (0..self.cpus)
            .map(intc_phandle)
            .flat_map(|intc| [intc, NO_INTERRUPT, intc, SUPERVISOR_EXTERNAL])
            .collect();
        fdt.property_array_u32("interrupts-extended", &contexts)?;
        fdt.property_phandle(plic_phandle)?;
        fdt.end_node(plic)?;
        for uart in self.uarts {
            let node = fdt.begin_node(&unit("serial", uart.window.base))?;
            fdt.property_string("compatible", "ns16550a")?;
            reg(fdt, uart.window.base, uart.window.size)?;
            fdt.property_u32("clock-frequency", UART_CLOCK_HZ)?;
            fdt.property_u32("interrupt-parent", plic_phandle)?;
            fdt.property_u32("interrupts", uart.irq)?;
            fdt.end_node(node)?;
        }
        for device in self.passed {
            let node = fdt.begin_node(&unit("device", device.window.base))?;
            fdt.property_string("compatible", device.compatible)?;
            reg(fdt, device.window.base, device.window.size)?;
            if let Some(irq) = device.irq {
                fdt.property_u32("interrupt-parent", plic_phandle)?;
                fdt.property_u32("interrupts", irq)?;
            }
            fdt.end_node(node)?;
        }
        fdt.end_node(soc)
    }
}

/// The phandle of hart `cpu`'s own interrupt controller.
const fn intc_phandle(cpu: u32) -> u32 {
    cpu + 1
}

/// The name of a node with registers at `addr`.
fn unit(name: &str, addr: GuestPhysAddr) -> String {
    format!("{name}@{:x}", addr.as_u64())
}

fn reg(fdt: &mut FdtWriter, start: GuestPhysAddr, size: u64) -> Result<(), Error> {
    fdt.property_array_u64("reg", &[start.as_u64(), size])
}

fn compatible(fdt: &mut FdtWriter, names: &[&str]) -> Result<(), Error> {
    fdt.property_string_list(
        "compatible",
        names.iter().map(|&name| name.to_owned()).collect(),
    )
}

#[cfg(test)]
mod tests;
