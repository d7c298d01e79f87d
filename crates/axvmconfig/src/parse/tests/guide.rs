//! What is shipped and what the guide says is so.

use super::*;

#[test]
fn shipped_configs_are_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/vms");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("configs/vms is there") {
        let path = entry.expect("readable").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        let name = path.to_string_lossy();
        let of = |isa: &Isa| name.ends_with(&format!("-{}.toml", isa.name()));
        let isa = Isa::ALL.into_iter().find(of).expect("the name says it");
        VmConfig::parse(&name, &text, isa).expect("valid");
        count += 1;
    }
    assert!(count >= 8);
}

/// A hexadecimal number as the guide writes it, in groups of four digits.
fn grouped(number: u64) -> String {
    let digits = format!("{number:x}");
    let mut text = String::from("0x");
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(4) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

#[test]
fn the_guide_is_true() {
    let guide = include_str!("../../../../../docs/vm-config.md");
    let mut examples = guide
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    for isa in [Isa::X86_64, Isa::Riscv64] {
        let example = examples.next().expect("the guide has an example of each");
        assert!(example.contains(isa.name()));
        VmConfig::parse("example.toml", example, isa).expect("and it is valid");

        let map = isa.guest_map();
        let (ram, uart) = (map.ram_base.as_u64(), map.uart.base.as_u64());
        let flat = ram + map.flat_kernel_offset;
        let controller = map.interrupt_controller.base.as_u64();
        for said in [
            format!("`{}`", grouped(ram)),
            format!("`{}`", grouped(uart)),
            format!("`{}`", grouped(flat)),
            format!("`{}`", grouped(controller)),
            format!("interrupt {}", map.uart_irq),
            format!("{} to {} on", map.irqs.start(), map.irqs.end()),
            format!("2^{}", map.min_phys_bits),
        ] {
            assert!(
                guide.contains(&said),
                "{}: the guide does not say {said}",
                isa.name()
            );
        }
    }

    // A key like no other makes the reader list what it knows.
    for table in ["base", "kernel", "devices"] {
        let errors = errors(&with(table, "qqqqqqqq = 1"));
        let known = errors[0].split("known here are: ").nth(1).expect("a list");
        for key in known.split(", ") {
            assert!(
                guide.contains(&format!("`{key}`")),
                "the guide does not name {key}"
            );
        }
    }
}
