//! RAM, devices and what every VM has lie apart, whoever claims an address first.

use proptest::prelude::*;

use super::*;

const PAGE: u64 = 0x1000;

fn config_of(isa: Isa, regions: &str, devices: &str) -> Result<VmConfig, Vec<ConfigError>> {
    let text = format!(
        "[base]\nid = 1\nphys_cpu_ids = [1]\n[kernel]\nkernel_path = \"image\"\nmemory_regions = [\n[\"1MiB\"],\n{regions}\n]\n\
         [devices]\nvirtual = [\n{devices}\n]\n"
    );
    VmConfig::parse("vms/test.toml", &text, isa)
}

/// Whether filled at once or on first touch, RAM over a device is refused, with both owners and where the config says so.
#[test]
fn ram_over_a_device() {
    const CONTROLLER: &str = "overlaps the interrupt controller, which every VM has";
    const GIGABYTE: &str = "overlaps the last GiB below 4 GiB, which a PC keeps for devices (";
    for (isa, at, size, owner) in [
        // The local APICs' page, the I/O APIC's, and where PCs have devices.
        (Isa::X86_64, 0xfee0_0000_u64, PAGE, GIGABYTE),
        (Isa::X86_64, 0xfec0_0000, PAGE, GIGABYTE),
        (Isa::X86_64, 0xfed0_0000, PAGE, GIGABYTE),
        (Isa::X86_64, 0xbfff_f000, 2 * PAGE, GIGABYTE),
        (Isa::X86_64, 0xffff_f000, 2 * PAGE, GIGABYTE),
        (Isa::X86_64, 0x8000_0000, 0x1_0000_0000, GIGABYTE),
        (Isa::Riscv64, 0x0c00_0000, PAGE, CONTROLLER),
        (Isa::Riscv64, 0x0c5f_f000, 2 * PAGE, CONTROLLER),
        (Isa::Riscv64, 0x0bff_f000, 0x100_0000, CONTROLLER),
        (
            Isa::Riscv64,
            0x2000_0000,
            PAGE,
            "overlaps device \"u\" (0x20000000 to 0x200000ff, line 12)",
        ),
        (
            Isa::Riscv64,
            0x1fff_f000,
            3 * PAGE,
            "overlaps device \"u\" (0x20000000 to 0x200000ff, line 12)",
        ),
    ] {
        for map_type in ["alloc", "lazy"] {
            let region =
                format!("{{ gpa = {at:#x}, size = {size:#x}, map_type = \"{map_type}\" }},");
            let device = match isa {
                Isa::Riscv64 => r#"{ id = "u", model = "ns16550", addr = 0x2000_0000 },"#,
                Isa::X86_64 => "",
            };
            let errors = config_of(isa, &region, device).expect_err(&region);
            let [error] = &errors[..] else {
                panic!("{errors:?}");
            };
            let said = error.to_string();
            let place = "vms/test.toml:8: kernel.memory_regions[1]: memory region 1 (";
            assert!(said.starts_with(place) && said.contains(owner), "{said}");
        }
    }
}

/// On a PC, devices have ports; those of the board are taken.
#[test]
fn ports_over_the_boards() {
    for port in [
        0x20, 0x3f, 0x40, 0x60, 0x64, 0x70, 0xa0, 0xf8, 0x4d0, 0x600, 0x604, 0xcf8, 0xcfc,
    ] {
        let device = format!("{{ id = \"u\", model = \"ns16550\", addr = {port:#x}, irq = 4 }},");
        let errors = config_of(Isa::X86_64, "", &device).expect_err(&device);
        let said = errors[0].to_string();
        assert!(
            said.contains("overlaps a device that every VM has"),
            "{said}"
        );
        assert!(
            said.starts_with("vms/test.toml:12: devices.virtual[0]: device \"u\" ("),
            "{said}"
        );
    }
}

/// An address near one of interest, in pages.
fn address() -> impl Strategy<Value = u64> {
    const OF_INTEREST: [u64; 9] = [
        0,
        0x0c00_0000,
        0x0c60_0000,
        0x1000_0000,
        0x8000_0000,
        0xc000_0000,
        0xfec0_0000,
        0xfee0_0000,
        0x1_0000_0000,
    ];
    (prop::sample::select(&OF_INTEREST[..]), -4i64..4)
        .prop_map(|(base, pages)| base.wrapping_add_signed(pages * PAGE as i64) & !(PAGE - 1))
        .prop_filter("a config's numbers have 63 bits", |&address| {
            address < 1 << 40
        })
}

fn isa() -> impl Strategy<Value = Isa> {
    prop::sample::select(&Isa::ALL[..])
}

proptest! {
    /// What is accepted has nothing over anything else, and RAM lies where the config says.
    #[test]
    fn what_is_accepted_lies_apart(
        isa in isa(),
        regions in prop::collection::vec((address(), 1u64..6, any::<bool>()), 0..4),
        devices in prop::collection::vec((any::<u16>(), address()), 0..3),
    ) {
        let lines = regions.iter().map(|(at, pages, is_lazy)| {
            let map_type = if *is_lazy { "lazy" } else { "alloc" };
            format!("{{ gpa = {at:#x}, size = {:#x}, map_type = \"{map_type}\" }},\n", pages * PAGE)
        });
        let written: String = lines.collect();
        let placed = devices.iter().enumerate().map(|(n, (port, address))| {
            let at = match isa {
                Isa::Riscv64 => *address,
                Isa::X86_64 => u64::from(*port),
            };
            format!("{{ id = \"u{n}\", model = \"ns16550\", addr = {at:#x}, irq = {} }},\n", n + 3)
        });
        let placed: String = placed.collect();
        let Ok(config) = config_of(isa, &written, &placed) else {
            return Ok(());
        };
        let map = isa.guest_map();
        let mut memory: Vec<Window> = config.memory.iter().map(|region| region.window()).collect();
        memory.push(map.interrupt_controller);
        let listed = config.devices.iter().map(|device| device.window());
        let ports: Vec<Window> = match isa {
            Isa::Riscv64 => {
                memory.extend(listed);
                Vec::new()
            }
            Isa::X86_64 => listed.chain(map.own_devices.iter().copied()).collect(),
        };
        for space in [memory, ports] {
            for (n, one) in space.iter().enumerate() {
                for other in &space[..n] {
                    prop_assert!(!one.overlaps(*other), "{one} and {other}:\n{written}{placed}");
                }
            }
        }
        for (at, pages, _) in regions {
            let wanted = Window::new(at, pages * PAGE);
            prop_assert!(config.memory.iter().any(|region| region.window() == wanted));
        }
    }
}
