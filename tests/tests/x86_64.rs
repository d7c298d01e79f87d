//! x86_64 guests, on the SVM that QEMU emulates.

use system_tests::{Arch::X86_64, Bundle, Ended, Machine};

fn all_well(ended: &Ended) {
    assert_eq!(ended.status, Some(0), "{}", ended.output);
    assert!(!ended.output.contains("panic"), "{}", ended.output);
}

#[test]
fn hello_says_hello_and_the_machine_ends_well() {
    let bundle = Bundle::new(X86_64).shipped_vm("hello", &[]).guest("hello.bin");
    let ended = Machine::new().boot(&bundle).end();
    assert!(ended.output.contains("hello from AxHV guest"), "{}", ended.output);
    assert!(ended.output.contains("VM \"hello\" powered off"), "{}", ended.output);
    all_well(&ended);
}
